"""Scores in columns: Parquet, Arrow, and datasets of a hub.

A row is a query with its lists (query_id, document_ids, scores), the layout of sentence-transformers'
and PyLate's distillation data, or a single pair (query_id, corpus_id, score).
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rankdistill.data.collection import Collection
from rankdistill.data.formats.files import draft
from rankdistill.data.formats.triples import Chunk, Invalid, to_table
from rankdistill.data.score_hub import FILES, hub_batches, id_only, is_hub_name
from rankdistill.data.scores import ScoreTable
from rankdistill.errors import InputError

log = logging.getLogger(__name__)
QUERY = ("query_id", "qid", "query-id")
DOCUMENT = ("document_ids", "document_id", "corpus_id", "corpus-id", "doc_id", "docid", "docno", "pid")
SCORE = ("scores", "score")
BATCH = 10_000  # rows read at a time


def read_columns(
    path: str | Path,
    collection: Collection,
    invalid: Invalid = "error",
    subset: str | None = None,
    split: str = "train",
) -> ScoreTable:
    """Reads a Parquet or Arrow file, a folder of Parquet files, or a hub's dataset by its name.

    ``subset`` and ``split`` are those of a hub's dataset. An Arrow file that ``ScoreTable.save``
    wrote for this collection is opened as it is, memory-mapped, with sources and ranks. Raises
    ``InputError`` for missing columns too, and lists of unequal lengths; see ``to_table``.
    """
    teacher = None
    if is_hub_name(path):
        batches = hub_batches(str(path), subset, split)
    else:
        path = Path(path)
        metadata = _metadata(path)
        if {b"collection", b"candidates"} <= set(metadata) and path.suffix == ".arrow":
            return ScoreTable.load(path, collection)
        if metadata.get(b"collection", b"").decode() not in ("", collection.fingerprint):
            log.warning(
                "%s: written for another version of %s; ids are taken as they are", path, collection.name
            )
        teacher = metadata.get(b"teacher", b"").decode() or None
        batches = _batches(path)
    return to_table(_chunks(batches, path), collection, path, invalid, teacher)


def write_columns(table: ScoreTable, path: str | Path) -> None:
    """Writes Parquet (query_id, document_ids, scores), or as ``ScoreTable.save`` if it ends in .arrow."""
    if Path(path).suffix == ".arrow":
        return table.save(path)
    batches = id_only(table)
    with draft(path) as file, pq.ParquetWriter(file, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def column(names: Sequence[str], known: Sequence[str], what: str, path: str | Path) -> str:
    """The one of ``names`` that ``known`` has; raises ``InputError`` with what there is."""
    for name in known:
        if name in names:
            return name
    raise InputError(f"{path}: no column with the {what} ({', '.join(known)}); there is: {', '.join(names)}")


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(
            f"{path}: no such file, or no Parquet file in it; a hub's dataset is named owner/name"
        )
    return files


def _metadata(path: Path) -> dict[bytes, bytes]:
    return next(_readers(path)).schema.metadata or {}


def _readers(path: Path) -> Iterator[pa.RecordBatchReader]:
    for file in _files(path):
        try:
            yield _reader(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: damaged, or neither Parquet nor Arrow ({_line(error)})") from None


def _reader(file: Path) -> pa.RecordBatchReader:
    if file.suffix not in FILES[1:]:
        found = pq.ParquetFile(file, memory_map=True)
        return pa.RecordBatchReader.from_batches(found.schema_arrow, found.iter_batches(BATCH))
    source = pa.memory_map(str(file))
    try:
        found = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(file)))  # as the library datasets keeps it
    return pa.RecordBatchReader.from_batches(
        found.schema, (found.get_batch(i) for i in range(found.num_record_batches))
    )


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    for reader in _readers(path):
        try:
            for batch in reader:
                batch.validate(full=True)  # a damaged offset would be read from outside the file
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _chunks(batches: Iterator[pa.RecordBatch], path: str | Path) -> Iterator[Chunk]:
    for batch in batches:
        names = batch.schema.names
        queries, documents, scores = (
            batch.column(column(names, known, what, path))
            for known, what in ((QUERY, "query ids"), (DOCUMENT, "document ids"), (SCORE, "scores"))
        )
        if _is_list(documents) != _is_list(scores):
            raise InputError(f"{path}: document ids and scores must both be lists, or neither")
        if _is_list(documents):
            sizes, given = (
                pc.fill_null(pc.list_value_length(lists), 0).to_numpy() for lists in (documents, scores)
            )
            if (sizes != given).any():
                at = int(np.flatnonzero(sizes != given)[0])
                raise InputError(
                    f"{path}: query {str(queries[at])!r} has {sizes[at]} documents and {given[at]} scores"
                )
            queries = queries.take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))
            documents, scores = pc.list_flatten(documents), pc.list_flatten(scores)
        try:
            yield (
                _text(queries),
                _text(documents),
                pc.fill_null(scores.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"{path}: ids must be texts or integers, scores numbers ({_line(error)})"
            ) from None


def _is_list(values: pa.Array) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(kind(values.type) for kind in kinds)


def _text(ids: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_floating(ids.type):
        raise pa.ArrowInvalid(f"{ids.type} ids")
    return ids.cast(pa.large_string())
