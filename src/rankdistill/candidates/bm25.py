"""Lexical candidates."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenized

from rankdistill.data import Collection
from rankdistill.data.candidates import positions
from rankdistill.errors import InputError, check_counts
from rankdistill.retrieval import best_ranked
from rankdistill.runtime.checked import checked

# Letters and marks of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Bopomofo, Han.
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1050-\u109d\u1780-\u17d3\u3005-\u3007"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
RUN = re.compile(f"[{UNSPACED}]+")


@checked
@dataclass(frozen=True)
class BM25:
    """The ``n`` best documents by BM25 (bm25s) over the ``words`` of ``language``."""

    n: int = 20
    k1: float = 0.9
    b: float = 0.4
    language: str | None = "en"
    source = "bm25"

    def __post_init__(self):
        check_counts(n=self.n)
        check_bm25(self.k1, self.b)
        stemming(self.language)

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
        """Document rows, best first, int64 (Q, n); -1 where fewer share a word with the query."""
        return self.ranked(collection, query_rows)[0]

    def ranked(self, collection: Collection, query_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As ``retrieve``, and the documents' scores float32 (Q, n); equal ones by document id ascending."""
        query_rows = positions("query_rows", query_rows, len(collection.queries))
        n = min(self.n, len(collection.documents))
        index = bm25_index(collection.documents, self.k1, self.b, self.language)
        if index is None:
            return np.full((len(query_rows), n), -1), np.zeros((len(query_rows), n), np.float32)
        asked = words([collection.queries[row] for row in query_rows], self.language)

        def find(some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            tokens = Tokenized([asked.ids[i] for i in some.tolist()], asked.vocab)
            rows, scores = index.retrieve(tokens, k=n, show_progress=False)
            return scores, np.where(scores > 0, rows, -1)

        ids, own = collection.document_ids, collection.own_document[query_rows]
        return best_ranked(find, len(query_rows), len(ids), n, ids, own)


def check_bm25(k1: float, b: float, prefix: str = "") -> None:
    """Raises ``InputError`` for settings out of range; with k1=nan BM25 finds nothing."""
    if not 0 <= k1 < np.inf:
        raise InputError(f"{prefix}k1={k1}: it must be a finite number, 0 or more")
    if not 0 <= b <= 1:
        raise InputError(f"{prefix}b={b}: it must be between 0 and 1")


def bm25_index(
    documents: Sequence[str], k1: float, b: float, language: str | None = "en"
) -> bm25s.BM25 | None:
    """Every word's BM25 score in each of ``documents``; None if they have stop words only."""
    index = bm25s.BM25(k1=k1, b=b)
    tokens = words(documents, language)
    if not any(map(len, tokens.ids)):
        return None
    index.index(tokens, show_progress=False)
    return index


def words(texts: Sequence[str], language: str | None = "en") -> Tokenized:
    """The stems of each text's words of two letters and more, as ids of ``vocab``.

    Texts are normalised (NFC). Identifiers are split at underscores, since ``\\w`` holds them together.
    Where a script has no spaces between words, each pair of neighbouring letters is a word, as in Lucene's
    CJKAnalyzer. ``language`` (``en``, ``de``, ...) says whose stop words are left out and how words are
    stemmed; None does neither.
    """
    stemmer, stopwords = stemming(language)
    return bm25s.tokenize(
        [_spaced(text) for text in texts],
        token_pattern=_pattern(),
        stopwords=stopwords,
        stemmer=stemmer,
        show_progress=False,
    )


def _spaced(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("_", " ")
    return text if text.isascii() else RUN.sub(_pairs, text)


def _pairs(run: re.Match) -> str:
    letters = run[0]
    return f" {' '.join(letters[i : i + 2] for i in range(max(1, len(letters) - 1)))} "


@cache
def _pattern() -> str:
    """What a word is: bm25s's ``\\w\\w+``, with the combining marks that Hindi words hold."""
    marks = "".join(chr(i) for i in range(0x10000) if unicodedata.category(chr(i)) in ("Mn", "Mc"))
    return rf"\w[\w{marks}]+|[{UNSPACED}]+"


@cache
def stemming(language: str | None) -> tuple[Stemmer.Stemmer | None, str | None]:
    """The stemmer of ``language`` and the name of its stop words, either None where there is none.

    Raises ``InputError`` for a language that has neither.
    """
    if language is None:
        return None, None
    try:
        stemmer = Stemmer.Stemmer(language)
    except KeyError:
        stemmer = None
    try:
        bm25s.tokenize([""], stopwords=language, show_progress=False)
        stopwords = language
    except ValueError:
        stopwords = None
    if stemmer is None and stopwords is None:
        raise InputError(
            f"language={language!r}: no stemmer or stop words for it; there are en, de, fr, zh, "
            f"{', '.join(Stemmer.algorithms())}; null takes words as they are"
        )
    return stemmer, stopwords
