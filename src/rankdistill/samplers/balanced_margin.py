"""Negatives from all ranges of the margin (TAS-Balanced, Hofstätter et al. 2021, arXiv 2104.06967)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from rankdistill.samplers.pool import PoolSampler, best


@dataclass(frozen=True)
class BalancedMarginSampler(PoolSampler):
    """Each negative is drawn from a bin, drawn uniformly, of its margin t_positive - t.

    The ``bins`` are of equal width, from the pool's lowest margin to its highest; each draw is of those that
    still have a document, then uniformly of its documents, without replacement. So the few hard negatives
    of a pool are shown as often as its many easy ones. The positive moves all margins alike, and so no bin:
    with ``positives=0`` they are of the scores. Positives are the highest-scored ones. Batches of one topic,
    the paper's other half, are ``order=clusters``. Negatives that the margins leave out: see ``PoolSampler``.
    """

    bins: int = 10

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.bins, bool) or not isinstance(self.bins, Integral) or self.bins < 1:
            raise ValueError(f"bins={self.bins!r}: it must be a whole number, 1 or more")

    def select(self, scores: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See ``rankdistill.samplers``."""
        relevant, others = self.split(scores, positive)
        values = np.asarray(scores, dtype=np.float64)[others]
        width = (values.max() - values.min()) / self.bins if len(values) else 0.0
        places = np.zeros(len(values), dtype=np.int64)  # where all are equal
        if width > 0:
            places = np.minimum((values.max() - values) / width, self.bins - 1).astype(np.int64)
        order = rng.permutation(len(others))
        left = [others[order[places[order] == place]].tolist() for place in np.unique(places)]
        drawn = np.empty(min(self.negatives, len(others)), dtype=np.int64)
        for i in range(len(drawn)):
            chosen = left[rng.integers(len(left))]
            drawn[i] = chosen.pop()
            if not chosen:
                left.remove(chosen)
        return np.concatenate([best(scores, relevant, self.positives), drawn])
