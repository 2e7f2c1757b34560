"""How the writers write: a query's pool after the other, all of the file or nothing."""

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rankdistill.errors import InputError, disk_refuses
from rankdistill.scores.hub import FILES
from rankdistill.scores.table import ScoreTable


@contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Raises ``InputError`` in place of an ``OSError`` in here: ``path`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        reason = disk_refuses(error) or error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason})") from None


@contextmanager
def draft(path: str | Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place if all goes well, and is gone if not."""
    path = Path(path)
    file = path.with_name(f".{os.getpid()}.{path.name}")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield file
            os.replace(file, path)
        finally:
            file.unlink(missing_ok=True)


def has_columns(path: str | Path) -> bool:
    """Is it a file of columns, by its name?"""
    return Path(path).name.removesuffix(".gz").endswith(FILES)


def check_text_name(path: str | Path) -> None:
    """Raises ``InputError`` for the name of a file of columns: nobody would read text under it."""
    if has_columns(path):
        raise InputError(f"{path}: what is written is text; name it otherwise, or take format=columns")


@contextmanager
def writing(path: str | Path) -> Iterator[TextIO]:
    """The text file ``path`` to write to, gzipped if its name ends in .gz; all of it or nothing.

    Raises ``InputError`` for the name of a file of columns.
    """
    check_text_name(path)
    opener = gzip.open if Path(path).suffix == ".gz" else open
    with draft(path) as file, opener(file, "wt", newline="", encoding="utf-8") as out:
        yield out


ROWS = 10_000  # of a file of columns, written at a time


@contextmanager
def columns_writer(path: str | Path, schema: pa.Schema) -> Iterator[Any]:
    """Arrow's writer of ``path``: of Feather if it ends in .arrow or .feather, else of Parquet.

    Raises ``InputError`` for .gz: these files are compressed by themselves, and nobody reads them so.
    """
    if Path(path).suffix == ".gz":
        raise InputError(f"{path}: files of columns are not gzipped; leave .gz out")
    make = pa.ipc.new_file if Path(path).suffix in FILES[1:] else pq.ParquetWriter
    with draft(path) as file, make(file, schema) as writer:
        yield writer


def write_rows(rows: Iterator[dict[str, Any]], path: str | Path, schema: pa.Schema) -> None:
    """JSON lines, or Parquet or Feather where the name says so."""
    if not has_columns(path):
        with writing(path) as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    with columns_writer(path, schema) as writer:
        while some := list(islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def pools(table: ScoreTable, copies: bool = True) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each query its id, document rows, scores and positive (n,), the retriever's best first.

    Without ``copies``, for formats that call the rest negatives, those of a positive are left out.
    """
    for i, query in enumerate(table.candidates.query_rows):
        order = np.argsort(table.candidates.best_ranks(table.candidates.pool(i)), kind="stable")
        if not copies and i in table.candidates.copies:
            order = order[~np.isin(order, table.candidates.copies[i])]
        rows, scores, positive = table.pool(i)
        yield table.collection.query_ids[query], rows[order], scores[order], positive[order]
