"""Where a query's candidate documents come from: one file per retriever, ``mine`` unites them."""

from rankdistill.candidates.bm25 import BM25
from rankdistill.candidates.dense import Dense
from rankdistill.candidates.mining import mine
from rankdistill.candidates.random import Random

__all__ = ["BM25", "Dense", "Random", "mine"]
