"""Teacher scores that exist already: the formats in which they are exchanged, one file per family.

A reader is ``read_x(path, collection, invalid, ...) -> ScoreTable``, a writer ``write_x(table, path)``;
``triples.to_table`` says what a table that was read from a file means.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked
from rankdistill.scores.formats.columns import read_columns, write_columns
from rankdistill.scores.formats.delimited import read_csv, read_margins, write_csv, write_margins
from rankdistill.scores.formats.groups import (
    read_groups,
    scores_beside,
    write_groups,
    write_hard_negatives,
    write_tevatron,
)
from rankdistill.scores.formats.mapping import read_json, write_json
from rankdistill.scores.formats.preferences import read_preferences, write_preferences
from rankdistill.scores.formats.runs import read_ranking, read_run, write_ranking, write_run
from rankdistill.scores.formats.texts import read_bge, write_bge
from rankdistill.scores.formats.triples import Invalid
from rankdistill.scores.formats.tuples import read_lists, read_tuples, write_lists, write_tuples
from rankdistill.scores.hub import FILES
from rankdistill.scores.table import ScoreTable

FORMATS = {  # name: reader, writer, endings by which it is known
    "columns": (read_columns, write_columns, FILES),
    "csv": (read_csv, write_csv, (".csv", ".tsv")),
    "json": (read_json, write_json, (".json", ".pkl", ".pickle")),
    "trec": (read_run, write_run, (".trec", ".run", ".res")),
    "margins": (read_margins, write_margins, ()),
    "groups": (read_groups, write_groups, ()),
    "hard_negatives": (read_groups, write_hard_negatives, ()),
    "tevatron": (read_groups, write_tevatron, ()),
    "bge": (read_bge, write_bge, ()),
    "ranking": (read_ranking, write_ranking, ()),
    "tuples": (read_tuples, write_tuples, ()),
    "lists": (read_lists, write_lists, ()),
    "preferences": (read_preferences, write_preferences, ()),
}


def guess(path: str | Path) -> str:
    """The format of ``path`` by its name, a hub's dataset being ``columns``.

    Raises ``InputError`` where several have such a name.
    """
    name = Path(path).name.removesuffix(".gz")
    for format, (_, _, endings) in FORMATS.items():
        if name.endswith(endings):
            return format
    if "." not in name:
        return "columns"  # a folder of Parquet files, or a hub's
    raise InputError(f"{path}: its name doesn't say the format; give one: {', '.join(FORMATS)}")


def check_format(format: str | None, path: str | Path) -> str:
    """``format``, or what the name of ``path`` says; raises ``InputError`` where there is no name."""
    if not isinstance(path, str | Path):
        raise InputError(f"path: {path!r:.60} is no path; name a file of scores, or a hub's dataset")
    if not str(path):
        raise InputError("path: it is empty; name a file of scores, or a hub's dataset")
    if format is not None and format not in FORMATS:
        raise InputError(f"format={format!r}: it must be one of {', '.join(FORMATS)}")
    return format or guess(path)


@checked
def read_scores(
    path: str | Path,
    collection: Collection,
    format: str | None = None,
    invalid: Invalid = "error",
    **options: Any,
) -> ScoreTable:
    """The table of the scores in ``path``, a file or a hub's dataset.

    ``format`` is one of ``FORMATS``, by default what the name says; ``options`` are its reader's.
    """
    format = check_format(format, path)
    check_options(format, options)
    return FORMATS[format][0](path, collection, invalid, **options)


def check_options(format: str, options: Mapping[str, Any]) -> None:
    """Raises ``InputError`` for an option that the reader of ``format`` doesn't have."""
    known = list(inspect.signature(FORMATS[format][0]).parameters)[3:]
    for name in options:
        if name not in known:
            raise InputError(f"{name}: not an option of {format}; available: {', '.join(known) or 'none'}")
        if not isinstance(options[name], str | Path | None):
            raise InputError(f"{name}={options[name]!r}: an option of {format} is a text")


@checked
def write_scores(table: ScoreTable, path: str | Path, format: str | None = None) -> None:
    """Writes ``table`` to ``path`` in ``format``, by default what the name says."""
    FORMATS[check_format(format, path)][1](table, path)


def files_written(path: str | Path, format: str) -> list[Path]:
    """The files that the writer of ``format`` makes of ``path``: itself first, then those beside it."""
    return [Path(path), *([scores_beside(path)] if format == "groups" else [])]


__all__ = [
    "FORMATS",
    "files_written",
    "read_bge",
    "read_columns",
    "read_csv",
    "read_groups",
    "read_json",
    "read_lists",
    "read_margins",
    "read_preferences",
    "read_ranking",
    "read_scores",
    "read_run",
    "read_tuples",
    "write_bge",
    "write_columns",
    "write_csv",
    "write_groups",
    "write_hard_negatives",
    "write_json",
    "write_lists",
    "write_margins",
    "write_preferences",
    "write_ranking",
    "write_scores",
    "write_tevatron",
    "write_tuples",
    "write_run",
]
