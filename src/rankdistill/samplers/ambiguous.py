"""Ambiguous negatives: neither too hard nor too easy (SimANS, Zhou et al. 2022, arXiv 2210.11773)."""

from dataclasses import dataclass

import numpy as np

from rankdistill.samplers.pool import PoolSampler, best, check_number


@dataclass(frozen=True)
class AmbiguousSampler(PoolSampler):
    """Negatives drawn with weights exp(-a (t - t_positive + b)²), without replacement.

    ``b`` is how far below the positive, the lowest-scored of several, they are likeliest; ``a`` is how
    sharply; both in units of the teacher's raw scores. Without a positive the pool's highest score takes its
    place. Weights stay logarithms, so that none underflows. Positives are the highest-scored ones.
    Negatives that the margins leave out: see ``PoolSampler``.
    """

    a: float = 0.5
    b: float = 1.5

    def __post_init__(self):
        super().__post_init__()
        for name in ("a", "b"):
            check_number(name, getattr(self, name))
        if self.a < 0:
            raise ValueError(f"a={self.a!r}: it must be 0 or more; 0 draws uniformly")

    def select(self, scores: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See ``rankdistill.samplers``."""
        relevant, others = self.split(scores, positive)
        values = np.asarray(scores, dtype=np.float64)
        anchor = values[relevant].min() if len(relevant) else values.max(initial=-np.inf)
        # the highest of log weights plus Gumbel noise are such a draw
        keys = rng.gumbel(size=len(others)) - self.a * (values[others] - anchor + self.b) ** 2
        drawn = others[np.argsort(-keys)[: self.negatives]]
        return np.concatenate([best(scores, relevant, self.positives), drawn])
