"""A teacher made worse on purpose: how much of its knowledge is needed?"""

import math

import numpy as np

from rankdistill.data import Candidates
from rankdistill.errors import InputError, check_seed
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.teachers.scoring import Teacher, identity, score_candidates


@checked
class NoisyTeacher:
    """The scores of ``teacher`` and normal noise of ``noise`` times the standard deviation of each pool's.

    At 1, half of the variance within a pool is noise. A pool always gets the same one, drawn from ``seed``
    and the query's id. Raises ``InputError`` if ``noise`` is below 0.
    """

    def __init__(self, teacher: Teacher, noise: float = 1.0, seed: int = 0):
        identity(teacher)  # raises for what is no teacher
        if not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"noise={noise!r}: it must be a finite number of at least 0")
        check_seed(seed)
        self.teacher, self.noise, self.seed = teacher, float(noise), seed

    @property
    def fingerprint(self) -> str:
        return fingerprint("noisy", identity(self.teacher), self.noise, self.seed)

    def score_pools(self, candidates: Candidates) -> np.ndarray:
        """Scores of all candidates, float32 (N,); the teacher's own are kept as they are without noise."""
        scores = np.array(score_candidates(self.teacher, candidates).scores, dtype=np.float32)
        ids = candidates.collection.query_ids
        for i, row in enumerate(candidates.query_rows):
            pool = scores[candidates.offsets[i] : candidates.offsets[i + 1]]
            rng = np.random.default_rng([self.seed, *ids[row].encode()])
            pool += self.noise * pool.std() * rng.standard_normal(len(pool), dtype=np.float32)
        return scores
