"""Damages, kills and misuses the commands, and counts what they survive.

    python scripts/attack.py
    python scripts/attack.py --only kills values --json attacks.json

Tiny random models on a tiny collection; each attempt is a process of its own, forked from one in which
everything is imported already, and draws no plots. An attempt is survived if the command ends with
status 0 and the right result, or with status 2 and one line "error: ..." that names what was attacked;
never with a traceback, nor with another result than the undisturbed run's.
"""

import argparse
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # for the tiny models, and to start commands

import torch
from commands import RESULTS, die, start, tiny_arguments
from conftest import save_cross_encoder, save_student, write_collection
from tqdm import tqdm


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (negative: the signal) and all that it printed."""

    status: int
    text: str

    def one_line(self, *names: str) -> bool:
        """Whether it was refused in one line that holds one of ``names``, if any are given."""
        errors = [line for line in self.text.splitlines() if line.startswith("error: ")]
        named = not names or any(name in self.text for name in names)
        return self.status == 2 and len(errors) == 1 and "Traceback" not in self.text and named


class Arena:
    """A folder with a collection, tiny models and an undisturbed run, and the commands that made it."""

    def __init__(self, folder: Path):
        self.folder = folder
        student, teacher = save_student(folder / "models"), save_cross_encoder(folder / "models" / "teacher")
        self.arguments = tiny_arguments(write_collection(folder / "collection"), student, teacher)
        done = self.train(folder / "whole")
        if done.status:
            raise SystemExit(f"the undisturbed run failed:\n{done.text}")

    def train(self, run: Path, *more: str, **options) -> Ended:
        return self.start("train", [*self.arguments, *more, f"hydra.run.dir={run}"], **options)

    def start(self, command: str, arguments: Sequence[str], cache: str = "cache", **options) -> Ended:
        """``options`` are those of ``commands.start``."""
        caches = {"RANKDISTILL_CACHE": str(self.folder / cache)}
        done = start(command, arguments, self.folder, **options, **caches)
        return Ended(done.returncode, done.stdout + done.stderr)

    def same_result(self, run: Path) -> bool:
        """Whether ``run`` holds to the byte what the undisturbed run does."""
        whole = self.folder / "whole"
        return all(
            (run / name).is_file() and (run / name).read_bytes() == (whole / name).read_bytes()
            for name in RESULTS
        )


def damages(content: bytes) -> dict[str, bytes]:
    """What may have become of a file."""
    flipped = bytearray(content)
    if flipped:
        flipped[len(flipped) // 2] ^= 0x10
    return {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "zeros": content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
        "a list": b"[]\n",
        "not UTF-8": b"\xff\xfe" + content,
        "a bit": bytes(flipped),
    }


@contextmanager
def copied(source: Path, name: str) -> Iterator[Path]:
    """A copy of the folder ``source`` beside it, for one attempt."""
    copy = source.with_name(name)
    shutil.copytree(source, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def damaged_files(folder: Path, original: Path) -> Iterator[tuple[str, Path, bytes]]:
    """Every file of ``original`` with every damage: a name, its place in ``folder``, the bytes."""
    for file in sorted(path for path in original.rglob("*") if path.is_file() and path.name != ".lock"):
        for kind, content in damages(file.read_bytes()).items():
            place = file.relative_to(original)
            yield f"{place}: {kind}", folder / place, content


def attack_finished_runs(arena: Arena):
    """Each file of a finished run damaged: the report and the same command again."""
    whole, sweep = arena.folder / "whole", arena.folder / "sweep"

    def two_runs():
        shutil.rmtree(sweep, ignore_errors=True)
        shutil.copytree(whole, sweep / "0")
        shutil.copytree(whole, sweep / "1")

    two_runs()
    undamaged = arena.start("report", [str(sweep)]).text
    for name, place, content in damaged_files(sweep / "1", whole):
        two_runs()
        place.write_bytes(content)
        ended = arena.start("report", [str(sweep)])
        fine = "Traceback" not in ended.text and (ended.text == undamaged or str(sweep / "1") in ended.text)
        yield f"report, {name}", ended.status == 0 and fine, ended
        ended = arena.train(sweep / "1")
        fine = arena.same_result(sweep / "1") if ended.status == 0 else ended.one_line(str(sweep / "1"))
        yield f"again, {name}", fine, ended
    shutil.rmtree(sweep, ignore_errors=True)


def interrupted(arena: Arena) -> Path:
    """A run that ended at once in the middle of the second stage, with its checkpoints."""
    folder = arena.folder / "interrupted"
    step = "rankdistill.training.trainer:DistillationTrainer.training_step"
    arena.train(folder, before=partial(die, step, 8))
    return folder


def attack_checkpoints(arena: Arena):
    """Each file that an interrupted run goes on from, damaged."""
    folder = interrupted(arena)
    for name, place, content in damaged_files(arena.folder / "resumed", folder):
        with copied(folder, "resumed") as copy:
            place.write_bytes(content)
            ended = arena.train(copy)
            fine = arena.same_result(copy) if ended.status == 0 else ended.one_line(str(copy))
            yield name, fine, ended


def attack_cache(arena: Arena):
    """Each file of the cache damaged before a run that reuses it."""
    for name, place, content in damaged_files(arena.folder / "damaged", arena.folder / "cache"):
        if place.name.endswith(".lock"):
            continue
        with copied(arena.folder / "cache", "damaged"):
            place.write_bytes(content)
            run = arena.folder / "run"
            ended = arena.train(run, cache="damaged")
            fine = arena.same_result(run) if ended.status == 0 else ended.one_line("damaged")
            yield name, fine, ended
            shutil.rmtree(run, ignore_errors=True)


def attack_by_kills(arena: Arena, times: int = 30):
    """Killed, terminated or interrupted at a random moment of a cold run, then started again."""
    rng = random.Random(0)
    run = arena.folder / "killed"
    start = time.monotonic()
    arena.train(run, cache="cold")
    whole = time.monotonic() - start
    for i in range(times):
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[i % 3]
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(arena.folder / "cold", ignore_errors=True)
        moment = rng.uniform(0, whole)
        killed = arena.train(run, cache="cold", kill=(moment, number))
        name = f"{signal.Signals(number).name} after {moment / whole:.0%} of a run"
        yield name, number == signal.SIGKILL or "Traceback" not in killed.text, killed
        ended = arena.train(run, cache="cold")
        yield f"{name}, again", ended.status == 0 and arena.same_result(run), ended
    shutil.rmtree(run, ignore_errors=True)


def limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails with EFBIG instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def attack_by_full_disks(arena: Arena):
    """No file may grow beyond so many bytes, then the same command without the limit."""
    run = arena.folder / "full"
    for size in (0, 200, 1_000, 4_000, 10_000, 20_000, 40_000, 80_000):
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(arena.folder / "cold", ignore_errors=True)
        ended = arena.train(run, cache="cold", before=partial(limit_files, size))
        yield (
            f"files of {size:,} bytes at most",
            ended.status in (0, 2) and "Traceback" not in ended.text,
            ended,
        )
        ended = arena.train(run, cache="cold")
        yield f"files of {size:,} bytes at most, again", ended.status == 0 and arena.same_result(run), ended
    shutil.rmtree(run, ignore_errors=True)


VALUES = [
    "-1",
    "0",
    "1e400",
    "nan",
    "-.inf",
    "true",
    "null",
    "''",
    "x",
    "[1]",
    "{a:1}",
    "1_0",
    "99999999999",
    "käse",
]
FIELDS = [
    "seed",
    "candidates.limit",
    "candidates.retrievers.bm25.n",
    "candidates.retrievers.bm25.k1",
    "cut.low",
    "evaluator.k",
    "evaluator.index",
    "evaluator.limit",
    "evaluator.measures",
    "evaluator.seed",
    "sampler.negatives",
    "sampler.positives",
    "sampler.space",
    "scores.chunk_tokens",
    "scores.scale",
    "scores.similarity",
    "scores.teacher_scale",
    "scores.teacher_scores",
    "student.dropout",
    "student.layers",
    "student.lora",
    "student.max_length",
    "student.model",
    "student.prompts",
    "teacher.max_length",
    "trainer.adam_beta2",
    "trainer.learning_rate",
    "trainer.lr_scheduler_type",
    "trainer.max_grad_norm",
    "trainer.num_train_epochs",
    "trainer.per_device_train_batch_size",
    "trainer.save_steps",
    "trainer.warmup_steps",
    "trainer.weight_decay",
]


def attack_by_values(arena: Arena):
    """Each of these fields with each of these values: one line, before anything is scored, or a run."""
    run = arena.folder / "odd"
    arguments = [word for word in arena.arguments if "num_train_epochs" not in word]  # max_steps overrules it
    for field in FIELDS:
        for value in VALUES:
            words = [*arguments, f"{field}={value}", "trainer.max_steps=1", f"hydra.run.dir={run}"]
            ended = arena.start("train", words)
            refused = ended.one_line(field.rpartition(".")[2], value) and "scores of" not in ended.text
            # what ends a run later
            diverged = ended.one_line("training stopped", "training diverged")
            yield f"{field}={value}", ended.status == 0 or refused or diverged, ended
            shutil.rmtree(run, ignore_errors=True)


ATTACKS = {
    "finished": attack_finished_runs,
    "checkpoints": attack_checkpoints,
    "cache": attack_cache,
    "kills": attack_by_kills,
    "disk": attack_by_full_disks,
    "values": attack_by_values,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--json", type=Path, help="write the counts and what was not survived to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    counts, lost = {}, []
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(Path(folder))
        for kind in given.only:
            tried = survived = 0
            for name, fine, ended in tqdm(ATTACKS[kind](arena), desc=kind, unit="attempt"):
                tried, survived = tried + 1, survived + fine
                if not fine:
                    lost.append({"attack": kind, "what": name, "status": ended.status, "text": ended.text})
                    print(f"\nnot survived: {kind}, {name}: status {ended.status}\n{ended.text[-600:]}")
            counts[kind] = {"tried": tried, "survived": survived}
    print("\n| attack | what | tried | survived |\n|---|---|---:|---:|")
    for kind, count in counts.items():
        what = ATTACKS[kind].__doc__.strip().rstrip(".")
        print(f"| {kind} | {what} | {count['tried']} | {count['survived']} |")
    if given.json:
        given.json.write_text(json.dumps({"counts": counts, "lost": lost}, indent=1, ensure_ascii=False))
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
