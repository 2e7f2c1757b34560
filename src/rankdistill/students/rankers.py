"""Which ranker a student is to the step, by what its model holds."""

import logging

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from rankdistill.errors import InputError
from rankdistill.students.base import Ranker
from rankdistill.students.dense import DenseEncoder
from rankdistill.students.static import StaticEncoder

log = logging.getLogger(__name__)


def ranker_of(
    student: SentenceTransformer, similarity: str, scale: float, half: bool, grad_cache: bool
) -> Ranker:
    """``student`` as the step runs it; the settings are those of ``DistillationTrainer``.

    Raises ``InputError`` for a kind that isn't trained.
    """
    check_trainable(student)
    if is_static(student):
        return StaticEncoder(student, similarity == "cosine", scale)
    return DenseEncoder(student, similarity == "cosine", scale, half, grad_cache)


def is_static(student: SentenceTransformer) -> bool:
    return isinstance(student[0], StaticEmbedding)


def similarity_of(student: SentenceTransformer, wanted: str | None) -> str:
    """What ``student`` is to be compared by, cosine or dot: ``wanted``, or its own if that is None.

    Warns if the two differ; raises ``InputError`` if its own is neither.
    """
    own = student.similarity_fn_name
    if wanted is None and own not in ("cosine", "dot"):
        raise InputError(f"similarity: the student compares by {own}; set it to cosine or dot")
    if wanted not in (None, own):
        log.warning("the student compares by %s; it is trained and saved to compare by %s", own, wanted)
    return wanted or own


def check_trainable(student: SentenceTransformer) -> None:
    """Raises ``InputError`` if ``student`` is of a kind that can be measured, but not trained here."""
    if any(isinstance(module, Router) for module in student.modules()):
        raise InputError(
            "student: it has another encoder for queries than for documents (Router), and only one for both "
            "is trained; take one of its two as the student"
        )
    if student.transformers_model is None and not is_static(student):
        raise InputError(
            f"student: its first module is {type(student[0]).__name__}; such a model is evaluated and used "
            "for mining, but not trained"
        )
