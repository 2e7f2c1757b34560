"""Lines of text files, plain or gzipped: as they are, as JSON objects, as judgments."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rankdistill.data.rows import DOCUMENT, GRADE, QUERY
from rankdistill.errors import InputError

GZIP = b"\x1f\x8b"  # the first bytes of a gzipped file
MARKS = {  # of byte order; UTF-32's little one begins as UTF-16's
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
ITERATION = ("iteration", "iter", "q0", "0")  # TREC's second column


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of each line that isn't blank; the place is file:number.

    A byte order mark is skipped. Raises ``InputError`` if the file is missing or isn't UTF-8 text.
    """
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1 and "\0" in line:
                    raise InputError(
                        f"{file}: not UTF-8 text, as it has zero bytes; if it is UTF-16 or UTF-32, convert "
                        "it: iconv -f UTF-16LE -t UTF-8"
                    )
                if line.strip():
                    yield f"{file}:{number}", line.rstrip("\n")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(not_text(file, error)) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def not_text(file: Path, error: Exception) -> str:
    """What is wrong with ``file``, whose reading as UTF-8 ended in ``error``, and the remedy."""
    if not isinstance(error, UnicodeDecodeError):
        return f"{file}: not UTF-8 text, or cut short ({error})"
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and (
                name := next((k for k, marks in MARKS.items() if line.startswith(marks)), "")
            ):
                return f"{file}: not UTF-8 text but {name}; convert it: iconv -f {name} -t UTF-8"
            if number == 1 and line.startswith(GZIP):
                return f"{file}: not text but gzipped; end its name in .gz"
            try:
                line.decode()
            except UnicodeDecodeError as found:
                return (
                    f"{file}:{number}: not UTF-8 text ({found.reason}: byte {line[found.start]:#x}); if "
                    "it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8"
                )
    return f"{file}: not UTF-8 text ({error})"


def plain(number: str) -> str:
    """``number``, a text; raises ``ValueError`` for a number in Python alone, as 1_0 (which is 10)."""
    if "_" in number or not number.isascii():
        raise ValueError(f"no number: {number!r}")
    return number


def read_objects(file: Path) -> Iterator[tuple[str, dict]]:
    """(place, object) of each line of a JSONL file; raises ``InputError`` for any other JSON, and for an
    object that has a name twice, of whose values one would be lost."""
    for place, line in read_lines(file):
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except _Twice as error:
            raise InputError(f"{place}: {error.args[0]!r} is there twice in one object") from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"{place}: malformed JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
            ) from None
        except (ValueError, RecursionError):
            raise InputError(f"{place}: malformed JSON (a number too large, or nested too deeply)") from None
        if not isinstance(row, dict):
            remedy = "; write one object per line, without a list around them" if line[0] == "[" else ""
            raise InputError(f"{place}: expected a JSON object, got {line[:60]!r}{remedy}")
        yield place, row


class _Twice(Exception):
    """A name that a JSON object has twice."""


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def read_judgments(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, {query, document, grade}) of each line of a file of qrels.

    Under a header whose names are known (``rows.QUERY``, ...) columns go by their names, in any order
    and among others. Without one, tabs separate BEIR's three columns, tabs or spaces TREC's four
    (query, iteration, document, grade); another header is a row like others. White space around a cell is
    no part of an id. Where a grade is in quotes, those of the whole line are removed. Raises
    ``InputError`` for other lines, and for a header that does not say what a column holds.
    """
    lines = read_lines(file)
    place, line = next(lines, ("", ""))
    tabs = "\t" in line
    header = _cells(line, tabs)
    columns = _named(place, header)
    if not columns:
        lines = chain([(place, line)] if line else [], lines)
    for place, line in lines:
        tabs = tabs if columns else "\t" in line.strip()
        cells = _cells(line if columns else line.strip(), tabs)
        if columns and len(cells) != len(header):
            raise InputError(
                f"{place}: expected query, document and grade in {len(header)} cells, as the header has "
                f"({', '.join(header)}); got {line.strip()[:60]!r}"
            )
        if not columns and len(cells) != 4 and not (tabs and len(cells) == 3):
            raise InputError(
                f"{place}: expected query, document and grade, tab-separated, or TREC's query, iteration, "
                f"document and grade; got {line.strip()[:60]!r}"
            )
        query, document, grade = columns or (0, -2, -1)
        if is_quoted(cells[grade]):
            cells = [unquoted(cell) for cell in cells]
        yield place, {"query": cells[query], "document": cells[document], "grade": cells[grade]}


def _cells(line: str, tabs: bool) -> list[str]:
    """The cells of a line of qrels without white space around them, nor empty ones at the end."""
    return [cell.strip() for cell in line.rstrip().split("\t")] if tabs else line.split()


def _named(place: str, cells: list[str]) -> tuple[int, int, int] | None:
    """Where query, document and grade are in a file of qrels that begins with ``cells``.

    None where they go by their position. Raises ``InputError`` for a header that contradicts it.
    """
    names = [unquoted(cell).lower() for cell in cells]
    columns = [
        [i for name in known for i, column in enumerate(names) if column == name]
        for known in (QUERY, DOCUMENT, GRADE)
    ]
    if all(columns) and len(columns[2]) == 1:
        return columns[0][0], columns[1][0], columns[2][0]
    if not names or _is_number(names[-1]):
        return None  # a judgment
    usual = (0, len(names) - 2, len(names) - 1)
    misplaced = any(where and position not in where for where, position in zip(columns, usual, strict=True))
    if len(columns[2]) > 1 or misplaced or (len(names) == 4 and names[1] not in ITERATION):
        raise InputError(
            f"{place}: which columns are query, document and grade? Name one each in the header query-id, "
            f"corpus-id and score; got {', '.join(cells)[:90]}"
        )
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def unquoted(cell: str) -> str:
    """``cell`` without the quotes that a CSV writer put around it."""
    return cell[1:-1].replace('""', '"') if is_quoted(cell) else cell
