"""Trains ten kinds of method from the command line, kills and resumes each, and starts each in two processes.

    python scripts/extensions.py
    python scripts/extensions.py static joint --no-processes
    python scripts/extensions.py --folder my_folder  # keeps the runs, and what was computed once

Each is one command, ``rankdistill train`` with the settings that all share and its own (``--list``
prints them), on 400 functions: whether it works is seen, not how good it is. Per extension there are

* a whole run, whose figures the table has;
* the same run, killed (SIGKILL) in its sixth step and started again: it must resume from the checkpoint of
  the third, and leave the same bytes: the weights of student and teacher, and the figures of each query;
* the same run by torchrun in two processes, each with half of every batch: the loss of each step must be
  that of the whole run, within 1e-3 of it (1e-2 where what the student finds is shown to it).

The extra ``demo`` must be installed. The table goes to standard output, progress to standard error; the exit
status is 1 if anything failed.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import combinations
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # to start commands

from commands import start, two_processes

BATCH = 8  # queries a step, of all processes together
COMMON = (
    "+experiment=quick",
    "warmup=none",
    "evaluation.teacher=false",
    "trainer.bf16=false",
    "trainer.save_steps=3",
)
POOLS = ("data=python_functions_400", "student=minilm_3layer", "student.max_length=64", "candidates.limit=48")
RETRIEVED = ("bm25.n=5", "dense.n=6", "random.n=4")  # as +experiment=quick has it
KILLED_IN = 6
RESUMED = "resumed: distillation, step 3"
GAIN = re.compile(r"^nDCG@10 after - before: (\S+), 95 % interval (\[.+?\])", re.MULTILINE)


@dataclass(frozen=True)
class Extension:
    """``files`` in ``src/rankdistill`` and ``yamls`` in ``configs``, the first of which chooses it."""

    what: str
    files: tuple[str, ...]
    yamls: tuple[str, ...]
    settings: tuple[str, ...]
    tolerance: float = 1e-3  # relative, of a step's loss in two processes


EXTENSIONS = {
    "layerwise": Extension(
        "layer-wise losses (LEAD)",
        ("losses/layerwise.py",),
        ("loss/kl_layerwise.yaml",),
        ("loss=kl_layerwise", "step_teacher=dense"),
    ),
    "sparse": Extension(
        "SPLADE with FLOPS and an inverted index",
        ("students/sparse.py", "losses/flops.py", "retrieval/inverted.py"),
        ("student/sparse.yaml", "loss/kl_infonce_flops.yaml"),
        ("student=sparse", "loss=kl_infonce_flops"),
    ),
    "late_interaction": Extension(
        "late interaction (ColBERT)",
        ("students/late_interaction.py", "retrieval/max_sim.py"),
        ("student/late_interaction.yaml",),
        ("student=late_interaction",),
    ),
    "cross_encoder": Extension(
        "a cross-encoder student",
        ("students/cross_encoder.py", "retrieval/rerank.py"),
        ("student/cross_encoder.yaml",),
        ("student=cross_encoder",),
    ),
    "static": Extension(
        "static embeddings", ("students/static.py",), ("student/static.yaml",), ("student=static",)
    ),
    "pairwise": Extension(
        "pairwise preferences",
        ("losses/pairwise.py", "scores/formats/preferences.py"),
        ("loss/pairwise.yaml",),
        ("loss=pairwise", "teacher=file", "teacher.format=preferences", "teacher.path=preferences.jsonl"),
    ),
    "joint": Extension(
        "a teacher trained jointly (RocketQAv2)",
        ("losses/joint.py",),
        ("loss/joint.yaml", "step_teacher/cross_encoder.yaml"),
        ("loss=joint", "step_teacher=cross_encoder", "step_teacher.trained=true")
        + ("step_teacher.model.model=minilm", "step_teacher.model.max_length=96"),
    ),
    "refresh": Extension(
        "refreshed negatives (ANCE)",
        ("training/refresh.py", "candidates/refresh.py"),
        ("refresh/student.yaml",),
        ("refresh=student", "refresh.steps=2", "refresh.n=6"),
        tolerance=1e-2,  # which of near-equal documents the student finds is a matter of rounding
    ),
    "view": Extension(
        "query views",
        ("teachers/view.py", "data/views.py"),
        ("teacher/view.yaml",),
        ("teacher=view", "teacher.teacher._target_=rankdistill.teachers.load_teacher")
        + ("teacher.teacher.model=demo", "teacher.view.queries=queries.jsonl"),
    ),
    "asymmetric": Extension(
        "an asymmetric student",
        ("students/asymmetric.py",),
        ("student/asymmetric.yaml",),
        ("student=asymmetric",),
    ),
}


class Failed(Exception):
    """What a command did in place of what it should, and the end of all that it printed."""

    def __init__(self, what: str, printed: str = ""):
        super().__init__(what + (f"\n{printed[-1500:]}" if printed else ""))


def prepare(folder: Path) -> None:
    """Writes what two of the commands read: ``preferences.jsonl`` and ``queries.jsonl``.

    A document is preferred with the probability sigmoid(s_i - s_j) of the demo teacher's scores; all pairs of
    a pool are compared. The queries that its view shows a teacher end with their function's name.
    """
    from rankdistill.data import python_functions

    retrievers = [f"candidates.retrievers.{setting}" for setting in RETRIEVED]
    (folder / "scores.json").unlink(missing_ok=True)
    printed = start("score", [*POOLS, *retrievers, "output=scores.json"], folder)
    if printed.returncode:
        raise SystemExit(f"rankdistill.commands.score failed:\n{printed.stderr[-1500:]}")
    rows = [
        {
            "query_id": query,
            "document_id_a": first,
            "document_id_b": second,
            "probability": 1 / (1 + math.exp(scores[second] - scores[first])),
        }
        for query, scores in json.loads((folder / "scores.json").read_text()).items()
        for first, second in combinations(scores, 2)
    ]
    write_lines(folder / "preferences.jsonl", rows)
    collection = python_functions(limit=400)
    texts = dict(zip(collection.query_ids, collection.queries, strict=True))
    rows = [
        {"_id": query, "text": f"{texts[query]}: {query.rpartition('.')[2].strip('_').replace('_', ' ')}"}
        for query in collection.qrels["train"]
    ]
    write_lines(folder / "queries.jsonl", rows)


def write_lines(file: Path, rows: Sequence[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def killed_in(step: int) -> None:
    """From now on this process is killed in that step of training."""
    trainer = import_module("rankdistill.training.trainer").DistillationTrainer
    whole, steps = trainer.training_step, []

    def training_step(*arguments, **more):
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **more)

    trainer.training_step = training_step


def train(run: Path, settings: Sequence[str], before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Runs the command without plots: its status, negative if it is a signal, and all that it printed."""
    done = start("train", [*COMMON, *settings, f"hydra.run.dir={run}"], run.parent, before=before)
    return done.returncode, done.stdout + done.stderr


