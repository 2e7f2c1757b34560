"""The union of several retrievers' candidates, computed once."""

import dataclasses
import logging
import re
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rankdistill.data.candidates import (
    UNORDERED,
    UNRANKED,
    Candidates,
    read_candidates,
    to_arrow,
    write_arrow,
)
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, fields_of
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint, once
from rankdistill.runtime.checked import checked
from rankdistill.runtime.environment import cache_folder, precision

log = logging.getLogger(__name__)
RESERVED = ("positive", "file")  # what no retriever is called: labels, and what a file of scores brings
RECIPE = 3  # raised whenever the same retrievers would give other candidates


class Retriever(Protocol):
    """``retrieve`` gives document rows (Q, n), best first, -1 for none.

    ``fingerprint`` changes whenever the candidates would; a dataclass of plain fields may leave it out.
    ``source`` is its name unless it is given another, and ``ordered = False`` says that its documents
    come in no order, as random ones do; it may lack both.
    """

    def retrieve(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray: ...


Retrievers = Mapping[str, Retriever] | Sequence[Retriever]  # by name, or each called by its ``source``


@checked
def mine(
    collection: Collection,
    retrievers: Retrievers,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> Candidates:
    """The candidates of ``split``'s queries (``limit`` of them): each retriever's, and the positives.

    Known positives are always among them; of every candidate the rank that each retriever gave it is
    recorded, under the retriever's name: its key in ``retrievers``, or in a list its own ``source``. Cached.
    Raises ``InputError`` for a retriever without a fingerprint, for names that are invalid, reserved or there
    twice, and for rows that aren't the collection's.
    """
    retrievers = by_name(retrievers)
    query_rows = collection.query_rows(split, limit, seed)
    path = candidates_path(collection, retrievers, split, limit, seed)
    with once(path) as missing:
        if not missing:
            log.info("reusing candidates %s", path)
        else:
            log.info(
                "mining candidates of %d queries (%s): %s",
                len(query_rows),
                split,
                ", ".join(retrievers),
            )
            rows_by_source = []
            for name, retriever in retrievers.items():
                with fields_of(f"candidates.retrievers.{name}"):
                    rows_by_source.append((name, retrieve_together(retriever, collection, query_rows)))
            if processes.is_main():
                unordered = {name for name, retriever in retrievers.items() if not is_ordered(retriever)}
                pools = union(
                    collection, query_rows, rows_by_source, collection.positive_rows(split), unordered
                )
                belongs_to = f"{collection.name}, {len(pools):,} queries of {split}"
                write_arrow(to_arrow(pools), path, belongs_to)
    candidates = read_candidates(path, collection)
    log.info("%s", candidates)
    for source in retrievers:
        _say_nothing_found(candidates, source)
    return candidates


def candidates_path(
    collection: Collection,
    retrievers: Retrievers,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> Path:
    """Where ``mine`` keeps what it makes of the same."""
    query_rows = collection.query_rows(split, limit, seed)
    settings = sorted([name, *identity(retriever)] for name, retriever in by_name(retrievers).items())
    own = collection.own_document[query_rows].tolist()
    key = fingerprint(RECIPE, collection.fingerprint, settings, split, query_rows.tolist(), own, *precision())
    return cache_folder() / "candidates" / f"{key}.arrow"


def by_name(retrievers: Retrievers) -> dict[str, Retriever]:
    """Name -> retriever; in a list each is called by its ``source``.

    Raises ``InputError`` for a name that is invalid, reserved, or there twice.
    """
    if isinstance(retrievers, Mapping):
        named: list[tuple[Any, Retriever]] = list(retrievers.items())
    elif isinstance(retrievers, Sequence) and not isinstance(retrievers, str):
        named = [(getattr(retriever, "source", None), retriever) for retriever in retrievers]
    else:
        raise InputError(f"retrievers={retrievers!r:.60}: it must be retrievers, in a list or by name")
    for i, (name, retriever) in enumerate(named):
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise InputError(
                f"retriever {type(retriever).__name__}: it is called {name!r:.60}; a name must be of "
                "letters, digits, _ and -: give one, as source = 'words' or in a dict"
            )
        if name in RESERVED:
            raise InputError(
                f"retriever {type(retriever).__name__}: it must not be called {name}, which says where other "
                "candidates come from; give it another name"
            )
        if name in [other for other, _ in named[:i]]:
            raise InputError(
                f"retriever {type(retriever).__name__}: {name} is there twice; give each a name of its own, "
                f"as {{'{name}': ..., '{name}_2': ...}}"
            )
    return dict(named)


def is_ordered(retriever: Retriever) -> bool:
    """Whether its documents come best first."""
    return getattr(retriever, "ordered", True)


def _say_nothing_found(candidates: Candidates, source: str) -> None:
    """Warns of queries in whose pools ``source`` has no document."""
    owners = np.repeat(np.arange(len(candidates)), np.diff(candidates.offsets))
    counts = np.bincount(owners[candidates.ranks[source] != UNRANKED], minlength=len(candidates))
    empty = np.flatnonzero(counts == 0)
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
    """What tells ``retriever`` from others of its name; raises ``InputError`` if that isn't known."""
    kind = type(retriever)
    fingerprint_ = getattr(retriever, "fingerprint", None)
    if fingerprint_ is None and dataclasses.is_dataclass(retriever):
        with suppress(TypeError):  # a field without a fingerprint of its own
            fingerprint_ = fingerprint(
                {f.name: getattr(retriever, f.name) for f in dataclasses.fields(retriever)}
            )
    if not isinstance(fingerprint_, str) or not fingerprint_:
        raise InputError(
            f"retriever {kind.__name__} needs a fingerprint, a text that changes whenever its candidates "
            'would, such as fingerprint = "mine 1"; they are kept in the cache under it'
        )
    return [f"{kind.__module__}.{kind.__qualname__}", fingerprint_]


def retrieve_together(retriever: Retriever, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
    """What ``retriever`` gives, each process of the job retrieving for a share of the queries."""
    if len(query_rows) < processes.count():
        return _retrieve(retriever, collection, query_rows)
    own = np.array_split(query_rows, processes.count())[processes.rank()]
    return np.concatenate(processes.gathered(_retrieve(retriever, collection, own)))


def _retrieve(retriever: Retriever, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
    """What ``retriever`` gives; raises ``InputError`` unless it is rows of documents, -1 for none."""
    retrieved = retriever.retrieve(collection, query_rows)
    try:
        rows = np.asarray(retrieved)
    except ValueError:  # lists of different lengths, as NumPy has no array of
        rows = np.array(None)
    if rows.ndim != 2 or len(rows) != len(query_rows) or not np.issubdtype(rows.dtype, np.integer):
        fault = f"{rows.dtype} of shape {rows.shape} for {len(query_rows)} queries"
    elif rows.size and (rows.min() < -1 or rows.max() >= len(collection.documents)):
        fault = f"rows from {rows.min()} to {rows.max()} for {len(collection.documents)} documents"
    else:
        return rows.astype(np.int64, copy=False)  # unsigned ones have no -1
    raise InputError(
        f"retriever {type(retriever).__name__}: retrieve gives {fault}; it must give integers (queries, n), "
        "rows of documents or -1"
    )


def union(
    collection: Collection,
    query_rows: np.ndarray,
    found: Sequence[tuple[str, np.ndarray]],
    positives: dict[int, list[int]],
    unordered: Names[str] = (),
) -> Candidates:
    """Merges document rows (Q, n) of each source by its name, -1 for none; a pool's rows ascend.

    The document that is the query itself is in none. Those of ``unordered`` sources have no rank.
    """
    pools: list[tuple[np.ndarray, ...]] = []
    for i, query in enumerate(query_rows):
        own = collection.own_document[query]
        rows = [positives.get(int(query), [])]
        rows += [ranked[i][(ranked[i] >= 0) & (ranked[i] != own)] for _, ranked in found]
        pool = np.unique(np.concatenate(rows).astype(np.int32))
        columns: list[np.ndarray] = [np.isin(pool, rows[0])]
        for (name, _), own_rows in zip(found, rows[1:], strict=True):
            ranks = np.full(len(pool), UNRANKED, np.uint16)
            places = np.minimum(np.arange(len(own_rows)), UNORDERED - 1)
            source_ranks = np.full_like(places, UNORDERED) if name in unordered else places
            np.minimum.at(ranks, np.searchsorted(pool, own_rows), source_ranks.astype(np.uint16))
            columns.append(ranks)
        pools.append((pool, *columns))
    document_rows, positive, *ranks_of = (np.concatenate(column) for column in zip(*pools, strict=True))
    return Candidates(
        collection,
        np.asarray(query_rows, dtype=np.int64),
        np.concatenate([[0], np.cumsum([len(pool) for pool, *_ in pools])]).astype(np.int64),
        document_rows,
        positive,
        dict(zip([name for name, _ in found], ranks_of, strict=True)),
    )
