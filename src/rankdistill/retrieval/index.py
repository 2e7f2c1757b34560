"""A collection as a model searches it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.retrieval import inverted, max_sim
from rankdistill.retrieval.dense import DenseIndex
from rankdistill.retrieval.faiss_search import faiss_index
from rankdistill.retrieval.inverted import (
    InvertedIndex,
    embed_sparse,
    passing_sparse,
    stored_sparse,
)
from rankdistill.retrieval.max_sim import (
    MaxSimIndex,
    embed_tokens,
    passing_tokens,
    stored_tokens_of,
)
from rankdistill.retrieval.rerank import PairIndex
from rankdistill.retrieval.ties import check_exact
from rankdistill.students.embed import embed_documents, passing_embeddings, stored_embeddings
from rankdistill.students.models import CrossEncoderModel, LateInteractionModel, Model, SparseModel
from rankdistill.students.sides import width_of


class Index(Protocol):
    """Documents that a model has encoded; rows are theirs. One file for each kind of model.

    One of your own inherits from this. ``vectors`` are float32 (D, d) where a document has one, else None.
    """

    if TYPE_CHECKING:  # read alone, so that an index may always have an array

        @property
        def vectors(self) -> np.ndarray | None: ...
    else:
        vectors = None

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

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        """The mean number of active dimensions of ``queries`` and ``documents``; empty where all are."""
        return {}


def check_index(
    model: Model, index: str, parameters: Mapping[str, float] | None = None, field: str = "evaluator"
) -> None:
    """Raises ``InputError``, under the name ``field``, unless ``model``'s documents can be searched so."""
    if isinstance(model, SparseModel):
        check_exact(inverted.SEARCHED, index, parameters, field)
    elif isinstance(model, LateInteractionModel):
        check_exact(max_sim.COMPARED, index, parameters, field)
    else:
        faiss_index(width_of(model), index, parameters, field)


def index_of(model: Model, documents: Sequence[str]) -> Index:
    """``documents`` as ``model`` encodes them, by this process alone."""
    if isinstance(model, CrossEncoderModel):
        return PairIndex(model, documents)
    if isinstance(model, SparseModel):
        return InvertedIndex(model, embed_sparse(model, "document", documents))
    if isinstance(model, LateInteractionModel):
        return MaxSimIndex(model, embed_tokens(model, "document", documents))
    return DenseIndex(model, embed_documents(model, documents))


def stored_index(model: Model, collection: Collection) -> Index:
    """``collection`` as ``model`` encodes it, kept in the cache by the model's weights."""
    if isinstance(model, CrossEncoderModel):
        return PairIndex(model, collection.documents)
    if isinstance(model, SparseModel):
        return InvertedIndex(model, stored_sparse(model, collection))
    if isinstance(model, LateInteractionModel):
        return MaxSimIndex(model, stored_tokens_of(model, collection))
    return DenseIndex(model, stored_embeddings(model, collection))


def passing_index(model: Model, collection: Collection) -> Index:
    """``collection`` as ``model`` encodes it now, the processes of a job sharing the work."""
    if isinstance(model, CrossEncoderModel):
        return PairIndex(model, collection.documents)
    if isinstance(model, SparseModel):
        return InvertedIndex(model, passing_sparse(model, collection.documents))
    if isinstance(model, LateInteractionModel):
        return MaxSimIndex(model, passing_tokens(model, collection.documents))
    return DenseIndex(model, passing_embeddings(model, collection))
