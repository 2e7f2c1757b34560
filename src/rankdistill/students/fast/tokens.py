"""The token store: a collection's texts tokenised once for a model, memory-mapped after that."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from sentence_transformers.base.model import BaseModel
from tqdm.auto import tqdm

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime.cache import build_folder, fingerprint, map_npy, save_npy, seal, sealed
from rankdistill.runtime.environment import cache_folder

log = logging.getLogger(__name__)
UNLIMITED = 1_000_000  # a longer length is how transformers says that there is none
BLOCK = 2000  # texts tokenised at a time
BAR_FROM = 20  # blocks; fewer take seconds
COLUMNS = {"input_ids", "attention_mask", "token_type_ids"}
FLAT = {"input_ids", "offsets"}  # of a static model: all tokens, and where each text's begin


class TokenStore:
    """Token ids of N texts in ``folder``: ids (T,), offsets int64 (N + 1,), memory-mapped when first read.

    What crosses to another process is the folder's name alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    @cached_property
    def _ids(self) -> np.ndarray:
        return self._open("ids")

    @cached_property
    def _offsets(self) -> np.ndarray:
        return self._open("offsets")

    @cached_property
    def _layout(self) -> dict[str, Any]:
        return json.loads((self.folder / "layout.json").read_text())

    def _open(self, name: str) -> np.ndarray:
        return np.asarray(map_npy(self.folder / f"{name}.npy"))  # a memmap's slices are slow to make

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def check(self, texts: int, vocabulary: int) -> None:
        """Raises ``InputError`` unless it holds tokens of so many texts, each below ``vocabulary``."""
        try:
            ids, offsets = self._ids, self._offsets
            whole = (
                {"columns", "constants", "pad", "side"} <= set(self._layout)
                and (ids.ndim, ids.dtype, offsets.dtype) == (1, np.int32, np.int64)
                and (offsets.shape, offsets[0], offsets[-1]) == ((texts + 1,), 0, len(ids))
                and (np.diff(offsets) >= 0).all()
                and (not len(ids) or 0 <= ids.min() <= ids.max() < vocabulary)
            )
        except (OSError, ValueError, EOFError):
            whole = False
        if not whole:
            raise InputError(f"{self.folder}: damaged; delete it to build it again")

    def flat(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of the texts at ``rows``, int32 (t,), and where each begins (n,)."""
        starts = self._offsets[rows]
        lengths = self._offsets[np.asarray(rows) + 1] - starts
        begun = np.cumsum(lengths) - lengths
        return self._ids[np.repeat(starts - begun, lengths) + np.arange(lengths.sum())], begun

    def features(self, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """As the model's ``preprocess`` of the texts at ``rows``: int64 (n, longest), and constants."""
        texts = [self._ids[self._offsets[row] : self._offsets[row + 1]] for row in rows]
        width = max(map(len, texts))
        mask = np.zeros((len(texts), width), dtype=np.int64)
        ids = np.full_like(mask, self._layout["pad"])
        for i, text in enumerate(texts):
            place = slice(len(text)) if self._layout["side"] == "right" else slice(width - len(text), width)
            mask[i, place], ids[i, place] = 1, text
        columns = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        features = {name: torch.from_numpy(columns[name]) for name in self._layout["columns"]}
        return features | self._layout["constants"]


def own_limit(model: Any, kind: str) -> int | None:
    """How many tokens ``model`` reads of texts of this ``kind``, query or document, if it has such a limit.

    As late-interaction models have; queries that are expanded may have a length of their own.
    """
    expansion = getattr(model[0], "query_expansion", None) if kind == "query" else None
    if expansion is not None and expansion["strategy"] == "fixed":
        return int(expansion["length"])
    return getattr(model[0], f"{kind}_length", None)


def read_limit(model: Any, kind: str | None = None) -> int | None:
    """How many tokens ``model`` reads of a text (of this ``kind``); None if there is no bound.

    A static model's is in its tokenizer alone (``tokenizer.json``), which cuts without a word.
    """
    if kind is not None and (own := own_limit(model, kind)) is not None:
        return own
    if isinstance(model.tokenizer, tokenizers.Tokenizer):
        return (model.tokenizer.truncation or {}).get("max_length")
    limit = model.max_seq_length
    return None if limit is None or limit > UNLIMITED else int(limit)


def stored_tokens(
    model: BaseModel, collection: Collection, kind: str, prompt: str | None = None
) -> TokenStore | None:
    """The tokens of the collection's texts for ``model``: ``kind`` is ``query`` or ``document``.

    Cached by collection, tokenizer, length and prompt. None where ``preprocess`` gives more than
    token ids, such as segments, or anything that the store would not give back as it was. A static model's,
    which has no padding, are there as ``TokenStore.flat``.
    """
    texts = collection.queries if kind == "query" else collection.documents

    def preprocess(some: Sequence[str]) -> dict[str, Any]:
        return dict(model.preprocess(list(some), prompt=prompt, task=kind))  # as encode_query and its like

    first = preprocess(texts[:64])
    constants = {name: value for name, value in first.items() if name not in COLUMNS}
    tokenizer, flat = model.tokenizer, set(first) == FLAT
    if flat:
        layout: dict[str, Any] = {"columns": [], "constants": {}, "pad": None, "side": None}
    elif "attention_mask" in first and all(isinstance(x, (str, int, float)) for x in constants.values()):
        layout = {
            "columns": [name for name in first if name in COLUMNS],
            "constants": constants,
            "pad": tokenizer.pad_token_id,
            "side": tokenizer.padding_side,
        }
    else:
        return None
    versions = [transformers.__version__, tokenizers.__version__]
    key = fingerprint(
        collection.fingerprint,
        kind,
        layout,
        prompt,
        read_limit(model) if flat else model.max_seq_length,
        tokenizer_rules(tokenizer),
        versions,
        *([] if (own := own_limit(model, kind)) is None else [own]),
    )
    path = cache_folder() / "tokens" / key
    if not path.exists():
        log.info("tokenising %d texts (%s) of %s", len(texts), kind, collection.name)
    belongs_to = f"{collection.name}, {len(texts):,} texts ({kind})"
    store = TokenStore(
        build_folder(path, lambda folder: _build(folder, texts, preprocess, layout), belongs_to)
    )
    if not sealed(path):  # of an earlier version, or where no seal could be written
        store.check(len(texts), tokenizer.get_vocab_size() if flat else len(tokenizer))
        seal(path)
    rows = range(len(texts[:64]))
    again = _as_flat(*store.flat(rows)) if flat else store.features(rows)
    same = all(
        torch.equal(again[name], value) if torch.is_tensor(value) else again[name] == value
        for name, value in first.items()
    )
    return store if same else None


def _as_flat(ids: np.ndarray, offsets: np.ndarray) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.from_numpy(ids.astype(np.int64)), "offsets": torch.from_numpy(offsets)}


