"""Hard negatives: those that look most relevant."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankdistill.samplers.pool import PoolSampler, best


@dataclass(frozen=True)
class HardNegativeSampler(PoolSampler):
    """The highest negatives, by the teacher's score or by the retriever's rank.

    With ``by="retriever"`` the documents of the lowest ranks come first; documents that no
    retriever found (random ones) come last, those with equal ranks in the order of the pool.

    Positives are the highest-scored ones. Negatives that the margins leave out: see ``PoolSampler``.
    """

    by: Literal["teacher", "retriever"] = "teacher"

    def __post_init__(self):
        super().__post_init__()
        if self.by not in ("teacher", "retriever"):
            raise ValueError(f"by={self.by!r}: it must be 'teacher' or 'retriever'")

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
        relevant, others = self.split(scores, positive)
        scores = np.asarray(scores)
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
