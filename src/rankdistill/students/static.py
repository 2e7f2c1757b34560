"""Static students: a text is the mean of its tokens' vectors; no transformer is left inside."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import truncate_embeddings
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, check_counts
from rankdistill.runtime import processes
from rankdistill.runtime.cache import build_folder, fingerprint, save_npy
from rankdistill.runtime.environment import cache_folder
from rankdistill.students.base import Encoder, Prepare, PrepareSide, Rows
from rankdistill.students.fast.tokens import TokenStore, stored_tokens
from rankdistill.students.lengths import limit_length
from rankdistill.students.load import check_class, fingerprint_of, load_student
from rankdistill.students.made import note_made
from rankdistill.students.matryoshka import cut_to
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import KINDS, transformer_of, width_of
from rankdistill.students.there import ModelName, name_of

log = logging.getLogger(__name__)
BLOCK = 512  # tokens of the vocabulary that are embedded at a time
SIF = 1e-4  # of smooth inverse frequency, as model2vec takes it


def static_student(
    model: ModelName | os.PathLike[str] = "minilm",
    dimensions: int | Sequence[int] | None = 256,
    vectors: str = "output",
    layers: int | None = None,
    max_length: int | None = None,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> SentenceTransformer:
    """A student of token vectors made from ``model``; one that is static already is taken as it is.

    ``vectors="output"`` takes what ``model`` makes of each entry of its vocabulary between its special
    tokens, ``"input"`` its input embeddings. They are centred, brought to their first ``dimensions``
    principal components (None keeps all), and weighted by smooth inverse frequency, 1e-4 / (1e-4 + p): p is
    1 / rank in the vocabulary, which is in order of frequency, as a share of the sum. That is model2vec's
    recipe (Tulkens and van Dongen 2024, https://github.com/MinishLab/model2vec). Of a list of ``dimensions``
    the first is meant so, and training and measures cut the vectors to the others as well, see
    ``load_student``. ``layers`` keeps the first that many of ``model``; of a text ``max_length`` tokens are
    read, None reads it whole.

    Raises ``InputError`` if the model can't be had, has fewer dimensions, or its tokenizer isn't a fast one.
    """
    model = name_of(model)
    first: int | None
    cuts: list[int]
    if dimensions is None or isinstance(dimensions, int):
        first, cuts = dimensions, []
    else:
        first, *cuts = dimensions
    check_counts(**{"student.dimensions": first})
    if vectors not in ("output", "input"):
        raise InputError(f"student.vectors={vectors!r}: it must be 'output' or 'input'")
    check_class(model, SentenceTransformer)
    loaded = load_student(model, layers, None, prompts=prompts, trust_remote_code=trust_remote_code)
    whole = cast(SentenceTransformer, loaded)
    if whole.transformers_model is None:
        limit_length(whole, max_length, model)
        cut_to(whole, cuts)
        return whole
    if not isinstance(whole.tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"model {model!r}: a static student needs a fast tokenizer (tokenizer.json)")
    width = width_of(whole)
    if first is not None and first > width:
        raise InputError(
            f"student.dimensions={dimensions}: {first}, and the vectors of {model} have {width}; null keeps "
            "all"
        )
    table = _outputs(whole, model) if vectors == "output" else _inputs(whole)
    table = principal(table, first) * weights(len(table))[:, None]
    tokenizer = Tokenizer.from_str(whole.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()  # which the transformer needed
    student = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, table.astype(np.float32))],
        prompts=cast(dict[str, str], whole.prompts),
        similarity_fn_name="cosine",
        device=str(whole.device),
    )
    limit_length(student, max_length, model)
    cut_to(student, cuts)
    what = (
        "what the model makes of each token alone" if vectors == "output" else "the model's input embeddings"
    )
    note_made(
        student,
        "Static student",
        f"{what}, centred, in their first {table.shape[1]} principal components, weighted by frequency; no "
        "transformer is left",
    )
    return student


def principal(table: np.ndarray, dimensions: int | None) -> np.ndarray:
    """``table`` (n, d) centred, in its first principal components (n, ``dimensions``)."""
    centred = table.astype(np.float64) - table.mean(axis=0, dtype=np.float64)
    if dimensions is None or dimensions >= table.shape[1]:
        return centred
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :dimensions]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dimensions)])  # eigh leaves them open
    return centred @ (axes * signs)


def weights(n: int) -> np.ndarray:
    """Smooth inverse frequency of the tokens 0 to n - 1, float64 (n,), by Zipf's law."""
    shares = 1 / np.arange(1, n + 1)
    return SIF / (SIF + shares / shares.sum())


def _outputs(model: SentenceTransformer, name: str) -> np.ndarray:
    """What ``model``, given as ``name``, makes of each token of its vocabulary alone, float32 (n, d).

    Kept in the cache, by the model's weights and layers and what computes them.
    """
    versions = [transformers.__version__, torch.__version__, model.device.type]
    key = fingerprint("vocabulary", fingerprint_of(model), versions)
    path = cache_folder() / "models" / f"vocabulary-{key}"

    def write(folder: Path) -> None:
        save_npy(folder / "vectors.npy", _embedded_tokens(model))

    return np.load(build_folder(path, write, name) / "vectors.npy")


@torch.inference_mode()
def _embedded_tokens(model: SentenceTransformer) -> np.ndarray:
    model.eval()
    tokenizer, vectors = model.tokenizer, []
    first, last = special_around(tokenizer)
    size = max(tokenizer.get_vocab().values()) + 1
    with tqdm(total=size, desc="token vectors", unit="token") as bar:
        for start in range(0, size, BLOCK):
            ids = range(start, min(start + BLOCK, size))
            rows = [[*first, token, *last] for token in ids]
            features = {
                "input_ids": torch.tensor(rows, device=model.device),
                "attention_mask": torch.ones(len(rows), len(rows[0]), dtype=torch.long, device=model.device),
            }
            vectors.append(model(features)["sentence_embedding"].float().cpu().numpy())
            bar.update(len(rows))
    return np.concatenate(vectors)


def special_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that ``tokenizer`` puts before and after a text."""
    special, some = (tokenizer(text)["input_ids"] for text in ("", "a"))
    begun = len(os.path.commonprefix([special, some]))
    return special[:begun], special[begun:]


def _inputs(model: SentenceTransformer) -> np.ndarray:
    size = max(model.tokenizer.get_vocab().values()) + 1
    table = cast(nn.Embedding, transformer_of(model).get_input_embeddings())
    return table.weight[:size].detach().float().cpu().numpy()


class Tokens:
    """The tokens of texts, one after the other, and where each text begins; ``Ranker.preparer`` of these.

    Texts are tokenised once, in the token store. ``distinct`` int64 (V,) are the tokens of a batch, which the
    others are numbers of.
    """

    def __init__(self, model: SentenceTransformer, collection: Collection, kinds: Sequence[str] = KINDS):
        tokens = {kind: stored_tokens(model, collection, kind, prompt_of(model, kind)) for kind in kinds}
        self.stores = cast(dict[str, TokenStore], tokens)  # a static model's tokens can always be stored

    def __call__(self, *rows: Rows) -> tuple[dict[str, Any], Tensor]:
        """``rows`` of each kind; the order is that of the last."""
        parts = [store.flat(some) for store, some in zip(self.stores.values(), rows, strict=True)]
        distinct, numbers = np.unique(np.concatenate([ids for ids, _ in parts]), return_inverse=True)
        places = np.split(numbers, np.cumsum([len(ids) for ids, _ in parts])[:-1])
        inputs: dict[str, Any] = {"distinct": torch.from_numpy(distinct.astype(np.int64))}
        for kind, tokens, (_, offsets) in zip(self.stores, places, parts, strict=True):
            inputs[kind] = {
                "tokens": torch.from_numpy(tokens.astype(np.int64)),
                "offsets": torch.from_numpy(offsets.astype(np.int64)),
            }
        return inputs, torch.arange(len(rows[-1]))


class StaticEncoder(Encoder):
    """A step touches the batch's own token vectors alone: their gradient is sparse, see ``RowAdamW``."""

    sparse = True
    learning_rate = 3e-3
    model: SentenceTransformer

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare:
        return Tokens(self.model, collection)

    def preparer_of(self, kind: str, collection: Collection, chunk_tokens: int | None = None) -> PrepareSide:
        return Tokens(self.model, collection, [kind])

    def vectors(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        queries, documents = self._pooled(inputs, KINDS)
        return queries, documents

    def vectors_of(self, kind: str, inputs: dict[str, Any]) -> Tensor:
        return self._pooled(inputs, [kind])[0]

    def _pooled(self, inputs: dict[str, Any], kinds: Sequence[str]) -> list[Tensor]:
        table, sparse = (
            cast(StaticEmbedding, self.model[0]).embedding,
            self.sparse and processes.count() == 1,
        )  # DDP takes none
        with torch.autocast(table.weight.device.type, enabled=False):
            rows = embedding(inputs["distinct"], table.weight, sparse=sparse)
            pooled = []
            for kind in kinds:
                features = {
                    "sentence_embedding": embedding_bag(
                        inputs[kind]["tokens"], rows, inputs[kind]["offsets"], mode=table.mode
                    )
                }
                for module in list(self.model)[1:]:
                    features = module(features)
                pooled.append(truncate_embeddings(features["sentence_embedding"], self.model.truncate_dim))
        return pooled

    def tokens(self, inputs: dict[str, Any]) -> int:
        return sum(len(inputs[kind]["tokens"]) for kind in KINDS if kind in inputs)

    tokens_of = tokens
