"""Who scores the candidates.

A teacher has ``score(queries, documents) -> float32 (n,)`` for aligned pairs of texts, or, where its
scores depend on the pool or the collection, ``score_pools(candidates) -> float32 (N,)``; and a
``fingerprint`` that changes when its scores would. Caching, resuming and progress are written
once, in ``score_candidates``. ``FileTeacher`` is the exception: scores that exist already, with
candidates of their own.
"""

from rankdistill.teachers.bm25 import BM25Teacher
from rankdistill.teachers.cross_encoder import CrossEncoderTeacher
from rankdistill.teachers.demo import demo_teacher, load_teacher
from rankdistill.teachers.dense import DenseTeacher
from rankdistill.teachers.ensemble import EnsembleTeacher
from rankdistill.teachers.file import FileTeacher, score_split
from rankdistill.teachers.http import HTTPTeacher
from rankdistill.teachers.late_interaction import LateInteractionTeacher
from rankdistill.teachers.noisy import NoisyTeacher
from rankdistill.teachers.none import NoTeacher
from rankdistill.teachers.scoring import score_candidates
from rankdistill.teachers.view import ViewTeacher

__all__ = [
    "BM25Teacher",
    "CrossEncoderTeacher",
    "DenseTeacher",
    "EnsembleTeacher",
    "FileTeacher",
    "HTTPTeacher",
    "LateInteractionTeacher",
    "NoTeacher",
    "NoisyTeacher",
    "ViewTeacher",
    "demo_teacher",
    "load_teacher",
    "score_candidates",
    "score_split",
]
