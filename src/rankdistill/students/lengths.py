"""How many tokens a model reads of a text, and which texts are longer."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tokenizers
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base.model import BaseModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankdistill.data.candidates import Candidates
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, check_counts
from rankdistill.runtime.cache import fingerprint, locked, writing
from rankdistill.runtime.environment import cache_folder
from rankdistill.students.fast.pair_tokens import prompt_of_pairs
from rankdistill.students.fast.tokens import read_limit, tokenizer_rules
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import sides

log = logging.getLogger(__name__)
BLOCK = 10_000  # texts tokenised at a time
MESSAGES = 256  # pairs put into a chat template at a time
TOGETHER = ", query and document together,"
# what was logged, of each model: two that are compared may be alike
_SAID: WeakKeyDictionary[BaseModel, set[str]] = WeakKeyDictionary()


def positions(model: nn.Module) -> int | None:
    """For how many tokens ``model`` has learned positions; None if they are computed, or relative.

    RoBERTa and its kin count them from behind the one of padding, and so read fewer tokens than the
    table has rows.
    """
    limits = [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding)
    ]
    return min(limits, default=None)


def limit_length(model: BaseModel, max_length: int | None, name: str, pair: bool = False) -> None:
    """At most ``max_length`` tokens a text (a ``pair``), and no more than ``model``, given as ``name``, can.

    Raises ``InputError`` if that leaves no word.
    """
    check_counts(max_length=max_length)
    static = isinstance(model.tokenizer, tokenizers.Tokenizer)
    limit = read_limit(model) if static else model.max_seq_length
    limits = [limit for limit in (limit, positions(model)) if limit is not None]
    own = min(limits, default=math.inf)
    length = own if max_length is None else min(max_length, own)
    if isinstance(model.tokenizer, PreTrainedTokenizerBase):
        special = model.tokenizer.num_special_tokens_to_add(pair)
        if length < (least := special + 1 + pair):
            raise InputError(
                f"max_length={length}: {name} adds {special} special tokens to a "
                f"{'pair' if pair else 'text'}, and no word is left; give {least} or more"
            )
    elif max_length is not None and not static:
        log.info("max_length=%d is not applied: %s reads the whole text", max_length, name)
        return
    if max_length is not None and max_length > own:
        log.warning("max_length=%d: %s reads at most %d tokens, which are used", max_length, name, own)
    if static and length not in (limit, math.inf):
        model.tokenizer.enable_truncation(length)
    elif length not in (limit, math.inf):
        model.max_seq_length = length
    for name in ("query_length", "document_length"):
        of_kind = getattr(model[0], name, None)
        if max_length is not None and of_kind is not None and of_kind > length:
            setattr(model[0], name, int(length))


def check_prompt(model: BaseModel, prompt: str | None, what: str) -> None:
    """Raises ``InputError`` if ``prompt``, called ``what``, fills all that ``model`` reads of a text."""
    if not prompt or not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        return
    taken = len(model.tokenizer(prompt, truncation=False)["input_ids"])
    if taken >= (model.max_seq_length or math.inf):
        raise InputError(
            f"{what}: with the special tokens it has {taken} tokens of the {model.max_seq_length} that are "
            "read, and no word of a text is left; raise max_length, or shorten it"
        )


Counts = dict[str, dict[str, int | None]]


def cut_inputs(model: BaseModel, candidates: Candidates, pairs: str = "pairs", who: str = "") -> Counts:
    """What ``model`` cuts of the texts of the collection, or of the ``candidates`` that it reads in pairs.

    ``cut_texts`` or ``cut_pairs``, by which of them ``model`` reads.
    """
    if isinstance(model, CrossEncoder):
        return cut_pairs(model, candidates, pairs, who)
    return cut_texts(model, candidates.collection, who)


def cut_pairs(model: CrossEncoder, candidates: Candidates, name: str = "pairs", who: str = "") -> Counts:
    """How many of ``candidates`` are longer, with their query, than ``model`` reads of a pair.

    As ``cut_texts``, under ``name``; with a chat template and all that it adds.
    """
    tokenizer, tokens = model.tokenizer, read_limit(model)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        tokens = None
    longer = 0
    if tokens is not None:
        prompt = prompt_of_pairs(model) or ""
        template = [tokenizer.chat_template] if tokenizer.chat_template else []
        key = _key(candidates.fingerprint, "pair", prompt, tokens, tokenizer_rules(tokenizer), *template)
        longer = _counted(
            key,
            lambda: (
                _longer_messages(model, candidates, prompt, tokens)
                if template
                else _longer_pairs(tokenizer, candidates, prompt, tokens)
            ),
        )
    counts = {name: {"longer": longer, "of": len(candidates.document_rows), "tokens": tokens}}
    _say(model, candidates.collection, counts, who)
    return counts


def _longer_pairs(tokenizer: Any, candidates: Candidates, prompt: str, tokens: int) -> int:
    """How many of ``candidates`` have more than ``tokens`` tokens with their query and the special ones."""

    def lengths(texts: Sequence[str], rows: np.ndarray, prompt: str = "") -> np.ndarray:
        distinct, places = np.unique(rows, return_inverse=True)
        counts: list[int] = []
        for start in range(0, len(distinct), BLOCK):
            block = [prompt + texts[row] for row in distinct[start : start + BLOCK].tolist()]
            counts += _token_counts(tokenizer, block, special=False)
        return np.array(counts, dtype=np.int64)[places]

    queries = np.repeat(candidates.query_rows, np.diff(candidates.offsets))
    both = lengths(candidates.collection.queries, queries, prompt)  # it is before the first text
    both += lengths(candidates.collection.documents, np.asarray(candidates.document_rows))
    return int((both + tokenizer.num_special_tokens_to_add(pair=True) > tokens).sum())


def _longer_messages(model: CrossEncoder, candidates: Candidates, prompt: str, tokens: int) -> int:
    """How many of ``candidates`` have more than ``tokens`` tokens where a chat template puts them."""
    whole = {"text": {"truncation": False}}
    n, longer = len(candidates.document_rows), 0
    for start in range(0, n, MESSAGES):
        pairs = list(candidates.pairs(start, min(start + MESSAGES, n)))
        read = model.preprocess(pairs, prompt=prompt or None, processing_kwargs=whole)
        longer += int((read["attention_mask"].sum(dim=1) > tokens).sum())
    return longer


def cut_texts(model: BaseModel, collection: Collection, who: str = "") -> Counts:
    """How many texts are longer than ``model`` reads, ``longer``, of the ``documents`` and ``queries``.

    Each with ``of``, how many there are, and ``tokens``, that are read of one, prompt and special ones among
    them; None where there is no bound.
    Tokenises once what may be too long; the counts are kept in the cache, and logged once for each model, as
    those of ``who`` reads the texts if that is given.
    """
    counts: Counts = {}
    whole, of = model, sides(model)
    for kind, texts in (("document", collection.documents), ("query", collection.queries)):
        model = of[kind]
        known = isinstance(model.tokenizer, (PreTrainedTokenizerBase, tokenizers.Tokenizer))
        tokens = read_limit(model, kind) if known else None
        longer = 0 if tokens is None else _longer(model, collection, kind, texts, tokens)
        name = "queries" if kind == "query" else "documents"
        counts[name] = {"longer": longer, "of": len(texts), "tokens": tokens}
    _say(whole, collection, counts, who)
    return counts


def _say(model: BaseModel, collection: Collection, counts: Counts, who: str) -> None:
    logged = _SAID.setdefault(model, set())
    for line in said_of(counts):
        if line not in logged:
            log.info("%s%s: %s", collection.name, f", read by {who}" if who else "", line)
            logged.add(line)


def said_of(found: Counts) -> list[str]:
    """What ``cut_inputs`` found, a line for each kind of text of which some are cut."""
    return [
        f"{longer:,} of {of:,} {name} ({float(f'{100 * longer / (of or 1):.2g}'):g} %) are longer than "
        f"{counts['tokens']} tokens{TOGETHER if 'pairs' in name else ','} and are cut"
        for name, counts in found.items()
        if (longer := counts["longer"] or 0) and (of := counts["of"] or 0)
    ]


def _longer(model: BaseModel, collection: Collection, kind: str, texts: Sequence[str], tokens: int) -> int:
    """How many of ``texts`` have more than ``tokens`` tokens, prompt and special ones among them."""
    tokenizer, prompt = model.tokenizer, prompt_of(model, kind) or ""
    key = _key(collection.fingerprint, kind, prompt, tokens, tokenizer_rules(tokenizer))

    def counted() -> int:
        static = isinstance(tokenizer, tokenizers.Tokenizer)  # adds no special tokens
        # a token is of one byte at least
        room = tokens - (0 if static else tokenizer.num_special_tokens_to_add())
        longer = 0
        for start in range(0, len(texts), BLOCK):
            block = [prompt + text for text in texts[start : start + BLOCK]]
            block = [text for text in block if len(text.encode()) > room]
            longer += sum(n > tokens for n in _token_counts(tokenizer, block))
        return longer

    return _counted(key, counted)


def _key(*of: Any) -> str:
    return fingerprint(*of, [transformers.__version__, tokenizers.__version__])


def _counted(key: str, count: Callable[[], int]) -> int:
    """What ``count`` gives, from the cache where it is there under ``key``."""
    path = cache_folder() / "tokens" / f"{key}.json"
    if (known := _read_count(path)) is not None:
        return known
    with writing(path), locked(path):
        if (known := _read_count(path)) is not None:  # another process has just counted
            return known
        longer = count()
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps({"key": path.stem, "longer": longer}))
        draft.replace(path)
    return longer


def _read_count(path: Path) -> int | None:
    """What was counted before, of this very entry."""
    try:
        count = json.loads(path.read_text())
        return int(count["longer"]) if count.get("key", path.stem) == path.stem else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _token_counts(tokenizer: Any, texts: Sequence[str], special: bool = True) -> list[int]:
    """How many tokens each text has, with the ``special`` ones that it gets, uncut."""
    if isinstance(tokenizer, tokenizers.Tokenizer):
        uncut = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        uncut.no_truncation()
        return [len(encoding) for encoding in uncut.encode_batch_fast(texts, add_special_tokens=False)]
    if not tokenizer.is_fast:
        encoded = (
            tokenizer(texts, truncation=False, add_special_tokens=special) if texts else {"input_ids": []}
        )
        return [len(ids) for ids in encoded["input_ids"]]
    backend = tokenizer.backend_tokenizer  # each call of transformers sets these two again
    backend.no_truncation()
    backend.no_padding()
    return [len(encoding) for encoding in backend.encode_batch_fast(texts, add_special_tokens=special)]
