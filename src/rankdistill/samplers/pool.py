"""What every sampler does first: check the pool, split it by label, leave out likely positives."""

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class PoolSampler:
    """The sizes of a group, and which negatives may be in none.

    Negatives that may be unlabelled positives can be left out: those the teacher scores above
    ``t - absolute_margin`` or above ``t - relative_margin * |t|``, with ``t`` the lowest teacher
    score of the query's positives. The absolute value keeps the second rule right for negative
    scores (the positive-aware filter of NV-Retriever, arXiv 2407.15831, is ``t * 0.95``, which
    lets everything through there). Without a positive, or without labels, nothing is left out.
    """

    FEWEST: ClassVar[int] = 1  # negatives that a group may have

    positives: int = 1
    negatives: int = 7
    absolute_margin: float | None = field(default=None, kw_only=True)
    relative_margin: float | None = field(default=None, kw_only=True)

    def __post_init__(self):
        check_sizes(self.positives, self.negatives, self.FEWEST)
        for name in ("absolute_margin", "relative_margin"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), ", or null for none")

    def split(self, scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the positives and of the documents that negatives are chosen from, int64.

        Raises ``ValueError`` as ``split`` does.
        """
        relevant, others = split(scores, positive, self.positives)
        if not len(relevant) or (self.absolute_margin is None and self.relative_margin is None):
            return relevant, others
        scores = np.asarray(scores)
        lowest = float(scores[relevant].min())
        limit = np.inf
        if self.absolute_margin is not None:
            limit = lowest - self.absolute_margin
        if self.relative_margin is not None:
            limit = min(limit, lowest - self.relative_margin * abs(lowest))
        with np.errstate(over="ignore"):  # no float32 score is below a limit that overflows
            below = scores[others] <= limit
        if limit < lowest:  # of large scores the margin may be lost in rounding
            below &= scores[others] < lowest
        return relevant, others[below]


def check_number(name: str, value: float, or_else: str = "") -> None:
    """Raises ``ValueError`` unless ``value`` is a finite number; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(float(value)):
        raise ValueError(f"{name}={value!r}: it must be a finite number{or_else}")


def check_sizes(positives: int, negatives: int, fewest: int = 1) -> None:
    """Raises ``ValueError`` unless these are whole numbers, and a group of such sizes can teach anything.

    ``fewest`` negatives; with none of them it has a positive, whose negatives are the batch's.
    """
    for name, value in (("positives", positives), ("negatives", negatives)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name}={value!r}: it must be a whole number")
    if positives < 0 or negatives < fewest or positives + negatives < 1:
        raise ValueError(
            f"positives={positives}, negatives={negatives}: a group takes 0 or more positives "
            f"and {fewest} or more negatives"
        )


def split(scores: np.ndarray, positive: np.ndarray, positives: int):
    """Indices of the positives and of the documents that negatives are chosen from, int64.

    With ``positives`` 0 the latter are the whole pool. Raises ``ValueError`` if the two arrays
    aren't (n,) and (n,), or a score isn't finite.
    """
    scores, positive = np.asarray(scores), np.asarray(positive, dtype=bool)
    if scores.ndim != 1 or positive.shape != scores.shape:
        raise ValueError(f"scores {scores.shape} and positive {positive.shape}: expected (n,) and (n,)")
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise ValueError(f"teacher scores must be finite: got {scores[bad[0]]} at index {bad[0]}")
    if positives == 0:
        return np.empty(0, dtype=np.int64), np.arange(len(scores))
    return positive.nonzero()[0], (~positive).nonzero()[0]


def best(scores: np.ndarray, indices: np.ndarray, most: int) -> np.ndarray:
    """The ``most`` highest-scored of ``indices``, best first; equal scores by lower index."""
    if len(indices) < 2:
        return indices[:most]
    return indices[np.argsort(-np.asarray(scores, dtype=np.float64)[indices], kind="stable")[:most]]
