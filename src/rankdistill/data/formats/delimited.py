"""Scores in CSV or TSV files: a pair per line, or two with a margin between them."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from rankdistill.data.collection import Collection
from rankdistill.data.formats.columns import DOCUMENT, QUERY, SCORE, column
from rankdistill.data.formats.files import pools, writing
from rankdistill.data.formats.triples import Chunk, Invalid, to_table
from rankdistill.data.lines import read_lines
from rankdistill.data.scores import ScoreTable
from rankdistill.errors import InputError

BLOCK = 1 << 24  # bytes read at a time
MARGINS = ("pos_score", "neg_score", "query_id", "pos_id", "neg_id")


def read_csv(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads ``query_id,document_id,score`` lines, with commas or tabs, also gzipped.

    Under a header the columns may stand in any order among others. Raises ``InputError`` for
    missing columns and malformed lines too; see ``to_table``.
    """
    path = Path(path)
    first, delimiter, number = _first_line(path)
    names, header = list(first), not _is_number(first[-1])
    if header:
        wanted = [column(names, QUERY, "query ids", path), column(names, DOCUMENT, "document ids", path)]
        wanted.append(column(names, SCORE, "scores", path))
    elif len(first) != 3:
        raise InputError(
            f"{path}:{number}: expected query, document and score, or a header; got {len(first)} cells"
        )
    else:
        names = wanted = ["query_id", "document_id", "score"]
    kinds = dict(zip(wanted, (pa.large_string(), pa.large_string(), pa.float64()), strict=True))
    chunks = (
        (batch.column(0), batch.column(1), batch.column(2).to_numpy())
        for batch in _batches(path, delimiter, names, number - (not header), kinds)
    )
    return to_table(chunks, collection, path, invalid)


def write_csv(table: ScoreTable, path: str | Path) -> None:
    """Writes ``query_id,document_id,score`` lines under a header; tabs if the name says .tsv."""
    ids = table.collection.document_ids
    with _writer(path) as write:
        write(("query_id", "document_id", "score"))
        for query, rows, scores, _ in pools(table):
            for row, score in zip(rows, scores, strict=True):
                write((query, ids[row], f"{score:.9g}"))


def read_margins(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads ``pos_score neg_score query_id pos_id neg_id`` lines, tab-separated: Margin-MSE's own files.

    The layout of Hofstaetter et al., arXiv 2010.02666. See ``to_table``.
    """
    path = Path(path)
    first, delimiter, number = _first_line(path)
    if len(first) != 5:
        raise InputError(
            f"{path}:{number}: expected {', '.join(MARGINS)}, tab-separated; got {len(first)} cells"
        )
    score, id_ = pa.float64(), pa.large_string()
    kinds = dict(zip(MARGINS, (score, score, id_, id_, id_), strict=True))

    def chunks() -> Iterator[Chunk]:
        for batch in _batches(path, delimiter, MARGINS, number - _is_number(first[0]), kinds):
            pos_score, neg_score, query, pos, neg = batch.columns
            n = np.arange(len(query))
            both = pa.array(np.stack([n, n + len(n)], axis=1).ravel())  # a line's positive, its negative
            yield (
                pa.concat_arrays([query, query]).take(both),
                pa.concat_arrays([pos, neg]).take(both),
                pa.concat_arrays([pos_score, neg_score]).take(both).to_numpy(),
            )

    return to_table(chunks(), collection, path, invalid)


def write_margins(table: ScoreTable, path: str | Path) -> None:
    """Writes every relevant document of a query with every other one of its pool."""
    ids = table.collection.document_ids
    with _writer(path, "\t") as write:
        for query, rows, scores, positive in pools(table):
            for pos in np.flatnonzero(positive):
                for neg in np.flatnonzero(~positive):
                    write((f"{scores[pos]:.9g}", f"{scores[neg]:.9g}", query, ids[rows[pos]], ids[rows[neg]]))


@contextmanager
def _writer(path: str | Path, delimiter: str | None = None) -> Iterator[Callable]:
    """What writes the cells of a line."""
    with writing(path) as out:
        delimiter = delimiter or ("\t" if ".tsv" in Path(path).suffixes else ",")
        yield csv.writer(out, delimiter=delimiter, lineterminator="\n").writerow


def _first_line(path: Path) -> tuple[list[str], str, int]:
    """The cells of the first line that isn't blank, what separates them, and its number."""
    for place, line in read_lines(path):
        delimiter = "\t" if "\t" in line else ","
        return next(csv.reader([line], delimiter=delimiter)), delimiter, int(place.rpartition(":")[2])
    raise InputError(f"{path}: no line in it")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
        return True
    except ValueError:
        return False


def _batches(
    path: Path, delimiter: str, names: Sequence[str], skipped: int, kinds: dict[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """The columns of ``kinds`` after ``skipped`` lines, block by block.

    Raises ``InputError`` with the line at fault.
    """
    try:
        yield from pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(column_names=names, skip_rows=skipped, block_size=BLOCK),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=list(kinds), null_values=[]),
        )
    except (pa.ArrowException, OSError) as error:
        numbers = [names.index(name) for name, kind in kinds.items() if pa.types.is_floating(kind)]
        for place, line in list(read_lines(path)):  # to say where
            if int(place.rpartition(":")[2]) <= skipped:
                continue
            cells = next(csv.reader([line], delimiter=delimiter))
            if len(cells) != len(names) or not all(_is_number(cells[i]) for i in numbers):
                raise InputError(
                    f"{place}: expected {', '.join(names)}, separated by "
                    f"{'tabs' if delimiter == chr(9) else 'commas'}; got {line[:60]!r}"
                ) from None
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
