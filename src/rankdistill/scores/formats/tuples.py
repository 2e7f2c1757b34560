"""Training sets of texts, as sentence-transformers' trainers take them: n-tuples, and labelled lists."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_objects
from rankdistill.errors import InputError
from rankdistill.scores.formats.columns import batches_of
from rankdistill.scores.formats.files import pools, write_rows
from rankdistill.scores.formats.jsonl import field, in_chunks, listed, number
from rankdistill.scores.formats.texts import first_row
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.hub import FILES
from rankdistill.scores.table import ScoreTable

NEGATIVE = re.compile(r"negative(?:_?([0-9]+))?")  # a column of texts, and which
NEGATIVES = 7  # in a tuple, or as many as the smallest pool has


def read_tuples(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads rows of anchor, positive, negative_1, ... and scores (positive's first), JSONL or Parquet.

    The scores are the negatives' in the order of their numbers, wherever the columns are.
    Their texts are the collection's, as those of ``read_bge``; see ``to_table``.
    """

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        for place, row in read_rows(Path(path)):
            negatives = [row[name] for name in _negatives(row, place)]
            documents = [field(row, ("positive",), place), *negatives]
            yield _checked(field(row, ("anchor", "query"), place), documents, row, ("scores",), place)

    return _table(scored(), collection, path, invalid)


def _negatives(names: Iterable[str], place: str) -> list[str]:
    """Those of negative, negative_1, negative_2, ... by their numbers, in any order in ``names``.

    Raises ``InputError`` for other names that begin so, and for two of one number.
    """
    names_by_number: dict[int, str] = {}
    for name in names:
        if not name.startswith("negative"):
            continue
        numbered = NEGATIVE.fullmatch(name)
        if numbered is None:
            raise InputError(
                f"{place}: {name} does not say which negative it is; call the negatives negative_1, "
                "negative_2, ... in the order of their scores, and other columns otherwise"
            )
        number = int(numbered[1] or 0)
        if number in names_by_number:
            raise InputError(
                f"{place}: which is first, {names_by_number[number]} or {name}? Number the negatives: "
                "negative_1, negative_2, ..."
            )
        names_by_number[number] = name
    return [names_by_number[number] for number in sorted(names_by_number)]


def read_lists(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads rows of query, docs and labels, the teacher's scores; see ``read_tuples``."""

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        for place, row in read_rows(Path(path)):
            documents = listed(field(row, ("docs",), place), "docs", place)
            yield _checked(field(row, ("query",), place), documents, row, ("labels",), place)

    return _table(scored(), collection, path, invalid)


def _checked(query: Any, documents: list, row: dict[str, Any], names: tuple[str, ...], place: str):
    scores = listed(field(row, names, place), names[0], place)
    if len(documents) != len(scores):
        raise InputError(f"{place}: {len(documents)} texts and {len(scores)} {names[0]}")
    if not all(isinstance(text, str) for text in [query, *documents]):
        raise InputError(f"{place}: queries and documents are texts")
    return query, documents, [number(score, place) for score in scores]


def _table(scored: Iterable, collection: Collection, path: str | Path, invalid: Invalid) -> ScoreTable:
    return to_table(
        in_chunks(scored),
        collection,
        path,
        invalid,
        query_row=first_row(collection.queries),
        document_row=first_row(collection.documents),
    )


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of JSON lines, or of Parquet or Arrow by its name; raises ``InputError`` for others."""
    if path.suffix not in FILES:
        yield from read_objects(path)
        return
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    start = 0
    for _, batch in batches_of([path]):
        yield from ((f"{path} row {i}", row) for i, row in enumerate(batch.to_pylist(), start))
        start += len(batch)


def write_tuples(table: ScoreTable, path: str | Path) -> None:
    """Writes anchor, positive, negative_1, ... and scores, the teacher's, the positive's first.

    Whole pools: each positive with all other documents of its pool, ``NEGATIVES`` to a row and best rank
    first (as many as the smallest pool has, where it has fewer; the last row takes some again). Queries
    without any are left out. Raises ``InputError`` if no query has one.
    """
    sizes = [int((~positive).sum()) for _, _, _, positive in pools(table, copies=False) if positive.any()]
    n = min([NEGATIVES, *filter(None, sizes)])
    if not any(sizes):
        raise InputError(f"{path}: no query has a relevant document and another, as a tuple must")
    names = [f"negative_{i}" for i in range(1, n + 1)]

    def rows() -> Iterator[dict[str, Any]]:
        texts = table.collection.documents
        for query, documents, scores, positive in pools(table, copies=False):
            others = np.flatnonzero(~positive)
            for at in np.flatnonzero(positive) if len(others) else ():
                for start in range(0, len(others), n):
                    some = others[min(start, len(others) - n) :][:n]
                    yield {
                        "anchor": table.collection.queries[table.collection.query_row[query]],
                        "positive": texts[documents[at]],
                        **{name: texts[documents[i]] for name, i in zip(names, some, strict=True)},
                        "scores": [_short(scores[i]) for i in (at, *some)],
                    }

    kinds = {name: pa.string() for name in ("anchor", "positive", *names)}
    write_rows(rows(), path, pa.schema(kinds | {"scores": pa.list_(pa.float32())}))


def write_lists(table: ScoreTable, path: str | Path) -> None:
    """Writes query, docs (the retriever's best first) and labels, the teacher's scores: whole pools."""
    collection = table.collection
    rows = (
        {
            "query": collection.queries[collection.query_row[query]],
            "docs": [collection.documents[row] for row in documents],
            "labels": [_short(score) for score in scores],
        }
        for query, documents, scores, _ in pools(table)
    )
    kinds = {"query": pa.string(), "docs": pa.list_(pa.string()), "labels": pa.list_(pa.float32())}
    write_rows(rows, path, pa.schema(kinds))


def _short(score: np.float32) -> float:
    return float(f"{score:.9g}")
