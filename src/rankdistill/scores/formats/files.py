"""How the writers write: a query's pool after the other, all of the file or nothing."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from rankdistill.errors import InputError, disk_refuses
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


@contextmanager
def writing(path: str | Path) -> Iterator[TextIO]:
    """The text file ``path`` to write to, gzipped if its name ends in .gz; all of it or nothing."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    with draft(path) as file, opener(file, "wt", newline="", encoding="utf-8") as out:
        yield out


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
