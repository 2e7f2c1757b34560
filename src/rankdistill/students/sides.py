"""A model's two sides: what embeds queries and what embeds documents, and what of each is trained."""

from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding
from torch import nn
from transformers import PreTrainedModel

from rankdistill.students.vectors import Vectors

KINDS = ("query", "document")
Model = TypeVar("Model", bound=BaseModel)


def sides(model: Model) -> dict[str, Model]:
    """What embeds texts of each kind, ``query`` and ``document``: ``model`` itself, for both.

    Of a Router with a route for each kind two models that share its modules.
    """
    router = model[0] if isinstance(model, SentenceTransformer) else None
    if not isinstance(router, Router) or router.route_mappings or set(router.sub_modules) != set(KINDS):
        return dict.fromkeys(KINDS, model)
    after, whole = list(model)[1:], cast(SentenceTransformer, model)
    routes = cast(Mapping[str, Iterable[nn.Module]], router.sub_modules)
    return {kind: cast(Model, like(whole, [*routes[kind], *after])) for kind in KINDS}


def encoders(model: Model) -> list[Model]:
    """The distinct ``sides`` of ``model``: one, or a Router's two."""
    query, document = sides(model).values()
    return [query] if query is document else [query, document]


def like(model: SentenceTransformer, modules: Iterable[nn.Module], whole: bool = True) -> SentenceTransformer:
    """A model of these ``modules``, which are shared, with the settings of ``model``.

    If not ``whole``, others come after them, to which truncation is left.
    """
    copied = SentenceTransformer(
        modules=list(modules),
        prompts=cast(dict[str, str], dict(model.prompts)),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim if whole else None,
        device=str(model.device),
    )
    copied.training = model.training  # its own flag alone: the modules keep theirs
    return copied


def transformer_of(model: BaseModel) -> PreTrainedModel:
    """The transformer of ``model``, which has one."""
    return cast(PreTrainedModel, model.transformers_model)


def width_of(model: BaseModel) -> int:
    """How many dimensions the vectors of ``model`` have."""
    return cast(int, cast(SentenceTransformer, model).get_embedding_dimension())


def stored_modules(side: SentenceTransformer) -> int:
    """How many of the first modules of ``side`` are a frozen encoder, whose vectors can be stored.

    Those before the first that is trained, if they give one vector a text; 0 if the encoder is trained, or
    all of them if nothing is.
    """
    trains = [any(weight.requires_grad for weight in module.parameters()) for module in side]
    first = trains.index(True) if True in trains else len(trains)
    below, above = list(side)[:first], list(side)[first:]
    pooled = any(isinstance(module, (Pooling, StaticEmbedding, Vectors)) for module in below)
    fed = all(getattr(module, "module_input_name", None) != "token_embeddings" for module in above)
    return first if pooled and fed else 0


def stored_part(side: SentenceTransformer) -> SentenceTransformer:
    """The frozen encoder that ``side`` begins with (``stored_modules``); ``side`` itself if that is all."""
    first = stored_modules(side)
    if first == len(side):
        return side
    below = like(side, list(side)[:first], whole=False)
    if not isinstance(below[-1], Normalize):
        below.similarity_fn_name = "dot"  # what comes after it takes vectors of any length
    return below
