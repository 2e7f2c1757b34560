"""The candidate documents of each query: ids and numbers, on disk as an Arrow table."""

import hashlib
import logging
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path

import numpy as np
import pyarrow as pa

from rankdistill.data.collection import Collection
from rankdistill.data.labels import copies
from rankdistill.errors import InputError, shorten
from rankdistill.runtime.cache import draft_of, fingerprint, hold, seal, sealed, sync

log = logging.getLogger(__name__)
RANKS = "ranks."  # begins the name of a source's column in a file
COLUMNS = {  # of a file: ids, then lists; in addition, uint16 ``ranks.bm25`` and so on
    "query_id": None,
    "document_ids": pa.dictionary(pa.int32(), pa.large_string()),
    "positive": pa.uint8(),
    "scores": pa.float32(),
}
EARLIER = {"sources": pa.uint8(), "ranks": pa.uint16()}  # in place of these, until sources had names
BITS = {"bm25": 1, "dense": 2, "file": 16}  # of the earlier ``sources``; and those of what had no rank:
RANDOM, POSITIVE = 4, 8
CHANGED = "damaged or edited (it does not match the fingerprint that it was written with); build it again"
UNRANKED = 65535  # the rank of a document that a source, or every one, did not find
UNORDERED = 65534  # that of one from a source that has no order, as of one drawn at random


