"""The tests themselves: every process finds the same ones, whenever it looks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


@pytest.mark.slow
def test_every_process_collects_the_same_tests():
    """Processes that share a run must agree on the ids, though they collect at other times.

    A parameter without an id of its own is named by its value: bytes that hold the time, or a set
    whose order hangs on the hash seed, differ from process to process.
    """
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=", str(TESTS)]
    children = []
    for seed in ("1", "2"):
        if children:
            time.sleep(1.5)  # another second, whose number a gzip header or a file name may hold
        environment = os.environ | {"PYTHONHASHSEED": seed}
        children.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    first, second = (
        [line for line in child.communicate()[0].splitlines() if "::" in line] for child in children
    )
    assert len(first) > 1000
    assert first == second
