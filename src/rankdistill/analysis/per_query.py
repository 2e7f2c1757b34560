"""Figures of every query of a score table, computed for many pools of equal size at once."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from rankdistill.errors import InputError
from rankdistill.scores.table import ScoreTable
from rankdistill.training.groups import TrainingGroups

BLOCK = 1 << 17  # documents at a time


def per_query(table: ScoreTable, compute: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """A row per query of ``table``, in its order, indexed by query id: ``documents`` and what is computed.

    ``compute`` is given the places int64 (k, n) in ``table`` of the documents of k queries that have n each,
    and returns name -> values (k,). Queries of fewer than two documents are left out; raises ``InputError``
    if there is no other.
    """
    offsets = table.candidates.offsets
    sizes = np.diff(offsets)
    parts = []
    for n in np.unique(sizes[sizes > 1]):
        queries = np.flatnonzero(sizes == n)
        for some in np.array_split(queries, -(-len(queries) * n // BLOCK)):
            places = offsets[some][:, None] + np.arange(n)
            parts.append(pd.DataFrame({"documents": n} | dict(compute(places)), index=some))
    if not parts:
        raise InputError("score table: no query has two or more documents; mine more candidates")
    all_rows = pd.concat(parts).sort_index()
    ids, rows = table.collection.query_ids, table.candidates.query_rows
    all_rows.index = pd.Index([ids[rows[i]] for i in all_rows.index], name="query_id")
    return all_rows


def offered(table: ScoreTable) -> ScoreTable:
    """What samplers choose from: ``table`` without what its groups never show, or itself."""
    table = table.without_own()
    copies, sizes = table.candidates.copies, np.diff(table.candidates.offsets)
    if not copies:
        return table
    none = np.empty(0, dtype=np.int64)
    places = [np.delete(np.arange(n), copies.get(i, none)) for i, n in enumerate(sizes)]
    return table.take(range(len(table)), places)


def shown_table(table: ScoreTable, sampler, seed: int = 0, epoch: int = 0) -> ScoreTable:
    """What ``sampler`` shows of ``table`` in ``epoch``: the training groups as a table of their own.

    Its documents are in the order of the pools. Queries with fewer than two documents are left out. Raises
    ``InputError`` if every group has one document alone.
    """
    groups = TrainingGroups(table, sampler, seed)
    shown = [groups[epoch * len(groups) + i] for i in range(len(groups))]
    if all(len(group.document_rows) < 2 for group in shown):
        margins = [x for x in ("absolute_margin", "relative_margin") if getattr(sampler, x, None) is not None]
        remedy = f"lower {' and '.join(f'sampler.{x}' for x in margins)}" if margins else "choose another"
        raise InputError(
            f"sampler: {type(sampler).__name__} shows one document of each query, and leaves out the rest; "
            f"{remedy}"
        )
    places = [np.sort(np.searchsorted(group.pool_rows, group.document_rows)) for group in shown]
    return groups.table.take(groups.queries, places)  # without what is the query itself
