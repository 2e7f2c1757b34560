"""The environment variables that the library reads, each in one function, which refuses what it cannot be.

A command asks for all of them before it imports what takes seconds; see ``runtime.starting``. What else a
launcher of several processes sets is in ``runtime.processes``.
"""

import os
import re
from pathlib import Path

from platformdirs import user_cache_dir

from rankdistill.errors import InputError

LIMIT = "100GB"  # of embeddings, unless RANKDISTILL_CACHE_LIMIT says otherwise
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
PATIENCE = 4.0  # seconds for a hub's answer, unless HF_HUB_ETAG_TIMEOUT says otherwise
OF_THE_HUB = (
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
)  # a traceback if huggingface_hub cannot read them


def check_environment() -> None:
    """Raises ``InputError`` naming the first variable that cannot be what it says."""
    check_folder(cache_folder())
    embeddings_limit()
    is_float32()
    world_size()
    for name in OF_THE_HUB:
        said = os.environ.get(name, "").strip()
        if said and not said.isdecimal():
            raise InputError(f"{name}={said} in the environment: it must be whole seconds, such as 10")


def cache_folder() -> Path:
    """``$RANKDISTILL_CACHE`` (a first ``~`` is the home folder), by default one of the user's cache folder.

    Raises ``InputError`` for one whose name has letters that the locale does not know: libraries that read
    models cannot open it.
    """
    folder = os.environ.get("RANKDISTILL_CACHE") or user_cache_dir("rankdistill")
    try:
        folder.encode()
    except UnicodeEncodeError:
        name = os.fsencode(folder).decode("utf-8", "replace")
        raise InputError(
            f"RANKDISTILL_CACHE={name}: the locale cannot represent its letters; set LC_ALL=C.UTF-8 or "
            "PYTHONUTF8=1, or give a folder of ASCII letters"
        ) from None
    return Path(folder).expanduser()


def check_folder(folder: Path) -> None:
    """Raises ``InputError`` if the cache's ``folder`` cannot be made, as a file is in its way."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:  # of a name that is too long
        raise InputError(f"RANKDISTILL_CACHE={folder}: {error.strerror}; set it to another folder") from None
    if not there.is_dir():
        raise InputError(
            f"RANKDISTILL_CACHE={folder}: cannot be written, as {there} is a file; set it to a folder"
        )


def embeddings_limit() -> int:
    """Bytes that embeddings may take, of RANKDISTILL_CACHE_LIMIT."""
    return size_of(os.environ.get("RANKDISTILL_CACHE_LIMIT") or LIMIT, "RANKDISTILL_CACHE_LIMIT")


def size_of(text: str, name: str) -> int:
    """Bytes of ``text``, such as 10GB; raises ``InputError`` if it is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B)?", text.strip().upper())
    if not match:
        raise InputError(f"{name}={text}: it must be a size such as 500MB or 10GB")
    return int(float(match[1]) * UNITS[match[2] or ""])


def is_float32() -> bool:
    """Whether RANKDISTILL_PRECISION=float32 asks for that where the machine has bf16 units as well."""
    said = os.environ.get("RANKDISTILL_PRECISION") or ""
    if said not in ("", "float32"):
        raise InputError(
            f"RANKDISTILL_PRECISION={said}: it must be float32; unset, models compute in bf16 where the "
            "machine has units for it"
        )
    return bool(said)


def world_size() -> int:
    """How many processes the job has, of WORLD_SIZE, which torchrun and accelerate set."""
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal():
        raise InputError(f"WORLD_SIZE={said} in the environment: it must be a number of processes; unset it")
    return int(said)


def precision() -> list[str]:
    """What a key has besides, of what models compute: nothing, unless float32 is asked for."""
    return ["float32"] if is_float32() else []


def patience() -> float:
    """Seconds in which a hub must answer."""
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or PATIENCE)
