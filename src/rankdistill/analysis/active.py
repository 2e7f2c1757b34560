"""Which queries to learn from a teacher, of whom one cannot have them all (arXiv 2210.01213)."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from rankdistill.analysis.agreement import student_scores
from rankdistill.errors import InputError, check_counts, check_seed
from rankdistill.scores.table import ScoreTable
from rankdistill.students.models import Model

LEAST = 1e-6  # of a gain, which is divided by


def robust_gains(gains: np.ndarray, budget: int) -> np.ndarray:
    """(k - b) / (the sum of 1 / g of the k highest gains) for every k from 1; float (n,)."""
    ordered = np.sort(np.maximum(gains, LEAST))[::-1]
    return (np.arange(1, len(ordered) + 1) - budget) / np.cumsum(1 / ordered)


def robust_choice(gains: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """``budget`` places of ``gains`` (n,), ascending.

    Of the k highest gains, k where ``robust_gains`` are the highest, they are drawn in proportion to 1 / g,
    without replacement: no teacher whose errors add up to so much can make the worst of them useless (Baykal
    et al. 2023, Robust Active Distillation). Gains are 0 to 1: how unsure the student is.
    """
    if budget >= len(gains):
        return np.arange(len(gains))
    k = budget + int(robust_gains(gains, budget)[budget - 1 :].argmax())
    highest = np.argsort(-gains, kind="stable")[:k]
    shares = 1 / np.maximum(gains[highest], LEAST)
    return np.sort(rng.choice(highest, budget, replace=False, p=shares / shares.sum()))


@dataclass(frozen=True)
class ActiveCut:
    """Called with a score table: that of ``queries`` of its queries, by what ``model`` is unsure of.

    A query's gain is 1 less the lead of the model's first document over its second, of the softmax of its
    scores of the pool (cosines, say), divided by ``temperature``. See ``robust_choice``. The teacher has
    scored the pools by then: what is saved are steps, not its time.
    """

    model: Model
    queries: int = 500
    temperature: float = 0.05
    seed: int = 0

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise InputError(f"cut.model={self.model!r:.60}: it must be a model, such as the student")
        check_counts(queries=self.queries)
        check_seed(self.seed)
        if not 0 < self.temperature < np.inf:
            raise InputError(f"cut.temperature={self.temperature}: it must be finite and above 0")

    def __str__(self) -> str:
        return f"ActiveCut(queries={self.queries})"

    def __call__(self, table: ScoreTable) -> ScoreTable:
        """Those queries of ``table``, in its order; those with one document are left out."""
        several = np.flatnonzero(np.diff(table.candidates.offsets) > 1)
        scores = student_scores(self.model, table).astype(np.float64) / self.temperature
        gains = np.array([gain_of(scores[table.candidates.pool(int(i))]) for i in several])
        return table.take(several[robust_choice(gains, self.queries, np.random.default_rng(self.seed))])


def gain_of(scores: np.ndarray) -> float:
    """1 less the difference of the two highest probabilities of ``scores`` (n,), two or more."""
    second, first = np.sort(softmax(scores))[-2:]
    return float(1 - (first - second))
