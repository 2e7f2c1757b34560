"""Which ranker a student is to the step, by what its model holds."""

import logging

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from rankdistill.errors import InputError
from rankdistill.students.asymmetric import AsymmetricEncoder
from rankdistill.students.base import Encoder, Ranker
from rankdistill.students.dense import DenseEncoder
from rankdistill.students.sides import encoders, sides, stored_modules
from rankdistill.students.static import StaticEncoder
from rankdistill.students.stored import StoredEncoder

log = logging.getLogger(__name__)


def ranker_of(
    student: SentenceTransformer, similarity: str, scale: float, half: bool, grad_cache: bool
) -> Ranker:
    """``student`` as the step runs it; the settings are those of ``DistillationTrainer``.

    Raises ``InputError`` for a kind that isn't trained.
    """
    check_trainable(student)
    cosine = similarity == "cosine"

    def encoder_of(side: SentenceTransformer) -> Encoder:
        if stored_modules(side):
            return StoredEncoder(side, cosine, scale)
        if is_static(side):
            return StaticEncoder(side, cosine, scale)
        return DenseEncoder(side, cosine, scale, half, grad_cache)

    if len(encoders(student)) == 1 and not stored_modules(student):
        return encoder_of(student)
    of = {kind: encoder_of(side) for kind, side in sides(student).items()}
    return AsymmetricEncoder(student, of, cosine, scale)


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
    if not any(weight.requires_grad for weight in student.parameters()):
        raise InputError("student: none of its weights is trained; a frozen side needs another that is not")
    for side in encoders(student):
        if isinstance(side[0], Router):
            raise InputError(
                f"student: its routes (Router) are {', '.join(side[0].sub_modules)}; those that are trained "
                "are one for query and one for document"
            )
        if side.transformers_model is None and not is_static(side) and not stored_modules(side):
            raise InputError(
                f"student: its first module is {type(side[0]).__name__}; such a model is evaluated and used "
                "for mining, but not trained"
            )
    width = [side.get_embedding_dimension() for side in encoders(student)]
    if len(set(width)) > 1:
        raise InputError(
            f"student: its queries have {width[0]} dimensions, its documents {width[1]}; "
            "asymmetric_student(query=..., document=...) puts a linear map between them"
        )
