"""What happens to every cache when the disk, the system or the clock does not play along: nothing is lost."""

import dataclasses
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import WordTeacher, at_most
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import Random, mine
from rankdistill.data import python_functions
from rankdistill.errors import InputError
from rankdistill.retrieval import stored_embeddings
from rankdistill.runtime import cache
from rankdistill.runtime.environment import cache_folder
from rankdistill.students import load_student
from rankdistill.students.fast.tokens import stored_tokens
from rankdistill.students.lengths import cut_texts
from rankdistill.teachers import score_candidates
from rankdistill.teachers.scoring import score_pairs


def scores(collection, _):
    return score_candidates(WordTeacher(), mine(collection, [Random(50)])).scores.tolist()


BUILDS = {
    "candidates": lambda collection, _: mine(collection, [Random(50)]).fingerprint,
    "scores": scores,
    "embeddings": lambda collection, model: np.array(stored_embeddings(model, collection)).tolist(),
    "tokens": lambda collection, model: stored_tokens(model, collection, "document").features([3, 5]),
    "collections": lambda collection, _: python_functions("yaml", len(collection.documents) // 10).documents,
}
COUNTS = {"counts": lambda collection, model: cut_texts(model, collection)}  # too small to be cut off


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
    refused = r"^\S+: .*\(?ulimit -f.*, or set RANKDISTILL_CACHE"
    with at_most(300), pytest.raises(InputError, match=refused) as error:
        build()
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
    monkeypatch.setattr("rankdistill.runtime.cache.FileLock", None)  # nothing is built
    assert build() == expected


@pytest.fixture(params=BUILDS | COUNTS)
def any_build(request, collection, student_folder):
    """As ``build``, of two collections: 0 or 1."""
    model = load_student(student_folder, max_length=8)
    ids, texts = collection.document_ids[:30], collection.documents[30:]
    given = [collection, dataclasses.replace(collection, document_ids=ids, documents=texts)]
    return lambda which: str((BUILDS | COUNTS)[request.param](given[which], model))


def test_a_cache_that_is_read_only_serves_what_it_has(any_build, monkeypatch):
    expected = any_build(0)

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "touch", "write_text", "rename", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("rankdistill.runtime.cache.FileLock", refuse)
    assert any_build(0) == expected
    with pytest.raises(InputError, match=r"^\S+: cannot be written .*; set RANKDISTILL_CACHE"):
        any_build(1)


def test_entries_that_were_swapped_are_built_again(any_build):
    """Each is whole, with its seal, under the name of the other."""
    one = any_build(0)
    names = {path.name for path in cache_folder().glob("*/*")}
    other = any_build(1)
    assert one != other
    for kind in cache_folder().glob("*"):
        entries = [path for path in kind.iterdir() if path.suffix not in (".lock", ".sha256")]
        old, new = (sorted(p for p in entries if (p.name in names) == known) for known in (True, False))
        for a, b in zip(old, new, strict=True):
            for first, second in ((a, b), (Path(f"{a}.sha256"), Path(f"{b}.sha256"))):
                if first.exists():
                    first.rename(first.with_name("aside"))
                    second.rename(first)
                    first.with_name("aside").rename(second)
    assert (any_build(0), any_build(1)) == (one, other)


def test_blocks_of_another_file_of_scores_are_scored_again(collection):
    """Of as many pairs, and whole by their checksums."""
    pools = mine(collection, [Random(50)])
    teachers = [WordTeacher(), WordTeacher()]
    teachers[1].fingerprint = "other words"
    parts = [cache_folder() / f"{name}.part" for name in "ab"]
    scores = score_pairs(teachers[0], pools, parts[0])
    parts[0].rename(parts[1])
    assert score_pairs(teachers[1], pools, parts[1]).tolist() == scores.tolist()
    assert teachers[1].pairs == teachers[0].pairs == len(pools.document_rows)
