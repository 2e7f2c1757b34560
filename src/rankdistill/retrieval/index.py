"""A collection as a model searches it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from sentence_transformers import CrossEncoder
from sentence_transformers.base.model import BaseModel

from rankdistill.data.collection import Collection
from rankdistill.retrieval.dense import DenseIndex
from rankdistill.retrieval.embed import embed_documents, passing_embeddings, stored_embeddings
from rankdistill.retrieval.rerank import PairIndex


class Index(Protocol):
    """Documents that a model has encoded; rows are theirs. One file for each kind of model.

    ``vectors`` are float32 (D, d) where a document has one, else None.
    """

    vectors: np.ndarray | None

    def __len__(self) -> int:
        """How many documents there are."""
        ...

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
        """The ``k`` best documents of each query: rows int64 and scores float32 (Q, k), -1 for none.

        ``ids`` and ``own`` as in ``best_ranked``. ``index`` and ``parameters`` are FAISS's (``search``); an
        index that is none of FAISS's raises ``InputError`` for another ``index`` than Flat.
        """
        ...

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (N,), of the documents at ``rows`` for the queries at ``owners``, both int64 (N,)."""
        ...


def index_of(model: BaseModel, documents: Sequence[str]) -> Index:
    """``documents`` as ``model`` encodes them, by this process alone."""
    if isinstance(model, CrossEncoder):
        return PairIndex(model, documents)
    return DenseIndex(model, embed_documents(model, documents))


def stored_index(model: BaseModel, collection: Collection) -> Index:
    """``collection`` as ``model`` encodes it, kept in the cache by the model's weights."""
    if isinstance(model, CrossEncoder):
        return PairIndex(model, collection.documents)
    return DenseIndex(model, stored_embeddings(model, collection))


def passing_index(model: BaseModel, documents: Sequence[str]) -> Index:
    """``documents`` as ``model`` encodes them, the processes of a job sharing the work."""
    if isinstance(model, CrossEncoder):
        return PairIndex(model, documents)
    return DenseIndex(model, passing_embeddings(model, documents))
