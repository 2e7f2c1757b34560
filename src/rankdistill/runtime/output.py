"""What a command prints: if the reader has gone, or the disk is full, the command continues all the same."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Kept(io.RawIOBase):
    """Writes to ``raw`` until that fails; keeps the error, and drops what is written from then on."""

    def __init__(self, raw: io.RawIOBase):
        self.raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.raw.isatty()

    def fileno(self) -> int:
        return self.raw.fileno()

    def write(self, data) -> int | None:
        if self.error is None:
            try:
                return self.raw.write(data)
            except OSError as error:
                self.error = error
                with suppress(OSError):  # what holds the stream itself writes on, as C libraries do
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        return len(data)


def _kept(stream: TextIO | None) -> tuple[TextIO, _Kept]:
    """``stream`` (None: closed from the beginning) over a ``_Kept``."""
    if stream is None:
        raw: io.RawIOBase = io.FileIO(os.devnull, "w")
    else:
        with suppress(OSError):
            stream.flush()
        buffer: Any = stream.buffer  # over a file that is one of bytes
        raw = getattr(buffer, "raw", buffer)
    kept = _Kept(raw)
    text = io.TextIOWrapper(
        io.BufferedWriter(kept),
        getattr(stream, "encoding", "utf-8"),
        "backslashreplace",  # of what a terminal has no sign for, as ± in ASCII
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
    return text, kept


@contextmanager
def output_kept() -> Iterator[None]:
    """Nothing fails for what is printed in here: a command does its work though its reader has gone.

    A reader that left (``| head``) is no error. Where the output could not be written for another reason, as
    on a full disk, what would have ended with status 0 ends in one line and status 2.
    """
    before = sys.stdout, sys.stderr
    (sys.stdout, out), (sys.stderr, err) = map(_kept, before)
    try:
        stopped = None
        try:
            yield
        except SystemExit as stop:
            stopped = stop
        finally:
            sys.stdout.flush()
        if stopped is not None and (stopped.code or out.error is None):
            raise stopped
        if out.error is not None and out.error.errno != errno.EPIPE:
            print(
                f"error: standard output: {out.error.strerror}; what was printed is cut off, the files that "
                "were written are whole",
                file=sys.stderr,
            )
            sys.exit(2)
    finally:
        sys.stderr.flush()
        sys.stdout = before[0] if out.error is None else sys.stdout
        sys.stderr = before[1] if err.error is None else sys.stderr
