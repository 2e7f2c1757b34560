"""Scores in columns: Parquet, Arrow, and datasets of a hub.

A row is a query with its lists (query_id, document_ids, scores), the layout of sentence-transformers'
and PyLate's distillation data, or a single pair (query_id, corpus_id, score).
"""

import ast
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rankdistill.data.collection import Collection
from rankdistill.data.shards import check_whole
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import columns_writer
from rankdistill.scores.formats.jsonl import DOCUMENT, QUERY, reciprocal
from rankdistill.scores.formats.triples import Chunk, Invalid, to_table
from rankdistill.scores.hub import FILES, disk_batches, hub_batches, id_only, is_hub_name, is_saved
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)
SCORE = ("scores", "score")
POSITIVE = ("pos_id", "positive_id", "pos_pid", "pos_doc_id")
NEGATIVE = ("neg_id", "negative_id", "neg_pid", "neg_doc_id")
POSITIVE_SCORE = ("pos_score", "positive_score")
NEGATIVE_SCORE = ("neg_score", "negative_score")
VALIDATION = {"dev", "val", "valid", "validation"}  # one split to the library datasets
SPLIT = re.compile(r"(train|test|dev|val|valid|validation)(?=$|[-_.\d])")  # begins a name
BATCH = 10_000  # rows read at a time


def read_columns(
    path: str | Path,
    collection: Collection,
    invalid: Invalid = "error",
    subset: str | None = None,
    split: str = "train",
    by: Literal["score", "rank"] = "score",
) -> ScoreTable:
    """Reads a Parquet or Arrow file, a folder of Parquet files, or a hub's dataset by its name.

    A folder may also be what ``save_to_disk`` of the library datasets wrote. ``subset`` and ``split``
    are those of a dataset; of a folder, ``subset`` is a folder in it, and where its files (or their folders)
    are named for splits, as ``train-00000-of-00001.parquet``, those of ``split`` are read. With
    ``by="rank"`` the lists are rankings, best first, and their order is the teacher (``reciprocal``).
    Lists may be kept as text ("[1, 2]"). An Arrow file that ``ScoreTable.save`` wrote for this collection
    is opened as it is, memory-mapped, with sources and ranks. Raises ``InputError`` for missing columns
    too, and lists of unequal lengths; see ``to_table``.
    """
    if by not in ("score", "rank"):
        raise InputError(f"by={by!r}: it must be 'score' or 'rank'")
    teacher = None
    batches: Iterator[tuple[str | Path, pa.RecordBatch]]
    if is_hub_name(path):
        batches = ((path, batch) for batch in hub_batches(str(path), subset, split))
    elif is_saved(path := _subset(Path(path), subset)):
        batches = ((path, batch) for batch in disk_batches(path, split))
    else:
        files = _files(path, split)
        if path.is_dir():
            check_whole(files)
        metadata = _metadata(files)
        if {b"collection", b"candidates"} <= set(metadata) and path.suffix == ".arrow":
            return ScoreTable.load(path, collection)
        if metadata.get(b"collection", b"").decode() not in ("", collection.fingerprint):
            log.warning(
                "%s: written for another version of %s; ids are taken as they are", path, collection.name
            )
        teacher = metadata.get(b"teacher", b"").decode() or None
        batches = batches_of(files)
    return to_table(_chunks(batches, by), collection, path, invalid, teacher)


