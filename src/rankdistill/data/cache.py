"""Where computed things are kept, and how they are computed only once."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

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


def build_folder(path: Path, build: Callable[[Path], None]) -> Path:
    """``path``, filled by ``build(folder)`` unless it is there already.

    The work happens under a lock in a folder of another name that is renamed at the end, so that
    no reader ever sees half of it.
    """
    with locked(path):
        if path.exists():
            log.info("reusing %s", path)
            return path
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        draft.mkdir()
        try:
            build(draft)
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return path
