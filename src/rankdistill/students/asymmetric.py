"""Asymmetric students: an encoder of its own for queries and for documents, one of which may be frozen."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from torch import Tensor, nn

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.students.base import Encoder, Prepare, Rows
from rankdistill.students.lengths import limit_length
from rankdistill.students.load import check_class, load_student
from rankdistill.students.made import made_of, note_made
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import KINDS, encoders, sides, width_of
from rankdistill.students.there import ModelName

Side = SentenceTransformer | Callable[[], SentenceTransformer]


def asymmetric_student(
    query: Side | None = None,
    document: Side | None = None,
    freeze: str | None = "document",
    model: ModelName | None = None,
    max_length: int | None = None,
    layers: int | None = None,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> SentenceTransformer:
    """A student with an encoder for queries and one for documents, sentence-transformers' Router of the two.

    Each is a bi-encoder, such as ``load_student`` or ``static_student`` gives, or what makes one when called.
    Without ``document`` it is ``load_student(model, layers)``. A ``model`` that holds two encoders already is
    taken as it is, and goes on training. The side ``freeze``, ``query`` or ``document``, is not trained: its
    texts are encoded once, and a step encodes none of them. Where the two differ in dimensions, the trained
    side (of two that of queries) gets a linear map to the other's. Of a text at most ``max_length`` tokens
    are read. ``prompts`` has the keys ``query`` and ``document``; None keeps what each encoder has.

    Raises ``InputError`` if an encoder can't be had, or they don't fit together.
    """
    if freeze not in (None, *KINDS):
        raise InputError(f"student.freeze={freeze!r}: it must be 'query' or 'document', or null")
    whole = None
    if model is not None:
        check_class(model, SentenceTransformer)
        loaded = load_student(model, layers, max_length, 0.0, prompts, trust_remote_code=trust_remote_code)
        whole = cast(SentenceTransformer, loaded)
    if whole is None or len(encoders(whole)) == 1:
        document = whole if document is None else document
        if query is None or document is None:
            missing = "query" if query is None else "document"
            raise InputError(f"student.{missing}: give an encoder, or a student.model that has two (Router)")
        first, second = (
            side if isinstance(side, SentenceTransformer) else side() for side in (query, document)
        )
        whole = routed(first, second, freeze, prompts)
        for side in encoders(whole):
            limit_length(side, max_length, model or "the encoder")
        called, how = made_of(first)
        queries = f"{called.lower()}: {how}" if how else "a bi-encoder"
        note_made(
            whole, "Asymmetric student", f"the encoder of documents; that of queries is another ({queries})"
        )
    if freeze is not None:
        sides(whole)[freeze].requires_grad_(False)
    return whole


def routed(
    query: SentenceTransformer,
    document: SentenceTransformer,
    freeze: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> SentenceTransformer:
    """The two as one model; raises ``InputError`` if one has two encoders itself, or they truncate unlike."""
    modules: dict[str, list[Any]] = {"query": list(query), "document": list(document)}
    for kind, side in (("query", query), ("document", document)):
        if len(encoders(side)) > 1:
            raise InputError(f"student.{kind}: it has two encoders itself (Router); give one of them")
    if query.truncate_dim != document.truncate_dim:
        raise InputError(
            f"student: queries are truncated to {query.truncate_dim} dimensions, documents to "
            f"{document.truncate_dim}; save them with the same truncate_dim"
        )
    width = {kind: dimensions(side) for kind, side in (("query", query), ("document", document))}
    if width["query"] != width["document"]:
        mapped, other = ("document", "query") if freeze == "query" else KINDS
        modules[mapped].append(linear(width[mapped], width[other]))
    own = {"query": prompt_of(query, "query"), "document": prompt_of(document, "document")}
    return SentenceTransformer(
        modules=[Router.for_query_document(modules["query"], modules["document"])],
        prompts={kind: text for kind, text in (prompts or own).items() if text},
        similarity_fn_name=(query if freeze == "query" else document).similarity_fn_name,
        truncate_dim=document.truncate_dim,
        device=str(document.device),
    )


def dimensions(side: SentenceTransformer) -> int:
    with side.truncate_embeddings(None):
        return width_of(side)


def linear(width: int, other: int) -> Dense:
    """A map from ``width`` dimensions to ``other``, at first one that keeps lengths, or as many as it can.

    The same whatever the seed: a student that a sweep starts from is one.
    """
    start = torch.nn.init.orthogonal_(torch.empty(other, width), generator=torch.Generator().manual_seed(0))
    return Dense(width, other, bias=False, activation_function=nn.Identity(), init_weight=start)


class AsymmetricEncoder(Encoder):
    """Queries through one encoder, documents through another; ``encoders`` are those of each kind.

    Their models share the modules of ``model``, which alone holds the weights.
    """

    def __init__(self, model: SentenceTransformer, of: Mapping[str, Encoder], cosine: bool, scale: float):
        super().__init__(model, cosine, scale)
        self._of = tuple(of[kind] for kind in KINDS)  # no submodules: their weights are the model's
        trained = [x for x in self._of if any(weight.requires_grad for weight in x.model.parameters())]
        self.learning_rate = min((x.learning_rate for x in trained), default=self.learning_rate)

    @property
    def sparse(self) -> bool:
        return any(encoder.sparse for encoder in self._of)

    @sparse.setter
    def sparse(self, value: bool) -> None:
        for encoder in self._of:
            encoder.sparse = encoder.sparse and value

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare:
        return BothSides(
            *(
                encoder.preparer_of(kind, collection, chunk_tokens)
                for kind, encoder in zip(KINDS, self._of, strict=True)
            )
        )

    def training_pass(self):
        stack = ExitStack()
        for encoder in self._of:
            stack.enter_context(encoder.training_pass())
        return stack

    def vectors(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        queries, documents = (
            encoder.vectors_of(kind, inputs[kind]) for kind, encoder in zip(KINDS, self._of, strict=True)
        )
        return queries, documents

    def tokens(self, inputs: Mapping[str, Any]) -> int:
        return sum(encoder.tokens_of(inputs[kind]) for kind, encoder in zip(KINDS, self._of, strict=True))


class BothSides:
    """``Ranker.preparer`` of two of ``Encoder.preparer_of``."""

    def __init__(self, query: Callable, document: Callable):
        self.query, self.document = query, document

    def __call__(self, query_rows: Rows, document_rows: Rows) -> tuple[dict[str, Any], Tensor]:
        queries, _ = self.query(query_rows)
        documents, order = self.document(document_rows)
        return {"query": queries, "document": documents}, order