def write_columns(table: ScoreTable, path: str | Path) -> None:
    """Writes query_id, document_ids, scores: Feather if ``path`` ends in .feather, else Parquet.

    One that ends in .arrow is written as ``ScoreTable.save`` has it.
    """
    if Path(path).suffix == ".arrow":
        return table.save(path)
    batches = id_only(table)
    with columns_writer(path, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def column(names: Sequence[str], known: Sequence[str], what: str, path: str | Path) -> str:
    """The one of ``names`` that ``known`` has; raises ``InputError`` with what there is if it isn't one."""
    matching = [name for name in names if name in known]
    if len(matching) > 1:
        raise InputError(
            f"{path}: {len(matching)} columns with the {what}: {', '.join(matching)}; keep one of them"
        )
    if not matching:
        raise InputError(
            f"{path}: no column with the {what} ({', '.join(known)}); available: {', '.join(names)}"
            f"{_hint(names, what, path)}"
        )
    return matching[0]


def _hint(names: Sequence[str], what: str, path: str | Path) -> str:
    """What a table with such columns is, where that can be told."""
    if {*POSITIVE, *NEGATIVE} & {*names} and {*POSITIVE_SCORE} & {*names}:
        return "; a file of text with both scores of a pair is read with format=margins"
    if {*POSITIVE, *NEGATIVE} & {*names}:
        return "; a margin alone doesn't give the two scores: take the set that has both (format=margins)"
    if what == "scores" and not {".csv", ".tsv"} & {*Path(path).suffixes}:  # which hold no lists
        return "; lists that are rankings, best first, are read with by=rank (teacher.options={by: rank})"
    return ""


def _subset(path: Path, subset: str | None) -> Path:
    """The folder ``subset`` of ``path``; raises ``InputError`` where there is none."""
    if subset is None or not path.exists():
        return path
    if not (path / subset).is_dir():
        folders = sorted(folder.name for folder in path.glob("[!.]*") if folder.is_dir())
        raise InputError(
            f"{path}: no folder {subset} in it; available: {', '.join(folders) or 'none'} "
            "(leave teacher.options={subset: ...} out to read it as it is)"
        )
    return path / subset


def _files(path: Path, split: str) -> list[Path]:
    """The files of ``path``, those of ``split`` where they are named for splits."""
    files = sorted(path.rglob("[!.]*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(
            f"{path}: no such file, or no Parquet file in it; a hub's dataset is named owner/name"
        )
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(_split(file.relative_to(path)), []).append(file)
    if None in splits:
        named = next((file.name for file in files if SPLIT.match(file.name)), None)
        if named is None or not path.is_dir():
            return files
        raise InputError(
            f"{path}: {named} is named for a split, {splits[None][0].name} isn't; keep them in two folders"
        )
    names = [split] if split in splits else [name for name in splits if {name, split} <= VALIDATION]
    if not names:
        there = ", ".join(name for name in splits if name is not None)
        raise InputError(f"{path}: no split {split!r}; available: {there} (teacher.options={{split: ...}})")
    return [file for name in names for file in splits[name]]


def _split(file: Path) -> str | None:
    """The split that the name of ``file`` begins with, or that of a folder on its way, the nearest first."""
    matches = (SPLIT.match(part) for part in reversed(file.parts))
    return next((match[1] for match in matches if match), None)


def _metadata(files: Sequence[Path]) -> dict[bytes, bytes]:
    _, reader = next(_readers(files))
    return reader.schema.metadata or {}


def _readers(files: Sequence[Path]) -> Iterator[tuple[Path, pa.RecordBatchReader]]:
    for file in files:
        try:
            reader = _reader(file)
            _ = reader.schema.names  # of a damaged file they may be no text
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: damaged, or neither Parquet nor Arrow ({_line(error)})") from None
        yield file, reader


def _reader(file: Path) -> pa.RecordBatchReader:
    if file.suffix not in FILES[1:]:
        reader = pq.ParquetFile(file, memory_map=True)
        return pa.RecordBatchReader.from_batches(reader.schema_arrow, reader.iter_batches(BATCH))
    source = pa.memory_map(str(file))
    try:
        reader = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(file)))  # as the library datasets keeps it
    return pa.RecordBatchReader.from_batches(
        reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
    )


