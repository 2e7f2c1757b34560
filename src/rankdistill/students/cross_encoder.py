"""Cross-encoders: a query and a document are read together, by the step and wherever pairs are scored."""

import copy
import logging
from collections.abc import Collection as Container
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import sentence_transformers
import torch
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime.hardware import has_bf16
from rankdistill.students.base import PreparePairs, Ranker, Rows
from rankdistill.students.dense import fast_attention, on_cast_weights
from rankdistill.students.fast.chunking import by_length, chunks, tokens_at_once
from rankdistill.students.fast.packing import first_position, packed, tokens_in
from rankdistill.students.fast.pair_tokens import PairTokenizer, prompt_of_pairs
from rankdistill.students.kinds import has_head
from rankdistill.students.language import logit_score, round_language_model
from rankdistill.students.lengths import check_prompt, limit_length
from rankdistill.students.load import add_lora, keep_layers, load_weights, set_dropout
from rankdistill.students.made import note_made
from rankdistill.students.sides import transformer_of
from rankdistill.students.there import ModelName
from rankdistill.vocabulary import Batch, Outputs

log = logging.getLogger(__name__)


def load_cross_encoder(
    model: ModelName = "minilm",
    layers: int | None = None,
    max_length: int | None = 192,
    dropout: float | None = 0.0,
    device: str | None = None,
    trust_remote_code: bool = False,
    lora: Mapping[str, Any] | None = None,
) -> sentence_transformers.CrossEncoder:
    """A cross-encoder with one score, of a folder or a hub name; any other encoder gets a scoring head.

    The head is drawn from torch's random numbers. ``max_length`` is of query and document together; the
    others are those of ``load_student``; with ``lora`` the scoring head is trained beside the adapter.
    Raises ``InputError`` if the model can't be had or has several labels.
    """
    if dropout is not None and not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout}: it must be 0 or more and below 1")
    loaded = load_weights(
        sentence_transformers.CrossEncoder,
        model,
        ("SentenceTransformer",),
        device=device,
        num_labels=1,
        trust_remote_code=trust_remote_code,
    )
    if not has_head(loaded):
        log.info("%s has no scoring head; it begins with a random one", model)
        note_made(loaded, "Cross-encoder", "its transformer with a new scoring head, drawn at random")
    limit_length(loaded, max_length, model, pair=True)
    check_prompt(loaded, prompt_of_pairs(loaded), f"the prompt of {model}")
    if layers is not None:
        keep_layers(transformer_of(loaded), layers)
    if dropout is not None:
        set_dropout(transformer_of(loaded), dropout)
    if lora is not None:
        add_lora(loaded, lora, head_of(transformer_of(loaded)))
    return loaded


class Pairs:
    """The groups' pairs, sorted by length into chunks of at most ``chunk_tokens`` tokens.

    Packed where the model takes that, as in ``dense.Features``.
    """

    def __init__(
        self,
        model: sentence_transformers.CrossEncoder,
        collection: Collection,
        chunk_tokens: int | None,
        half: bool,
    ):
        self.collection = collection
        self.chunk_tokens = chunk_tokens or tokens_at_once(model.device, training=True)
        self.first_position = first_position(model, "scores", training=True, half=half)
        self.tokenise = PairTokenizer(model)

    def __call__(
        self, query_rows: Rows, document_rows: Rows, pairs: np.ndarray
    ) -> tuple[dict[str, Any], Tensor]:
        queries = [self.collection.queries[row] for row in query_rows]
        documents = [self.collection.documents[row] for row in document_rows]
        features = self.tokenise([(queries[i], documents[j]) for i, j in pairs])
        order = by_length(features)
        parts = [part for _, part in chunks(features, order, self.chunk_tokens, self.first_position)]
        return {"pairs": parts, "place": torch.argsort(order)}, torch.arange(len(document_rows))


