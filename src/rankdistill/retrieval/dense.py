"""One vector a document, through FAISS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np

from rankdistill.retrieval.faiss_search import search
from rankdistill.students.embed import embed_queries
from rankdistill.students.models import Model

BLOCK = 100_000  # pairs compared at a time


@dataclass(frozen=True)
class DenseIndex:
    """``vectors`` float32 (D, d) are ``model``'s of the documents, or their first ``d`` dimensions alone."""

    model: Model
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def cut(self, dimensions: int) -> "DenseIndex":
        """The same by the first so many dimensions, as ``truncate_dim`` of sentence-transformers has it."""
        return replace(self, vectors=self._cut(self.vectors, dimensions))

    def _queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._cut(embed_queries(self.model, texts), self.vectors.shape[1])

    def _cut(self, vectors: np.ndarray, dimensions: int) -> np.ndarray:
        if vectors.shape[1] == dimensions:
            return vectors
        vectors = np.array(vectors[:, :dimensions])
        if self.model.similarity_fn_name == "cosine":
            faiss.normalize_L2(vectors)
        return vectors

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
        return search(self.vectors, self._queries(queries), k, index, parameters, ids, own, field)

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        vectors, values = self._queries(queries), np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            values[some] = np.einsum("nd,nd->n", vectors[owners[some]], self.vectors[rows[some]])
        return values

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        return {}
