"""BM25 as a teacher: a cheap, lexical voice in an ensemble."""

from itertools import chain

import bm25s
import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from rankdistill.candidates.bm25 import bm25_index, check_bm25, stemming, words
from rankdistill.data import Candidates, Collection
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked

BLOCK = 100_000  # pairs scored at a time


@checked
class BM25Teacher:
    """Scores are BM25 over the statistics of the whole collection, with the words of ``BM25``.

    A query's word counts as often as it appears; a document without any of them gets 0.
    """

    def __init__(self, k1: float = 0.9, b: float = 0.4, language: str | None = "en"):
        check_bm25(k1, b, "teacher.")
        stemming(language)
        self.k1, self.b, self.language = k1, b, language

    @property
    def fingerprint(self) -> str:
        return fingerprint("bm25", self.k1, self.b, self.language)

    def score_pools(self, candidates: Candidates) -> np.ndarray:
        """Scores of all candidates, float32 (N,); 0 in all processes of a job but the main one."""
        scores = np.zeros(len(candidates.document_rows), dtype=np.float32)
        collection = candidates.collection
        if not processes.is_main() or (index := self._index(collection)) is None:
            return scores
        arrays = [index.scores[name] for name in ("data", "indices", "indptr")]
        documents = csc_matrix(tuple(arrays), (len(collection.documents), len(arrays[2]) - 1)).tocsr()
        texts = [collection.queries[row] for row in candidates.query_rows]
        queries = counts(texts, index.vocab_dict, documents.shape[1], self.language)
        for start in range(0, len(scores), BLOCK):
            span = np.arange(start, min(start + BLOCK, len(scores)))
            owners = np.searchsorted(candidates.offsets, span, side="right") - 1
            shared = documents[candidates.document_rows[span]].multiply(queries[owners])
            scores[span] = shared.sum(axis=1).A1
        return scores

    def _index(self, collection: Collection) -> bm25s.BM25 | None:
        return bm25_index(collection.documents, self.k1, self.b, self.language)


def counts(texts: list[str], columns: dict[str, int], width: int, language: str | None = "en") -> csr_matrix:
    """How often each text has each word of ``columns``, float32 (n, ``width``); others are left out."""
    tokens = words(texts, language)
    known = np.full(len(tokens.vocab) + 1, -1)
    for word, number in tokens.vocab.items():
        known[number] = columns.get(word, -1)
    place = known[np.fromiter(chain.from_iterable(tokens.ids), np.int64)]
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in tokens.ids])[place >= 0]
    place = place[place >= 0]
    return csr_matrix((np.ones(len(place), np.float32), (rows, place)), (len(texts), width))
