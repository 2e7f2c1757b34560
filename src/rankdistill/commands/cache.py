"""Lists what the cache holds, the longest unused first, and removes what is too much or too old.

    rankdistill cache
    rankdistill cache --prune 10GB --older-than 30d --dry-run

The cache is the folder RANKDISTILL_CACHE. What is in use stays; all of it can be computed again. Embeddings
have a limit of their own: RANKDISTILL_CACHE_LIMIT (100GB unless set).
"""

import argparse
import sys
import time
from collections.abc import Iterable

from rankdistill.errors import InputError
from rankdistill.runtime.environment import cache_folder, size_of
from rankdistill.runtime.output import output_kept
from rankdistill.runtime.pruning import Item, age_of, items, prune, shown


def table(entries: Iterable[Item]) -> str:
    """A line for each of ``found``: kind, size, when it was last used, name, what it belongs to."""
    lines = []
    for item in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used))
        lines.append(
            f"{item.kind:<11} {shown(item.size):>9}  {used}  {item.path.name}  {item.about}".rstrip()
        )
    return "\n".join(lines)


@output_kept()
def main():
    parser = argparse.ArgumentParser(
        prog="rankdistill cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prune", metavar="SIZE", help="leave no more than this, such as 10GB")
    parser.add_argument(
        "--older-than", metavar="AGE", help="remove what was not used for this long, such as 30d"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    arguments = parser.parse_args()
    try:
        most = None if arguments.prune is None else size_of(arguments.prune, "--prune")
        oldest = None if arguments.older_than is None else age_of(arguments.older_than, "--older-than")
        entries = items()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if most is None and oldest is None:
        print(table(entries), end="\n\n" if entries else "")
        print(f"{len(entries)} items, {shown(sum(item.size for item in entries))} in {cache_folder()}")
        return
    try:
        gone = list(prune(entries, most, oldest, arguments.dry_run))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(table(gone), end="\n\n" if gone else "")
    size = sum(item.size for item in gone)
    left = shown(sum(item.size for item in entries) - size)
    verb = "would be removed" if arguments.dry_run else "removed"
    print(f"{len(gone)} items {verb}, {shown(size)}; {left} left in {cache_folder()}")


if __name__ == "__main__":
    main()
