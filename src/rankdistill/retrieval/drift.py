"""A newer model's queries against an older model's documents (QDC, Goswami et al. 2025, arXiv 2506.00037)."""

from collections.abc import Sequence

import faiss
import numpy as np

from rankdistill.retrieval.dense import DenseIndex
from rankdistill.retrieval.product_quantisation import FaissIndex
from rankdistill.students.embed import embed_queries
from rankdistill.students.models import Model


def query_drift(old: Model, new: Model, queries: Sequence[str]) -> np.ndarray:
    """How far the vectors of ``queries`` moved from ``old`` to ``new``, on average; float32 (d,).

    The queries are those of the new task's training. After several tasks the drifts add up.
    """
    return (embed_queries(new, queries) - embed_queries(old, queries)).mean(axis=0)


def compensated(documents: DenseIndex, new: Model, drift: np.ndarray) -> FaissIndex:
    """``documents`` as the old model embedded them, searched by ``new``'s queries less ``drift`` (d,).

    No document is encoded again. An index that was built of the old vectors is searched alike:
    ``FaissIndex(built, embed)``.
    """
    built = faiss.IndexFlatIP(documents.vectors.shape[1])
    built.add(np.ascontiguousarray(documents.vectors, np.float32))
    return FaissIndex(built, lambda queries: embed_queries(new, queries) - drift)
