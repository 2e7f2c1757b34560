"""Hard negatives: those that look most relevant."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rankdistill.samplers.pool import PoolSampler, best


@dataclass(frozen=True)
class HardNegativeSampler(PoolSampler):
    """The highest negatives, by the teacher's score or by a retriever's rank.

    ``by``: ``teacher``; ``retriever``, the best rank that any retriever gave a document; or the name of one
    retriever, such as ``bm25``, whose ranks alone count. The documents of the lowest ranks come first;
    documents that were not found (random ones) come last, those with equal ranks in the order of the pool.

    Positives are the highest-scored ones. Negatives that the margins leave out: see ``PoolSampler``.
    """

    by: str = "teacher"

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.by, str) or not self.by:
            raise ValueError(f"by={self.by!r}: it must be 'teacher', 'retriever' or the name of a retriever")

    @property
    def source(self) -> str | None:
        """The one retriever whose ranks count; None by the teacher or by all retrievers."""
        return None if self.by in ("teacher", "retriever") else self.by

    def select(
        self,
        scores: np.ndarray,
        positive: np.ndarray,
        rng: np.random.Generator,
        ranks: np.ndarray | None = None,
        ranks_by_source: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """See ``rankdistill.samplers``. ``ranks`` int (n,), 0 the best, for ``by="retriever"``;
        ``ranks_by_source``, as many of each retriever, for one of these.

        Deterministic: ``rng`` is not used. Raises ``ValueError`` if ranks are needed and missing.
        """
        relevant, others = self.split(scores, positive)
        scores = np.asarray(scores)
        if self.source is not None:
            ranks = (ranks_by_source or {}).get(self.source)
        if self.by == "teacher":
            order = scores
        elif ranks is None or np.shape(ranks) != scores.shape or np.min(ranks, initial=0) < 0:
            whose = "the retriever's" if self.source is None else f"{self.source}'s"
            raise ValueError(
                f"HardNegativeSampler(by={self.by!r}) needs {whose} ranks, (n={len(scores)},) "
                f"and 0 or more: got {ranks if ranks is None else np.shape(ranks)}"
            )
        else:
            order = -np.asarray(ranks, dtype=np.float64)
        return np.concatenate([best(scores, relevant, self.positives), best(order, others, self.negatives)])
