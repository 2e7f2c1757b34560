"""Uniform negatives: the baseline of every study."""

from dataclasses import dataclass

import numpy as np

from rankdistill.samplers.pool import PoolSampler


@dataclass(frozen=True)
class RandomSampler(PoolSampler):
    """Positives and negatives drawn uniformly from the pool, without replacement.

    With ``negatives`` 0 a group is a positive alone, for a loss whose negatives are the batch's.
    Negatives that the margins leave out: see ``PoolSampler``.
    """

    FEWEST = 0

    def select(self, scores: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See ``rankdistill.samplers``."""
        relevant, others = self.split(scores, positive)
        return np.concatenate(
            [rng.permutation(relevant)[: self.positives], rng.permutation(others)[: self.negatives]]
        )
