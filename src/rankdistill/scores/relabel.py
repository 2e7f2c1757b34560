"""Positives that the teacher's scores name, beside those of the qrels or in their place."""

import logging
from dataclasses import replace
from typing import Literal

import numpy as np

from rankdistill.errors import InputError
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)
HOW = ("add", "replace")


def check_relabel(relabel: str | None, relabel_margin: float) -> None:
    """Raises ``InputError`` unless positives can be relabelled so."""
    if relabel is not None and relabel not in HOW:
        raise InputError(f"relabel={relabel!r}: it must be add or replace, or null for none")
    number = isinstance(relabel_margin, int | float) and not isinstance(relabel_margin, bool)
    if not number or not 0 <= relabel_margin < np.inf:
        raise InputError(f"relabel_margin={relabel_margin!r}: it must be 0 or more, in the teacher's units")


def relabelled(table: ScoreTable, relabel: Literal["add", "replace"], margin: float = 0.0) -> ScoreTable:
    """``table`` with further positives: those scored over ``margin`` above all of their query's positives.

    With "replace" they take the place of the query's positives, which leave its pool (with what has their
    text) and so are no negatives either; a pool keeps them where it would have one document left. A query
    without a positive in its pool stays as it is. The new positive of Gecko (Lee et al. 2024, arXiv
    2403.20327) is the highest alone; here each one above counts: the teacher puts it above what people
    called relevant.
    """
    check_relabel(relabel, margin)
    table = table.without_own()  # a query as its own document is above all
    candidates, scores = table.candidates, np.asarray(table.scores, np.float64)
    old, sizes = np.asarray(candidates.positive), np.diff(candidates.offsets)
    twins = np.zeros(len(scores), dtype=bool)  # of a positive's text
    for i, places in candidates.copies.items():
        twins[candidates.offsets[i] + places] = True
    owners = np.repeat(np.arange(len(sizes)), sizes)
    highest = np.full(len(sizes), -np.inf)
    np.maximum.at(highest, owners[old], scores[old])
    highest[np.isneginf(highest)] = np.inf  # nothing is above
    above = ~old & ~twins & (scores > highest[owners] + margin)
    gone = np.zeros_like(above)
    if relabel == "replace":
        gone = (old | twins) & (np.bincount(owners[above], minlength=len(sizes)) > 0)[owners]
        left = sizes - np.bincount(owners[gone], minlength=len(sizes))
        gone &= (left > 1)[owners]
    log.info(
        "relabelled: %s documents of %s queries are positives by the teacher, %s are no longer candidates",
        f"{above.sum():,}",
        f"{len(np.unique(owners[above])):,}",
        f"{gone.sum():,}",
    )
    new = replace(candidates, positive=old | above)
    relabelled_table = replace(table, candidates=new, mapped=None, trusted=True)
    if not gone.any():
        return relabelled_table
    return relabelled_table.take(
        np.arange(len(relabelled_table)),
        [np.flatnonzero(~gone[new.pool(i)]) for i in range(len(relabelled_table))],
    )
