"""Training on the queries whose relevant document has a certain place among its candidates."""

from dataclasses import dataclass

import numpy as np

from rankdistill.analysis.agreement import student_scores
from rankdistill.data.candidates import UNORDERED
from rankdistill.errors import InputError, check_counts
from rankdistill.scores.table import ScoreTable
from rankdistill.students.models import Model


def positive_ranks(table: ScoreTable, scores: np.ndarray) -> np.ndarray:
    """The place of each query's first positive in its pool by ``scores`` (N,), float (Q,).

    1 the first, equal scores behind none of each other; infinite for a query without a positive in its pool.
    """
    offsets, positive = table.candidates.offsets, np.asarray(table.candidates.positive)
    ranks = np.full(len(table), np.inf)
    for i, (start, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        own = scores[start:end][positive[start:end]]
        if len(own):
            ranks[i] = 1 + (scores[start:end] > own.max()).sum()
    return ranks


@dataclass(frozen=True)
class RoundTrip:
    """Called with a score table: that of the queries whose own document is found again, among the ``best``.

    ``by``: teacher, by its scores of the pool; or the name of a retriever, such as bm25, whose rank in the
    whole collection counts. Written queries that lead back to another text than the one they were written
    from are left out so (the consistency filter of Dai et al. 2023, Promptagator, arXiv 2209.11755).
    """

    best: int = 20
    by: str = "teacher"

    def __post_init__(self):
        check_counts(best=self.best)

    def __call__(self, table: ScoreTable) -> ScoreTable:
        """Those queries of ``table``, in its order; raises ``InputError`` if there is none."""
        if self.by == "teacher":
            return kept(self, table, positive_ranks(table, np.asarray(table.scores)) <= self.best)
        if self.by not in table.candidates.ranks:
            there = ", ".join(table.candidates.ranks)
            raise InputError(f"cut.by={self.by!r}: no retriever of the pools is called so; there are {there}")
        ranks = np.where(table.candidates.positive, table.candidates.ranks[self.by], UNORDERED)
        first = np.minimum.reduceat(ranks, table.candidates.offsets[:-1])
        return kept(self, table, first < min(self.best, UNORDERED))


@dataclass(frozen=True)
class Disagreement:
    """Called with a score table: that of the queries that confuse ``model`` and not the teacher.

    The model has their positive at a place from ``best`` to ``worst`` of the pool, the teacher at a better
    one (PROD's progressive data, Lin et al. 2023, arXiv 2209.13335).
    """

    model: Model
    best: int = 2
    worst: int = 15

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise InputError(f"cut.model={self.model!r:.60}: it must be a model, such as the student")
        check_counts(best=self.best, worst=self.worst)
        if self.best > self.worst:
            raise InputError(f"cut: best={self.best}, worst={self.worst}: places, best <= worst")

    def __str__(self) -> str:
        return f"Disagreement(best={self.best}, worst={self.worst})"

    def __call__(self, table: ScoreTable) -> ScoreTable:
        """Those queries of ``table``, in its order; raises ``InputError`` if there is none."""
        own = positive_ranks(table, student_scores(self.model, table))
        taught = positive_ranks(table, np.asarray(table.scores))
        return kept(self, table, (self.best <= own) & (own <= self.worst) & (taught < own))


def kept(cut: object, table: ScoreTable, chosen: np.ndarray) -> ScoreTable:
    """``table`` of the queries ``chosen``, bool (Q,)."""
    if not chosen.any():
        raise InputError(
            f"cut: {cut} keeps none of {len(table)} queries; widen it, or raise candidates.limit"
        )
    return table.take(np.flatnonzero(chosen))
