"""The candidate documents of each query: ids and numbers, on disk as an Arrow table."""

import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from rankdistill.data.cache import fingerprint, seal, sync
from rankdistill.data.collection import Collection
from rankdistill.data.labels import copies
from rankdistill.errors import InputError

SOURCES = {"bm25": 1, "dense": 2, "random": 4, "positive": 8, "file": 16}  # bits of ``sources``
UNRANKED = 65535  # the rank of a document that no retriever found


@dataclass(frozen=True)
class Candidates:
    """The pools of Q queries, N candidates in all, in CSR form.

    ``query_rows`` int64 (Q,), ``offsets`` int64 (Q + 1,): query i has the candidates
    ``offsets[i]:offsets[i + 1]`` of ``document_rows`` int32, ``sources`` uint8 (bits of
    ``SOURCES``; a document may come from several) and ``ranks`` uint16 (the best rank that a
    retriever gave it, 0 the first; 65535 where none did), each (N,). Rows are positions in the
    collection.
    """

    collection: Collection
    query_rows: np.ndarray
    offsets: np.ndarray
    document_rows: np.ndarray
    sources: np.ndarray
    ranks: np.ndarray

    def __len__(self) -> int:
        return len(self.query_rows)

    @cached_property
    def positive(self) -> np.ndarray:
        """bool (N,): the known relevant ones."""
        return (self.sources & SOURCES["positive"]) > 0

    @cached_property
    def copies(self) -> dict[int, np.ndarray]:
        """Query's position -> places in its pool, ascending, of candidates that say what a positive says.

        They have the text of a known positive of the query, or of a query of the same text, or that of the
        query itself where it is a document, and are not labelled themselves: no negatives. Empty where no
        two texts of the collection are the same.
        """
        return copies(self)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the collection and with any candidate."""
        return fingerprint(
            self.collection.fingerprint,
            [
                hash_array(x)
                for x in (self.query_rows, self.offsets, self.document_rows, self.sources, self.ranks)
            ],
        )

    def pool(self, i: int) -> slice:
        """Where query i's candidates stand."""
        return slice(self.offsets[i], self.offsets[i + 1])

    def pairs(self, start: int, stop: int) -> Iterator[tuple[str, str]]:
        """(query, document) texts of the candidates ``start:stop``."""
        owners = np.searchsorted(self.offsets, np.arange(start, stop), side="right") - 1
        for owner, row in zip(owners, self.document_rows[start:stop], strict=True):
            yield self.collection.queries[self.query_rows[owner]], self.collection.documents[row]

    def __repr__(self) -> str:
        sizes = np.diff(self.offsets)
        counts = {name: int(((self.sources & bit) > 0).sum()) for name, bit in SOURCES.items()}
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        return f"Candidates({len(self):,} queries, {sizes.min()}-{sizes.max()} documents each; {shown})"


def hash_array(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def to_arrow(candidates: Candidates, scores: np.ndarray | None = None) -> pa.Table:
    """Columns query_id, document_ids, sources, ranks and, if given, scores; a row per query.

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
        "sources": lists(pa.array(candidates.sources)),
        "ranks": lists(pa.array(candidates.ranks)),
    }
    if scores is not None:
        columns["scores"] = lists(pa.array(scores))
    fingerprints = {"collection": collection.fingerprint, "candidates": candidates.fingerprint}
    return pa.table(columns).replace_schema_metadata(fingerprints)


def write_arrow(table: pa.Table, path: Path) -> None:
    """Writes ``table`` as one uncompressed Arrow file, all of it or nothing, and seals it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        sync(draft)
        os.replace(draft, path)
        seal(path)
    finally:
        draft.unlink(missing_ok=True)


def open_arrow(path: Path, trusted: bool) -> tuple[pa.Table, mmap.mmap]:
    """The table at ``path`` and the memory map that it lies in.

    Unless it is ``trusted`` (sealed), all of it is read to see what is wrong with it. Raises ``InputError``
    if it is missing or damaged.
    """
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        table.validate(full=not trusted)  # a damaged offset would be read from outside the file
        if table.column(0).num_chunks > 1:  # of another writer; ours has one chunk, not copied
            table = table.unify_dictionaries().combine_chunks()
        return table, mapped
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # an empty file cannot be mapped
        raise InputError(
            f"{path}: damaged or not an Arrow file ({error}); delete it to build it anew"
        ) from None


def values(table: pa.Table, column: str) -> np.ndarray:
    """The flat values of a list column, without a copy: our files have one chunk."""
    flat = table.column(column).chunk(0).values
    return (flat.indices if isinstance(flat, pa.DictionaryArray) else flat).to_numpy()


def from_arrow(table: pa.Table, collection: Collection, path: Path, trusted: bool) -> Candidates:
    """The candidates in ``table``; raises ``InputError`` if they are of another collection.

    Unless ``trusted``, the ids are held against the collection's.
    """
    metadata = table.schema.metadata or {}
    if metadata.get(b"collection") != collection.fingerprint.encode():
        raise InputError(
            f"{path}: belongs to another collection than {collection.name}; delete it to build it anew"
        )
    queries = table.column("query_id").chunk(0)
    if isinstance(queries, pa.DictionaryArray):
        query_rows = queries.indices.to_numpy().astype(np.int64)
    else:
        query_rows = np.array([collection.query_row[query] for query in queries.to_pylist()], np.int64)
    candidates = Candidates(
        collection,
        query_rows,
        table.column("document_ids").chunk(0).offsets.to_numpy(),
        *(values(table, name) for name in ("document_ids", "sources", "ranks")),
    )
    if trusted:
        vars(candidates)["fingerprint"] = metadata[b"candidates"].decode()
    else:
        _check(candidates, table, path)
    return candidates


def _check(candidates: Candidates, table: pa.Table, path: Path) -> None:
    """Raises ``InputError`` unless ids are the collection's and a pool's rows ascend."""
    collection, rows = candidates.collection, candidates.document_rows
    ids = table.column("document_ids").chunk(0).values
    if not isinstance(ids, pa.DictionaryArray) or ids.dictionary.to_pylist() != list(collection.document_ids):
        raise InputError(f"{path}: its document ids are not those of {collection.name}; build it anew")
    inside = np.ones(len(rows), dtype=bool)
    inside[candidates.offsets[:-1][np.diff(candidates.offsets) > 0]] = False
    if (np.diff(rows.astype(np.int64), prepend=-1)[inside] <= 0).any():
        raise InputError(f"{path}: a query's documents repeat or do not ascend; build it anew")
