"""What is in the cache, and what is removed when there is too much."""

import errno
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rankdistill.errors import InputError
from rankdistill.runtime.cache import about, draft_of, files_of, in_use, seal_of
from rankdistill.runtime.environment import UNITS, cache_folder

log = logging.getLogger(__name__)
DAY = 86400
AGES = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
# the cache's folders
KINDS = ("candidates", "collections", "embeddings", "models", "rates", "scores", "seals", "tokens")
OWN = re.compile(r"\.?(?:\w+-)?[0-9a-f]{16,}(?:\.(?!lock$|sha256$)\w+)*")  # what entries are called


@dataclass(frozen=True)
class Item:
    """A file or folder of the cache: its ``kind`` (embeddings, scores, ...), bytes, when it was last used."""

    path: Path
    kind: str
    size: int
    used: float
    about: str

    @property
    def unfinished(self) -> bool:
        """Whether it is being written, or was left when that was interrupted."""
        return self.path.name.startswith(".") or self.path.suffix == ".part"


def items(kind: str = "*") -> list[Item]:
    """What the cache holds, the longest unused first; nothing that somebody else put into its folder."""
    kinds = KINDS if kind == "*" else [kind]
    there = (path for kind in kinds for path in (cache_folder() / kind).glob("*"))
    paths = (path for path in there if OWN.fullmatch(path.name) and not path.is_symlink())
    return sorted(filter(None, map(_item, paths)), key=lambda item: (item.used, item.path))


def _item(path: Path) -> Item | None:
    try:
        size = sum(file.stat().st_size for file in files_of(path).values())
        lock = Path(f"{path}.lock")
        used = (lock if lock.exists() else path).stat().st_mtime
    except OSError:  # gone in the meantime
        return None
    return Item(path, path.parent.name, size, used, about(path))


def _target(path: Path) -> Path:
    """What ``path`` becomes when it is finished: itself, unless it is a draft or interrupted scores."""
    if path.suffix == ".part":
        return path.with_suffix(".arrow")
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}", path.name)
    return path.with_name(match[1]) if match else path


def limit_embeddings(most: int) -> None:
    """Removes embeddings, the longest unused first, until they take no more than ``most`` bytes."""
    for item in prune([item for item in items("embeddings") if not item.unfinished], most):
        log.info("removed embeddings %s (%s), by RANKDISTILL_CACHE_LIMIT", item.path, shown(item.size))


def prune(
    entries: Iterable[Item], most: int | None = None, oldest: float | None = None, dry: bool = False
) -> Iterator[Item]:
    """Removes of ``found``, the longest unused first, what is too much; gives each item that went.

    Until no more than ``most`` bytes are left, and nothing unused for ``oldest`` seconds. What somebody
    builds or has open stays, and what is unfinished for a day. ``dry`` removes nothing. Raises ``InputError``
    where the cache is read-only.
    """
    entries, now = list(entries), time.time()
    left = sum(item.size for item in entries)
    for item in entries:
        unused = now - item.used
        much, old = most is not None and left > most, oldest is not None and unused > oldest
        if (much or old) and not (item.unfinished and unused < DAY) and _remove(item.path, dry):
            left -= item.size
            yield item


def _remove(path: Path, dry: bool) -> bool:
    """Whether ``path`` could be removed, with its seal and lock: not while somebody builds or has it open."""
    lock = FileLock(f"{_target(path)}.lock", blocking=False)
    try:
        with lock:
            if any(map(in_use, files_of(path).values())):
                return False
            if dry:
                return True
            seal, going = seal_of(path), draft_of(path)
            path.rename(going)  # at once, so that no process opens half of it
            shutil.rmtree(going) if going.is_dir() else going.unlink()
            if _target(path) == path:
                seal.unlink(missing_ok=True)
                Path(lock.lock_file).unlink(missing_ok=True)
    except (Timeout, OSError) as error:
        if getattr(error, "errno", None) == errno.EROFS:
            raise InputError(f"{path}: {error.strerror}; nothing can be removed there") from None
        log.debug("%s: stays (%s)", path, error)
        return False
    return True


def age_of(text: str, name: str) -> float:
    """Seconds of ``text``, such as 30d; raises ``InputError`` if it is no time."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([mhdw])", text.strip().lower())
    if not match:
        raise InputError(f"{name}={text}: it must be a time such as 12h, 30d or 8w")
    return float(match[1]) * AGES[match[2]]


def shown(size: int) -> str:
    """``size`` in bytes, to be read: 1.3 GB."""
    unit = next((unit for unit in ("TB", "GB", "MB", "KB") if size >= UNITS[unit]), "B")
    return f"{size / UNITS[unit]:.1f} {unit}" if unit != "B" else f"{size} B"