def whole_run(run: Path, extension: Extension) -> list[str]:
    """Seconds, nDCG@10 before and after, and the difference with its interval."""
    begun = perf_counter()
    status, printed = train(run, extension.settings)
    if status or (gain := GAIN.search(printed)) is None:
        raise Failed(f"the run ended with status {status}", printed)
    seconds = f"{perf_counter() - begun:.0f}"
    metrics = json.loads((run / "metrics.json").read_text())
    before, after = (f"{metrics[name]['nDCG@10']:.4f}" for name in ("before", "after"))
    return [seconds, before, after, " ".join(gain.groups())]


def resumed_run(run: Path, extension: Extension, whole: Path) -> str:
    """Whether the killed and resumed run left the bytes of ``whole``."""
    status, printed = train(run, extension.settings, partial(killed_in, KILLED_IN))
    if status != -signal.SIGKILL:
        raise Failed(f"it was to be killed in step {KILLED_IN}, and ended with status {status}", printed)
    status, printed = train(run, extension.settings)
    if status:
        raise Failed(f"the killed run, started again, ended with status {status}", printed)
    if RESUMED not in printed:
        raise Failed(f"the killed run, started again, did not say {RESUMED!r}", printed)
    if others := [str(x) for x in results(whole) | results(run) if not same_bytes(x, whole, run)]:
        raise Failed(f"the killed and resumed run has other bytes in {', '.join(sorted(others))}")
    return "yes"


def results(run: Path) -> set[Path]:
    """The files of weights and figures that ``run`` left, relative to it."""
    figures = [run / "metrics.json", run / "per_query.csv"]
    return {file.relative_to(run) for file in (*run.rglob("*.safetensors"), *figures)}


