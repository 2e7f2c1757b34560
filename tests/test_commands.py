"""The commands as people run them: in a process of their own, in any folder."""

import csv
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_collection
from filelock import FileLock
from safetensors import SafetensorError

from rankdistill.command import Stopped, end_on_sigterm, explain, sweep_notes
from rankdistill.data import read_beir

SMALL = [
    "candidates.retrievers.bm25.n=8",
    "candidates.retrievers.dense.n=5",
    "candidates.retrievers.random.n=6",
    "sampler.negatives=3",
    "warmup.sampler.negatives=2",
    "warmup.trainer.num_train_epochs=1",
    "warmup.trainer.per_device_train_batch_size=4",
    "trainer.per_device_train_batch_size=4",
    "trainer.gradient_accumulation_steps=1",
    "trainer.logging_steps=1",
    "trainer.save_steps=2",
]


def start(module, arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", f"rankdistill.{module}", *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.fixture
def tiny(beir, student_folder, cross_encoder_folder):
    return tiny_arguments(beir, student_folder, cross_encoder_folder)


def tiny_arguments(beir, student_folder, cross_encoder_folder):
    return [
        "data=beir",
        f"data.path={beir}",
        f"student.model={student_folder}",
        "student.max_length=64",
        "teacher=cross_encoder",
        f"teacher.model={cross_encoder_folder}",
        "teacher.max_length=64",
        *SMALL,
    ]


@pytest.mark.slow
def test_a_run_leaves_all_its_files_and_is_reproducible(tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    for name in ("one", "two"):
        done = start("train", [*tiny, "+experiment=stratified", f"hydra.run.dir={tmp_path / name}"], tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
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
    assert all(list(values) == ["nDCG@10", "RR@10", "R@100", "AP"] for values in metrics.values())
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

    same = [*tiny, "+experiment=stratified", f"hydra.run.dir={folder}"]
    weights = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    again = start("train", same, tmp_path)
    assert again.returncode == 0 and "| before" in again.stdout and "finished earlier" in again.stdout
    other = start("train", [*same, "seed=5"], tmp_path)
    assert other.returncode == 2 and "holds a finished run of other settings" in other.stderr
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == weights

    done = start("evaluate", [f"model={folder / 'model'}", *tiny[:2]], tmp_path)
    assert f"{metrics['after']['nDCG@10']:.4f}" in done.stdout, done.stderr[-2000:]
    done = start("evaluate", [f"run={folder / 'run.trec.gz'}", *tiny[:2]], tmp_path)
    assert f"{metrics['after']['nDCG@10']:.4f}" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_the_best_weights_on_queries_held_out_are_kept_in_both_stages(tiny, tmp_path):
    """The command of the page on when to stop, on few queries."""
    page = (Path(__file__).parents[1] / "docs" / "choosing.md").read_text(encoding="utf-8")
    command = re.search(r"```bash\n(.*?evaluation.dev_queries.*?)```", page, re.DOTALL)[1]
    words = shlex.split(command.replace("\\\n", " "))
    few = ["evaluation.dev_queries=4", "trainer.eval_steps=1", f"hydra.run.dir={tmp_path / 'run'}"]
    done = start("train", [*words[words.index("rankdistill.train") + 1 :], *tiny, *few], tmp_path)
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
    assert "mining" not in logs[1]
    assert all("by='entropy') keeps 8 of 16 training queries" in log for log in logs)
    assert all("distillation: 8 groups" in log for log in logs)


# where a run is killed: in which call of what
DEATHS = {
    "mining": ("rankdistill.candidates.mine:write_arrow", 1),
    "embedding": ("rankdistill.retrieval:embed_documents", 1),
    "scoring": ("rankdistill.teachers.cross_encoder:CrossEncoderTeacher.score", 2),
    "saving scores": ("rankdistill.data.scores:write_arrow", 1),
    "tokenising": ("rankdistill.data.tokens:_build", 1),
    "warm-up": ("rankdistill.training.trainer:DistillationTrainer.training_step", 2),
    "distillation": ("rankdistill.training.trainer:DistillationTrainer.training_step", 8),
    "evaluation": ("rankdistill.evaluation.evaluator:Evaluator.measure", 2),
    "the last file": ("rankdistill.train:write_measures", 1),
}
DYING = """
import importlib, os, sys
from rankdistill.command import command
from rankdistill.train import run

place, call = sys.argv.pop(1), int(sys.argv.pop(1))
module, name = place.split(":")
owner = importlib.import_module(module) if module != "rankdistill.train" else sys.modules[module]
*outer, name = name.split(".")
for part in outer:
    owner = getattr(owner, part)
function, calls = getattr(owner, name), []

def dying(*arguments, **more):
    calls.append(1)
    if len(calls) == call:
        os._exit(9)
    return function(*arguments, **more)

setattr(owner, name, dying)
command(run, "config")
"""


@pytest.fixture(scope="module")
def uninterrupted(beir, student_folder, cross_encoder_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    arguments = [
        *tiny_arguments(beir, student_folder, cross_encoder_folder),
        f"hydra.run.dir={folder / 'run'}",
    ]
    done = start("train", arguments, folder, RANKDISTILL_CACHE=str(folder / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("stage", DEATHS)
def test_a_killed_run_goes_on_to_the_same_result(tiny, tmp_path, uninterrupted, stage):
    """Killed anywhere, the same command in the same folder ends as if nothing had been."""
    (tmp_path / "dying.py").write_text(DYING)
    place, call = DEATHS[stage]
    arguments = [*tiny, f"hydra.run.dir={tmp_path / 'run'}"]
    killed = subprocess.run(
        [sys.executable, str(tmp_path / "dying.py"), place, str(call), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert killed.returncode == 9, killed.stderr[-3000:]
    again = start("train", arguments, tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    for file in ("model/model.safetensors", "metrics.json", "per_query.csv"):
        assert (uninterrupted / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file


@pytest.mark.slow
def test_two_processes_end_as_one_does(tiny, tmp_path):
    """Under torchrun: mined, scored, trained and measured together, written by one, the same result."""
    one = start("train", [*tiny, f"hydra.run.dir={tmp_path / 'one'}", "trainer.bf16=false"], tmp_path)
    assert one.returncode == 0, one.stderr[-3000:]
    half = ["trainer.per_device_train_batch_size=2", "warmup.trainer.per_device_train_batch_size=2"]
    two = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(
                "-m",
                "rankdistill.train",
                *tiny,
                *half,
                f"hydra.run.dir={tmp_path / 'two'}",
                "trainer.bf16=false",
            ),
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RANKDISTILL_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("Results in") == 1
    scores = {}
    for name in ("one", "two"):
        with gzip.open(tmp_path / name / "run.trec.gz", "rt") as lines:
            rows = (line.split() for line in lines)
            scores[name] = {(query, document): float(score) for query, _, document, _, score, _ in rows}
    assert scores["one"] == pytest.approx(scores["two"], abs=1e-4)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["teacher"] == pytest.approx(metrics[1]["teacher"])
    assert not list((tmp_path / "cache" / "embeddings").glob("*.npy"))[1:]  # the trained student's are gone


BAD = [
    (
        ["sampler=stratfied"],
        "sampler=stratfied: no such option; did you mean stratified? there is: hard, random, stratified",
    ),
    (["loss=mse"], "loss=mse: no such option; did you mean margin_mse?"),
    (["sampler.negativs=3"], "sampler.negativs: no such field; did you mean negatives?"),
    (["trainer.learnin_rate=1"], "trainer.learnin_rate: no such field; did you mean learning_rate?"),
    (["learning_rate=1"], "learning_rate: no such field here; it is trainer.learning_rate"),
    (["lora=null"], "lora: no such field here; it is student.lora"),
    (["sampler.negatives=0"], "negatives=0"),
    (["sampler.placement=middle"], "placement='middle': it is 'mid' or 'ends'"),
    (["evaluator.measures=[nDCGG@3]"], "'nDCGG@3' is no measure"),
    (["sampler.negatives=500"], "a group of 501 documents, but the largest pool has"),
    (["data.path=nowhere"], "nowhere: no such folder"),
    (["student.model=./nowhere"], "'./nowhere' cannot be loaded: no such folder"),
    (["sampler.negatives=abc"], "sampler.negatives='abc': it is an integer"),
    (["student.max_length=-5"], "max_length=-5: it is 1 or more"),
    (["seed=-1"], "seed=-1: it is an integer, 0 or more"),
    (["seed=4294967296"], "below 2**32"),
    (["trainer.push_to_hub=true"], "trainer.push_to_hub: upload the run's folder model"),
    (["trainer.load_best_model_at_end=true"], "trainer.load_best_model_at_end: nothing is measured"),
    (["candidates.limit=2.5"], "candidates.limit=2.5: it is an integer or null"),
    (["candidates.retrievers.bm25.n=0"], "n=0: it is 1 or more"),
    (["scores.scale=-5"], "scale=-5: it is a number above 0"),
    (["trainer.learning_rate=-1"], "trainer.learning_rate=-1: it is 0 or more"),
    (["trainer.bf16=abc"], "trainer.bf16='abc': it is true or false"),
    (["loss=null"], "a configuration group cannot be null"),
    (["evaluator.measures=[nDCG@0]"], "'nDCG@0' is no measure"),
    (
        ["trainer.save_only_model=true"],
        "trainer.save_only_model: a run is resumed from its optimizer's state",
    ),
    (["trainer.report_to=foo"], "foo is not supported, only"),
    (["warmup.trainer=5"], "warmup.trainer=5: it is a group of fields"),
    (
        ["~candidates.retrievers.bm25", "candidates.retrievers.dense=null", "~candidates.retrievers.random"],
        "candidates.retrievers: no retriever",
    ),
    (["data._target_=builtins.dict", "~data.path"], "data: makes a dict, not a Collection"),
    (["cut.low=0.9", "cut.high=0.2"], "cut: low=0.9, high=0.2: shares of the queries, 0 <= low < high <= 1"),
    (
        ["cut=middle_half", "cut.by=entropie"],
        "by='entropie': it is one of variance, std, range, entropy",
    ),
    (["seed=${nothing}"], "seed: Interpolation key 'nothing' not found"),
    (["evaluation.split=tset"], "no split 'tset'; there is 'test', 'train'"),
]


def test_a_part_of_another_command_is_named(tmp_path):
    """Hydra's own advice, to put a + before it, leads to the next error."""
    done = start("evaluate", ["run=x.trec", "sampler=hard"], tmp_path)
    assert done.returncode == 2 and "sampler: this command has no such part" in done.stderr
    assert "+sampler" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_ends_in_one_clear_line_and_status_2(tiny, tmp_path, arguments, message):
    done = start("train", [*tiny, *arguments], tmp_path)
    assert done.returncode == 2, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr
    assert "scores of" not in done.stderr, "nothing long before it"


@pytest.mark.slow
def test_what_stands_in_the_way_in_the_runs_folder_is_named(tiny, tmp_path):
    """A file in place of a folder, which would fail when all is computed, and another run at work."""
    (tmp_path / "model").write_text("")
    arguments = [*tiny, f"hydra.run.dir={tmp_path}"]
    done = start("train", arguments, tmp_path)
    assert done.returncode == 2 and f"{tmp_path / 'model'}: a file stands where" in done.stderr
    (tmp_path / "model").unlink()
    with FileLock(tmp_path / ".lock"):
        done = start("train", arguments, tmp_path)
    assert done.returncode == 2 and f"{tmp_path}: another run is at work there" in done.stderr
    assert done.stderr.count("another run") == 1 and not (tmp_path / "train.log").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    done = start("train", tiny, tmp_path, RANKDISTILL_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 2 and "cannot be written" in done.stderr and "RANKDISTILL_CACHE" in done.stderr


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


def test_sigterm_is_raised_so_that_files_and_locks_are_left_in_order():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        end_on_sigterm()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_refused_sweep_leaves_the_note_of_the_one_before(tmp_path):
    """Hydra writes it before any job is refused; a sweep elsewhere has none."""
    (tmp_path / "multirun.yaml").write_bytes(b"the first")
    given = ["-m", f"hydra.sweep.dir='{tmp_path}'", "sampler=hard,random"]
    assert sweep_notes(given) == {tmp_path / "multirun.yaml": b"the first"}
    assert sweep_notes(["-m", f"hydra.sweep.dir={tmp_path / 'new'}"]) == sweep_notes(["-m"]) == {}


@pytest.mark.slow
def test_a_refused_sweep_changes_nothing(tiny, tmp_path):
    settings = [x for x in tiny if not x.startswith("warmup.")]
    settings += ["warmup=none", "evaluation.teacher=false", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = start("train", ["-m", *settings, "sampler=random,hard"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]

    def contents():
        files = (path for path in sorted((tmp_path / "sweep").rglob("*")) if path.is_file())
        return {path: path.read_bytes() for path in files}

    before, shown = contents(), start("report", [str(tmp_path / "sweep")], tmp_path).stdout
    reported = contents()
    assert {path: reported[path] for path in before} == before
    done = start("train", ["-m", *settings, "sampler=hard,random"], tmp_path)
    assert done.returncode == 2 and "holds a finished run of other settings" in done.stderr + done.stdout
    assert contents() == reported
    assert start("report", [str(tmp_path / "sweep")], tmp_path).stdout == shown


@pytest.mark.slow
def test_a_missing_path_says_how_to_give_it(tmp_path):
    done = start("train", ["data=beir"], tmp_path)
    assert done.returncode == 2 and "data.path: must be given" in done.stderr


@pytest.mark.slow
def test_a_teacher_is_fine_tuned_on_the_collection(tmp_path, student_folder, cross_encoder_folder):
    folder = write_collection(tmp_path / "data", documents=80, queries=48)
    arguments = [
        "data=beir",
        f"data.path={folder}",
        f"model={cross_encoder_folder}",
        "max_length=64",
        "negatives=4",
        f"student.model={student_folder}",
        *SMALL[:3],
        "trainer.num_train_epochs=2",
        "evaluation.split=test",
        f"hydra.run.dir={tmp_path / 'teacher'}",
    ]
    done = start("finetune_teacher", arguments, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Use it: teacher.model=" in done.stdout
    assert set(json.loads((tmp_path / "teacher" / "metrics.json").read_text())) == {"retrieved", "reranked"}
    from rankdistill.teachers import CrossEncoderTeacher

    assert CrossEncoderTeacher(str(tmp_path / "teacher" / "model")).score(["w1"], ["w1 w2"]).shape == (1,)
    card = (tmp_path / "teacher" / "model" / "README.md").read_text()
    assert "reranked" in card and read_beir(folder).documents[0] not in card  # no text of the collection

    start_of = (tmp_path / "teacher" / "model" / "model.safetensors").stat().st_mtime_ns
    again = start("finetune_teacher", arguments, tmp_path)
    assert again.returncode == 0 and "finished earlier" in again.stdout
    other = start("finetune_teacher", [*arguments, "seed=1"], tmp_path)
    assert other.returncode == 2 and "holds a finished run of other settings" in other.stderr
    assert (tmp_path / "teacher" / "model" / "model.safetensors").stat().st_mtime_ns == start_of


@pytest.mark.slow
def test_two_processes_fine_tune_a_teacher(beir, tmp_path, student_folder, cross_encoder_folder):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "rankdistill.finetune_teacher", "data=beir", f"data.path={beir}", *SMALL[:3]),
            *(f"model={cross_encoder_folder}", "max_length=64", "negatives=4", "evaluation.split=test"),
            *(f"student.model={student_folder}", f"hydra.run.dir={tmp_path / 'teacher'}"),
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Use it: teacher.model=") == 1


@pytest.mark.slow
def test_what_nobody_reads_in_a_file_of_ones_own_is_named(tiny, tmp_path):
    """A file without its first line sets nothing; a misspelt group neither; an option isn't a value."""
    experiments = tmp_path / "own" / "experiment"
    experiments.mkdir(parents=True)
    for name, text, message in (
        ("bare", "sampler: {negatives: 3}\n", "experiment: no such field"),
        (
            "typo",
            "# @package _global_\nevaluatr: {limit: 3}\n",
            "evaluatr: no such field; did you mean evaluator?",
        ),
        ("value", "# @package _global_\nsampler: hard\n", "- override /sampler: hard"),
    ):
        (experiments / f"{name}.yaml").write_text(text)
        own = ["--config-dir", str(tmp_path / "own"), *tiny[:7], f"+experiment={name}"]
        done = start("train", own, tmp_path)
        assert done.returncode == 2 and message in done.stderr, (name, done.stderr[-2000:])


@pytest.mark.slow
def test_an_experiment_of_another_command_is_named(tmp_path):
    """They are train's: the fields that they set elsewhere are no misspelt ones."""
    for name, message in (
        (
            "mine",
            "warmup: no such field; there is: candidates, data, output, student (is experiment=quick for",
        ),
        ("evaluate", "experiment/quick: it overrides student, which this command does not have"),
    ):
        done = start(name, ["+experiment=quick"], tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr[-2000:]
