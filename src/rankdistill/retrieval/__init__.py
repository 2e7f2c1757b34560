"""Encoding a collection and searching it."""

from rankdistill.retrieval.dense import DenseIndex
from rankdistill.retrieval.drift import compensated, query_drift
from rankdistill.retrieval.faiss_search import faiss_index, search
from rankdistill.retrieval.index import Index, check_index, index_of, passing_index, stored_index
from rankdistill.retrieval.inverted import InvertedIndex, embed_sparse
from rankdistill.retrieval.max_sim import MaxSimIndex, embed_tokens
from rankdistill.retrieval.product_quantisation import FaissIndex, ProductQuantiser, product_quantiser
from rankdistill.retrieval.rerank import PairIndex
from rankdistill.retrieval.ties import best_ranked
from rankdistill.students.embed import (
    embed_documents,
    embed_queries,
    passing_embeddings,
    stored_embeddings,
)

__all__ = [
    "DenseIndex",
    "FaissIndex",
    "Index",
    "InvertedIndex",
    "MaxSimIndex",
    "PairIndex",
    "ProductQuantiser",
    "best_ranked",
    "check_index",
    "compensated",
    "embed_documents",
    "embed_queries",
    "embed_sparse",
    "embed_tokens",
    "faiss_index",
    "index_of",
    "passing_embeddings",
    "passing_index",
    "product_quantiser",
    "query_drift",
    "search",
    "stored_embeddings",
    "stored_index",
]