@dataclass(frozen=True)
class Candidates:
    """The pools of Q queries, N candidates in all, in CSR form.

    ``query_rows`` int64 (Q,), ``offsets`` int64 (Q + 1,): query i has the candidates
    ``offsets[i]:offsets[i + 1]`` of ``document_rows`` int32, ``positive`` bool (known to be relevant) and
    each of ``ranks`` uint16, all (N,). ``ranks`` has a name for each source, a retriever or ``file``, and the
    ranks that it gave: 0 the first, ``UNORDERED`` where it has no order, ``UNRANKED`` what it did not find.
    Rows are positions in the collection.
    """

    collection: Collection
    query_rows: np.ndarray
    offsets: np.ndarray
    document_rows: np.ndarray
    positive: np.ndarray
    ranks: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.query_rows)

    @cached_property
    def negative(self) -> np.ndarray:
        """bool (N,): those that may be negatives, neither known relevant nor ``copies`` of a relevant one."""
        allowed = ~self.positive
        for i, places in self.copies.items():
            allowed[self.offsets[i] + places] = False
        return allowed

    @cached_property
    def copies(self) -> dict[int, np.ndarray]:
        """Query's position -> places in its pool, ascending, of candidates that say what a positive says.

        They have the text of a known positive of the query, or of a query of the same text, or that of the
        query itself where it is a document, and are not labelled themselves: no negatives. Empty where no
        two texts of the collection are the same. The log says how many there are, once.
        """
        places_of = copies(self)
        if places_of:
            count = sum(map(len, places_of.values()))
            log.info(
                "%d candidates of %d queries have the text of a known positive: they are not negatives",
                count,
                len(places_of),
            )
        return places_of

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the collection and with any candidate."""
        pools = self.query_rows, self.offsets, self.document_rows, self.positive
        ranks = {name: hash_array(values) for name, values in self.ranks.items()}
        return fingerprint(self.collection.fingerprint, list(map(hash_array, pools)), ranks)

    def pool(self, i: int) -> slice:
        """The candidates of query i; raises ``InputError`` if there is no such query."""
        if isinstance(i, bool) or not isinstance(i, Integral) or not 0 <= i < len(self.query_rows):
            positions("query", [i], len(self.query_rows))
        return slice(self.offsets[i], self.offsets[i + 1])

    def best_ranks(self, span: slice = slice(None)) -> np.ndarray:
        """The best rank that a source gave each of those at ``span``, uint16; ``UNRANKED`` where none did."""
        best = np.full(len(self.document_rows[span]), UNRANKED, np.uint16)
        for ranks in self.ranks.values():
            np.minimum(best, ranks[span], out=best)
        best[best == UNORDERED] = UNRANKED
        return best

    def only(self, at: np.ndarray, query_rows: np.ndarray, sizes: np.ndarray) -> "Candidates":
        """Those at ``at`` int64 or bool, the first ``sizes[0]`` of them of ``query_rows[0]``, and so on."""
        return Candidates(
            self.collection,
            query_rows,
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            self.document_rows[at],
            self.positive[at],
            {name: ranks[at] for name, ranks in self.ranks.items()},
        )

    def take(self, queries: Sequence[int] | np.ndarray) -> "Candidates":
        """The pools at ``queries``, distinct positions, in the order given.

        Raises ``InputError`` if a query is there twice, or isn't here.
        """
        queries = positions("queries", queries, len(self), distinct=True)
        spans = [np.arange(*self.offsets[i : i + 2]) for i in queries]
        at = np.concatenate([np.empty(0, np.int64), *spans])
        return self.only(at, self.query_rows[queries], np.array([len(span) for span in spans]))

    def pairs(self, start: int, stop: int) -> Iterator[tuple[str, str]]:
        """(query, document) texts of the candidates ``start:stop``."""
        owners = np.searchsorted(self.offsets, np.arange(start, stop), side="right") - 1
        for owner, row in zip(owners, self.document_rows[start:stop], strict=True):
            yield self.collection.queries[self.query_rows[owner]], self.collection.documents[row]

    def __repr__(self) -> str:
        sizes = np.diff(self.offsets)
        counts = {name: int((ranks != UNRANKED).sum()) for name, ranks in self.ranks.items()}
        counts["positive"] = int(self.positive.sum())
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        each = f", {sizes.min()}-{sizes.max()} documents each; {shown}" if len(sizes) else ""
        return f"Candidates({len(self):,} queries{each})"


def positions(name: str, given: Sequence[int] | np.ndarray, size: int, distinct: bool = False) -> np.ndarray:
    """``given`` as int64 (n,), places among ``size`` things.

    Raises ``InputError`` that calls it ``name`` unless they are integers from 0 to ``size`` - 1, each there
    once if they must be ``distinct``.
    """
    try:
        taken = np.asarray(given)
    except ValueError:  # lists of different lengths
        taken = np.asarray(None)
    if not taken.size:  # of no type in particular
        taken = taken.astype(np.int64)
    if taken.ndim != 1 or not np.issubdtype(taken.dtype, np.integer):
        hint = "; of a mask give np.flatnonzero(mask)" if taken.dtype == bool else ""
        raise InputError(f"{name}={given!r:.60}: it must be a list of integers, places from 0{hint}")
    if taken.size and (taken.min() < 0 or taken.max() >= size):
        wrong = next(int(place) for place in taken if not 0 <= place < size)
        there = f"there are 0 to {size - 1}" if size else "there is none"
        raise InputError(f"{name}: {wrong} is no place here; {there}")
    if distinct and len(np.unique(taken)) < len(taken):
        raise InputError(f"{name}: one is there twice; give each once")
    return taken.astype(np.int64, copy=False)


def hash_array(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def to_arrow(candidates: Candidates, scores: np.ndarray | None = None) -> pa.Table:
    """Columns query_id, document_ids, positive, ``ranks.bm25`` and so on, scores if given; a row per query.

    Ids are dictionary-encoded over the collection's, so that readers see ids while the indices are
    the rows themselves.
    """
    collection = candidates.collection
    offsets = pa.array(candidates.offsets, pa.int64())

    def lists(values: pa.Array) -> pa.Array:
        return pa.LargeListArray.from_arrays(offsets, values)

    def named(rows: np.ndarray, ids) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(rows), pa.array(list(ids), pa.large_string()))

    columns = {
        "query_id": named(candidates.query_rows.astype(np.int32), collection.query_ids),
        "document_ids": lists(named(candidates.document_rows, collection.document_ids)),
        "positive": lists(pa.array(candidates.positive.view(np.uint8))),
        **{RANKS + name: lists(pa.array(ranks)) for name, ranks in candidates.ranks.items()},
    }
    if scores is not None:
        columns["scores"] = lists(pa.array(scores))
    fingerprints = {"collection": collection.fingerprint, "candidates": candidates.fingerprint}
    return pa.table(columns).replace_schema_metadata(fingerprints)


def write_arrow(table: pa.Table, path: Path, belongs_to: str = "") -> None:
    """Writes ``table`` as one uncompressed Arrow file, all of it or nothing, and seals it."""
    draft = draft_of(path)
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        sync(draft)
        os.replace(draft, path)
        seal(path, belongs_to)
    finally:
        draft.unlink(missing_ok=True)


def read_candidates(path: Path, collection: Collection) -> Candidates:
    """Those in the Arrow file at ``path``, known by its seal or read whole; see ``from_arrow``."""
    trusted = sealed(path)
    table, _ = open_arrow(path, trusted)
    candidates = from_arrow(table, collection, path, trusted)
    if not trusted and "scores" not in table.column_names:  # of which nothing is known here
        seal(path)
    return candidates


def open_arrow(path: Path, trusted: bool) -> tuple[pa.Table, mmap.mmap]:
    """The table at ``path`` and the memory map that holds it.

    Unless it is ``trusted`` (sealed), all of it is read to see what is wrong with it. Raises ``InputError``
    if it is missing, damaged or has not the columns of ``to_arrow``.
    """
    try:
        with open(path, "rb") as file:
            hold(file)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        table.validate(full=not trusted)  # a damaged offset would be read from outside the file
        if table.num_columns and table.column(0).num_chunks != 1:  # of another writer; ours is not copied
            table = table.unify_dictionaries().combine_chunks()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path}: damaged or not an Arrow file ({reason}); delete it to build it again"
        ) from None
    if not table.num_rows:
        raise InputError(f"{path}: no query in it")
    if not trusted:
        _check_columns(table, path)
    return table, mapped


def _check_columns(table: pa.Table, path: Path) -> None:
    """Raises ``InputError`` unless ``table`` has the columns of ``to_arrow``, a row's lists of one length."""
    columns: dict[str, pa.DataType | None] = dict(COLUMNS)
    if "sources" in table.column_names:
        del columns["positive"]
        columns |= EARLIER
    columns |= {name: pa.uint16() for name in table.column_names if name.startswith(RANKS)}
    if "scores" not in table.column_names:
        del columns["scores"]
    check_lists(table, columns, path)


