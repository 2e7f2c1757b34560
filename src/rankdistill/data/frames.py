"""Collections from a notebook: pandas DataFrames, or datasets from the hub."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast

import pandas as pd
from datasets import Dataset, DatasetDict, IterableDataset

from rankdistill.data.collection import Collection
from rankdistill.data.rows import Row, assemble
from rankdistill.errors import InputError

BLOCK = 1000  # rows made into dicts at a time
Frame: TypeAlias = pd.DataFrame | Dataset | IterableDataset


def from_frames(
    documents: Frame,
    queries: Frame,
    qrels: Frame | Mapping[str, Frame],
    name: str = "frames",
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: Literal["error", "skip"] = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The collection of three tables.

    ``documents`` and ``queries`` have the columns ``id`` and ``text``, perhaps ``title`` and those
    that a template names; ``qrels`` has ``split``, ``query``, ``document`` and ``grade``, or is a
    dict of such tables without ``split``; without ``grade`` all of them are relevant. The column names
    of BEIR and of ir_datasets do as well. Templates, ``invalid`` and the last are those of ``read_beir``.
    """
    return assemble(
        name,
        ("documents", rows_of("documents", documents)),
        ("queries", rows_of("queries", queries)),
        _by_split(qrels),
        document_template,
        query_template,
        invalid,
        ignore_identical_ids,
    )


def rows_of(source: str, frame: Frame) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, fields) of each row, counted from 0; missing values are None.

    Raises ``InputError`` for what isn't a table.
    """
    if isinstance(frame, DatasetDict):
        raise InputError(f"{source}: a DatasetDict of {', '.join(frame)}; give one of its splits")
    if not isinstance(frame, Frame):
        raise InputError(
            f"{source}: a {type(frame).__name__}, where a pandas DataFrame or a datasets.Dataset is expected"
        )
    number = 0
    for block in _blocks(frame):
        for row in block:
            yield f"{source} row {number}", row
            number += 1


def _blocks(frame: Frame) -> Iterator[list[dict[str, Any]]]:
    if isinstance(frame, pd.DataFrame):
        for start in range(0, len(frame), BLOCK):
            part = frame.iloc[start : start + BLOCK].astype(object)
            yield cast(list[dict[str, Any]], part.where(part.notna(), None).to_dict("records"))
    else:
        for columns in frame.with_format(None).iter(BLOCK):
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _of_split(split: str, rows: Iterator[Row]) -> Iterator[Row]:
    """``rows``; raises ``InputError`` for one whose own column split says that it is of another."""
    for place, row in rows:
        if row.get("split") not in (None, split):
            raise InputError(
                f"{place}: its column split says {row['split']!r}; give the table itself as qrels, or leave "
                "the column out"
            )
        yield place, row


def _by_split(qrels: Frame | Mapping[str, Frame]) -> dict[str, Any]:
    if isinstance(qrels, Mapping):
        return {
            split: _of_split(split, rows_of(f"qrels of {split}", frame)) for split, frame in qrels.items()
        }
    parts: dict[str, list[Row]] = {}
    for place, row in rows_of("qrels", qrels):
        split = row.pop("split", None)
        if not isinstance(split, str):
            raise InputError(
                f"{place}: no split; give a column split, or a dict such as {{'train': ..., 'test': ...}}"
            )
        parts.setdefault(split, []).append((place, row))
    return parts
