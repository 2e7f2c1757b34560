"""The one error a person can cause."""

import errno
import re
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

REFUSED = {  # what it means, and what to do
    errno.ENOSPC: "no space is left on the disk: make room",
    errno.EDQUOT: "no space is left of the disk's quota: make room",
    errno.EFBIG: "a file would be larger than this process may write (ulimit -f): raise that",
}
NUMBER = r"\(os error (\d+)\)|\[[Ee]rrno (\d+)\]|Os \{ code: (\d+)"  # how safetensors and Arrow give it
CUT_SHORT = r"requested and \d+ written|inline_container\.cc.*unexpected pos"  # what NumPy and torch say


class InputError(ValueError):
    """Bad input: the message names the file, line or field at fault, and the remedy.

    The commands print it without a traceback and end with status 2.
    """


def shorten(names, most: int = 3) -> str:
    """The first few of ``names``, quoted, and how many more there are."""
    names = list(names)
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most:,} more" if len(names) > most else "")


def half_a_character(error: UnicodeEncodeError) -> str:
    """What is wrong with a text that cannot be encoded, and the remedy."""
    half = error.object[error.start]
    return f"{half!r} is half a character (a lone surrogate), and so no text; replace it"


def within(part: str, error: InputError) -> InputError:
    """``error``, a parameter of it named as the field of ``part`` that sets it: k=0 as evaluator.k=0."""
    return InputError(f"{part}.{error}") if part and re.match(r"\w+=", str(error)) else error


@contextmanager
def fields_of(part: str) -> Iterator[None]:
    """What is refused in here names its parameters as fields of ``part``."""
    try:
        yield
    except InputError as error:
        raise within(part, error) from None


def check_counts(**values: int | None) -> None:
    """Raises ``InputError`` naming the first of ``values`` that is no integer of 1 or more; None passes."""
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name}={value!r}: it must be 1 or more, an integer")


def check_aligned(queries: Sized, documents: Sized) -> None:
    """Raises ``InputError`` unless there is a document for each query: they are pairs."""
    if len(queries) != len(documents):
        raise InputError(f"queries, documents: {len(queries)} and {len(documents)}; they must be pairs")


def check_loaded(model: object) -> None:
    """Raises ``InputError`` for the name of a model in place of the model."""
    if isinstance(model, str | Path):
        raise InputError(f"model={str(model)!r}: it is a name; give the model, load_student({str(model)!r})")


def disk_refuses(error: BaseException) -> str | None:
    """Why the disk took no more, and the remedy; None if ``error`` is of something else."""
    if isinstance(error, InputError):
        return None
    number = getattr(error, "errno", None)
    if number is None and (match := re.search(NUMBER, str(error))):
        number = int(match[match.lastindex or 1])
    if number is None and re.search(CUT_SHORT, str(error)):
        return "no space is left on the disk, or ulimit -f is reached: make room, or raise that"
    return None if number is None else REFUSED.get(number)


def check_seed(seed: int, name: str = "seed") -> None:
    """Raises ``InputError`` unless every generator takes ``seed``: NumPy's, PyTorch's and Python's."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise InputError(f"{name}={seed}: it must be an integer, 0 or more and below 2**32")
