"""What the qrels call relevant, as rows."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from rankdistill.data.candidates import SOURCES
from rankdistill.data.collection import Collection
from rankdistill.data.scores import ScoreTable


def among(some: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """bool (n,): which of ``some`` are in ``ascending``; ``np.isin`` would hash both."""
    where = np.searchsorted(ascending, some)
    return np.append(ascending, -1)[where] == some


def relevant_pairs(collection: Collection, splits: Iterable[str]) -> np.ndarray:
    """query row x documents + document row of each relevant pair of ``splits``, int64, ascending."""
    size = len(collection.document_ids)
    pairs = {
        query * size + document
        for split in splits
        for query, documents in collection.positive_rows(split).items()
        for document in documents
    }
    return np.array(sorted(pairs), dtype=np.int64)


def without_own(table: ScoreTable) -> ScoreTable:
    """``table`` without the documents that are the queries themselves; itself if it holds none."""
    candidates = table.candidates
    own = table.collection.own_document[candidates.query_rows]
    if (own < 0).all():
        return table
    sizes = np.diff(candidates.offsets)
    keep = candidates.document_rows != np.repeat(own, sizes)
    if keep.all():
        return table
    ends = np.concatenate([[0], np.cumsum(keep)])
    left = replace(
        candidates,
        offsets=ends[candidates.offsets],
        document_rows=candidates.document_rows[keep],
        sources=candidates.sources[keep],
        ranks=candidates.ranks[keep],
    )
    return ScoreTable(left, table.scores[keep], table.teacher, trusted=True)


def of_split(table: ScoreTable, split: str) -> ScoreTable:
    """The pools of the queries of ``split``; relevant is what its qrels say, and no other split's.

    Left out are queries without a relevant candidate, and documents that are the query itself. Raises
    ``InputError`` for an unknown split.
    """
    table = without_own(table)
    candidates, size = table.candidates, len(table.collection.document_ids)
    sizes = np.diff(candidates.offsets)
    keys = np.repeat(candidates.query_rows, sizes) * size + candidates.document_rows
    positive = among(keys, relevant_pairs(table.collection, [split]))
    others = candidates.sources & ~np.uint8(SOURCES["positive"])
    sources = np.where(positive, others | SOURCES["positive"], others).astype(np.uint8)
    taught = np.unique(np.repeat(candidates.query_rows, sizes)[positive])
    labelled = ScoreTable(replace(candidates, sources=sources), table.scores, table.teacher, trusted=True)
    return labelled.take(np.flatnonzero(np.isin(candidates.query_rows, taught)))