def check_lists(table: pa.Table, columns: Mapping[str, pa.DataType | None], path: Path) -> None:
    """Raises ``InputError`` unless ``table`` has ``columns``, lists of these types or one value a row (None).

    A row's lists must have one length.
    """
    offsets, longest = None, next(name for name, kind in columns.items() if kind is not None)
    for name, kind in columns.items():
        if table.column_names.count(name) != 1:
            raise InputError(
                f"{path}: it must have one column {name}; available: {', '.join(table.column_names)}"
            )
        column = table.column(name).chunk(0)
        if kind is None and not column.null_count:
            continue
        if kind is None:
            raise InputError(f"{path}: {name} has places without a value; each must have one")
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            raise InputError(f"{path}: {name} is {column.type}, not a list")
        if name != "document_ids" and column.values.type != kind:
            raise InputError(f"{path}: {name} holds {column.values.type}, not {kind}")
        own = column.offsets.to_numpy()
        offsets = own if offsets is None else offsets
        if column.null_count or column.values.null_count:
            raise InputError(f"{path}: {name} has places without a value; each must have one")
        if not np.array_equal(own, offsets) or own[0] != 0 or own[-1] != len(column.values):
            raise InputError(f"{path}: {name} has lists of lengths other than {longest}")


def values(table: pa.Table, column: str) -> np.ndarray:
    """The flat values of a list column, without a copy: our files have one chunk."""
    flat = table.column(column).chunk(0).values
    return (flat.indices if isinstance(flat, pa.DictionaryArray) else flat).to_numpy()


def from_arrow(table: pa.Table, collection: Collection, path: Path, trusted: bool) -> Candidates:
    """The candidates in ``table``; raises ``InputError`` if they are of another collection.

    Unless ``trusted``, ids and numbers are held against the collection's, and all against the fingerprint
    that the file was written with.
    """
    metadata = table.schema.metadata or {}
    if metadata.get(b"collection") != collection.fingerprint.encode():
        raise InputError(
            f"{path}: belongs to another collection than {collection.name}; delete it to build it again"
        )
    if not trusted:
        _check_documents(table, collection, path)
    pools = (
        _query_rows(table.column("query_id").chunk(0), collection, path, trusted),
        table.column("document_ids").chunk(0).offsets.to_numpy().astype(np.int64, copy=False),
        values(table, "document_ids").astype(np.int32, copy=False),
    )
    if "sources" in table.column_names:
        bits, best = values(table, "sources"), values(table, "ranks")
        candidates = Candidates(collection, *pools, *_of_bits(bits, best, path))
        if not trusted or b"candidates" not in metadata:
            vars(candidates)["fingerprint"] = fingerprint(
                collection.fingerprint, [hash_array(x) for x in (*pools, bits, best)]
            )
    else:
        positive = values(table, "positive")
        if not trusted and (positive > 1).any():
            raise InputError(f"{path}: positive holds {positive.max()}; it must be 0 or 1")
        sources = (name for name in table.column_names if name.startswith(RANKS))
        ranks = {name.removeprefix(RANKS): values(table, name) for name in sources}
        candidates = Candidates(collection, *pools, positive.view(bool), ranks)
    if trusted:
        if b"candidates" in metadata:  # not in a file of another writer
            vars(candidates)["fingerprint"] = metadata[b"candidates"].decode()
        return candidates
    check_pools(candidates, path)
    if metadata.get(b"candidates", candidates.fingerprint.encode()) != candidates.fingerprint.encode():
        raise InputError(f"{path}: {CHANGED}")
    return candidates


