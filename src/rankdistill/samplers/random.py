"""Uniform negatives: the baseline of every study."""

from dataclasses import dataclass

import numpy as np

from rankdistill.samplers.pool import check_sizes, split


@dataclass(frozen=True)
class RandomSampler:
    """Positives and negatives drawn uniformly from the pool, without replacement."""

    positives: int = 1
    negatives: int = 7

    def __post_init__(self):
        check_sizes(self.positives, self.negatives)

    def select(self, scores: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See ``rankdistill.samplers``."""
        relevant, others = split(scores, positive, self.positives)
        return np.concatenate(
            [rng.permutation(relevant)[: self.positives], rng.permutation(others)[: self.negatives]]
        )
