import errno
import logging
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import WordTeacher
from filelock import FileLock
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, mine
from rankdistill.commands import cache
from rankdistill.errors import InputError
from rankdistill.retrieval import stored_embeddings
from rankdistill.runtime.cache import build_folder, locked, map_npy
from rankdistill.runtime.environment import cache_folder, size_of
from rankdistill.runtime.pruning import Item, age_of, items, limit_embeddings, prune, shown
from rankdistill.teachers import score_candidates

HEAD = 128  # bytes before the numbers of a .npy file


def entry(name):
    """``name``, whose first letter becomes sixteen digits, as entries of the cache are called."""
    return re.sub("[a-z]", lambda letter: f"{ord(letter[0]):016x}", name, count=1)


def embeddings(name, size, used):
    """A finished file of so many bytes in the cache, last used so many seconds ago."""
    path = cache_folder() / "embeddings" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.zeros((size - HEAD) // 4, np.float32))
    age(path, used)
    return path


def age(path, seconds):
    lock = Path(f"{path}.lock")
    lock.touch()
    os.utime(lock, (time.time() - seconds,) * 2)


def names(found):
    return [item.path.name for item in found]


def test_what_was_used_longest_ago_goes_first_until_little_enough_is_left():
    """Made in another order than they were used in; the clock of the files says nothing."""
    for name, used in (
        (entry("b.npy"), 20),
        (entry("a.npy"), 30),
        (entry("c.npy"), 10),
        (entry("d.npy"), 5),
    ):
        embeddings(name, 1000, used)
    assert names(items()) == [entry("a.npy"), entry("b.npy"), entry("c.npy"), entry("d.npy")]
    assert names(prune(items(), 2000)) == [entry("a.npy"), entry("b.npy")]
    assert sorted(file.name for file in (cache_folder() / "embeddings").iterdir()) == [
        entry("c.npy"),
        entry("c.npy.lock"),
        entry("d.npy"),
        entry("d.npy.lock"),
    ]
    assert names(prune(items(), 2000)) == [] and names(prune(items(), 1999)) == [entry("c.npy")]


def test_what_was_not_used_for_long_goes_however_little_it_is():
    embeddings(entry("a.npy"), 1000, 7200)
    embeddings(entry("b.npy"), 1000, 3000)
    assert names(prune(items(), oldest=3600)) == [entry("a.npy")]


def test_what_is_open_or_being_built_stays():
    opened, built = embeddings(entry("a.npy"), 1000, 30), embeddings(entry("b.npy"), 1000, 20)
    embeddings(entry("c.npy"), 1000, 10)
    array = map_npy(opened)
    rows = array[10:20]
    del array  # what is left of the map is enough
    with locked(built):
        assert names(prune(items(), 0)) == [entry("c.npy")]
    assert rows.sum() == 0 and names(prune(items(), 0)) == [entry("b.npy")]
    del rows
    assert names(prune(items(), 0)) == [entry("a.npy")]


def test_unfinished_work_stays_for_a_day(tmp_path):
    folder = cache_folder() / "scores"
    folder.mkdir(parents=True)
    for name, days in (
        (entry("x.part"), 0.5),
        (entry(".y.arrow.0123abcd"), 0.5),
        (entry("z.part"), 2),
        (entry(".w.arrow.0123abcd"), 2),
    ):
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    assert sorted(names(prune(items(), 0))) == [entry(".w.arrow.0123abcd"), entry("z.part")]
    assert all(item.unfinished for item in items()) and len(items()) == 2


def test_a_folder_goes_as_a_whole():
    path = cache_folder() / "tokens" / entry("x")
    build_folder(path, lambda folder: (folder / "ids").write_bytes(bytes(1000)), "tiny, 60 texts")
    (item,) = items()
    assert (item.kind, item.size, item.about, item.path) == ("tokens", 1000, "tiny, 60 texts", path)
    assert list(prune([item], 0, dry=True)) == [item] and path.exists()
    assert list(prune([item], 0)) == [item]
    assert list(path.parent.iterdir()) == []


def test_embeddings_have_a_limit(collection, student_folder, monkeypatch, caplog):
    """60 documents of 16 float32 and the head: 3,968 bytes a model."""
    caplog.set_level(logging.INFO)
    size = HEAD + 60 * 16 * 4
    monkeypatch.setenv("RANKDISTILL_CACHE_LIMIT", f"{2 * size}B")
    models = []
    for seconds, scale in ((300, 1.0), (100, 2.0), (0, 3.0)):
        models.append(SentenceTransformer(student_folder, device="cpu"))
        next(models[-1].parameters()).data.mul_(scale)
        if scale == 3:  # the first is used again, and is no longer the oldest
            stored_embeddings(models[0], collection)
        stored_embeddings(models[-1], collection)
        if scale < 3:
            (made,) = (item for item in items("embeddings") if time.time() - item.used < 50)
            age(made.path, seconds)
    left = items("embeddings")
    assert len(left) == 2 and sum(item.size for item in left) == 2 * size
    caplog.clear()
    for model in (models[0], models[2]):
        stored_embeddings(model, collection)
    assert "embedding 60" not in caplog.text, "the second went"
    kept = stored_embeddings(models[0], collection)
    limit_embeddings(0)
    assert len(items("embeddings")) == 1 and np.isfinite(kept).all(), "in use"


def test_a_limit_that_is_no_size_is_said_before_anything_is_embedded(collection, student_folder, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE_LIMIT", "much")
    monkeypatch.setattr("rankdistill.students.embed._embed_into", None)
    with pytest.raises(
        InputError, match="RANKDISTILL_CACHE_LIMIT=much: it must be a size such as 500MB or 10GB"
    ):
        stored_embeddings(SentenceTransformer(student_folder, device="cpu"), collection)


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("1.5 mb", 1_500_000), ("0", 0), ("7", 7), ("2TB", 2 * 10**12)]
)
def test_sizes(text, size):
    assert size_of(text, "--prune") == size


