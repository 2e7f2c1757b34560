"""No teacher: labels alone."""

import numpy as np

from rankdistill.data import Candidates


class NoTeacher:
    """No teacher: a known positive has 1, every other candidate 0. For losses and samplers of labels."""

    fingerprint = "labels"

    def score_pools(self, candidates: Candidates) -> np.ndarray:
        return candidates.positive.astype(np.float32)
