import errno
import logging
import multiprocessing
import os
import shutil
import signal
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import at_most
from safetensors.torch import save_file

from rankdistill.commands import cache as cache_command
from rankdistill.errors import InputError
from rankdistill.runtime.cache import build_folder, fingerprint, locked, save_npy
from rankdistill.runtime.environment import cache_folder
from rankdistill.runtime.folders import RunFolder
from rankdistill.training import checkpoints


def test_a_cache_that_the_locale_cannot_name_is_refused_in_one_line(monkeypatch):
    """Other bytes are what LC_ALL=C gives without Python's UTF-8 mode, where any beyond ASCII are read so."""
    monkeypatch.setenv("RANKDISTILL_CACHE", os.fsdecode(b"/tmp/\xff"))
    monkeypatch.setattr(sys, "argv", ["rankdistill cache"])
    with pytest.raises(SystemExit, match="2"):
        cache_command.main()
    with pytest.raises(
        InputError, match="RANKDISTILL_CACHE=/tmp/\ufffd: the locale cannot represent .*PYTHONUTF8=1"
    ):
        cache_folder()
    monkeypatch.setenv("RANKDISTILL_CACHE", "/tmp/\u00e4")
    assert str(cache_folder()) == "/tmp/\u00e4"


def slowly(log: Path, folder: Path):
    """Builds one file, and notes in ``log`` that it did."""
    with open(log, "a") as out:
        out.write("built\n")
    time.sleep(0.2)
    (folder / "file").write_text("all of it")


def ask(path: Path, log: Path) -> str:
    return (build_folder(path, partial(slowly, log)) / "file").read_text()


