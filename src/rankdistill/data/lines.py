"""Lines of text files, plain or gzipped."""

import gzip
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