def same_bytes(file: Path, *runs: Path) -> bool:
    return (
        all((run / file).is_file() for run in runs) and len({(run / file).read_bytes() for run in runs}) == 1
    )


def two_process_run(run: Path, extension: Extension, whole: Path) -> str:
    """How far the losses of two processes are from those of ``whole``, at most, relative."""
    half = f"trainer.per_device_train_batch_size={BATCH // 2}"
    words = ["-m", "rankdistill.train", *COMMON, *extension.settings, half, f"hydra.run.dir={run}"]
    done = two_processes(words, run.parent)
    if done.returncode:
        raise Failed(f"two processes ended with status {done.returncode}", done.stdout + done.stderr)
    one, two = losses_of(whole), losses_of(run)
    if len(one) != len(two):
        raise Failed(f"two processes logged {len(two)} losses, one {len(one)}")
    furthest = max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True))
    if furthest > extension.tolerance:
        raise Failed(f"the losses of two processes are {two}, of one {one}")
    return f"{furthest:.0e}"


def losses_of(run: Path) -> list[float]:
    """Of each step, as it was logged."""
    return [row["loss"] for row in json.loads((run / "history.json").read_text()) if "loss" in row]


def row_of(name: str, folder: Path, kill: bool, processes: bool) -> tuple[list[str], bool]:
    """The figures of the extension ``name``, and whether all is as it should be."""
    extension, fine = EXTENSIONS[name], True
    runs = {kind: folder / f"{name}-{kind}" for kind in ("whole", "resumed", "two")}
    for run in runs.values():
        shutil.rmtree(run, ignore_errors=True)

    def tried(kind: str, function: Callable, *arguments):
        nonlocal fine
        say(f"{name}: {kind}")
        try:
            return function(*arguments)
        except Failed as failed:
            fine = False
            say(f"{name}: {kind}: FAILED: {failed}")
            return None

    cells = tried("the whole run", whole_run, runs["whole"], extension)
    if cells is None:
        return ["failed", "", "", "", "", ""], False
    resumed = two = "not tried"
    if kill:
        resumed = tried("killed and resumed", resumed_run, runs["resumed"], extension, runs["whole"]) or "no"
    if processes:
        two = tried("two processes", two_process_run, runs["two"], extension, runs["whole"]) or "no"
    return [*cells, resumed, two], fine


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def command_of(extension: Extension) -> str:
    """Its own settings, beside ``COMMON``."""
    return " ".join(extension.settings)


HEAD = (
    "| extension | file | YAML | settings | seconds | nDCG@10 before | after | difference, 95 % interval "
    "| same bytes | two processes |\n|---|---|---|---|---:|---:|---:|---|---|---:|"
)


def line_of(name: str, figures: Sequence[str]) -> str:
    extension = EXTENSIONS[name]
    files, yamls = (", ".join(f"`{file}`" for file in some) for some in (extension.files, extension.yamls))
    return f"| {extension.what} | {files} | {yamls} | `{command_of(extension)}` | {' | '.join(figures)} |"


@contextmanager
def place_of(folder: Path | None) -> Iterator[Path]:
    """``folder``, or one that is removed afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXTENSIONS)}; all")
    parser.add_argument("--no-kill", action="store_true", help="no run is killed and resumed")
    parser.add_argument("--no-processes", action="store_true", help="none is started in two processes")
    parser.add_argument("--folder", type=Path, help="for the runs and the cache, which stay there")
    parser.add_argument("--list", action="store_true", help="print the commands, and run nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in EXTENSIONS]:
        parser.error(f"{', '.join(unknown)}: it must be of {', '.join(EXTENSIONS)}")
    names = given.names or list(EXTENSIONS)
    if given.list:
        for name in names:
            print(" ".join(("rankdistill train", *COMMON, command_of(EXTENSIONS[name]))))
        return
    rows, whole = [], True
    with place_of(given.folder) as folder:
        os.environ["RANKDISTILL_CACHE"] = str(folder / "cache")
        say("the demo teacher's scores, preferences and longer queries")
        prepare(folder)
        for name in names:
            figures, fine = row_of(name, folder, not given.no_kill, not given.no_processes)
            rows.append(line_of(name, figures))
            whole = whole and fine
            say(rows[-1])
    print("\n".join([HEAD, *rows]))
    sys.exit(not whole)


if __name__ == "__main__":
    main()
