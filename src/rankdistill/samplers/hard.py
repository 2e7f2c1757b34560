"""Hard negatives: those that look most relevant."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from rankdistill.samplers.pool import best, check_sizes, split


@dataclass(frozen=True)
class HardNegativeSampler:
    """The highest negatives, by the teacher's score or by the retriever's rank.

    With ``by="retriever"`` the documents of the lowest ranks come first; documents that no
    retriever found (random ones) come last, those with equal ranks in the order of the pool.

    Negatives that may be unlabelled positives can be left out: those the teacher scores above
    ``t - absolute_margin`` or above ``t - relative_margin * |t|``, with ``t`` the lowest teacher
    score of the query's positives. The absolute value keeps the second rule right for negative
    scores (the positive-aware filter of NV-Retriever, arXiv 2407.15831, is ``t * 0.95``, which
    lets everything through there). Without a positive, or without labels, nothing is left out.
    Positives are the highest-scored ones.
    """

    positives: int = 1
    negatives: int = 7
    by: Literal["teacher", "retriever"] = "teacher"
    absolute_margin: float | None = None
    relative_margin: float | None = None

    def __post_init__(self):
        check_sizes(self.positives, self.negatives)
        if self.by not in ("teacher", "retriever"):
            raise ValueError(f"by={self.by!r}: it is 'teacher' or 'retriever'")
        for name in ("absolute_margin", "relative_margin"):
            margin = getattr(self, name)
            number = isinstance(margin, Real) and not isinstance(margin, bool) and np.isfinite(float(margin))
            if margin is not None and not number:
                raise ValueError(f"{name}={margin!r}: it is a finite number, or null for none")

    def select(
        self,
        scores: np.ndarray,
        positive: np.ndarray,
        rng: np.random.Generator,
        ranks: np.ndarray | None = None,
    ) -> np.ndarray:
        """See ``rankdistill.samplers``. ``ranks`` int (n,), 0 the best, for ``by="retriever"``.

        Deterministic: ``rng`` is not used. Raises ``ValueError`` if ranks are needed and missing.
        """
        relevant, others = split(scores, positive, self.positives)
        scores = np.asarray(scores)
        if len(relevant):
            lowest = float(scores[relevant].min())
            limit = np.inf
            if self.absolute_margin is not None:
                limit = lowest - self.absolute_margin
            if self.relative_margin is not None:
                limit = min(limit, lowest - self.relative_margin * abs(lowest))
            with np.errstate(over="ignore"):  # no float32 score is below a limit that overflows
                kept = scores[others] <= limit
            if limit < lowest:  # of large scores the margin may be lost in rounding
                kept &= scores[others] < lowest
            others = others[kept]
        if self.by == "teacher":
            order = scores
        elif ranks is None or np.shape(ranks) != scores.shape or np.min(ranks, initial=0) < 0:
            raise ValueError(
                f"HardNegativeSampler(by='retriever') needs the retriever's ranks, (n={len(scores)},) "
                f"and 0 or more: got {ranks if ranks is None else np.shape(ranks)}"
            )
        else:
            order = -np.asarray(ranks, dtype=np.float64)
        return np.concatenate([best(scores, relevant, self.positives), best(order, others, self.negatives)])
