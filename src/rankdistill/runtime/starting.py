"""Ctrl-C and SIGTERM while modules are imported, some seconds in which nothing has begun yet."""

import os
import signal
import sys
import threading
from pathlib import Path


def end_in_one_line() -> None:
    """Until ``rankdistill.commands.launch`` says otherwise, either signal ends this process with one line.

    Only where it was started as a command of the library: a program that imports it keeps its own handlers.
    No exception is raised, as other libraries' imports would take it for an error of their own.
    """

    def stop(number, frame):
        os.write(2, b"\ninterrupted; start the same command again\n")
        os._exit(128 + number)

    if _is_command(sys.argv, sys.orig_argv) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)


def _is_command(arguments: list[str], original: list[str]) -> bool:
    """Of ``rankdistill train``, whose first argument is -m for so long, or of ``rankdistill``."""
    if arguments[:1] != ["-m"]:
        return bool(arguments) and Path(arguments[0]).name == "rankdistill"
    modules = [after for before, after in zip(original, original[1:], strict=False) if before == "-m"]
    return modules[0].split(".")[0] == "rankdistill"
