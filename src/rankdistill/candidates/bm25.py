"""Lexical candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenized

from rankdistill.data import Collection
from rankdistill.errors import at_least


@dataclass(frozen=True)
class BM25:
    """The ``n`` best documents by BM25 (bm25s), with English stop words and stemming.

    Identifiers are split at underscores, since ``\\w`` holds them together.
    """

    n: int = 20
    k1: float = 0.9
    b: float = 0.4
    source = "bm25"

    def __post_init__(self):
        at_least(1, n=self.n)

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
        """Document rows, best first, int64 (Q, n); -1 where fewer share a word with the query."""
        n = min(self.n, len(collection.documents))
        index = bm25_index(collection.documents, self.k1, self.b)
        if index is None:
            return np.full((len(query_rows), n), -1)
        rows, scores = index.retrieve(
            words([collection.queries[row] for row in query_rows]), k=n, show_progress=False
        )
        return np.where(scores > 0, rows, -1).astype(np.int64)


def bm25_index(documents: Sequence[str], k1: float, b: float) -> bm25s.BM25 | None:
    """Every word's BM25 score in each of ``documents``; None if they have stop words only."""
    index = bm25s.BM25(k1=k1, b=b)
    tokens = words(documents)
    if not any(map(len, tokens.ids)):
        return None
    index.index(tokens, show_progress=False)
    return index


def words(texts: Sequence[str]) -> Tokenized:
    """The stems of each text's words, as ids of ``vocab``."""
    return bm25s.tokenize(
        [text.replace("_", " ") for text in texts],
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        show_progress=False,
    )
