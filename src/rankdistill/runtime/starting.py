"""What a command does before other modules are imported, which takes some seconds."""

import os
import signal
import sys
import threading
from pathlib import Path

from rankdistill.errors import InputError
from rankdistill.runtime.environment import check_environment


def start_command() -> None:
    """What the environment says is checked, and Ctrl-C and SIGTERM are heard, where a command is started.

    Not in a program that imports the library, which keeps its own handlers. Ends it with status 2 and one
    line for a variable of the environment that cannot be.
    """
    if _is_command(sys.argv, sys.orig_argv) and threading.current_thread() is threading.main_thread():
        _end_in_one_line()
        try:
            check_environment()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)


def _end_in_one_line() -> None:
    """Until ``rankdistill.commands.launch`` says otherwise, either signal ends this process with one line.

    No exception is raised, as other libraries' imports would take it for an error of their own.
    """

    def stop(number, frame):
        os.write(2, b"\ninterrupted; start the same command again\n")
        os._exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _is_command(arguments: list[str], original: list[str]) -> bool:
    """Of ``rankdistill train``, whose first argument is -m for so long, or of ``rankdistill``."""
    if arguments[:1] != ["-m"]:
        return bool(arguments) and Path(arguments[0]).stem == "rankdistill"
    modules = [after for before, after in zip(original, original[1:], strict=False) if before == "-m"]
    return modules[0].split(".")[0] == "rankdistill"
