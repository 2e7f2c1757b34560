"""Which ranker a student is to the step, by what its model holds."""

import logging
from typing import Literal, cast

import sentence_transformers
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from rankdistill.errors import InputError
from rankdistill.students.asymmetric import AsymmetricEncoder
from rankdistill.students.base import Encoder, Ranker
from rankdistill.students.cross_encoder import CrossEncoder, load_cross_encoder
from rankdistill.students.dense import DenseEncoder
from rankdistill.students.kinds import kind_of
from rankdistill.students.late_interaction import LateInteraction
from rankdistill.students.load import load_student
from rankdistill.students.sides import encoders, sides, stored_modules, width_of
from rankdistill.students.sparse import SparseVectors
from rankdistill.students.static import StaticEncoder
from rankdistill.students.stored import StoredEncoder
from rankdistill.students.there import place_of

log = logging.getLogger(__name__)
SCALE = 20.0  # of a similarity; cosines alone are too close together for a softmax


def load_model(model: str, max_length: int | None = None) -> BaseModel:
    """A model to be measured, as what its folder, or what a hub gave before, holds."""
    load = load_cross_encoder if kind_of(place_of(model)) == "CrossEncoder" else load_student
    return load(model, max_length=max_length)


def ranker_of(
    student: BaseModel,
    similarity: str | None,
    scale: float | None,
    half: bool,
    grad_cache: bool,
    trained: bool = True,
) -> Ranker:
    """``student`` as the step runs it; the settings are those of ``DistillationTrainer``.

    Raises ``InputError`` for a kind that isn't trained, or a ``scale`` that it has no use for. One that is
    not ``trained``, a teacher, may be frozen.
    """
    check_trainable(student, trained)
    if reranks(student):
        if scale not in (None, 1):
            raise InputError(
                f"scale={scale}: a cross-encoder's scores are its logits as they are; leave it null"
            )
        return CrossEncoder(cast(sentence_transformers.CrossEncoder, student), half, grad_cache)
    cosine = similarity == "cosine"
    if isinstance(student, SparseEncoder):
        return SparseVectors(student, cosine, (SCALE if cosine else 1.0) if scale is None else scale, half)
    if isinstance(student, MultiVectorEncoder):
        default = SCALE if student.similarity_fn_name == "meanmaxsim" else 1.0  # a sum is spread by itself
        return LateInteraction(student, default if scale is None else scale, half, grad_cache)
    scale = SCALE if scale is None else scale

    def encoder_of(side: SentenceTransformer) -> Encoder:
        if stored_modules(side):
            return StoredEncoder(side, cosine, scale)
        if is_static(side):
            return StaticEncoder(side, cosine, scale)
        return DenseEncoder(side, cosine, scale, half, grad_cache)

    whole = cast(SentenceTransformer, student)
    if len(encoders(whole)) == 1 and not stored_modules(whole):
        return encoder_of(whole)
    of = {kind: encoder_of(side) for kind, side in sides(whole).items()}
    return AsymmetricEncoder(whole, of, cosine, scale)


def reranks(student: BaseModel) -> bool:
    """Whether ``student`` reads query and document together, and so searches nothing."""
    return isinstance(student, sentence_transformers.CrossEncoder)


def has_transformer(student: BaseModel) -> bool:
    """Whether one computes the vectors of queries or documents, in bf16 where the machine does."""
    return any(side.transformers_model is not None for side in encoders(student))


def is_static(student: SentenceTransformer) -> bool:
    return isinstance(student[0], StaticEmbedding)


def similarity_of(student: BaseModel, wanted: str | None) -> str | None:
    """What ``student`` is to be compared by, cosine or dot: ``wanted``, or its own if that is None.

    None of a cross-encoder, which has no embeddings; of late interaction maxsim or meanmaxsim. Warns if the
    two differ; raises ``InputError`` if its own is neither.
    """
    if reranks(student):
        if wanted is not None:
            raise InputError(
                f"similarity={wanted}: a cross-encoder has no embeddings to compare; leave it null"
            )
        return None
    own = cast(str, student.similarity_fn_name)
    if isinstance(student, MultiVectorEncoder):
        if wanted is not None:
            raise InputError(
                f"similarity={wanted}: a late-interaction model compares tokens by {own}; leave it null"
            )
        return own
    if wanted is None and own not in ("cosine", "dot"):
        raise InputError(f"similarity: the student compares by {own}; set it to cosine or dot")
    if wanted not in (None, own):
        log.warning("the student compares by %s; it is trained and saved to compare by %s", own, wanted)
    return wanted or own


def compare_by(student: BaseModel, similarity: str | None) -> None:
    """Makes ``student`` compare by ``similarity``, as ``similarity_of`` gives it."""
    if similarity is not None:
        cast(SentenceTransformer, student).similarity_fn_name = cast(Literal["cosine", "dot"], similarity)


def check_trainable(student: BaseModel, trained: bool = True) -> None:
    """Raises ``InputError`` if ``student`` is of a kind that can be measured, but not trained here.

    Or if it is to be ``trained``, and none of its weights is.
    """
    if reranks(student):
        if student.num_labels != 1:
            raise InputError(
                f"student: a cross-encoder of {student.num_labels} labels; it must have one score"
            )
        return
    if trained and not any(weight.requires_grad for weight in student.parameters()):
        raise InputError("student: none of its weights is trained; a frozen side needs another that is not")
    if isinstance(student, SparseEncoder):
        return
    for side in encoders(cast(SentenceTransformer, student)):
        if isinstance(side[0], Router):
            raise InputError(
                f"student: its routes (Router) are {', '.join(side[0].sub_modules)}; those that are trained "
                "are one for query and one for document"
            )
        if side.transformers_model is None and not is_static(side) and not stored_modules(side):
            raise InputError(
                f"student: its first module is {type(side[0]).__name__}; such a model can be evaluated and "
                "used for mining, but not trained"
            )
    width = [width_of(side) for side in encoders(student)]
    if len(set(width)) > 1:
        raise InputError(
            f"student: its queries have {width[0]} dimensions, its documents {width[1]}; "
            "asymmetric_student(query=..., document=...) puts a linear map between them"
        )
