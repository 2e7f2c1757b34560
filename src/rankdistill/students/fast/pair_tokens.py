"""Pairs as a cross-encoder's input, every text tokenised once.

A query's candidates are together in the table, and a document is the candidate of many queries.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from transformers import PreTrainedTokenizerFast

KEPT_TOKENS = 50_000_000  # between calls: 200 MB
UNLIMITED = 1_000_000  # a longer max_length is how transformers says that there is none


class Template(NamedTuple):
    """What is before, between and after the texts, int64 ids and types; the types of the texts."""

    parts: list[tuple[np.ndarray, np.ndarray]]
    types: tuple[int, int]


class PairTokenizer:
    """``model.preprocess(pairs)``, to the bit: query and document are put into the tokenizer's template.

    Where that gives anything else for a few pairs, ``model.preprocess`` itself is called: for slow
    tokenizers, prompts, chat templates, padding or truncation on the left, flattened input. Else no weights
    are held.
    """

    def __init__(self, model: CrossEncoder):
        self.tokenizer = model.tokenizer
        self.prompt = prompt_of_pairs(model)
        self._preprocess: Callable[..., dict[str, Any]] | None = model.preprocess
        self._kept: dict[str, tuple[np.ndarray, int]] = {}
        self._size = 0
        self._template = template = None if self.prompt else template_of(model.tokenizer)
        if template is None:
            return
        around = sum(len(ids) for ids, _ in template.parts)
        self._limit = min(model.max_seq_length or UNLIMITED, UNLIMITED) - around
        n = min(self._limit, 1000)
        words = "one two three four five six seven eight nine ten ".split() * 101
        texts = [" ", "Où? [SEP] 你好_x", *(" ".join(words[:count]) for count in (n // 2, n // 2 + 1, n + 3))]
        probe = list(product(texts, texts))
        if n < 2 or not same(self._assembled(probe, template), dict(model.preprocess(probe))):
            self._template = None
        else:
            self._preprocess = None

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Padded features (n, L) of the pairs."""
        if self._template is not None:
            return self._assembled(pairs, self._template)
        preprocess = cast(Callable[..., dict[str, Any]], self._preprocess)  # there without a template
        return dict(preprocess(list(pairs), prompt=self.prompt))

    def _assembled(self, pairs: Sequence[tuple[str, str]], template: Template) -> dict[str, Any]:
        tokenizer, parts = self.tokenizer, template.parts
        self._tokenise(dict.fromkeys(text for pair in pairs for text in pair))
        pieces = [(self._kept[query], self._kept[document]) for query, document in pairs]
        cut = [truncated(query[1], document[1], self._limit) for query, document in pieces]
        rows, width = len(pieces), max(map(sum, cut)) + sum(len(ids) for ids, _ in parts)
        ids = np.full((rows, width), tokenizer.pad_token_id)
        types = np.full((rows, width), tokenizer.pad_token_type_id)
        mask = np.zeros((rows, width), dtype=np.int64)
        (a, a_types), (b, b_types), (c, c_types) = parts
        for row, (query, document), (n, m) in zip(range(rows), pieces, cut, strict=True):
            second = len(a) + n + len(b)
            end = second + m + len(c)
            for start, piece, kind in (
                (0, a, a_types),
                (len(a), query[0][:n], template.types[0]),
                (len(a) + n, b, b_types),
                (second, document[0][:m], template.types[1]),
                (second + m, c, c_types),
            ):
                ids[row, start : start + len(piece)] = piece
                types[row, start : start + len(piece)] = kind
            mask[row, :end] = 1
        features = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        wanted = tokenizer.model_input_names
        return {name: torch.from_numpy(features[name]) for name in features if name in wanted} | {
            "modality": "text"
        }

    def _tokenise(self, texts: Iterable[str]) -> None:
        """Keeps each text's first ids, as many as may be shown, and how many it has."""
        if self._size > KEPT_TOKENS:
            self._kept.clear()
            self._size = 0
        new = [text for text in texts if text not in self._kept]
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        for text, encoding in zip(new, backend.encode_batch(new, add_special_tokens=False), strict=True):
            ids = np.array(encoding.ids[: self._limit], dtype=np.int32)
            self._kept[text] = ids, len(encoding.ids)
            self._size += len(ids)


def prompt_of_pairs(model: CrossEncoder) -> str | None:
    """What ``CrossEncoder.predict`` puts before the first text of each pair."""
    name = model.default_prompt_name
    return None if name is None else model.prompts.get(name)


def template_of(tokenizer: PreTrainedTokenizerFast) -> Template | None:
    """The template of a pair; None if it isn't the query, then the document, both cut on the right."""
    fast = getattr(tokenizer, "is_fast", False)
    if not fast or tokenizer.truncation_side != "right" or tokenizer.pad_token_id is None:
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    pair = backend.encode("one", "two")
    ids, types = np.array(pair.ids), np.array(pair.type_ids)
    owners = np.array([-1 if owner is None else owner for owner in pair.sequence_ids])
    first, second = np.flatnonzero(owners == 0), np.flatnonzero(owners == 1)
    if not len(first) or not len(second) or first[-1] > second[0]:
        return None
    spans = slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None)
    return Template([(ids[span], types[span]) for span in spans], (types[first[0]], types[second[0]]))


def truncated(query: int, document: int, limit: int) -> tuple[int, int]:
    """How many tokens of each text stay, ``limit`` together: tokenizers' ``longest_first``.

    The shorter text stays whole if it is no longer than half, else both get half of the limit; of
    an odd one the longer text gets the token more, the document if they are of one length.
    """
    if query + document <= limit:
        return query, document
    shorter, longer = sorted((query, document))
    longer = max(shorter, limit - shorter)
    if shorter + longer > limit:
        shorter, longer = limit // 2, limit - limit // 2
    return (longer, shorter) if query > document else (shorter, longer)


def same(features: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two features are equal, their types and names too."""
    return features.keys() == expected.keys() and all(
        torch.equal(value, expected[name]) and value.dtype == expected[name].dtype
        if torch.is_tensor(value)
        else value == expected[name]
        for name, value in features.items()
    )
