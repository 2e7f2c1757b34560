"""Sparse vectors, through an inverted index: exact."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from scipy.sparse import csr_matrix, vstack
from tqdm.auto import tqdm

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.retrieval.ties import LOWEST, best_ranked, check_exact, distinct
from rankdistill.runtime import processes
from rankdistill.runtime.cache import build_folder, fingerprint, map_npy, save_npy, sealed
from rankdistill.runtime.environment import cache_folder, embeddings_limit
from rankdistill.runtime.hardware import autocast, has_bf16
from rankdistill.runtime.pruning import limit_embeddings
from rankdistill.students.finite import check_finite
from rankdistill.students.load import fingerprint_of
from rankdistill.students.models import SparseModel
from rankdistill.students.sparse import embed_block

log = logging.getLogger(__name__)
BAR_FROM = 1000  # texts; fewer are embedded within seconds
BLOCK = 256  # texts embedded, as numbers of the whole vocabulary, at a time
MATCHES = 20_000_000  # scores of matching documents at a time
PAIRS = 100_000  # compared at a time
PARTS = ("indptr", "indices", "data")  # of a matrix in compressed rows
SEARCHED = "sparse vectors are searched through an inverted index, which is exact and has"


class InvertedIndex:
    """``matrix`` float32 (D, V), in compressed rows, is ``model``'s of the documents; see ``Index``.

    Its columns, the inverted lists, say which documents have a dimension, and how much of it. Those that
    share none with a query are not found.
    """

    vectors = None

    def __init__(self, model: SparseModel, matrix: csr_matrix):
        self.model, self.matrix = model, matrix
        self.lists = matrix.T.tocsr()
        self._asked: tuple[list[str], csr_matrix] | None = None

    def __len__(self) -> int:
        return self.matrix.shape[0]

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
        check_exact(SEARCHED, index, parameters, field)
        wanted, documents = self._encoded(queries), self.matrix.shape[0]

        def find(some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            scores = np.full((len(some), n), LOWEST, dtype=np.float32)
            rows = np.full((len(some), n), -1, dtype=np.int64)
            size = max(1, MATCHES // max(documents, 1))
            for start in range(0, len(some), size):
                # each document's terms are added in the order of the query's: equal ones have equal scores
                found = wanted[some[start : start + size]] @ self.lists
                for i, (first, last) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True)):
                    values, where = found.data[first:last], found.indices[first:last]
                    best = np.argsort(-values, kind="stable")[:n]
                    scores[start + i, : len(best)], rows[start + i, : len(best)] = values[best], where[best]
            return scores, rows

        return best_ranked(find, len(queries), documents, min(k, documents), ids, own)

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        wanted, values = self._encoded(queries), np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), PAIRS):
            some = slice(start, start + PAIRS)
            products = wanted[owners[some]].multiply(self.matrix[rows[some]])
            values[some] = np.asarray(products.sum(axis=1)).ravel()
        return values

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        """The mean number of dimensions that are not 0, of these ``queries`` and of the ``documents``."""
        counts = {"queries": self._encoded(queries), "documents": self.matrix}
        return {name: round(float(x.count_nonzero()) / max(x.shape[0], 1), 1) for name, x in counts.items()}

    def _encoded(self, queries: Sequence[str]) -> csr_matrix:
        """float32 (Q, V); those of the last time are kept."""
        if self._asked is None or self._asked[0] != list(queries):
            self._asked = list(queries), embed_sparse(self.model, "query", queries)
        return self._asked[1]


def embed_sparse(model: SparseModel, kind: str, texts: Sequence[str], progress: bool = True) -> csr_matrix:
    """float32 (n, V) of texts of the ``kind`` query or document, with the model's prompt.

    Of length 1 if the model's similarity is cosine. A text that is there twice is encoded once: copies tie,
    which in batches of other texts they do but for the last digit.
    """
    if model.similarity_fn_name not in ("cosine", "dot"):
        raise InputError(
            f"model: it compares by {model.similarity_fn_name}, and documents are ranked by cosine or dot "
            "product; set its similarity_fn_name if either suits the model"
        )
    texts, places = distinct(texts)
    order = np.argsort([-len(text) for text in texts], kind="stable")
    parts = []
    bar = tqdm(total=len(texts), desc="embedding", unit="text", disable=not progress or len(texts) < BAR_FROM)
    with bar, autocast(model.device):
        for start in range(0, len(texts), BLOCK):
            some = [texts[row] for row in order[start : start + BLOCK]]
            vectors = embed_block(model, kind, some).cpu().numpy()
            check_finite(vectors, some)
            if model.similarity_fn_name == "cosine":
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            parts.append(csr_matrix(vectors))
            bar.update(len(some))
    if not parts:
        return csr_matrix(np.empty((0, model.get_embedding_dimension() or 0), dtype=np.float32))
    return vstack(parts, format="csr")[np.argsort(order)[places]]


def stored_sparse(model: SparseModel, collection: Collection) -> csr_matrix:
    """``embed_sparse`` of the whole collection (D, V), cached by the model's weights, memory-mapped.

    Those that were used longest ago go when all embeddings take more than RANKDISTILL_CACHE_LIMIT.
    """
    key = fingerprint("sparse", collection.fingerprint, fingerprint_of(model), has_bf16())
    path = processes.broadcast(cache_folder() / "embeddings" / f"{key}.csr")
    most, documents = embeddings_limit(), collection.documents
    missing = processes.broadcast(not path.exists())
    passing = passing_sparse(model, documents) if missing else None

    def write(folder: Path) -> None:
        whole = cast(csr_matrix, passing)  # which the main process, who writes, has
        for name in PARTS:
            save_npy(folder / f"{name}.npy", getattr(whole, name))
        save_npy(folder / "shape.npy", np.array(whole.shape))

    build_folder(path, write, f"{collection.name}, {len(documents):,} documents")
    if missing and processes.is_main():
        limit_embeddings(most)
    return _open(path, len(documents))


def _open(path: Path, documents: int) -> csr_matrix:
    """The matrix in the folder ``path``; raises ``InputError`` unless it is whole, of so many rows."""
    try:
        trusted = sealed(path)
        parts = [map_npy(path / f"{name}.npy") for name in PARTS]
        shape = tuple(np.load(path / "shape.npy", allow_pickle=False).tolist())
        matrix = csr_matrix((parts[2], parts[1], parts[0]), shape=shape, copy=False)
        if not trusted:
            matrix.check_format()
            if not np.isfinite(matrix.data).all():
                raise ValueError("numbers that are not finite")
        if shape[0] != documents or matrix.dtype != np.float32:
            raise ValueError(f"{shape[0]} documents, not {documents}")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to build it again") from None
    return matrix


def passing_sparse(model: SparseModel, texts: Sequence[str]) -> csr_matrix:
    """``embed_sparse`` of documents, the processes of a job sharing the work; nothing is kept."""
    log.info("embedding %d documents", len(texts))
    texts, places = distinct(texts)
    bounds = np.linspace(0, len(texts), processes.count() + 1).astype(int)
    first, last = bounds[processes.rank()], bounds[processes.rank() + 1]
    whole = vstack(processes.gathered(embed_sparse(model, "document", texts[first:last])), format="csr")
    return whole if len(texts) == len(places) else whole[places]
