"""One vector a document, through FAISS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sentence_transformers import SentenceTransformer

from rankdistill.retrieval.embed import embed_queries
from rankdistill.retrieval.faiss_search import search

BLOCK = 100_000  # pairs compared at a time


@dataclass(frozen=True)
class DenseIndex:
    """``vectors`` float32 (D, d) are ``model``'s of the documents, see ``Index``."""

    model: SentenceTransformer
    vectors: np.ndarray

    def search(
        self,
        queries: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        own: np.ndarray | None = None,
        index: str = "Flat",
        parameters: Mapping[str, float] | None = None,
        field: str = "evaluator",
    ) -> tuple[np.ndarray, np.ndarray]:
        return search(self.vectors, embed_queries(self.model, queries), k, index, parameters, ids, own, field)

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        vectors, found = embed_queries(self.model, queries), np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            found[some] = np.einsum("nd,nd->n", vectors[owners[some]], self.vectors[rows[some]])
        return found
