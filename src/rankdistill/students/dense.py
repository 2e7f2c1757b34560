"""A dense student as the step runs it: queries and chunks of documents through one encoder."""

import logging
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Collection as Container
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import truncate_embeddings
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.students.base import Encoder, Prepare, PrepareSide, Rows
from rankdistill.students.fast.chunking import by_length, chunks, tokens_at_once
from rankdistill.students.fast.packing import first_position, pack, packed, tokens_in
from rankdistill.students.fast.tokens import stored_tokens
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import KINDS, transformer_of
from rankdistill.vocabulary import Batch, Outputs

log = logging.getLogger(__name__)


class Texts:
    """The features of texts of one kind, ``query`` or ``document``; ``Encoder.preparer_of`` of these.

    Queries stay together, documents are sorted by length into chunks of at most ``chunk_tokens`` tokens, of
    one at least. Where the model takes packed texts (``first_position``) they have no padding; else it
    counts, and chunks keep long documents from making short ones long. Texts are tokenised once, in the token
    store.
    """

    def __init__(
        self,
        model: BaseModel,
        kind: str,
        collection: Collection,
        chunk_tokens: int | None,
        half: bool | None,
    ):
        self.kind, self.collection = kind, collection
        self.chunk_tokens = chunk_tokens or tokens_at_once(model.device, training=True)
        self.first_position = first_position(model, training=True, half=half)
        self.preprocess, self.prompt = model.preprocess, prompt_of(model, kind)
        self.tokens = stored_tokens(model, collection, kind, self.prompt)

    def __call__(self, rows: Rows) -> tuple[list[dict[str, Any]], Tensor]:
        features = self._of(rows)
        if self.kind == "query":
            order = torch.arange(len(rows))
            return [
                features if self.first_position is None else pack(features, order, self.first_position)
            ], order
        order = by_length(features)
        return [part for _, part in chunks(features, order, self.chunk_tokens, self.first_position)], order

    def _of(self, rows: Rows) -> dict[str, Any]:
        if self.tokens is not None:
            return self.tokens.features(rows)
        texts = self.collection.queries if self.kind == "query" else self.collection.documents
        return dict(self.preprocess([texts[row] for row in rows], prompt=self.prompt, task=self.kind))


class Features:
    """Queries' features, and documents' in chunks; see ``Texts``."""

    def __init__(self, model: BaseModel, collection: Collection, chunk_tokens: int | None, half: bool | None):
        self.of = {kind: Texts(model, kind, collection, chunk_tokens, half) for kind in KINDS}

    @property
    def first_position(self) -> int | None:
        return self.of["query"].first_position

    def __call__(self, query_rows: Rows, document_rows: Rows) -> tuple[dict[str, Any], Tensor]:
        (queries,), _ = self.of["query"](query_rows)
        documents, order = self.of["document"](document_rows)
        return {"queries": queries, "documents": documents}, order


