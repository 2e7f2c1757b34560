"""Lines of text files, plain or gzipped: as they stand, as JSON objects, as judgments."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from rankdistill.errors import InputError


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of each line that isn't blank; the place is file:number.

    A byte order mark is skipped. Raises ``InputError`` if the file is missing or isn't UTF-8 text.
    """
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}:{number}", line.rstrip("\n")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: not UTF-8 text, or cut short ({error})") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def read_objects(file: Path) -> Iterator[tuple[str, dict]]:
    """(place, object) of each line of a JSONL file; raises ``InputError`` for any other JSON."""
    for place, line in read_lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{place}: malformed JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
            ) from None
        except (ValueError, RecursionError):
            raise InputError(f"{place}: malformed JSON (a number or a nesting beyond all bounds)") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, got {line[:60]!r}")
        yield place, row


def read_judgments(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, {query, document, grade}) of each line of a file of qrels.

    BEIR's three columns stand between tabs, TREC's four (query, iteration, document, grade)
    between tabs or spaces. A header is a row like others. Raises ``InputError`` for other lines.
    """
    for place, line in read_lines(file):
        tabs = "\t" in line
        cells = line.split("\t") if tabs else line.split()
        if len(cells) != 4 and not (tabs and len(cells) == 3):
            raise InputError(
                f"{place}: expected query, document and grade, tab-separated, or TREC's query, iteration, "
                "document and grade"
            )
        yield place, {"query": cells[0], "document": cells[-2], "grade": cells[-1]}
