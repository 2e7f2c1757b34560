"""Where computed things are kept, and how they are computed only once."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from rankdistill import processes
from rankdistill.errors import InputError

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$RANKDISTILL_CACHE``, by default ``rankdistill`` in the user's cache folder."""
    return Path(os.environ.get("RANKDISTILL_CACHE") or user_cache_dir("rankdistill"))


def fingerprint(*parts) -> str:
    """Sixteen hexadecimal digits that change when any part (JSON values) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def locked(path: Path) -> FileLock:
    """A lock beside ``path``: a second process waits there until the first is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        with lock.acquire(timeout=0, blocking=False):
            pass
    except TimeoutError:  # filelock.Timeout: somebody is at work there
        log.info("waiting for another process to finish %s", path)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be written ({error.strerror}); set RANKDISTILL_CACHE to a folder that can"
        ) from None
    return lock


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Whether ``path`` is still to be built, by all processes of this job and by no other job.

    The main process holds the lock of ``path`` and writes it; they leave together.
    """
    with locked(path) if processes.is_main() else nullcontext():
        yield processes.broadcast(not path.exists())
        processes.wait()


def build_folder(path: Path, build: Callable[[Path], None]) -> Path:
    """``path``, filled by ``build(folder)`` unless it is there already.

    The work happens under a lock in a folder of another name that is renamed at the end, so that
    no reader ever sees half of it. Of a job's processes the main one does it.
    """
    with once(path) as missing:
        if not missing:
            log.info("reusing %s", path)
        elif processes.is_main():
            draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            draft.mkdir()
            try:
                build(draft)
                for file in draft.rglob("*"):
                    if file.is_file():
                        sync(file)
                draft.rename(path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return path


def sync(file: Path) -> None:
    """Until the contents of ``file`` are on the disk."""
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def seal(path: Path) -> None:
    """Writes the checksum of the file at ``path`` beside it; nothing where the folder is read-only."""
    stamp = {"sha256": _sha256(path), **_state(path)}
    try:
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        draft.write_text(json.dumps(stamp))
        draft.replace(_seal_of(path))
    except OSError:
        log.debug("%s: not sealed", path)


def sealed(path: Path) -> bool:
    """Whether the file at ``path`` is as it was when it was sealed; False if it never was.

    Of a file whose size and time are those of the seal nothing is read; else its checksum is
    computed. Raises ``InputError`` if that is another.
    """
    try:
        stamp = json.loads(_seal_of(path).read_text())
        if {name: stamp[name] for name in ("size", "mtime_ns")} == _state(path):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not path.is_file() or stamp.get("sha256") != _sha256(path):
        raise InputError(
            f"{path}: damaged (it does not match its checksum in {_seal_of(path).name}); "
            "delete it to build it anew"
        )
    seal(path)
    return True


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
