"""Pools renewed by what was found since they were mined."""

from collections.abc import Mapping, Sequence

import numpy as np

from rankdistill.candidates.mining import union
from rankdistill.data.candidates import UNRANKED, Candidates


def renewed(
    candidates: Candidates,
    source: str,
    found: np.ndarray,
    positives: Mapping[int, Sequence[int]],
    keep: bool,
) -> Candidates:
    """The pools of ``candidates`` with the document rows ``found`` int64 (Q, n), best first, -1 for none.

    They are the ranks of ``source``. Known positives stay, and those that ``positives`` (query row ->
    document rows) names besides; the other candidates do if ``keep``, with the ranks that they had.
    """
    known = {
        int(query): [*positives.get(int(query), ()), *_positives(candidates, i)]
        for i, query in enumerate(candidates.query_rows)
    }
    new = union(candidates.collection, candidates.query_rows, [(source, found)], known)
    if not keep:
        return new
    size = len(candidates.collection.document_ids)
    keys = [_keys(one, size) for one in (candidates, new)]
    both = np.unique(np.concatenate(keys))
    at = [np.searchsorted(both, one) for one in keys]
    ranks = {name: np.full(len(both), UNRANKED, np.uint16) for name in [*candidates.ranks, source]}
    for name, values in candidates.ranks.items():
        if name != source:
            ranks[name][at[0]] = values
    ranks[source][at[1]] = new.ranks[source]
    positive = np.zeros(len(both), dtype=bool)
    positive[at[1]] = new.positive
    offsets = np.searchsorted(both, np.arange(len(candidates) + 1, dtype=np.int64) * size)
    return Candidates(
        candidates.collection,
        candidates.query_rows,
        offsets.astype(np.int64),
        (both % size).astype(np.int32),
        positive,
        ranks,
    )


def _positives(candidates: Candidates, i: int) -> list[int]:
    span = candidates.pool(i)
    return candidates.document_rows[span][candidates.positive[span]].tolist()


def _keys(candidates: Candidates, size: int) -> np.ndarray:
    """int64 (N,), ascending: one number for each query's position and document row."""
    owners = np.repeat(np.arange(len(candidates), dtype=np.int64), np.diff(candidates.offsets))
    return owners * size + candidates.document_rows


def places_in(candidates: Candidates, other: Candidates) -> np.ndarray:
    """int64 (N,): where each of ``candidates`` is in ``other``, of the same queries; -1 where it is not."""
    size = len(candidates.collection.document_ids)
    wanted, known = _keys(candidates, size), _keys(other, size)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[at] == wanted, at, -1)
