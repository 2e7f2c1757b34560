"""Where computed things are kept, and how they are computed only once."""

import errno
import glob
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
from filelock import FileLock

from rankdistill.errors import InputError, disk_refuses
from rankdistill.runtime import processes
from rankdistill.runtime.environment import cache_folder

fcntl: ModuleType | None
try:
    fcntl = import_module("fcntl")
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)


def fingerprint(*parts) -> str:
    """Sixteen hexadecimal digits that change when any part (JSON values, paths) changes.

    Raises ``TypeError`` for other objects: their text may be a memory address, new in every process.
    """
    digest = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain).iterencode(parts):
        digest.update(piece.encode())  # by pieces: the texts of a collection may be as large as memory
    return digest.hexdigest()[:16]


def _plain(value: object) -> str:
    if isinstance(value, (os.PathLike, Enum, np.generic)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no fingerprint")


def locked(path: Path) -> FileLock:
    """A lock beside ``path``: a second process waits there until the first is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        with lock.acquire(timeout=0, blocking=False):
            pass
    except TimeoutError:  # filelock.Timeout: another process is using it
        log.info("waiting for another process to finish %s", path)
    except (OSError, NotImplementedError) as error:  # the latter where the file system has no locks
        raise _cannot_write(path, error) from None
    return lock


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Whether ``path`` is still to be built, by all processes of this job and by no other job.

    The main process holds the lock of ``path`` and writes it; they leave together. What is there is
    complete, and read without a lock: the cache may be read-only. What is another entry's by its seal, as
    in a cache copied by hand, is not what is looked for, and built again. Raises ``InputError`` if the disk
    is full.
    """
    missing = processes.broadcast(not _is_there(path))
    with writing(path):
        with locked(path) if missing and processes.is_main() else nullcontext():
            missing = processes.broadcast(missing and not _is_there(path))
            if missing and processes.is_main():
                _clear_drafts(path)
                if path.exists():
                    log.warning(
                        "%s: belongs elsewhere by its seal, and was moved here; it is built again", path
                    )
                    _remove(path)
            yield missing
            processes.wait()
    _used(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses in here is told of the cache's folder of ``path``, as ``InputError``."""
    try:
        yield
    except Exception as error:
        where = getattr(error, "filename", None) or path.parent
        if (reason := disk_refuses(error)) is not None:
            raise InputError(
                f"{where}: {reason}, or set RANKDISTILL_CACHE to another folder; what is done is kept"
            ) from error
        refused = getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM)
        if refused and Path(os.fsdecode(where)).is_relative_to(path.parent):
            raise _cannot_write(path, error) from error
        raise


def _cannot_write(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.parent}: cannot be written ({getattr(error, 'strerror', error)}); set RANKDISTILL_CACHE "
        "to a folder that can"
    )


def _is_there(path: Path) -> bool:
    """Whether there is something at ``path``, and not another entry; one of an earlier version has no key."""
    return path.exists() and _stamp(path).get("key", path.name) == path.name


def _remove(path: Path) -> None:
    seal_of(path).unlink(missing_ok=True)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """A name beside ``path`` for what becomes it when it is complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def _clear_drafts(path: Path) -> None:
    """Removes what killed processes left of ``path``, whose lock is held."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}*"):
        shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)


def _used(path: Path) -> None:
    """Notes that ``path`` was used now, as the time of its lock."""
    with suppress(OSError):
        Path(f"{path}.lock").touch()


