"""Files that are parts of one, as train-00000-of-00002.parquet."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from rankdistill.errors import InputError

PART = re.compile(r"(.*?)(\d+)-of-(\d+)(\..*)?")


def check_whole(files: Iterable[Path]) -> None:
    """Raises ``InputError`` if one of ``files`` is a part of one whose others are not among them."""
    parts: dict[tuple[Path, str, int], set[int]] = defaultdict(set)
    for file in files:
        if match := PART.fullmatch(file.name):
            parts[file.parent, match[1], int(match[3])].add(int(match[2]))
    for (folder, name, count), numbers in parts.items():
        if len(numbers) < count:
            raise InputError(
                f"{folder}: {len(numbers)} of the {count} parts of {name}*; put the others beside them, or "
                "name one file to read it alone"
            )
