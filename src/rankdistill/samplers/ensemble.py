"""The first negatives of each of several retrievers (arXiv 2505.21058)."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from rankdistill.errors import InputError
from rankdistill.samplers.pool import PoolSampler, best

UNORDERED = 65534  # as in data/candidates.py, which samplers do not import


@dataclass(frozen=True)
class EnsembleSampler(PoolSampler):
    """Negatives drawn uniformly from the union of each retriever's first ``each`` that the margins leave.

    With ``absolute_margin`` 0.5 that is what the paper's code takes of twelve systems, ten of each. Where the
    union has too few, the pool's other documents that the margins leave fill it up, drawn uniformly: all of
    them have a teacher's score, while the paper's fillers have none. Retrievers without an order, such as
    Random, are left out. Positives are the highest-scored ones.
    """

    each: int = 10

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.each, bool) or not isinstance(self.each, Integral) or self.each < 1:
            raise ValueError(f"each={self.each!r}: it must be a whole number, 1 or more")

    def select(
        self,
        scores: np.ndarray,
        positive: np.ndarray,
        rng: np.random.Generator,
        ranks_by_source: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """See ``rankdistill.samplers``. ``ranks_by_source`` has a retriever's ranks, int (n,), 0 the best."""
        relevant, others = self.split(scores, positive)
        first = np.zeros(len(scores), dtype=bool)
        for name, ranks in ranks_by_source.items():
            if np.shape(ranks) != np.shape(scores):
                raise InputError(
                    f"ranks_by_source[{name!r}]: they are {np.shape(ranks)}; give one of each of the "
                    f"{len(scores)} documents"
                )
            there = others[np.asarray(ranks)[others] < UNORDERED]
            first[there[np.argsort(np.asarray(ranks)[there], kind="stable")[: self.each]]] = True
        drawn = rng.permutation(others)
        drawn = drawn[np.argsort(~first[drawn], kind="stable")]
        return np.concatenate([best(scores, relevant, self.positives), drawn[: self.negatives]])
