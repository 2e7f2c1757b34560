"""Dense candidates."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rankdistill.data import Collection
from rankdistill.data.candidates import positions
from rankdistill.errors import InputError, check_counts, check_loaded
from rankdistill.retrieval import check_index, stored_index
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.students import fingerprint_of
from rankdistill.students.models import Model

FIELD = "dense"


@checked
@dataclass(frozen=True)
class Dense:
    """The ``n`` nearest documents by an encoder's cosine, through a FAISS index.

    ``search`` is what the index is searched with, such as ``{"nprobe": 16}``.
    """

    model: Model
    n: int = 20
    index: str = "Flat"
    search: Mapping[str, float] | None = None
    source = "dense"

    def __post_init__(self):
        check_counts(n=self.n)
        check_loaded(self.model)
        with own_fields():
            check_index(self.model, self.index, self.search, FIELD)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.settings)

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
        """Document rows, best first, int64 (Q, n); -1 where the index finds no more."""
        return self.ranked(collection, query_rows)[0]

    def ranked(self, collection: Collection, query_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As ``retrieve``, and the documents' scores float32 (Q, n)."""
        query_rows = positions("query_rows", query_rows, len(collection.queries))
        queries = [collection.queries[row] for row in query_rows]
        own, ids = collection.own_document[query_rows], collection.document_ids
        documents = stored_index(self.model, collection)
        with own_fields():
            return documents.search(queries, self.n, ids, own, self.index, self.search, FIELD)

    @property
    def settings(self) -> dict:
        settings = {"model": fingerprint_of(self.model), "n": self.n, "index": self.index}
        return settings | ({"search": dict(self.search)} if self.search else {})


@contextmanager
def own_fields() -> Iterator[None]:
    """What is refused in here names ``index`` alone: it is not known what the retriever is called."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(f"{FIELD}.", "")) from None