class CrossEncoder(Ranker):
    """Scores are the model's logits, whatever activation is saved with it; there are no embeddings.

    ``half`` and ``grad_cache`` as in ``DenseEncoder``; the scoring head is float32.
    """

    pairs = True

    def __init__(
        self, model: sentence_transformers.CrossEncoder, half: bool = False, grad_cache: bool = False
    ):
        super().__init__()
        self.model, self.bf16, self.grad_cache = model, half, grad_cache

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> PreparePairs:
        return Pairs(self.model, collection, chunk_tokens, self.bf16)

    @contextmanager
    def training_pass(self) -> Iterator[None]:
        pack = first_position(self.model, "scores", training=True, half=self.bf16) is not None
        with (
            packed(self.model) if pack else nullcontext(),
            fast_attention(transformer_of(self.model), self.model.device),
        ):
            yield

    def tokens(self, inputs: dict[str, Any]) -> int:
        return sum(tokens_in(part) for part in inputs["pairs"])

    def forward(self, inputs: dict[str, Any], batch: Batch, wanted: Container[str]) -> Outputs:
        parts, head = inputs["pairs"], head_of(transformer_of(self.model))
        with torch.autocast(batch.mask.device.type, enabled=False):
            run = on_cast_weights(self.model, parts, self.bf16, exact=head)

            def score(features: dict[str, Any]) -> Tensor:
                with given_float32(head) if self.bf16 else nullcontext():
                    return run(features)["scores"].float().flatten()

            if self.grad_cache and torch.is_grad_enabled():
                logits = [checkpoint(score, part, use_reentrant=False) for part in parts]
            else:
                logits = [score(part) for part in parts]
            scores = torch.cat(logits)[inputs["place"]]  # query by query
            return Outputs(scores.new_zeros(batch.mask.shape).masked_scatter(batch.mask, scores))


class PairScorer:
    """``model``'s logits of pairs, in chunks of like length, or packed; bf16 once it was rounded."""

    def __init__(self, model: sentence_transformers.CrossEncoder, chunk_tokens: int | None = None):
        self.model = model
        self.chunk_tokens = chunk_tokens or tokens_at_once(model.device)
        self.first_position = first_position(model, "scores")
        self.tokenise = PairTokenizer(model)

    def round(self) -> None:
        """Makes the weights bf16, in place, where the machine computes in it natively."""
        if not has_bf16():
            return
        if logit_score(self.model) is not None:
            round_language_model(self.model)
        else:
            self.model.bfloat16()
            keep_head_in_float32(transformer_of(self.model))

    @torch.inference_mode()
    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Logits of the aligned pairs, float32 (n,)."""
        self.model.eval()
        features = self.tokenise(list(zip(queries, documents, strict=True)))
        scores = torch.empty(len(queries))
        first = self.first_position
        with nullcontext() if first is None else packed(self.model):
            for rows, chunk in chunks(features, by_length(features), self.chunk_tokens, first):
                logits = self.model(batch_to_device(chunk, self.model.device))["scores"]
                scores[rows] = logits.float().reshape(len(rows)).cpu()
        return scores.numpy()


def scorer_of(model: sentence_transformers.CrossEncoder) -> PairScorer:
    """Scores pairs as a teacher does, with the weights of now; ``model`` itself stays as it is."""
    scorer = PairScorer(model)
    if has_bf16():
        scorer.model = copy.deepcopy(model)
        scorer.round()
    return scorer


def head_of(model: PreTrainedModel) -> nn.Module | None:
    """What makes a score of the transformer's output, if it is a module of its own."""
    head = getattr(model, "classifier", None) or getattr(model, "score", None)
    return head if isinstance(head, nn.Module) else None


@contextmanager
def given_float32(head: nn.Module | None) -> Iterator[None]:
    """``head`` gets float32: bf16 logits between 8 and 16 are 0.06 apart, and tie."""
    handle = None if head is None else head.register_forward_pre_hook(_as_float32)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def keep_head_in_float32(model: PreTrainedModel) -> None:
    """Runs the scoring head in float32 from now on."""
    if (head := head_of(model)) is not None:
        head.float().register_forward_pre_hook(_as_float32)


def _as_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in inputs)
