"""The union of several retrievers' candidates, computed once."""

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from rankdistill import processes
from rankdistill.data.cache import cache_folder, fingerprint, once
from rankdistill.data.candidates import (
    SOURCES,
    UNRANKED,
    Candidates,
    read_candidates,
    to_arrow,
    write_arrow,
)
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError

log = logging.getLogger(__name__)
COUNTED_AS = ("bm25", "dense", "random")  # of ``SOURCES``, what a retriever may call itself
RECIPE = 2  # raised whenever the same retrievers would give other candidates


class Retriever(Protocol):
    """``source`` is one of ``COUNTED_AS``; ``retrieve`` gives document rows (Q, n), best first, -1 for none.

    ``fingerprint`` changes whenever the candidates would; a dataclass of plain fields may leave it out.
    """

    @property
    def source(self) -> str: ...

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray: ...


def mine(
    collection: Collection,
    retrievers: Sequence[Retriever],
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> Candidates:
    """The candidates of ``split``'s queries (``limit`` of them): each retriever's, and the positives.

    Known positives are always among them; the source of every candidate is recorded, and the best
    rank that a retriever gave it. Cached. Raises ``InputError`` for a retriever without a fingerprint,
    or of an unknown source, and for rows that aren't the collection's.
    """
    if not isinstance(retrievers, Sequence):
        raise InputError(f"retrievers={retrievers!r:.60}: it is a list of retrievers, such as [BM25(10)]")
    query_rows = collection.query_rows(split, limit, seed)
    settings = [identity(r) for r in retrievers]
    own = collection.own_document[query_rows].tolist()
    key = fingerprint(RECIPE, collection.fingerprint, settings, split, query_rows.tolist(), own)
    path = cache_folder() / "candidates" / f"{key}.arrow"
    with once(path) as missing:
        if not missing:
            log.info("reusing candidates %s", path)
        else:
            log.info(
                "mining candidates of %d queries (%s): %s",
                len(query_rows),
                split,
                ", ".join(r.source for r in retrievers),
            )
            found = [(r.source, retrieve_together(r, collection, query_rows)) for r in retrievers]
            if processes.is_main():
                pools = union(collection, query_rows, found, collection.positive_rows(split))
                belongs_to = f"{collection.name}, {len(pools):,} queries of {split}"
                write_arrow(to_arrow(pools), path, belongs_to)
    candidates = read_candidates(path, collection)
    log.info("%s", candidates)
    for source in dict.fromkeys(r.source for r in retrievers):
        _say_nothing_found(candidates, source)
    return candidates


def _say_nothing_found(candidates: Candidates, source: str) -> None:
    """Warns of queries in whose pools ``source`` has no document."""
    owners = np.repeat(np.arange(len(candidates)), np.diff(candidates.offsets))
    found = np.bincount(owners[(candidates.sources & SOURCES[source]) > 0], minlength=len(candidates))
    empty = np.flatnonzero(found == 0)
    if len(empty):
        query = candidates.query_rows[empty[0]]
        log.warning(
            "%s finds nothing for %d of %d queries, such as %r: %.60r",
            source,
            len(empty),
            len(candidates),
            candidates.collection.query_ids[query],
            candidates.collection.queries[query],
        )


def identity(retriever: Retriever) -> list[str]:
    """What tells ``retriever`` from others; raises ``InputError`` if that isn't known, nor its source."""
    kind = type(retriever)
    source = getattr(retriever, "source", None)
    if source not in COUNTED_AS:
        raise InputError(
            f"retriever {kind.__name__}: source={source!r}; it is one of {', '.join(COUNTED_AS)}, which its "
            "candidates are counted as"
        )
    found = getattr(retriever, "fingerprint", None)
    if found is None and dataclasses.is_dataclass(retriever):
        with suppress(TypeError):  # a field without a fingerprint of its own
            found = fingerprint({f.name: getattr(retriever, f.name) for f in dataclasses.fields(retriever)})
    if not isinstance(found, str) or not found:
        raise InputError(
            f"retriever {kind.__name__} needs a fingerprint, a text that changes whenever its candidates "
            'would, such as fingerprint = "mine 1"; they are kept in the cache under it'
        )
    return [source, f"{kind.__module__}.{kind.__qualname__}", found]


def retrieve_together(retriever: Retriever, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
    """What ``retriever`` gives, each process of the job retrieving for a share of the queries."""
    if len(query_rows) < processes.count():
        return _retrieve(retriever, collection, query_rows)
    own = np.array_split(query_rows, processes.count())[processes.rank()]
    return np.concatenate(processes.gathered(_retrieve(retriever, collection, own)))


def _retrieve(retriever: Retriever, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
    """What ``retriever`` gives; raises ``InputError`` unless it is rows of documents, -1 for none."""
    given = retriever.retrieve(collection, query_rows)
    try:
        rows = np.asarray(given)
    except ValueError:  # lists of different lengths, as NumPy has no array of
        rows = np.array(None)
    if rows.ndim != 2 or len(rows) != len(query_rows) or not np.issubdtype(rows.dtype, np.integer):
        fault = f"{rows.dtype} of shape {rows.shape} for {len(query_rows)} queries"
    elif rows.size and (rows.min() < -1 or rows.max() >= len(collection.documents)):
        fault = f"rows from {rows.min()} to {rows.max()} for {len(collection.documents)} documents"
    else:
        return rows.astype(np.int64, copy=False)  # unsigned ones have no -1
    raise InputError(
        f"retriever {type(retriever).__name__}: retrieve gives {fault}; it gives integers (queries, n), rows "
        "of documents or -1"
    )


def union(
    collection: Collection,
    query_rows: np.ndarray,
    found: Sequence[tuple[str, np.ndarray]],
    positives: dict[int, list[int]],
) -> Candidates:
    """Merges document rows (Q, n) of each source, -1 for none; a pool's rows ascend.

    The document that is the query itself is in none.
    """
    pools = []
    for i, query in enumerate(query_rows):
        own = collection.own_document[query]
        rows = [positives.get(int(query), [])]
        rows += [ranked[i][(ranked[i] >= 0) & (ranked[i] != own)] for _, ranked in found]
        bits = [SOURCES["positive"]] + [SOURCES[source] for source, _ in found]
        ranks = [np.full(len(rows[0]), UNRANKED)] + [
            np.full(len(r), UNRANKED) if source == "random" else np.minimum(np.arange(len(r)), UNRANKED - 1)
            for (source, _), r in zip(found, rows[1:], strict=True)
        ]
        rows_all = np.concatenate(rows).astype(np.int32)
        pool, where = np.unique(rows_all, return_inverse=True)
        sources = np.zeros(len(pool), np.uint8)
        np.bitwise_or.at(sources, where, np.repeat(bits, [len(r) for r in rows]).astype(np.uint8))
        best = np.full(len(pool), UNRANKED, np.uint16)
        np.minimum.at(best, where, np.concatenate(ranks).astype(np.uint16))
        pools.append((pool, sources, best))
    sizes = [len(pool) for pool, _, _ in pools]
    return Candidates(
        collection,
        np.asarray(query_rows, dtype=np.int64),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        *(np.concatenate(column) for column in zip(*pools, strict=True)),
    )
