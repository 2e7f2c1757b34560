"""Random candidates: what a retriever would not have shown."""

from dataclasses import dataclass

import numpy as np

from rankdistill.data import Collection
from rankdistill.data.candidates import positions
from rankdistill.errors import check_counts, check_seed
from rankdistill.runtime.checked import checked


@checked
@dataclass(frozen=True)
class Random:
    """``n`` documents of the collection, drawn per query from (``seed``, query)."""

    n: int = 10
    seed: int = 0
    source = "random"
    ordered = False

    def __post_init__(self):
        check_counts(n=self.n)
        check_seed(self.seed)

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
        """Document rows, int64 (Q, n), distinct within a query."""
        query_rows = positions("query_rows", query_rows, len(collection.queries))
        size = len(collection.documents)
        n = min(self.n, size)
        drawn = [
            np.random.default_rng([self.seed, int(q)]).choice(size, n, replace=False) for q in query_rows
        ]
        return np.array(drawn, dtype=np.int64).reshape(-1, n)
