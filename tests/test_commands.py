"""The commands from end to end, and how they end."""

import csv
import gzip
import json
import os
import re
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import POOLS, RESULTS, child, die, start, typed
from conftest import write_collection
from safetensors import SafetensorError
from tqdm.auto import tqdm

from rankdistill.commands.explain import explain
from rankdistill.commands.launch import Stopped, end_on_signals, fail
from rankdistill.data import read_beir
from rankdistill.runtime.folders import written


@pytest.mark.slow
def test_a_run_leaves_all_its_files_and_is_reproducible(tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    """In an interpreter of its own as in a fork."""
    given = list(tiny)
    done = child(["-m", "rankdistill.train", *given, f"hydra.run.dir={tmp_path / 'one'}"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    two = start("train", [*given, f"hydra.run.dir={tmp_path / 'two'}"], tmp_path)
    assert two.returncode == 0, two.stderr[-3000:]
    folder = tmp_path / "one"
    assert {p.name for p in folder.iterdir()} >= {
        "metrics.json",
        "per_query.csv",
        "run.trec.gz",
        "model",
        "plots",
        "config.yaml",
        "train.log",
        "history.json",
        "conditions.json",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == ["before", "after", "teacher"]
    assert all(list(values) == ["nDCG@10", "RR@10", "R@100", "AP", "queries"] for values in metrics.values())
    with open(folder / "per_query.csv") as lines:
        rows = list(csv.DictReader(lines))
    mean = sum(float(row["nDCG@10 after"]) for row in rows) / len(rows)
    assert mean == pytest.approx(metrics["after"]["nDCG@10"])
    with gzip.open(folder / "run.trec.gz", "rt") as lines:
        assert len(next(lines).split()) == 6
    names = ("score_distribution", "entropy", "kept", "locality", "false_negatives", "agreement")
    more = ("student_scores", "learning_curve", "gains", "measures")
    assert {p.name for p in (folder / "plots").iterdir()} == {
        f"{name}.{kind}" for name in (*names, *more) for kind in ("png", "pdf")
    }
    card = (folder / "model" / "README.md").read_text()
    assert all(
        word in card
        for word in ("CrossEncoderTeacher", "StratifiedSampler", "WeightedSum", "fingerprint", "nDCG@10")
    )
    assert SentenceTransformer(str(folder / "model")).encode(["w1"]).shape == (1, 16)
    assert "| before" in done.stdout and "paired t" in done.stdout
    assert metrics == json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert (folder / "run.trec.gz").stat().st_size == (tmp_path / "two" / "run.trec.gz").stat().st_size
    assert "reusing teacher scores" in (tmp_path / "two" / "train.log").read_text()
    assert not list(folder.glob("checkpoints/*"))

    same = [*tiny, f"hydra.run.dir={folder}"]
    weights = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    again = start("train", same, tmp_path)
    assert again.returncode == 0 and "| before" in again.stdout and "finished earlier" in again.stdout
    other = start("train", [*same, "seed=5"], tmp_path)
    assert other.returncode == 2 and "holds a finished run with other settings" in other.stderr
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == weights

    done = start("evaluate", [f"model={folder / 'model'}", *tiny[:2]], tmp_path)
    assert f"{metrics['after']['nDCG@10']:.4f}" in done.stdout, done.stderr[-2000:]
    own = f"hydra.run.dir={tmp_path / 'another'}"  # the default's name holds the second, and no less
    done = start("evaluate", [f"run={folder / 'run.trec.gz'}", *tiny[:2], own], tmp_path)
    assert f"{metrics['after']['nDCG@10']:.4f}" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_the_best_weights_on_queries_held_out_are_kept_in_both_stages(tiny, tmp_path):
    """The command of the page on when to stop, on few queries."""
    page = (Path(__file__).parents[1] / "docs" / "choosing.md").read_text(encoding="utf-8")
    command = re.search(r"```bash\n(.*?evaluation.dev_queries.*?)```", page, re.DOTALL)[1]
    _, words = typed(command.replace("\\\n", " "))
    few = ["evaluation.dev_queries=4", "trainer.eval_steps=1", f"hydra.run.dir={tmp_path / 'run'}"]
    done = start("train", [*words, *tiny, *few], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    stages = {row["stage"] for row in history if "eval_nDCG@10" in row}
    log = (tmp_path / "run" / "train.log").read_text()
    assert stages == {"warmup", "distillation"} and log.count("kept: the weights of step") == 2
    assert "4 of 16 training queries are held out" in log and "distillation: 12 groups" in log


@pytest.mark.slow
def test_a_sweep_shares_candidates_and_scores(tiny, tmp_path):
    settings = [x for x in tiny if not x.startswith("warmup.")]
    settings += ["warmup=none", "cut=middle_half", "student.max_length=${teacher.max_length}"]
    sweep = ["-m", *settings, "loss=kl,margin_mse", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = start("train", sweep, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    logs = [(tmp_path / "sweep" / job / "train.log").read_text() for job in "01"]
    assert "reusing teacher scores" not in logs[0] and logs[1].count("reusing teacher scores") == 2
    assert "mining candidates" not in logs[1]
    assert all("by='entropy') keeps 8 of 16 training queries" in log for log in logs)
    assert all("distillation: 8 groups" in log for log in logs)


@pytest.mark.slow
def test_a_teacher_is_fine_tuned_on_the_collection(tmp_path, student_folder, cross_encoder_folder):
    folder = write_collection(tmp_path / "data", documents=80, queries=48)
    arguments = [
        "data=beir",
        f"data.path={folder}",
        f"model={cross_encoder_folder}",
        "max_length=64",
        "negatives=4",
        f"candidates.encoder={student_folder}",
        *POOLS,
        "trainer.num_train_epochs=2",
        "trainer.save_steps=2",
        "evaluation.split=test",
    ]
    place = [f"hydra.run.dir={tmp_path / 'killed'}"]
    step = "rankdistill.training.trainer:DistillationTrainer.training_step"
    killed = start("finetune_teacher", [*arguments, *place], tmp_path, before=partial(die, step, 6))
    assert killed.returncode == 9, killed.stderr[-3000:]
    resumed = start("finetune_teacher", [*arguments, *place], tmp_path)
    assert resumed.returncode == 0 and "resumed: distillation, step 2" in resumed.stdout, resumed.stderr[
        -3000:
    ]
    arguments.append(f"hydra.run.dir={tmp_path / 'teacher'}")
    done = start("finetune_teacher", arguments, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for file in RESULTS:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "teacher" / file).read_bytes(), file
    assert "Use it: teacher.model=" in done.stdout
    metrics = json.loads((tmp_path / "teacher" / "metrics.json").read_text())
    assert list(metrics) == ["before", "retrieved", "after"]
    for field in ("student=minilm", f"student.model={student_folder}", "evaluation.split=null"):
        refused = start("finetune_teacher", [*arguments, field], tmp_path)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    from rankdistill.teachers import CrossEncoderTeacher

    assert CrossEncoderTeacher(str(tmp_path / "teacher" / "model")).score(["w1"], ["w1 w2"]).shape == (1,)
    card = (tmp_path / "teacher" / "model" / "README.md").read_text()
    assert "retrieved" in card and read_beir(folder).documents[0] not in card  # no text of the collection

    start_of = (tmp_path / "teacher" / "model" / "model.safetensors").stat().st_mtime_ns
    again = start("finetune_teacher", arguments, tmp_path)
    assert again.returncode == 0 and "finished earlier" in again.stdout
    other = start("finetune_teacher", [*arguments, "seed=1"], tmp_path)
    assert other.returncode == 2 and "holds a finished run with other settings" in other.stderr
    assert (tmp_path / "teacher" / "model" / "model.safetensors").stat().st_mtime_ns == start_of


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "write",
    [
        lambda: torch.save({"weight": torch.zeros(1000)}, "/dev/full"),
        lambda: np.zeros(1000).tofile("/dev/full"),
        lambda: open("/dev/full", "w").write("scores" * 10_000),
    ],
    ids=["torch", "numpy", "python"],
)
def test_a_full_disk_is_told_from_a_fault(write):
    """Each library says it differently, torch without naming it."""
    with pytest.raises((OSError, RuntimeError)) as caught:
        write()
    assert "make room" in explain(caught.value)


def test_safetensors_on_a_full_disk_is_told_from_a_fault():
    """It writes a file beside the one named, so that /dev/full cannot show it; this is what it says."""
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "make room" in explain(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(27, "File too large"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    ],
    ids=["python", "safetensors"],
)
def test_a_limit_on_the_size_of_files_is_told_from_a_fault(error):
    assert "ulimit -f" in explain(error) and "start the same command" in explain(error)


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    """By the file where that is known, else by what is left in each place, the fullest first."""
    with pytest.raises(OSError) as caught, written(tmp_path / "metrics.json"):
        raise OSError(28, "No space left on device")
    assert explain(caught.value).startswith(
        f"{tmp_path / 'metrics.json'}: no space is left on the disk: make"
    )
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    free = {tmp_path: 0, tmp_path / "tmp": 3_000_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    said = explain(OSError(28, "No space left on device"))
    assert f"0 B in {tmp_path}/cache (RANKDISTILL_CACHE), 3.0 MB in {tmp_path}/tmp (TMPDIR))" in said


@pytest.fixture
def own_signals(monkeypatch):
    """What a command sets is undone."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_so_that_files_and_locks_are_left_in_order(number, own_signals):
    signal.signal(number, signal.SIG_DFL)  # whatever started the tests may ignore it
    end_on_signals()
    with pytest.raises(Stopped):
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_hangup_that_is_ignored_stays_so(own_signals):
    """Under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_on_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_in_a_finalizer_ends_the_run_too(number, raised, own_signals, capfd):
    """Python prints what a finalizer raises, and continues."""

    class Closing:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(60)
            closed.append(True)

    closed = []
    end_on_signals()
    with pytest.raises(raised) as stopped:
        Closing()
        time.sleep(60)
    assert stopped.type is raised and closed == [] and "Traceback" not in capfd.readouterr().err


def test_an_error_has_a_line_of_its_own_below_a_bar_that_was_cut_off(capsys):
    with tqdm(total=3, desc="steps"), pytest.raises(SystemExit):
        fail("what is wrong")
    assert "error: what is wrong" in re.split(r"[\r\n]", capsys.readouterr().err)