def build_folder(path: Path, build: Callable[[Path], None], belongs_to: str = "") -> Path:
    """``path``, filled by ``build(folder)`` unless it is there already.

    The work happens under a lock in a folder of another name that is sealed and then renamed, so that
    no reader ever sees half of it. Of a job's processes the main one does it. Raises ``InputError`` if
    what is there isn't what was built.
    """
    with once(path) as missing:
        if not missing:
            log.info("reusing %s", path)
            sealed(path)
        elif processes.is_main():
            draft = draft_of(path)
            draft.mkdir()
            try:
                build(draft)
                share(draft)
                for file in files_of(draft).values():
                    sync(file)
                seal(draft, belongs_to, path.name)
                draft.rename(path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return path


def share(folder: Path) -> None:
    """Lets all read the weights in ``folder`` whom the umask lets: safetensors lets their owner alone."""
    umask = os.umask(0o077)  # it can only be read by setting it
    os.umask(umask)
    for file in folder.rglob("*.safetensors"):
        with suppress(OSError):  # of a file system without permissions
            file.chmod(0o666 & ~umask)


def hold(file: BinaryIO) -> None:
    """Marks the open ``file`` as in use, until it and what is mapped of it is closed."""
    with suppress(OSError):  # of a file system without locks
        if fcntl is not None:  # Windows removes no open file anyway
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def in_use(path: Path) -> bool:
    """Whether somebody holds the file at ``path``."""
    if fcntl is None:
        return False
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # of a file system without locks
            return False
    return False


def map_npy(path: Path) -> np.ndarray:
    """The array in the .npy file at ``path``, memory-mapped and held while it is; raises ``ValueError``."""
    with open(path, "rb") as file:
        hold(file)  # the map has a handle of its own to the same opening of the file, and so the lock
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not written here")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype.hasobject:
            raise ValueError(f"{dtype} in another order")
        return np.memmap(file, dtype, "r", file.tell(), shape)


def save_npy(path: Path, array: np.ndarray) -> None:
    """``array`` as the .npy file ``path``; what ``np.save`` writes last a full disk may lose in silence."""
    with open(path, "wb") as file:
        np.save(cast(Any, SimpleNamespace(write=file.write)), array)  # not by its own way to write a file


def sync(file: Path) -> None:
    """Until the contents of ``file`` are on the disk."""
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def seal(path: Path, belongs_to: str = "", key: str | None = None) -> None:
    """Writes down the checksum of the file at ``path``, or of each file of a folder, and whose it is.

    ``key`` is its name in the cache, if that is not yet the one of ``path``. Nothing where that cannot be
    written. See ``seal_of`` for the place.
    """
    mark = seal_of(path)
    draft = draft_of(mark)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        stamp = {"key": key or path.name, "files": _states(path), "sha256": _checksums(path)}
        stamp["about"] = belongs_to or about(path)
        draft.write_text(json.dumps(stamp))
        draft.replace(mark)
    except OSError:
        draft.unlink(missing_ok=True)
        log.debug("%s: not sealed", path)


def about(path: Path) -> str:
    """What ``path`` belongs to, as its seal says; empty where that isn't known."""
    return str(_stamp(path).get("about", ""))


def _stamp(path: Path) -> dict:
    """What the seal of ``path`` says; empty where there is none that can be read."""
    try:
        found = json.loads(seal_of(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sealed(path: Path) -> bool:
    """Whether the file or folder at ``path`` is as it was when it was sealed; False if it never was.

    Of files whose size and times are those of the seal nothing is read; else their checksums are computed.
    Where these differ, the file in the cache is damaged or missing: raises ``InputError``. A file elsewhere
    is another one now, and not sealed.
    """
    mark = seal_of(path)
    try:
        stamp = json.loads(mark.read_text())
        if stamp["files"] == _states(path):
            return True
        now = _checksums(path)
        wrong = sorted(name for name, _ in stamp["sha256"].items() ^ now.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if not wrong:
        seal(path)
    elif _in_cache(path):
        file = path / wrong[0] if path.is_dir() else path
        what = f"damaged (it does not match its checksum in {mark.name})" if file.exists() else "missing"
        raise InputError(f"{file}: {what}; delete {'it' if file == path else path} to build it again")
    return not wrong


def _in_cache(path: Path) -> bool:
    return path.resolve().is_relative_to(cache_folder().resolve())


def seal_of(path: Path) -> Path:
    """Within a folder, beside a file; of a file that isn't the cache's in the cache's folder ``seals``.

    A file beside a user's file may be the user's too, and a seal keeps a file from being checked.
    """
    if not _in_cache(path):
        return cache_folder() / "seals" / f"{fingerprint(path.resolve())}.sha256"
    return path / ".sha256" if path.is_dir() else path.with_name(f"{path.name}.sha256")


def files_of(path: Path) -> dict[str, Path]:
    """Name within ``path`` -> file; of a file its own."""
    if not path.is_dir():
        return {path.name: path}
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != ".")
    return {file.relative_to(path).as_posix(): file for file in files}


def _states(path: Path) -> dict[str, list[int]]:
    """File name -> size, time, and the time that cannot be set; of one that isn't the cache's its inode too.

    Bytes that a restored copy holds, or that were written with the old time set again, show in the third.
    """
    states = {}
    for name, file in files_of(path).items():
        stat = file.stat()
        states[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        if not _in_cache(path):
            states[name].append(stat.st_ino)
    return states


def _checksums(path: Path) -> dict[str, str]:
    checksums = {}
    for name, file in files_of(path).items():
        with open(file, "rb") as opened:
            checksums[name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return checksums
