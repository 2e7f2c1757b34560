"""Does the student rank as its teacher does, and does the teacher agree with the labels?"""

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from scipy.stats import rankdata

from rankdistill.analysis.per_query import per_query
from rankdistill.errors import InputError
from rankdistill.retrieval import Index, index_of
from rankdistill.scores.table import ScoreTable
from rankdistill.students.models import Model


def student_scores(model: Model, table: ScoreTable, documents: Index | None = None) -> np.ndarray:
    """The student's scores float32 (N,) of the pairs in ``table``, as it compares.

    Every text is encoded once; ``documents`` is the whole collection where it is encoded already
    (``retrieval.stored_index``).
    """
    candidates, collection = table.candidates, table.collection
    rows = candidates.document_rows
    if documents is None:
        needed, rows = np.unique(rows, return_inverse=True)
        documents = index_of(model, [collection.documents[row] for row in needed])
    queries = [collection.queries[row] for row in candidates.query_rows]
    owners = np.repeat(np.arange(len(table)), np.diff(candidates.offsets))
    return documents.scores(queries, owners, rows)


def agreement(
    table: ScoreTable,
    student: np.ndarray,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
) -> pd.DataFrame:
    """How ``student``, scores (N,) of the pairs in ``table``, agrees with the teacher; a row per query.

    ``kendall_tau``: tau-b over the query's documents (Kendall 1945). ``kl``: KL(teacher || student) in
    nats, of the softmax of the scores, each divided by its temperature; for a student trained with ``scale``
    its temperature is 1 / scale. ``top1``: 1 where the document that the student puts first is (one of) the
    teacher's best, else 0. ``margin_correlation``: Pearson's, of the margins positive - negative over all
    such pairs of the query. NaN where one of the two has no two different scores or margins, or a label
    is missing. Raises ``InputError`` unless there is a finite score of each pair.
    """
    student = np.asarray(student)
    if student.shape != table.scores.shape:
        raise InputError(f"agreement: {student.shape} student scores for {len(table.scores)} pairs")
    if not np.isfinite(student).all():
        raise InputError(f"agreement: {int((~np.isfinite(student)).sum())} student scores are not finite")
    if not (0 < teacher_temperature < np.inf and 0 < student_temperature < np.inf):
        raise InputError(
            f"temperatures {teacher_temperature}, {student_temperature}: they must be finite and above 0"
        )

    def compute(places: np.ndarray) -> dict[str, np.ndarray]:
        t, s = table.scores[places].astype(np.float64), student[places].astype(np.float64)
        log_p = log_softmax(t / teacher_temperature, axis=1)
        log_q = log_softmax(s / student_temperature, axis=1)
        first = np.take_along_axis(t, s.argmax(axis=1)[:, None], axis=1)[:, 0]
        return {
            "kendall_tau": kendall_tau(t, s),
            "kl": (np.exp(log_p) * (log_p - log_q)).sum(axis=1),
            "top1": (first == t.max(axis=1)).astype(float),
            "margin_correlation": margin_correlation(
                t, s, table.candidates.positive[places], table.candidates.negative[places]
            ),
        }

    return per_query(table, compute)


def kendall_tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """tau-b (k,) of each row of ``a`` with that of ``b`` (k, n); NaN where all of a row are equal."""
    alike, of_a, of_b = np.zeros((3, len(a)))
    for lag in range(1, a.shape[1]):
        x, y = (np.sign(z[:, :-lag] - z[:, lag:]) for z in (a, b))
        alike += (x * y).sum(axis=1)
        of_a += np.abs(x).sum(axis=1)
        of_b += np.abs(y).sum(axis=1)
    return _ratio(alike, np.sqrt(of_a * of_b))


def margin_correlation(
    a: np.ndarray, b: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """Pearson's correlation (k,) of the margins positive - negative in ``a`` with those in ``b`` (k, n).

    Over all pairs of a positive and a negative the covariance of margins is that among the positives and
    that among the negatives, added.
    """

    def within(z: np.ndarray, side: np.ndarray) -> np.ndarray:
        """``z`` less its mean over ``side``, 0 elsewhere; of equal scores exactly 0."""
        some = np.take_along_axis(z, side.argmax(axis=1)[:, None], axis=1)
        shifted = np.where(side, z - some, 0)
        return np.where(side, shifted - _ratio(shifted.sum(axis=1), side.sum(axis=1))[:, None], 0)

    def covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        first, second = (
            _ratio((within(x, side) * within(y, side)).sum(axis=1), side.sum(axis=1))
            for side in (positive, negative)
        )
        return first + second

    return _ratio(covariance(a, b), np.sqrt(covariance(a, a) * covariance(b, b)))


def false_negatives(table: ScoreTable) -> pd.Series:
    """Per query, the share of the negatives that the teacher scores above the best positive.

    They may be relevant and unlabelled; copies of a positive are, and are not counted. NaN where there
    is no positive or no negative. Of what a sampler shows: ``false_negatives(shown_table(table, sampler))``.
    """

    def compute(places: np.ndarray) -> dict[str, np.ndarray]:
        scores, positive = table.scores[places], table.candidates.positive[places]
        negative = table.candidates.negative[places]
        best = np.where(positive, scores, -np.inf).max(axis=1, keepdims=True)
        above = negative & (scores > best)
        known = positive.any(axis=1)
        return {"false_negatives": _ratio(above.sum(axis=1), known * negative.sum(axis=1))}

    return per_query(table, compute)["false_negatives"]


def label_auc(table: ScoreTable) -> pd.Series:
    """Per query, the share of the pairs of a positive and a negative that the teacher orders so.

    Equal scores count half: the area under the ROC curve, 0.5 for scores that know nothing of the labels.
    Copies of a positive are no negatives. NaN where there is no positive or no negative.
    """

    def compute(places: np.ndarray) -> dict[str, np.ndarray]:
        positive, negative = table.candidates.positive[places], table.candidates.negative[places]
        ranks = rankdata(np.where(positive | negative, table.scores[places], np.inf), axis=1)
        first, second = positive.sum(axis=1), negative.sum(axis=1)
        below = (ranks * positive).sum(axis=1) - first * (first + 1) / 2
        return {"label_auc": _ratio(below, first * second)}

    return per_query(table, compute)["label_auc"]


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """``over`` / ``under``; NaN where the latter is 0."""
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=np.asarray(under) > 0)
