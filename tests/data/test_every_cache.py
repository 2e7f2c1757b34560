"""What happens to every cache when the disk, the system or the clock does not play along: nothing is lost."""

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import WordTeacher
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import Random, mine
from rankdistill.data import cache, python_functions
from rankdistill.data.cache import cache_folder
from rankdistill.data.tokens import stored_tokens
from rankdistill.errors import InputError
from rankdistill.retrieval import stored_embeddings
from rankdistill.teachers import score_candidates


def scores(collection, _):
    return score_candidates(WordTeacher(), mine(collection, [Random(50)])).scores.tolist()


BUILDS = {
    "candidates": lambda collection, _: mine(collection, [Random(50)]).fingerprint,
    "scores": scores,
    "embeddings": lambda collection, model: np.array(stored_embeddings(model, collection)).tolist(),
    "tokens": lambda collection, model: stored_tokens(model, collection, "document").features([3, 5]),
    "collections": lambda collection, _: python_functions("yaml").documents,
}


@pytest.fixture(params=BUILDS)
def build(request, collection, student_folder):
    """Builds one kind of cache, or takes what is there; gives what can be compared."""
    model = SentenceTransformer(student_folder, device="cpu")
    return lambda: str(BUILDS[request.param](collection, model))


def left():
    """What is in the cache besides locks and seals."""
    found = [file for file in cache_folder().rglob("*") if file.is_file() and file.suffix != ".lock"]
    return [file.name for file in found if "sha256" not in file.name]


@pytest.fixture
def expected(build, monkeypatch, tmp_path):
    """What it gives with a cache of its own."""
    with monkeypatch.context() as patched:
        patched.setenv("RANKDISTILL_CACHE", str(tmp_path / "other"))
        return build()


def test_a_limit_on_files_ends_in_one_line_and_leaves_nothing(build, expected):
    """As ulimit -f sets it: a write beyond it fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(InputError, match=r"^\S+: .*\(?ulimit -f.*, or set RANKDISTILL_CACHE") as error:
            build()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value) and left() == []
    assert build() == expected


def killed(build):
    cache.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing has its name
    build()


def test_what_was_killed_at_the_last_moment_is_built_again(build, expected):
    worker = multiprocessing.get_context("fork").Process(target=killed, args=(build,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL and left()
    assert build() == expected
    assert not [name for name in left() if name.startswith(".") or name.endswith(".part")]


def test_a_clock_that_is_set_back_changes_nothing(build, expected, monkeypatch):
    build()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for file in cache_folder().rglob("*"):
        os.utime(file, (2e9, 2e9))
    monkeypatch.setattr("rankdistill.data.cache.FileLock", None)  # nothing is built
    assert build() == expected


def test_a_cache_that_is_read_only_serves_what_it_has(build, expected, monkeypatch):
    build()

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "touch", "write_text", "rename", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("rankdistill.data.cache.FileLock", refuse)
    assert build() == expected