def test_ages_and_what_is_shown():
    assert [age_of(text, "") for text in ("30d", "12h", "1.5 w")] == [2_592_000, 43_200, 907_200]
    assert [shown(size) for size in (999, 1000, 1_250_000, 10**13)] == [
        "999 B",
        "1.0 KB",
        "1.2 MB",
        "10.0 TB",
    ]
    for wrong in ("", "d", "3", "-1d", "3y"):
        with pytest.raises(InputError, match="--older-than=.*: it must be a time such as"):
            age_of(wrong, "--older-than")


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["cache", *arguments])
    cache.main()
    return capsys.readouterr().out


def test_what_somebody_else_put_there_stays(collection, monkeypatch, capsys, tmp_path):
    """The variable may name a folder that holds other things, or the cache a link to them."""
    score_candidates(WordTeacher(), mine(collection, [BM25(5)]))
    theirs = [cache_folder() / name for name in ("thesis/main.tex", "scores/mine.csv", "photos/a/b.jpg")]
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("theirs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "qrels.tsv").write_text("theirs")
    (cache_folder() / "scores" / f"{0:016x}").symlink_to(tmp_path / "elsewhere")
    assert "2 items removed" in run(monkeypatch, capsys, "--prune", "0")
    assert all(file.exists() for file in (*theirs, tmp_path / "elsewhere" / "qrels.tsv"))


def test_a_cache_that_is_read_only_says_so(collection, monkeypatch, capsys):
    """It ended with "0 items removed" and status 0."""
    score_candidates(WordTeacher(), mine(collection, [BM25(5)]))

    def refused(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refused)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, "--prune", "0")
    assert ended.value.code == 2
    assert "Read-only file system; nothing can be removed there" in capsys.readouterr().err


def test_the_command_lists_and_prunes(collection, monkeypatch, capsys):
    assert run(monkeypatch, capsys) == f"0 items, 0 B in {cache_folder()}\n"
    score_candidates(WordTeacher(), mine(collection, [BM25(5)]))
    listed = run(monkeypatch, capsys)
    assert "tiny, 16 queries of train" in listed and "2 items, " in listed
    assert [line.split()[0] for line in listed.splitlines()[:2]] == ["candidates", "scores"]
    dry = run(monkeypatch, capsys, "--prune", "0", "--dry-run")
    assert "2 items would be removed" in dry and len(items()) == 2
    assert "2 items removed" in run(monkeypatch, capsys, "--prune", "0", "--older-than", "1d")
    assert items() == []


def test_the_command_refuses_what_is_no_size(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, capsys, "--prune", "most")
    assert capsys.readouterr().err == "error: --prune=most: it must be a size such as 500MB or 10GB\n"


def test_an_item_that_is_gone_meanwhile_is_no_fault():
    path = embeddings(entry("a.npy"), 1000, 1)
    found = items()
    path.unlink()
    assert list(prune(found, 0)) == [] and isinstance(found[0], Item)
