"""The student as the step runs it: queries and chunks of documents through one encoder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.util import truncate_embeddings
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import embedding, normalize
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rankdistill.errors import InputError
from rankdistill.packing import packed


class BiEncoder(nn.Module):
    """Queries and documents through one encoder, in one forward pass that DDP can wrap.

    The embeddings are those of ``encode_query`` and ``encode_document``, cut to the encoder's
    ``truncate_dim``, and of length 1 if ``cosine``.
    With ``half`` the pass runs in bf16 throughout, on weights cast once a step from the float32
    ones, which get the gradient. Autocast would go to and fro between the two at every layer norm
    and activation: on one core with bf16 units a step of it took 1.15 times as long.
    With ``grad_cache`` no activations are kept: each chunk is encoded a second time when its
    gradient is due, so that memory holds one chunk's (the same gradient as Gao et al. 2021).
    Of the token embeddings, half of MiniLM's weights and more of a multilingual model's, only the
    batch's rows are cast and passed on.
    ``teacher_factor`` scales the teacher's scores; a buffer, so that checkpoints carry it.
    """

    def __init__(
        self, encoder: SentenceTransformer, cosine: bool, scale: float, half: bool, grad_cache: bool = False
    ):
        super().__init__()
        self.encoder, self.cosine, self.scale = encoder, cosine, scale
        self.half, self.grad_cache = half, grad_cache
        self.register_buffer("teacher_factor", torch.ones(()))

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """Each tied weight once: safetensors writes no aliases, and loading one loads them all."""
        found, seen = super().state_dict(*args, **kwargs), set()
        for name, tensor in list(found.items()):
            place = tensor.data_ptr(), tensor.shape
            if tensor.numel() and place in seen:
                del found[name]
            seen.add(place)
        return found

    def forward(self, queries: dict[str, Any], documents: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Embeddings of the queries (B, d) and of all chunks' documents (U, d), float32."""
        with torch.autocast(queries["input_ids"].device.type, enabled=False):
            weights = dict(self.encoder.named_parameters())
            own = token_embedding(self.encoder)
            if own is not None:
                tokens = torch.cat([part["input_ids"].flatten() for part in (queries, *documents)]).unique()
                rows = self._cast(own.weight.index_select(0, tokens))
                weights = {name: weight for name, weight in weights.items() if weight is not own.weight}
            weights = {name: self._cast(weight) for name, weight in weights.items()}

            def embed(features: dict[str, Any], kind: str) -> Tensor:
                with (
                    nullcontext() if own is None else looking_up(own, tokens, rows),
                    packed(self.encoder) if "cu_seq_lens_q" in features else nullcontext(),
                ):
                    made = functional_call(self.encoder, weights, (dict(features),), {"task": kind})
                return truncate_embeddings(made["sentence_embedding"].float(), self.encoder.truncate_dim)

            parts = [(queries, "query"), *((part, "document") for part in documents)]
            if self.grad_cache and torch.is_grad_enabled():
                embedded = [checkpoint(embed, *part, use_reentrant=False) for part in parts]
            else:
                embedded = [embed(*part) for part in parts]
        if self.cosine:
            embedded = [normalize(part, dim=1) for part in embedded]
        return embedded[0], torch.cat(embedded[1:])

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.to(torch.bfloat16) if self.half else weight

    def similarity(self, queries: Tensor, documents: Tensor) -> Tensor:
        """float32 (B, U): ``scale`` times cosine or dot product."""
        return self.scale * queries @ documents.T


def check_trainable(student: SentenceTransformer) -> None:
    """Raises ``InputError`` if ``student`` is of a kind that can be measured, but not trained here."""
    if any(isinstance(module, Router) for module in student.modules()):
        raise InputError(
            "student: it has another encoder for queries than for documents (Router), and only one for both "
            "is trained; take one of its two as the student"
        )
    if student.transformers_model is None:
        raise InputError(
            f"student: it has no transformer ({type(student[0]).__name__}); such a model is evaluated and "
            "used for mining, but not trained"
        )


def token_embedding(encoder: SentenceTransformer) -> nn.Embedding | None:
    """The embedding of ``encoder``'s tokens, if it only looks up rows, and no other module has its weight."""
    found = encoder.transformers_model.get_input_embeddings()
    if type(found) is not nn.Embedding or found.max_norm or found.scale_grad_by_freq or found.sparse:
        return None
    owners = [module for module in encoder.modules() if getattr(module, "weight", None) is found.weight]
    return found if len(owners) == 1 else None


@contextmanager
def looking_up(module: nn.Embedding, tokens: Tensor, rows: Tensor) -> Iterator[None]:
    """Makes ``module`` find the embeddings of ``tokens`` int64 (N,), ascending, in ``rows`` (N, d)."""
    blank = -1 if module.padding_idx is None else module.padding_idx
    no_gradient = next(iter((tokens == blank).nonzero().flatten().tolist()), None)
    module.forward = lambda ids: embedding(torch.searchsorted(tokens, ids), rows, no_gradient)
    try:
        yield
    finally:
        del module.forward


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
