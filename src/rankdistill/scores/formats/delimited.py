"""Scores in CSV or TSV files: a pair per line, or two with a margin between them."""

import csv
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rankdistill.data.collection import Collection
from rankdistill.data.lines import is_quoted, plain, read_lines, unquoted
from rankdistill.errors import InputError
from rankdistill.runtime.folders import is_special
from rankdistill.scores.formats.columns import (
    NEGATIVE,
    NEGATIVE_SCORE,
    POSITIVE,
    POSITIVE_SCORE,
    SCORE,
    as_chunk,
    column,
)
from rankdistill.scores.formats.files import pools, writing
from rankdistill.scores.formats.jsonl import DOCUMENT, QUERY
from rankdistill.scores.formats.triples import Chunk, Invalid, to_table
from rankdistill.scores.table import ScoreTable

BLOCK = 1 << 24  # bytes read at a time
TEXT, NUMBER = pa.large_string(), pa.float64()
MARGINS = ("pos_score", "neg_score", "query_id", "pos_id", "neg_id")
MARGINS_NAMES = (POSITIVE_SCORE, NEGATIVE_SCORE, QUERY, POSITIVE, NEGATIVE)


def read_csv(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads ``query_id,document_id,score`` lines, with commas or tabs, also gzipped.

    Under a header the columns may be in any order among others, and hold lists as text ("['d1', 'd2']").
    Between tabs a quote is a letter of an id like others, unless the first line is quoted or the collection
    has the id without its quotes alone. Raises ``InputError`` for missing columns and malformed lines too;
    see ``to_table``.
    """
    path = Path(path)
    layout = _layout(path, lambda cells: _is_number(cells[-1]))
    if layout.header:
        wanted = [
            column(layout.names, known, what, path)
            for known, what in ((QUERY, "query ids"), (DOCUMENT, "document ids"), (SCORE, "scores"))
        ]
    elif len(layout.names) != 3:
        raise InputError(
            f"{path}:{layout.line}: expected query, document and score, or a header; got "
            f"{len(layout.names)} cells"
        )
    else:
        wanted = ["query_id", "document_id", "score"]
        layout = replace(layout, names=wanted)

    def convert(batch: pa.RecordBatch) -> Chunk:
        queries, documents, scores = batch.columns
        ids = _ids(queries, collection.query_row), _ids(documents, collection.document_row)
        return as_chunk(*ids, scores, path)

    lists = dict(zip(layout.names, layout.sample, strict=False)).get(wanted[2], "").startswith("[")
    kinds = dict(zip(wanted, (TEXT, TEXT, TEXT if lists else NUMBER), strict=True))
    return to_table(
        _batches(path, layout, kinds, [] if lists else wanted[2:], convert), collection, path, invalid
    )


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

    The layout of Hofstaetter et al., arXiv 2010.02666; under a header the columns may be in any order.
    See ``to_table``.
    """
    path = Path(path)
    layout = _layout(path, lambda cells: _is_number(cells[0]))
    wanted: Sequence[str] = MARGINS
    if layout.header:
        what = ("positives' scores", "negatives' scores", "query ids", "positives' ids", "negatives' ids")
        known = zip(MARGINS_NAMES, what, strict=True)
        wanted = [column(layout.names, names, meaning, path) for names, meaning in known]
    elif len(layout.names) != 5:
        raise InputError(
            f"{path}:{layout.line}: expected {', '.join(MARGINS)}, tab-separated; got "
            f"{len(layout.names)} cells"
        )
    else:
        layout = replace(layout, names=MARGINS)

    def convert(batch: pa.RecordBatch) -> Chunk:
        pos_score, neg_score, query, pos, neg = batch.columns
        n = np.arange(len(query))
        both = pa.array(np.stack([n, n + len(n)], axis=1).ravel())  # a line's positive, its negative
        return (
            _ids(pa.concat_arrays([query, query]).take(both), collection.query_row),
            _ids(pa.concat_arrays([pos, neg]).take(both), collection.document_row),
            pa.concat_arrays([pos_score, neg_score]).take(both).to_numpy(),
        )

    kinds = dict(zip(wanted, (NUMBER, NUMBER, TEXT, TEXT, TEXT), strict=True))
    return to_table(_batches(path, layout, kinds, wanted[:2], convert), collection, path, invalid)


def write_margins(table: ScoreTable, path: str | Path) -> None:
    """Writes every relevant document of a query with every other one of its pool."""
    ids = table.collection.document_ids
    with _writer(path, "\t") as write:
        for query, rows, scores, positive in pools(table, copies=False):
            for pos in np.flatnonzero(positive):
                for neg in np.flatnonzero(~positive):
                    write((f"{scores[pos]:.9g}", f"{scores[neg]:.9g}", query, ids[rows[pos]], ids[rows[neg]]))


@contextmanager
def _writer(path: str | Path, delimiter: str | None = None) -> Iterator[Callable]:
    """What writes the cells of a line; between tabs as they are, since no id holds one."""
    with writing(path) as out:
        if (delimiter or ("\t" if ".tsv" in Path(path).suffixes else ",")) == "\t":
            yield lambda cells: out.write("\t".join(cells) + "\n")
        else:
            yield csv.writer(out, lineterminator="\n").writerow


@dataclass(frozen=True)
class Layout:
    """How a file is laid out: ``names`` of its columns, or its first cells where it has no header."""

    names: Sequence[str]
    delimiter: str
    quoted: bool
    header: bool
    line: int  # the number of the first line that isn't blank
    sample: Sequence[str] = ()  # the cells of the first line of data


def _layout(path: Path, is_data: Callable[[list[str]], bool]) -> Layout:
    """That of the file ``path``; whether its first line is one of data, ``is_data`` says."""
    if is_special(path):
        raise InputError(f"{path}: not a regular file, and it is read twice; write it to the disk first")
    layout = None
    for place, line in read_lines(path):
        if layout is not None:
            return replace(layout, sample=_cells(line, layout.delimiter, layout.quoted, place))
        delimiter = "\t" if "\t" in line else ","
        quoted = delimiter == "," or is_quoted(line.strip().split("\t")[-1])
        cells = [cell.strip() for cell in _cells(line, delimiter, quoted, place)]
        header = not is_data(cells)
        layout = Layout(cells, delimiter, quoted, header, int(place.rpartition(":")[2]))
        if not header:
            break
    if layout is None:
        raise InputError(f"{path}: no line in it")
    return layout


def _cells(line: str, delimiter: str, quoted: bool, place: str) -> list[str]:
    if not quoted:
        return line.split(delimiter)
    csv.field_size_limit(max(csv.field_size_limit(), len(line)))  # by default a cell of 131,072 is too long
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{place}: malformed CSV ({error})") from None


def _ids(ids: pa.Array, known: Container[str]) -> pa.Array:
    """``ids`` with those in quotes that are not ``known`` as they are without their quotes."""
    if not pc.any(pc.starts_with(ids, '"')).as_py():
        return ids
    return pa.array([id_ if id_ in known else unquoted(id_) for id_ in ids.to_pylist()], ids.type)


def _is_number(cell: str) -> bool:
    try:
        float(plain(cell))
        return True
    except ValueError:
        return False


def _batches(
    path: Path,
    layout: Layout,
    kinds: Mapping[str, pa.DataType],
    scores: Sequence[str],
    convert: Callable[[pa.RecordBatch], Chunk],
) -> Iterator[Chunk]:
    """What ``convert`` makes of the columns of ``kinds``, block by block.

    Raises ``InputError`` with the line at fault, if need be one whose ``scores`` are no numbers.
    """
    skipped = layout.line - (not layout.header)
    try:
        for batch in pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(column_names=layout.names, skip_rows=skipped, block_size=BLOCK),
            pyarrow.csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char=layout.quoted and '"',
                newlines_in_values=layout.quoted,  # of texts, in columns that are not read
            ),
            pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=list(kinds), null_values=[]),
        ):
            yield convert(batch)
    except (pa.ArrowException, OSError) as error:
        _locate(path, layout, skipped, scores)
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _locate(path: Path, layout: Layout, skipped: int, scores: Sequence[str]) -> None:
    """Raises ``InputError`` for the first line that has not as many cells as it must, or no number."""
    numbers = [layout.names.index(name) for name in scores]
    first = begun = ""
    for place, line in read_lines(path):
        if int(place.rpartition(":")[2]) <= skipped:
            continue
        if begun:
            place, line = first, f"{begun}\n{line}"
        if layout.quoted and line.count('"') % 2:  # a cell goes on in the next line
            first, begun = place, line
            continue
        begun = ""
        cells = _cells(line, layout.delimiter, layout.quoted, place)
        if len(cells) != len(layout.names) or not all(_is_number(cells[i].strip()) for i in numbers):
            raise InputError(
                f"{place}: expected {', '.join(layout.names)}, separated by "
                f"{'tabs' if layout.delimiter == chr(9) else 'commas'}; got {line[:60]!r}"
                + (", whose score is not a number" if len(cells) == len(layout.names) else "")
            ) from None
