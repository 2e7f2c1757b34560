"""Several teachers as one."""

from collections.abc import Mapping, Sequence

import numpy as np

from rankdistill.data.cache import fingerprint
from rankdistill.errors import InputError


class EnsembleTeacher:
    """The weighted sum of the teachers' scores; both mappings have the same names.

    Scores are added as they are: the weights carry the scales. Raises ``InputError`` if the names
    differ.
    """

    def __init__(self, teachers: Mapping[str, object], weights: Mapping[str, float]):
        if set(teachers) != set(weights) or not teachers:
            raise InputError(f"teacher: teachers are {sorted(teachers)}, weights are for {sorted(weights)}")
        self.teachers, self.weights = dict(teachers), dict(weights)

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            [[self.weights[name], teacher.fingerprint] for name, teacher in sorted(self.teachers.items())]
        )

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Scores of the aligned pairs, float32 (n,)."""
        return sum(
            np.float32(self.weights[name]) * teacher.score(queries, documents)
            for name, teacher in self.teachers.items()
        )
