"""Texts side by side in one row: no padding but within attention, where it costs least.

The layout is that of sentence-transformers and transformers for variable-length flash attention:
``input_ids`` and ``position_ids`` int64 (1, T), ``cu_seq_lens_q`` int32 (n + 1,), where the texts
begin and end. A GPU takes PyTorch's own such attention, in bf16; this is the same for a CPU.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Router
from sentence_transformers.util import batch_to_device
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rankdistill.runtime.hardware import autocast, has_bf16

varlen_attn: Callable[..., Any] | None
try:
    varlen_attn = import_module("torch.nn.attention.varlen").varlen_attn
except (ImportError, AttributeError):  # before PyTorch 2.10
    varlen_attn = None

log = logging.getLogger(__name__)
NAME = "rankdistill_packed"
MULTIPLE = 16  # on a CPU, fused bf16 attention over 125 tokens takes twice the time of 128
PROBE = ["a b c d e f g h i j k l m n o p q r s t u v w x y z " * 12, "one two three", "a"]
ROUND = 256  # a row has a multiple of so many tokens: lengths that never recur fragment memory
SLACK = 1.15  # a block's longest text over its shortest, at most
_TRIED: WeakKeyDictionary[torch.nn.Module, dict[str, int | None]] = WeakKeyDictionary()  # by device


def blocks(lengths: list[int]) -> list[tuple[int, int, int]]:
    """Runs of texts of like length: first and end text, and the width they are filled up to."""
    spans, first = [], 0
    for end in range(1, len(lengths) + 1):
        run = lengths[first:end]
        whole = end == len(lengths)
        if whole or max(*run, lengths[end]) > SLACK * min(*run, lengths[end]) + MULTIPLE:
            spans.append((first, end, -(-max(run) // MULTIPLE) * MULTIPLE))
            first = end
    return spans


class _Attention(torch.autograd.Function):
    """softmax(Q K') V of each text by itself; query, key, value (T, H, d)."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, plan: tuple["_Places", ...]) -> Tensor:
        saved = []
        output = _like(query, plan)
        for places in plan:
            q, k, v = (places.block(x) for x in (query, key, value))
            scores = torch.bmm(q, k.transpose(1, 2))
            if places.mask is not None:  # only the columns that some text lacks
                least = places.least
                whole = scores.view(places.count, -1, *scores.shape[1:])
                whole[..., least:].add_(places.mask[..., least:].to(scores.dtype))
            weights = scores.softmax(dim=-1)
            places.put(output, torch.bmm(weights, v))
            saved += [q, k, v, weights]
        ctx.save_for_backward(*saved)
        ctx.plan = plan
        return output

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradients = [_like(gradient, ctx.plan) for _ in range(3)]
        saved = ctx.saved_tensors
        for i, places in enumerate(ctx.plan):
            q, k, v, weights = saved[4 * i : 4 * i + 4]
            g = places.block(gradient, blank=True)
            scores = torch.bmm(g, v.transpose(1, 2))
            scores = torch._softmax_backward_data(scores, weights, -1, weights.dtype)
            found = torch.bmm(scores, k), torch.bmm(scores.mT, q), torch.bmm(weights.mT, g)
            for whole, part in zip(gradients, found, strict=True):
                places.put(whole, part)
        return *gradients, None


class _Places:
    """Where the tokens of one block are: n texts of like length, filled up to ``width``.

    A token of one head is a row: T * H of them, in the order of the tokens, are brought into that
    of the blocks (n, H, width), and back.
    """

    def __init__(self, bounds: tuple[int, ...], width: int, heads: int):
        starts = torch.tensor(bounds[:-1]).unsqueeze(1)
        lengths = torch.tensor(bounds[1:]).unsqueeze(1) - starts
        steps = torch.arange(width)
        real = steps < lengths
        self.count, self.width, self.least = len(lengths), width, int(lengths.min())
        tokens = starts + steps.minimum(lengths - 1)  # padding repeats the last token
        self.rows = (tokens.unsqueeze(1) * heads + torch.arange(heads).unsqueeze(1)).flatten()
        places = torch.arange(len(self.rows)).view(-1, heads, width).transpose(1, 2)
        self.back, self.padding = places[real].flatten(), places[~real].flatten()
        self.span = slice(bounds[0] * heads, bounds[-1] * heads)
        self.mask: Tensor | None = None
        if self.least != width:
            self.mask = torch.zeros(real.shape).masked_fill_(~real, -1e30)[:, None, None]

    def block(self, tokens: Tensor, blank: bool = False) -> Tensor:
        """Tokens (T, H, d) as (n * H, width, d); ``blank`` makes padding 0."""
        picked = tokens.reshape(-1, tokens.shape[-1]).index_select(0, self.rows)
        if blank:
            picked.index_fill_(0, self.padding, 0)
        return picked.view(-1, self.width, tokens.shape[-1])

    def put(self, tokens: Tensor, block: Tensor) -> None:
        """Writes ``block`` (n * H, width, d), also (n, H, ...), back into contiguous ``tokens`` (T, H, d)."""
        rows = tokens.view(-1, tokens.shape[-1])[self.span]
        torch.index_select(block.reshape(-1, rows.shape[1]), 0, self.back, out=rows)


def _like(tokens: Tensor, plan: tuple[_Places, ...]) -> Tensor:
    """To be filled with what each text's tokens get; 0 for the tokens behind the last text."""
    reordered = tokens.new_empty(tokens.shape)
    reordered.view(-1, tokens.shape[-1])[plan[-1].span.stop :] = 0
    return reordered


@lru_cache(maxsize=4)  # a model's layers have the same one
def plan_of(bounds: tuple[int, ...], heads: int) -> tuple[_Places, ...]:
    """The blocks of texts that begin and end at ``bounds``."""
    lengths = [end - start for start, end in pairwise(bounds)]
    return tuple(_Places(bounds[first : end + 1], width, heads) for first, end, width in blocks(lengths))


def packed_attention(
    module, query: Tensor, key: Tensor, value: Tensor, attention_mask, scaling=None, dropout=0.0, **kwargs
):
    """transformers' attention interface; query, key, value (1, H, T, d). Padded batches are sdpa's."""
    if "cu_seq_lens_q" not in kwargs:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    if query.is_cuda:
        return flash(query, key, value, scaling, **kwargs).unsqueeze(0), None
    plan = plan_of(tuple(kwargs["cu_seq_lens_q"].tolist()), query.shape[1])
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        output = _Attention.apply(query * scaling, key, value, plan)
    else:
        output = _like(query, plan)
        for places in plan:
            q, k, v = (
                places.block(x).view(places.count, -1, places.width, x.shape[-1]) for x in (query, key, value)
            )
            mask = None if places.mask is None else places.mask.to(q.dtype)
            places.put(output, scaled_dot_product_attention(q, k, v, mask, scale=scaling))
    return output.unsqueeze(0), None


def flash(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, cu_seq_lens_q: Tensor, max_length_q: int, **_
) -> Tensor:
    """PyTorch's variable-length attention (T, H, d); what follows the last text counts as one more text."""
    bounds = torch.cat([cu_seq_lens_q, cu_seq_lens_q.new_tensor([len(query)])])
    longest = max(max_length_q, ROUND)
    attend = cast(Callable[..., Tensor], varlen_attn)  # texts are packed only where it exists
    return attend(query, key, value, bounds, bounds, longest, longest, scale=scaling)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def pack(features: dict[str, Any], rows: Tensor, first_position: int) -> dict[str, Any]:
    """The texts at ``rows`` of padded ``features`` as one row; a few tokens behind the last are no text's."""
    real = features["attention_mask"][rows].bool()
    lengths = real.sum(dim=1)
    ends = lengths.cumsum(0).to(torch.int32)
    bounds = torch.cat([ends.new_zeros(1), ends])
    row = {
        name: value[rows][real].unsqueeze(0) if torch.is_tensor(value) and value.ndim == 2 else value
        for name, value in features.items()
        if name != "attention_mask"
    }
    longest = int(lengths.max())
    starts = torch.repeat_interleave(ends - lengths, lengths)
    positions = torch.arange(int(ends[-1])) - starts + first_position
    row["position_ids"] = positions.unsqueeze(0)
    rest = -int(ends[-1]) % ROUND
    for name, value in row.items():
        if torch.is_tensor(value) and value.ndim == 2:
            row[name] = torch.cat([value, value[:, :1].expand(-1, rest)], dim=1)
    return row | {
        "seq_idx": torch.repeat_interleave(torch.arange(len(rows), dtype=torch.int32), lengths).unsqueeze(0),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def tokens_in(features: dict[str, Any]) -> int:
    """How many tokens the texts of ``features`` have, padding not counted."""
    mask = features.get("attention_mask")
    return int(features["cu_seq_lens_q"][-1] if mask is None else mask.sum())


def take_packed(model: BaseModel) -> Callable[[], None]:
    """Makes a student or a cross-encoder take packed texts, and padded ones as before.

    Returns what undoes that.
    """
    transformer = cast(PreTrainedModel, model.transformers_model)
    before = transformer.config._attn_implementation
    if before == NAME:
        return lambda: None
    if transformer.base_model is transformer:
        handle = model[0].register_forward_hook(_own_tokens)
    else:
        encoder = cast(torch.nn.Module, transformer.base_model.encoder)
        handle = encoder.register_forward_hook(_first_tokens, with_kwargs=True)
    transformer.set_attn_implementation(NAME)

    def undo() -> None:
        transformer.set_attn_implementation(before)
        handle.remove()

    return undo


@contextmanager
def packed(model: BaseModel) -> Iterator[None]:
    """``take_packed`` for a while."""
    undo = take_packed(model)
    try:
        yield
    finally:
        undo()


def _own_tokens(module, arguments, features):
    """Of packed texts, without the tokens behind the last one."""
    if "cu_seq_lens_q" in features:
        end = int(features["cu_seq_lens_q"][-1])
        features["token_embeddings"] = features["token_embeddings"][:, :end]
    return features


def _first_tokens(module, arguments, kwargs, output):
    """Of packed texts a classifier's head gets the first tokens, as of padded ones."""
    if "cu_seq_lens_q" in kwargs:
        output.last_hidden_state = output.last_hidden_state[0, kwargs["cu_seq_lens_q"][:-1]].unsqueeze(1)
    return output


def first_position(
    model: BaseModel,
    output: str = "sentence_embedding",
    training: bool = False,
    half: bool | None = None,
) -> int | None:
    """Where the positions of packed texts begin; None if ``model`` gives other results for them.

    ``model`` is a student, or a cross-encoder with the ``output`` "scores"; its weights are float32 and
    it runs in bf16 if ``half`` (by default where that is native), as it must on a GPU. It is tried
    once. For ``training`` it may have no attention dropout, which this attention lacks.
    """
    device = model.device.type
    half = has_bf16() if half is None else half
    if device != "cpu" and (device != "cuda" or varlen_attn is None or not half):
        return None
    if any(isinstance(module, Router) for module in model):
        return None  # encode_query and encode_document know their ways
    if not isinstance(model.transformers_model, torch.nn.Module):
        return None  # there is none, or it is of another runtime
    config = model.transformers_model.config
    dropout = (getattr(config, name, 0) for name in ("attention_probs_dropout_prob", "attention_dropout"))
    if training and any(dropout):
        return None
    tried = _TRIED.setdefault(model, {})
    if device not in tried:
        tried[device] = _try(model, output)
    return tried[device]


@torch.no_grad()
def _try(model: BaseModel, output: str) -> int | None:
    """``first_position`` by trial, in float32 on a CPU; what that finds must then hold on the GPU."""
    transformer = cast(PreTrainedModel, model.transformers_model)
    weight = next(transformer.parameters())
    config = transformer.config
    known = config._attn_implementation in ("sdpa", "eager", NAME)
    windows = any(getattr(config, name, None) for name in ("sliding_window", "local_attention"))
    if not known or windows or weight.dtype != torch.float32:
        return None
    if weight.is_cuda:
        first = _try(copy.deepcopy(model).cpu(), output)
        return first if first is not None and _alike(model, output, first, 0.05) else None
    after_padding = (config.pad_token_id or 0) + 1  # where RoBERTa's begin
    return next((first for first in (0, after_padding) if _alike(model, output, first, 5e-4)), None)


def _alike(model: BaseModel, output: str, first: int, tolerance: float) -> bool:
    """Whether packed texts give what padded ones do, but for ``tolerance`` times the largest value."""
    training = model.training
    model.eval()
    try:
        texts = PROBE if output == "sentence_embedding" else [(text, text) for text in PROBE]
        features = dict(model.preprocess(texts))
        row = pack(features, torch.arange(len(texts)), first)
        with autocast(model.device) if model.device.type == "cuda" else nullcontext():
            expected = model(batch_to_device(features, model.device))[output]
            with packed(model):
                found = model(batch_to_device(row, model.device))[output]
        close = tolerance * expected.abs().max()
        return found.shape == expected.shape and bool((found - expected).abs().max() <= close)
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
    ) as error:  # of another make
        log.debug("texts are not packed: %s", error)
        return False
    finally:
        model.train(training)