def tokenizer_rules(tokenizer: Any) -> str:
    """Changes with how ``tokenizer`` makes tokens of a text, the length aside."""
    bare = isinstance(tokenizer, tokenizers.Tokenizer)  # a static model's
    fast = tokenizer if bare else getattr(tokenizer, "backend_tokenizer", None)
    rules = json.dumps({"vocabulary": tokenizer.get_vocab()}) if fast is None else fast.to_str()
    special = None if bare else tokenizer.special_tokens_map
    return _digest_of(rules, type(tokenizer).__name__, json.dumps(special, default=str))


@lru_cache(maxsize=16)  # a vocabulary takes a tenth of a second, and is asked for at every turn
def _digest_of(rules: str, kind: str, special: str) -> str:
    read = json.loads(rules) | {"truncation": None, "padding": None, "class": kind}  # set by each call
    read["special"] = json.loads(special)
    return hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()


def _build(folder: Path, texts: Sequence[str], preprocess: Callable, layout: dict[str, Any]) -> None:
    """Writes the store; block by block, so that the texts' tokens may be larger than memory."""
    lengths = []
    blocks = range(0, len(texts), BLOCK)
    with open(folder / "ids", "wb") as out:
        for start in tqdm(blocks, desc="tokenising", unit="block", disable=len(blocks) < BAR_FROM):
            features = preprocess(texts[start : start + BLOCK])
            if set(features) == FLAT:
                ids = features["input_ids"]
                lengths.append(np.diff(features["offsets"].numpy(), append=len(ids)))
            else:
                mask = features["attention_mask"].bool()
                ids = features["input_ids"][mask]
                lengths.append(mask.sum(dim=1).numpy())
            out.write(ids.numpy().astype(np.int32).tobytes())
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    ids = np.memmap(folder / "ids", np.int32, mode="r", shape=(int(offsets[-1]),))
    save_npy(folder / "ids.npy", ids)
    (folder / "ids").unlink()
    save_npy(folder / "offsets.npy", offsets.astype(np.int64))
    (folder / "layout.json").write_text(json.dumps(layout))
