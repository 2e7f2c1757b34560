"""Sparse students (SPLADE): a text is a weight for each entry of the vocabulary, most of them 0."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from sentence_transformers.util import batch_to_device, select_max_active_dims
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.students.base import Encoder, Prepare
from rankdistill.students.dense import Features, fast_attention
from rankdistill.students.fast.chunking import by_length, chunks, tokens_at_once
from rankdistill.students.fast.packing import first_position, packed, tokens_in
from rankdistill.students.fast.tokens import read_limit
from rankdistill.students.kinds import has_language_head
from rankdistill.students.lengths import limit_length
from rankdistill.students.load import check_class, keep_layers, load_student, load_weights, set_dropout
from rankdistill.students.made import note_made
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import transformer_of
from rankdistill.students.static import special_around
from rankdistill.students.there import ModelName, place_of

log = logging.getLogger(__name__)
TOKENS = 8192  # that a new head is fitted on
COMPANY = 16  # tokens that are read together for that
RIDGE = 1e-3  # of the least squares, as a share of the states' mean square
PER_TOKEN = 3  # entries of the vocabulary that a token activates, itself among them, the median
STRENGTH = 3.0  # a token's own logit, the median
TOKENS_AT_ONCE = 1024  # of a chunk, on a CPU
TOGETHER = 512  # tokens whose logits are computed at once
NO_WORD = re.compile(r"[\[<].+[\]>]")  # such as [unused1] and <extra_id_1>, which no text has


def sparse_student(
    model: ModelName = "minilm",
    queries: str = "encoder",
    idf: Any = None,
    layers: int | None = None,
    max_length: int | None = 256,
    dropout: float | None = 0.0,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> SparseEncoder:
    """A SPLADE student of ``model``; one that is sparse already is taken as it is.

    A weight is log(1 + max(0, logit)), the highest over a text's tokens (Formal et al. 2021, arXiv
    2109.10086). The logits are those of the masked-language head where ``model`` is a plain transformer
    that has one; else of ``fitted_head``, by which each token activates itself and a few like it.

    ``queries="static"`` has queries without a transformer: a weight for each of their tokens that is trained
    (Geng et al. 2024, arXiv 2411.04403), at first ``idf``: numbers (V,), or a JSON file of token -> number;
    None takes Zipf's law, log of 1 / frequency, the vocabulary being in order of frequency.
    Raises ``InputError`` if the model can't be had, or a head can't be fitted.
    """
    if queries not in ("encoder", "static"):
        raise InputError(f"student.queries={queries!r}: it must be 'encoder' or 'static'")
    check_class(model, SparseEncoder, SentenceTransformer)
    whole: BaseModel = load_student(
        model, layers, max_length, dropout, prompts, trust_remote_code=trust_remote_code
    )
    if isinstance(whole, SparseEncoder):
        return whole
    if whole.transformers_model is None:
        raise InputError(f"model {model!r} has no transformer, which a sparse student needs")
    size = len(token_table(whole))
    if has_language_head(place_of(model)):
        own = cast(dict[str, str], whole.prompts)
        whole = with_language_head(model, layers, max_length, dropout, trust_remote_code, own)
        modules: list[Any] = list(whole)
        how = "its transformer and masked-language head, whose logits are weights of the vocabulary"
    else:
        head = fitted_head(cast(SentenceTransformer, whole))
        modules = [whole[0], head, SpladePooling("max", embedding_dimension=size)]
        how = (
            "its transformer with a new head, fitted so that a token gives weight to itself and a few like it"
        )
    if queries == "static":
        weights = SparseStaticEmbedding(whole.tokenizer, idf_weights(whole.tokenizer, size, idf))
        modules = [Router.for_query_document([weights], modules)]
        how += "; of a query a weight for each of its tokens, without a transformer"
    student = SparseEncoder(
        modules=modules,
        prompts=cast(dict[str, str], whole.prompts),
        similarity_fn_name="dot",
        device=str(whole.device),
    )
    note_made(student, "Sparse student", how)
    return student


def with_language_head(
    model: str,
    layers: int | None,
    max_length: int | None,
    dropout: float | None,
    trust_remote_code: bool,
    prompts: dict[str, str],
) -> SparseEncoder:
    """``model`` with its own head, as sentence-transformers makes it sparse."""
    whole = load_weights(
        SparseEncoder,
        model,
        ("SentenceTransformer",),
        prompts=prompts,
        trust_remote_code=trust_remote_code,
    )
    limit_length(whole, max_length, model)
    if layers is not None:
        keep_layers(whole.transformers_model, layers)
    if dropout is not None:
        set_dropout(whole.transformers_model, dropout)
    return whole


def idf_weights(tokenizer: Any, size: int, idf: Any) -> Tensor:
    """float32 (``size``,): see ``sparse_student``; 0 for special tokens and what a file lacks."""
    if idf is None:
        ranks = np.arange(1, size + 1)
        weights = np.log(ranks * (1 / ranks).sum())
    elif isinstance(idf, str):
        try:
            known = json.loads(Path(idf).read_text(encoding="utf-8"))
            vocabulary = tokenizer.get_vocab()
            weights = np.zeros(size)
            for token, weight in known.items():
                if token in vocabulary:
                    weights[vocabulary[token]] = weight
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"student.idf={idf}: it must be a JSON file of token: number ({error})"
            ) from None
    else:
        weights = np.array(idf, dtype=np.float64)
    if (
        weights.shape != (size,)
        or not np.isfinite(weights).all()
        or not (weights >= 0).all()
        or not weights.any()
    ):
        raise InputError(f"student.idf: it must be {size} finite numbers, 0 or more, one for each token")
    weights[[i for i in tokenizer.all_special_ids if i < size]] = 0
    return torch.tensor(weights, dtype=torch.float32)


def document_frequency_weights(model: str, collection: Collection) -> np.ndarray:
    """The inverse document frequency of each token of ``model`` in ``collection``, float64 (V,).

    log(1 + (D - n + 0.5) / (n + 0.5)) of n among D documents, as BM25 has it.
    """
    whole = load_student(model, max_length=None)
    counts = np.zeros(len(token_table(whole)))
    for start in range(0, len(collection.documents), 1000):
        some = list(collection.documents[start : start + 1000])
        for ids in whole.tokenizer(some, add_special_tokens=False, truncation=False)["input_ids"]:
            counts[list(set(ids))] += 1
    return np.log(1 + (len(collection.documents) - counts + 0.5) / (counts + 0.5))


@torch.no_grad()  # inference mode would leave weights that cannot be trained
def fitted_head(model: SentenceTransformer) -> Dense:
    """Logits of the vocabulary from token states, such that each token activates itself; nothing random.

    Tokens are read in each other's company, and ridge regression finds the linear map from their states
    to their own input embeddings, centred, and from those of special tokens to 0; a logit is the product of
    the two. All are scaled and shifted so that a token activates ``PER_TOKEN`` entries, and its own logit is
    ``STRENGTH`` (medians both).
    Raises ``InputError`` if states do not tell which token is theirs.
    """
    table = token_table(model).detach().float()
    words = words_of(model)
    is_word = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    is_word[torch.from_numpy(words).to(table.device)] = True
    centred = (table - table[is_word].mean(dim=0)) * is_word[:, None]
    ids, states = states_in_company(model)
    own, states = ids.flatten(), states.flatten(0, 1)
    mean = states.mean(dim=0)
    x, y = (states - mean).double(), centred[own].double()
    gram = x.T @ x / len(x)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solution = torch.linalg.solve(gram, x.T @ y / len(x)).float()
    weight = centred @ solution.T
    own, states = own[is_word[own]], states[is_word[own]]
    strength = ((states - mean) @ solution * centred[own]).sum(dim=1).median()
    few = (states[:: max(1, len(states) // 512)] - mean) @ weight.T
    least = few.topk(PER_TOKEN, dim=1).values[:, -1].median()
    if not strength > least:
        raise InputError("model: its token states do not identify their tokens, which a sparse student needs")
    weight = weight * (STRENGTH / (strength - least))
    bias = -weight @ mean - STRENGTH * least / (strength - least)
    return Dense(
        weight.shape[1],
        weight.shape[0],
        activation_function=nn.Identity(),
        init_weight=weight.clone(),
        init_bias=bias.clone(),
        module_input_name="token_embeddings",
    )


def token_table(model: BaseModel) -> Tensor:
    """The input embedding of each token of ``model``, float (V, d)."""
    return cast(nn.Embedding, transformer_of(model).get_input_embeddings()).weight


def words_of(model: SentenceTransformer) -> np.ndarray:
    """The tokens of ``model``'s vocabulary that a text may have, int64 (n,), ascending."""
    size = len(token_table(model))
    vocabulary = model.tokenizer.get_vocab().items()
    return np.array(sorted(i for name, i in vocabulary if i < size and not NO_WORD.fullmatch(name)))