def test_every_cache_lies_under_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_in_the_cache_folder_of_the_user(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RANKDISTILL_CACHE")
    if value is not None:
        monkeypatch.setenv("RANKDISTILL_CACHE", value)
    assert cache_folder().name == "rankdistill" and cache_folder().is_absolute()


def test_fingerprints_are_stable_and_differ():
    """A fingerprint that changed between versions or processes would make every cache cold."""
    assert fingerprint("a", {"x": 1, "y": [2]}) == fingerprint("a", {"y": [2], "x": 1})
    assert len({fingerprint(*parts) for parts in (["a"], ["b"], ["a", None], [["a"]], [{"a": 1}], [])}) == 6
    assert fingerprint("a", 1) == "2657442bb4a48d62"


def test_a_folder_is_built_once_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert ask(tmp_path / "x", tmp_path / "log") == "all of it"
    assert (tmp_path / "log").read_text() == "built\n"
    assert f"reusing {tmp_path / 'x'}" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_build_leaves_nothing_behind(tmp_path, error):
    def fail(folder):
        (folder / "half").write_text("half of it")
        raise error

    with pytest.raises(error):
        build_folder(tmp_path / "x", fail)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == []
    assert ask(tmp_path / "x", tmp_path / "log") == "all of it"


def test_threads_that_ask_together_build_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: ask(tmp_path / "x", tmp_path / "log"), range(4)))
    assert texts == ["all of it"] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_processes_that_ask_together_build_once(tmp_path):
    workers = [
        multiprocessing.get_context("fork").Process(target=ask, args=(tmp_path / "x", tmp_path / "log"))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A built folder in the cache, and the log of builds."""
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    ask(tmp_path / "x", tmp_path / "log")
    return tmp_path / "x"


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda folder: (folder / "file").write_text("another!!"), "x/file: damaged"),
        (lambda folder: (folder / "file").write_text("all"), "x/file: damaged"),
        (lambda folder: (folder / "file").unlink(), "x/file: missing"),
        (lambda folder: (folder / "more").write_text(""), "x/more: damaged"),
    ],
)
def test_a_folder_that_changed_since_it_was_built_is_not_reused(folder, tmp_path, damage, name):
    damage(folder)
    with pytest.raises(InputError, match=f"{name}.*; delete {folder} to build it again"):
        build_folder(folder, partial(slowly, tmp_path / "log"))
    shutil.rmtree(folder)
    assert ask(folder, tmp_path / "log") == "all of it"


def test_an_array_of_which_the_disk_takes_all_but_the_end_is_refused(tmp_path):
    """``np.save`` closes its file without looking, and the folder was sealed as whole."""
    array = np.arange(600, dtype=np.float32).reshape(20, 30)
    save_npy(tmp_path / "whole.npy", array)
    np.save(tmp_path / "expected.npy", array)
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
    with at_most(2000), pytest.raises(InputError, match=r"a file would be larger .*RANKDISTILL_CACHE"):
        build_folder(tmp_path / "x", lambda folder: save_npy(folder / "a.npy", array))
    assert not (tmp_path / "x").exists()


def test_a_folder_with_other_times_is_the_same_one(folder, tmp_path):
    """Copied, say, or built before the clock was set back."""
    os.utime(folder / "file", (1e9, 1e9))
    assert ask(folder, tmp_path / "log") == "all of it"
    assert (tmp_path / "log").read_text() == "built\n"


def test_bytes_that_changed_under_the_old_time_are_damage(folder, tmp_path):
    """As those of a backup that was put back; size and time are what they were."""
    before = (folder / "file").stat()
    (folder / "file").write_text("alL of it")
    os.utime(folder / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match="x/file: damaged"):
        build_folder(folder, partial(slowly, tmp_path / "log"))


def killed_while_building(path: Path):
    def build(folder):
        (folder / "half").write_text("half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    build_folder(path, build)


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=killed_while_building, args=(tmp_path / "x",))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    assert [file.name[:3] for file in tmp_path.iterdir() if file.is_dir()] == [".x."]
    assert ask(tmp_path / "x", tmp_path / "log") == "all of it"
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["x"]


def test_what_is_there_is_read_from_a_folder_that_cannot_be_written(folder, tmp_path, monkeypatch):
    """As root may write anywhere, the errors of a read-only disk."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "touch", "write_text"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("rankdistill.runtime.cache.FileLock", refuse)
    assert ask(folder, tmp_path / "log") == "all of it"
    with pytest.raises(InputError, match="cannot be written .Read-only file system.*RANKDISTILL_CACHE"):
        build_folder(tmp_path / "y", partial(slowly, tmp_path / "log"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left on the disk"),
        (OSError(errno.EFBIG, "File too large"), r"a file would be larger than .* \(ulimit -f\)"),
        (RuntimeError("I/O error: File too large (os error 27)"), "a file would be larger"),
        (OSError("1000000 requested and 62500 written"), "no space is left on the disk, or ulimit -f"),
    ],
)
def test_a_full_disk_is_named_with_the_remedy_and_nothing_is_left(tmp_path, error, reason):
    """As the system, safetensors and NumPy say it."""

    def fill(folder):
        (folder / "half").write_text("half of it")
        raise error

    with pytest.raises(
        InputError,
        match=f"^{tmp_path}: {reason}.*(make room|raise that), or set RANKDISTILL_CACHE",
    ):
        build_folder(tmp_path / "x", fill)
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_are_readable_by_whom_the_umask_lets(tmp_path, umask, mode):
    """In the cache, in checkpoints and finished stages, and in a run's model."""
    weights = {"weight": torch.zeros(2)}
    before = os.umask(umask)
    try:
        build_folder(tmp_path / "x", lambda folder: save_file(weights, folder / "model.safetensors"))
        (tmp_path / "checkpoint-1").mkdir()
        save_file(weights, tmp_path / "checkpoint-1" / "model.safetensors")
        checkpoints.seal(tmp_path / "checkpoint-1", "run")
        with RunFolder.drafted(SimpleNamespace(path=tmp_path), "model") as draft:
            (draft / "1_Dense").mkdir(parents=True)
            save_file(weights, draft / "1_Dense" / "model.safetensors")
    finally:
        assert os.umask(before) == umask, "the umask itself is left as it was"
    found = sorted(tmp_path.rglob("*.safetensors"))
    assert len(found) == 3 and {stat.S_IMODE(file.stat().st_mode) for file in found} == {mode}


class Opaque:
    pass


@pytest.mark.parametrize("value", [Opaque(), {"model": Opaque()}, print, Opaque])
def test_what_has_only_an_address_has_no_fingerprint(value):
    """It would be another in every process."""
    with pytest.raises(TypeError, match="has no fingerprint"):
        fingerprint("a", value)
    assert fingerprint(Path("a"), np.int64(3)) == fingerprint("a", "3")


def test_who_waits_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with locked(tmp_path / "x"):
        locked(tmp_path / "x")
    assert "waiting for another process" in caplog.text


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/cache: cannot be written .*RANKDISTILL_CACHE"):
        build_folder(tmp_path / "file" / "cache" / "x", lambda folder: None)