def batches_of(files: Sequence[Path]) -> Iterator[tuple[str | Path, pa.RecordBatch]]:
    """(file, rows) of Parquet and Arrow files; raises ``InputError`` for one that is damaged."""
    for file, reader in _readers(files):
        try:
            for batch in reader:
                batch.validate(full=True)  # a damaged offset would be read from outside the file
                yield file, batch
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _chunks(batches: Iterator[tuple[str | Path, pa.RecordBatch]], by: str) -> Iterator[Chunk]:
    ranked: set[Any] = set()
    for path, batch in batches:
        names = batch.schema.names
        query, document = (
            column(names, QUERY, "query ids", path),
            column(names, DOCUMENT, "document ids", path),
        )
        score = column(names, SCORE, "scores", path) if by == "score" else None
        if by == "rank":
            for name in batch.column(query).to_pylist():
                if name in ranked:
                    raise InputError(f"{path}: query {name!r} again; a row has the whole order of a query")
                ranked.add(name)
        try:
            scores = None if score is None else batch.column(score)
            yield as_chunk(batch.column(query), batch.column(document), scores, path)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise InputError(
                f"{path}: ids must be texts or integers, scores numbers ({_line(error)})"
            ) from None


def as_chunk(queries: pa.Array, documents: pa.Array, scores: pa.Array | None, path: str | Path) -> Chunk:
    """Columns of pairs, or of a query and its lists, as a ``Chunk``; without scores lists are rankings.

    Raises ``InputError`` for lists of unequal lengths, and Arrow's errors for other kinds of values.
    """
    scores = as_lists(scores, path)
    if scores is None or _is_list(scores):  # beside a number, "[1]" is the name of a document
        documents = as_lists(documents, path)
    if scores is None:
        if not _is_list(documents):
            raise InputError(f"{path}: by=rank reads lists of documents, a query's ranking each")
        scores = pa.array([reciprocal(n) for n in _sizes(documents)], pa.large_list(pa.float64()))
    if _is_list(documents) != _is_list(scores):
        raise InputError(f"{path}: document ids and scores must both be lists, or neither")
    if _is_list(documents):
        sizes, score_counts = _sizes(documents), _sizes(scores)
        if (sizes != score_counts).any():
            at = int(np.flatnonzero(sizes != score_counts)[0])
            raise InputError(
                f"{path}: query {str(queries[at])!r} has {sizes[at]} documents and {score_counts[at]} scores"
            )
        queries = queries.take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))
        documents, scores = pc.list_flatten(documents), pc.list_flatten(scores)
    if pa.types.is_boolean(scores.type):
        raise pa.ArrowInvalid("true and false are labels; grades are read as qrels, or as numbers")
    return (
        _text(queries),
        _text(documents),
        pc.fill_null(scores.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False),
    )


def _sizes(lists: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def as_lists(values: pa.Array | None, path: str | Path) -> pa.Array | None:
    """``values``, or the lists that they are the text of, JSON's or Python's.

    Raises ``InputError`` for text that begins like a list and isn't one.
    """
    if values is None or not _is_text(values) or not any(map(_begins_a_list, values[:1].to_pylist())):
        return values
    return pa.array([_parsed(text, path) for text in values.to_pylist()])


def _begins_a_list(text: str | None) -> bool:
    return text is not None and text.lstrip().startswith("[")


def _parsed(text: str | None, path: str | Path) -> list[Any]:
    try:
        parsed = None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        try:
            parsed = ast.literal_eval(str(text))  # of constants alone: nothing is run
            if "_" in str(text) and not all(isinstance(value, str) for value in parsed):
                parsed = None  # 1_0 is ten in Python alone
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            parsed = None
    if not isinstance(parsed, list):
        raise InputError(f"{path}: expected lists such as [1, 2] or ['d1', 'd2'], got {str(text)[:60]!r}")
    return parsed


def _is_list(values: pa.Array) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(kind(values.type) for kind in kinds)


def _is_text(values: pa.Array) -> bool:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _text(ids: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_floating(ids.type):
        raise pa.ArrowInvalid(f"{ids.type} ids")
    return ids.cast(pa.large_string())
