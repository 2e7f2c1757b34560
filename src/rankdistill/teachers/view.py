"""A teacher that reads other texts than the student: rewritten queries, translations, prompts."""

from dataclasses import replace

import numpy as np

from rankdistill.data import Candidates
from rankdistill.data.views import View
from rankdistill.runtime.cache import fingerprint
from rankdistill.teachers.scoring import Teacher, identity, score_candidates


class ViewTeacher:
    """What ``teacher`` scores of the candidates' texts as ``view`` has them; students read their own."""

    def __init__(self, teacher: Teacher, view: View):
        identity(teacher)  # raises for what is no teacher
        self.teacher, self.view = teacher, view

    @property
    def fingerprint(self) -> str:
        return fingerprint("view", identity(self.teacher), self.view.fingerprint)

    def score_pools(self, candidates: Candidates) -> np.ndarray:
        """Scores of all candidates, float32 (N,); kept as the teacher's, of the other texts."""
        seen = self.view.of(candidates.collection)
        return score_candidates(self.teacher, replace(candidates, collection=seen)).scores