def _of_bits(bits: np.ndarray, best: np.ndarray, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """``positive`` and ``ranks`` of a file of an earlier version, uint8 and uint16 (N,).

    It has the best rank alone: of several sources their names are joined, as bm25+dense, and say no more.
    """
    if (bits & ~np.uint8(sum(BITS.values()) + RANDOM + POSITIVE)).any():
        raise InputError(f"{path}: unknown sources; write it again, with ScoreTable.save")
    ranks = {}
    if names := [name for name, bit in BITS.items() if (bits & bit).any()]:
        has = bits & np.uint8(sum(BITS.values())) > 0
        ranks["+".join(names)] = np.where(has, np.minimum(best, UNORDERED - 1), UNRANKED).astype(np.uint16)
    if (bits & RANDOM).any():
        ranks["random"] = np.where(bits & RANDOM, UNORDERED, UNRANKED).astype(np.uint16)
    return bits & POSITIVE > 0, ranks


def _query_rows(ids: pa.Array, collection: Collection, path: Path, trusted: bool) -> np.ndarray:
    """Rows int64 (Q,) of ``ids``: their indices where they are encoded over the collection's."""
    if isinstance(ids, pa.DictionaryArray) and (
        trusted or ids.dictionary.to_pylist() == list(collection.query_ids)
    ):
        return ids.indices.to_numpy().astype(np.int64)
    names = ids.to_pylist()
    if strange := [name for name in names if name not in collection.query_row]:
        raise InputError(f"{path}: queries that {collection.name} does not have: {shorten(strange)}")
    return np.array([collection.query_row[name] for name in names], np.int64)


def _check_documents(table: pa.Table, collection: Collection, path: Path) -> None:
    """Raises ``InputError`` unless the document ids are rows of the collection."""
    ids = table.column("document_ids").chunk(0).values
    if not isinstance(ids, pa.DictionaryArray) or ids.dictionary.to_pylist() != list(collection.document_ids):
        raise InputError(f"{path}: its document ids are not those of {collection.name}; build it again")


def check_pools(candidates: Candidates, path: Path | str) -> None:
    """Raises ``InputError`` unless rows are the collection's, queries are distinct, and pools ascend."""
    rows, collection = candidates.document_rows, candidates.collection
    for name in ("query_rows", "offsets", "document_rows"):
        of = getattr(candidates, name)
        if not isinstance(of, np.ndarray) or of.dtype.kind != "i" or of.ndim != 1:
            found = f"{of.dtype} {of.shape}" if isinstance(of, np.ndarray) else type(of).__name__
            raise InputError(f"{path}: {name} must be integers in one dimension, not {found}")
    offsets = candidates.offsets
    ends = len(offsets) and (offsets[0], offsets[-1])
    if len(offsets) != len(candidates) + 1 or ends != (0, len(rows)) or (np.diff(offsets) < 0).any():
        raise InputError(
            f"{path}: offsets must ascend from 0 to {len(rows)}, the candidates, one more than the "
            f"{len(candidates)} queries"
        )
    for kind, some, ids in (
        ("query", candidates.query_rows, collection.query_ids),
        ("document", rows, collection.document_ids),
    ):
        if len(some) and not (0 <= some.min() and some.max() < len(ids)):
            raise InputError(
                f"{path}: {kind} rows {some.min()} to {some.max()}, but {collection.name} has {len(ids)}"
            )
    if len(np.unique(candidates.query_rows)) < len(candidates):
        raise InputError(f"{path}: a query is there twice; build it again")
    falls = rows[1:] <= rows[:-1]
    first = candidates.offsets[:-1][np.diff(candidates.offsets) > 0]
    falls[first[first > 0] - 1] = False
    if falls.any():
        raise InputError(f"{path}: a query's documents repeat or do not ascend; build it again")
    for name, array in {"positive": candidates.positive, **candidates.ranks}.items():
        dtype = np.dtype(bool if name == "positive" else np.uint16)
        if array.dtype != dtype or array.shape != rows.shape:
            raise InputError(f"{path}: {name} must be {dtype} {rows.shape}, not {array.dtype} {array.shape}")