@torch.no_grad()
def states_in_company(model: SentenceTransformer) -> tuple[Tensor, Tensor]:
    """Random tokens that ``model`` reads in each other's company, and their states; always the same.

    int64 (n, L), special tokens around each row, and float32 (n, L, d).
    """
    model.eval()
    tokenizer, words, rng = model.tokenizer, words_of(model), np.random.default_rng(0)
    drawn = np.concatenate([rng.permutation(words) for _ in range(-(-TOKENS // len(words)))])[:TOKENS]
    room = (read_limit(model) or COMPANY + 2) - tokenizer.num_special_tokens_to_add()
    rows = drawn[: len(drawn) // (n := max(1, min(COMPANY, room))) * n].reshape(-1, n)
    first, last = special_around(tokenizer)
    ids = torch.tensor([[*first, *row, *last] for row in rows.tolist()], device=model.device)
    states = [
        model[0]({"input_ids": some, "attention_mask": torch.ones_like(some)})["token_embeddings"]
        for some in ids.split(64)
    ]
    return ids, torch.cat(states).float()


class SparseVectors(Encoder):
    """Queries and chunks of documents; of the vocabulary's logits only those are kept that count.

    A weight is one token's, the highest: which it is is found without a gradient, and that one logit is
    computed again, so that a step costs a third of one through all logits, and none of their memory. What has
    another pooling or head is encoded as sentence-transformers does it, each chunk twice (``checkpoint``).
    """

    offers = Encoder.offers | {"term_weights"}
    model: SparseEncoder

    def __init__(self, model: SparseEncoder, cosine: bool, scale: float, half: bool = False):
        super().__init__(model, cosine, scale)
        self.bf16 = half

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare:
        if chunk_tokens is None and self.model.device.type == "cpu":
            chunk_tokens = TOKENS_AT_ONCE
        return Features(self.model, collection, chunk_tokens, self.bf16)

    @contextmanager
    def training_pass(self) -> Iterator[None]:
        takes = first_position(self.model, training=True, half=self.bf16) is not None
        transformer = self.model.transformers_model
        with (
            packed(self.model) if takes else nullcontext(),
            nullcontext() if transformer is None else fast_attention(transformer, self.model.device),
        ):
            yield

    def tokens(self, inputs: dict[str, Any]) -> int:
        return sum(tokens_in(part) for part in (inputs["queries"], *inputs["documents"]))

    def vectors(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        most = self.model.max_active_dims
        options = {} if most is None else {"max_active_dims": most}

        def embed(features: dict[str, Any], kind: str) -> Tensor:
            with packed(self.model) if "cu_seq_lens_q" in features else nullcontext():
                weights = self.model(dict(features), task=kind, **options)["sentence_embedding"].float()
            return select_max_active_dims(weights, most)

        embedded = []
        for features, kind in [(inputs["queries"], "query"), *((x, "document") for x in inputs["documents"])]:
            modules = route(self.model, kind)
            head = logits_of(modules)
            if head is not None:
                with packed(self.model) if "cu_seq_lens_q" in features else nullcontext():
                    weights = highest(modules, head, features)
                embedded.append(select_max_active_dims(weights, most))
            elif torch.is_grad_enabled():
                embedded.append(checkpoint(embed, features, kind, use_reentrant=False))
            else:
                embedded.append(embed(features, kind))
        return embedded[0], torch.cat(embedded[1:])


@torch.inference_mode()
def embed_block(model: SparseEncoder, kind: str, texts: Sequence[str]) -> Tensor:
    """float32 (n, V), as ``encode_query`` and ``encode_document``, the way that a step computes them."""
    modules = route(model, kind)
    head = logits_of(modules)
    if head is None:
        encode = model.encode_query if kind == "query" else model.encode_document
        vectors = encode(list(texts), batch_size=16, show_progress_bar=False, convert_to_sparse_tensor=False)
        return vectors.float()
    model.eval()
    features = dict(model.preprocess(list(texts), prompt=prompt_of(model, kind), task=kind))
    vectors = torch.empty(len(texts), head.weight.shape[0], device=model.device)
    for rows, chunk in chunks(features, by_length(features), tokens_at_once(model.device)):
        vectors[rows] = highest(modules, head, batch_to_device(chunk, model.device))
    return select_max_active_dims(vectors, model.max_active_dims)


def route(model: SparseEncoder, kind: str) -> list[nn.Module]:
    """The modules that texts of ``kind``, query or document, go through."""
    modules: list[nn.Module] = []
    for module in model:
        if isinstance(module, Router) and kind in module.sub_modules and not module.route_mappings:
            modules += list(cast(nn.Sequential, module.sub_modules[kind]))
        else:
            modules.append(module)
    return modules


def logits_of(modules: Sequence[nn.Module]) -> nn.Linear | None:
    """The linear map to the vocabulary's logits, if the highest of each are pooled next; else None."""
    if len(modules) < 2 or type(modules[-1]) is not SpladePooling or modules[-1].pooling_strategy != "max":
        return None
    last, head = modules[-2], None
    if type(last) is Dense and type(last.activation_function) is nn.Identity and not last.use_residual:
        head = last.linear
    elif isinstance(last, Transformer) and last.transformer_task == "fill-mask":
        head = last.model.get_output_embeddings()
    return head if type(head) is nn.Linear else None


def highest(modules: Sequence[nn.Module], head: nn.Linear, features: dict[str, Any]) -> Tensor:
    """float32 (n, V): what ``modules`` make of n texts, whose logits are those of ``head``."""
    vars(head)["forward"] = lambda states: states
    try:
        features = dict(features)
        for module in modules[:-1]:
            features = module(features)
    finally:
        del vars(head)["forward"]
    states = features["token_embeddings"].float()
    if "cu_seq_lens_q" in features:
        texts = [states[0, a:b] for a, b in pairwise(features["cu_seq_lens_q"].tolist())]
    else:
        texts = [x[mask] for x, mask in zip(states, features["attention_mask"].bool(), strict=True)]
    parts = []
    for some in groups(texts, TOGETHER):
        for tokens, (logits, which) in zip(some, best_tokens(some, head), strict=True):
            active = (~(logits <= 0)).nonzero().squeeze(1)  # nan is kept, and found
            # embedding, not [...]: whose gradient threads add up in an order of their own
            logits = (embedding(which[active], tokens) * embedding(active, head.weight)).sum(dim=1)
            if head.bias is not None:
                logits = logits + head.bias[active]
            for _ in range(1 + (modules[-1].activation_function == "log1p_relu")):
                logits = logits.relu().log1p()
            parts.append(tokens.new_zeros(head.weight.shape[0]).index_put((active,), logits))
    return torch.stack(parts)


def groups(texts: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """``texts``, tokens (L, d), in turns of at most ``most`` tokens, one text at least."""
    some: list[Tensor] = []
    for tokens in texts:
        if some and sum(map(len, some)) + len(tokens) > most:
            yield some
            some = []
        some.append(tokens)
    yield some


@torch.no_grad()
def best_tokens(texts: Sequence[Tensor], head: nn.Linear) -> list[tuple[Tensor, Tensor]]:
    """Of each text, tokens (L, d), the highest logits (V,) and which token has each."""
    tokens = torch.cat(list(texts)).T
    with torch.autocast(tokens.device.type, enabled=False):
        bias = tokens.new_zeros(len(head.weight)) if head.bias is None else head.bias
        logits = torch.addmm(bias[:, None], head.weight, tokens)  # (V, T): the weights are read once
    return [part.max(dim=1) for part in logits.split([len(text) for text in texts], dim=1)]