class DenseEncoder(Encoder):
    """Queries and documents through one transformer, the latter in chunks of like length.

    With ``half`` the pass runs in bf16 throughout, on weights cast once a step from the float32
    ones, which get the gradient. Autocast would go to and fro between the two at every layer norm
    and activation: on one core with bf16 units a step of it took 1.15 times as long.
    With ``grad_cache`` no activations are kept: each chunk is encoded a second time when its
    gradient is due, so that memory holds one chunk's (the same gradient as Gao et al. 2021).
    Of the token embeddings, half of MiniLM's weights and more of a multilingual model's, only the
    batch's rows are cast and passed on.
    """

    offers = Encoder.offers | {"layers"}
    model: BaseModel

    def __init__(
        self,
        model: BaseModel,
        cosine: bool,
        scale: float,
        half: bool = False,
        grad_cache: bool = False,
    ):
        super().__init__(model, cosine, scale)
        self.bf16, self.grad_cache = half, grad_cache

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare:
        return Features(self.model, collection, chunk_tokens, self.bf16)

    @contextmanager
    def training_pass(self) -> Iterator[None]:
        pack = first_position(self.model, training=True, half=self.bf16) is not None
        with (
            packed(self.model) if pack else nullcontext(),
            fast_attention(transformer_of(self.model), self.model.device),
        ):
            yield

    def tokens(self, inputs: dict[str, Any]) -> int:
        return self.tokens_of([inputs["queries"], *inputs["documents"]])

    def tokens_of(self, inputs: list[dict[str, Any]]) -> int:
        return sum(map(tokens_in, inputs))

    def preparer_of(self, kind: str, collection: Collection, chunk_tokens: int | None = None) -> PrepareSide:
        return Texts(self.model, kind, collection, chunk_tokens, self.bf16)

    def vectors(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        embedded = self._encoded(parts_of(inputs))
        return embedded[0], torch.cat(embedded[1:])

    def forward(self, inputs: dict[str, Any], batch: Batch, wanted: Container[str]) -> Outputs:
        if "layers" not in wanted:
            return super().forward(inputs, batch, wanted)
        (queries, of_queries), *documents = self._encoded(parts_of(inputs), layers=True)
        vectors = torch.cat([part for part, _ in documents])
        of_documents = tuple(map(torch.cat, zip(*(layers for _, layers in documents), strict=True)))
        outputs = self.with_cuts(queries, vectors, batch, wanted)
        assert outputs.queries is not None and outputs.documents is not None
        return replace(
            outputs,
            queries=replace(outputs.queries, layers=of_queries),
            documents=replace(outputs.documents, layers=of_documents),
        )

    def vectors_of(self, kind: str, inputs: list[dict[str, Any]]) -> Tensor:
        return torch.cat(self._encoded([(part, kind) for part in inputs]))

    def read(self, made: dict[str, Any]) -> Any:
        """What the step compares of what the model ``made`` of n texts: float32 (n, d)."""
        most = cast(SentenceTransformer, self.model).truncate_dim
        return truncate_embeddings(made["sentence_embedding"].float(), most)

    def read_layers(self, made: dict[str, Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Also the states of each layer, float32 (n, d), pooled as the model pools the last one's."""
        pooling = next((part for part in self.model if isinstance(part, Pooling)), None)
        if pooling is None:
            raise InputError(
                f"{type(self.model).__name__}: its layers are not pooled, and cannot be compared"
            )
        end = made["token_embeddings"].shape[1]  # of packed texts, without the tokens behind the last one
        with packed(self.model) if "cu_seq_lens_q" in made else nullcontext():
            layers = [
                pooling({**made, "token_embeddings": states[:, :end]})["sentence_embedding"].float()
                for states in made["all_layer_embeddings"]
            ]
        return self.read(made), tuple(layers)

    def _encoded(self, parts: Sequence[tuple[dict[str, Any], str]], layers: bool = False) -> list[Any]:
        """What ``read`` or ``read_layers`` gives of each of ``parts``: features of n texts, their kind."""
        with torch.autocast(self.model.device.type, enabled=False):
            run = on_cast_weights(self.model, [part for part, _ in parts], self.bf16)

            def embed(features: dict[str, Any], kind: str) -> Any:
                if not layers:
                    return self.read(run(features, task=kind))
                with hidden_states(transformer_of(self.model)):  # here: a chunk may be encoded once more
                    return self.read_layers(run(features, task=kind))

            if self.grad_cache and torch.is_grad_enabled():
                return [checkpoint(embed, *part, use_reentrant=False) for part in parts]
            return [embed(*part) for part in parts]


def parts_of(inputs: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The features of the queries, and of each chunk of documents, and their kind."""
    return [(inputs["queries"], "query"), *((part, "document") for part in inputs["documents"])]


@contextmanager
def hidden_states(model: PreTrainedModel) -> Iterator[None]:
    """``model`` gives the states of all its layers."""
    before = model.config.output_hidden_states
    model.config.output_hidden_states = True
    try:
        yield
    finally:
        model.config.output_hidden_states = before


def on_cast_weights(
    model: BaseModel, parts: Sequence[dict[str, Any]], half: bool, exact: nn.Module | None = None
) -> Callable[..., dict[str, Any]]:
    """What runs ``model`` on the features of one of ``parts`` after the other, on weights cast once for all.

    Cast to bf16 if ``half``, those of ``exact`` aside. Of the token embeddings only the rows of ``parts``
    are cast.
    """

    def lowered(weight: Tensor) -> Tensor:
        return weight.to(torch.bfloat16) if half else weight

    weights: dict[str, Tensor] = dict(model.named_parameters())
    kept = set(exact.parameters() if exact else ())
    own = token_embedding(model)
    if own is not None:
        tokens = torch.cat([part["input_ids"].flatten() for part in parts]).unique()
        rows = lowered(own.weight.index_select(0, tokens))
        weights = {name: weight for name, weight in weights.items() if weight is not own.weight}
    weights = {name: weight if weight in kept else lowered(weight) for name, weight in weights.items()}

    def run(features: dict[str, Any], **options: Any) -> dict[str, Any]:
        with (
            nullcontext() if own is None else looking_up(own, tokens, rows),
            packed(model) if "cu_seq_lens_q" in features else nullcontext(),
        ):
            return functional_call(model, weights, (dict(features),), options)

    return run


def token_embedding(encoder: BaseModel) -> nn.Embedding | None:
    """The embedding of ``encoder``'s tokens, if it only looks up rows, and no other module has its weight."""
    found = transformer_of(encoder).get_input_embeddings()
    if type(found) is not nn.Embedding or found.max_norm or found.scale_grad_by_freq or found.sparse:
        return None
    owners = [module for module in encoder.modules() if getattr(module, "weight", None) is found.weight]
    return found if len(owners) == 1 else None


@contextmanager
def looking_up(module: nn.Embedding, tokens: Tensor, rows: Tensor) -> Iterator[None]:
    """Makes ``module`` find the embeddings of ``tokens`` int64 (N,), ascending, in ``rows`` (N, d)."""
    blank = -1 if module.padding_idx is None else module.padding_idx
    no_gradient = next(iter((tokens == blank).nonzero().flatten().tolist()), None)
    vars(module)["forward"] = lambda ids: embedding(torch.searchsorted(tokens, ids), rows, no_gradient)
    try:
        yield
    finally:
        del vars(module)["forward"]


@contextmanager
def fast_attention(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """On a CPU, attention to padded texts as plain matrix products while training.

    The backward pass of PyTorch's fused CPU attention takes two fifths of a step otherwise.
    """
    before = getattr(model.config, "_attn_implementation", None)
    if device.type != "cpu" or before != "sdpa":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
