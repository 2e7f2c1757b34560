"""What the qrels call relevant, as rows."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from rankdistill.data.collection import Collection, Qrels

if TYPE_CHECKING:
    from rankdistill.data.candidates import Candidates


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


def known_relevant(collection: Collection, query: int, rows: np.ndarray, positive: np.ndarray) -> set[int]:
    """Rows of the documents that may not serve the query as negatives.

    They are the ``positive`` bool (n,) of its pool ``rows`` int (n,); what the qrels call relevant to it, and
    to queries of the same text, in the split(s) whose positives in the pool are these; the document that is
    the query itself; and all documents that have the text of one of them.
    """
    pool, known = set(rows.tolist()), set(rows[positive].tolist())
    excluded = known | ({int(collection.own_document[query])} - {-1})
    queries = {query} if collection.same_queries is None else collection.same_queries.rows([query])
    for qrels in collection.qrels.values():
        own = relevant(collection, qrels, query)
        if own and own & pool == known:
            excluded.update(own, *(relevant(collection, qrels, one) for one in queries - {query}))
    return excluded if collection.same_documents is None else collection.same_documents.rows(excluded)


def relevant(collection: Collection, qrels: Qrels, query: int) -> set[int]:
    """Rows of the documents that ``qrels`` call relevant to the query."""
    judged = qrels.get(collection.query_ids[query], {})
    return {collection.document_row[document] for document, grade in judged.items() if grade > 0}


def copies(candidates: "Candidates") -> dict[int, np.ndarray]:
    """See ``Candidates.copies``."""
    collection, owners = candidates.collection, candidates.query_rows
    documents, queries = collection.same_documents, collection.same_queries
    concerned = np.zeros(len(owners), dtype=bool)
    if queries is not None:
        concerned |= queries.repeated[owners]
    if documents is not None:
        size = len(collection.document_ids)
        pairs = relevant_pairs(collection, collection.qrels)
        own = collection.own_document[owners]
        concerned |= (own >= 0) & documents.repeated[own]
        concerned |= np.isin(owners, pairs[documents.repeated[pairs % size]] // size)
        at = np.flatnonzero(candidates.positive)  # labels that the qrels do not give count as well
        at = at[documents.repeated[candidates.document_rows[at]]]
        concerned[np.searchsorted(candidates.offsets, at, side="right") - 1] = True
    places_of = {}
    for i in np.flatnonzero(concerned).tolist():
        span = candidates.pool(i)
        rows, positive = candidates.document_rows[span], candidates.positive[span]
        known = known_relevant(collection, int(owners[i]), rows, positive)
        places = np.flatnonzero(~positive & np.isin(rows, list(known)))
        if len(places):
            places_of[i] = places
    return places_of
