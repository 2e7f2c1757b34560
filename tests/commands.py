"""The commands as people start them, but for the imports: forked from a server that has done them.

The imports of a command take longer than a run of the tiny models. The server only imports: it has no
threads, no models and nothing of the test process, whose environment alone the commands see.
"""

import functools
import gc
import importlib
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

COMMANDS = (
    *("average", "cache", "compare", "evaluate", "export", "finetune_teacher", "mine"),
    *("quantise", "report", "score", "train"),
)
LATER = ("matplotlib.backends.backend_agg", "transformers.models.bert.modeling_bert")  # imported when needed
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["__main__", *(f"rankdistill.commands.{name}" for name in COMMANDS), *LATER])

POOLS = [
    "candidates.retrievers.bm25.n=8",
    "candidates.retrievers.dense.n=5",
    "candidates.retrievers.random.n=6",
]
TRAINING = [
    "sampler.negatives=3",
    "warmup.sampler.negatives=2",
    "warmup.trainer.num_train_epochs=1",
    "warmup.trainer.per_device_train_batch_size=4",
    "trainer.per_device_train_batch_size=4",
    "trainer.gradient_accumulation_steps=1",
    "trainer.logging_steps=1",
    "trainer.save_steps=2",
]
RESULTS = ("model/model.safetensors", "metrics.json", "per_query.csv")


def tiny_arguments(collection: Path, student: str | Path, teacher: str | Path) -> list[str]:
    """Of a run of two stages and nine steps on the BEIR folder ``collection``; the folder comes first."""
    return [
        "data=beir",
        f"data.path={collection}",
        f"student.model={student}",
        "student.max_length=64",
        "teacher=cross_encoder",
        f"teacher.model={teacher}",
        "teacher.max_length=64",
        *POOLS,
        *TRAINING,
    ]


def start(
    command: str,
    arguments: Sequence[str],
    cwd: str | Path,
    plots: bool = False,
    before: Callable[[], None] | None = None,
    kill: tuple[float, int] = (1800, signal.SIGKILL),
    **environment: str,
) -> subprocess.CompletedProcess:
    """``python -m rankdistill.COMMAND`` in ``cwd``: how it ended, and all that it printed.

    Its plots are drawn only if asked for: they take longer than all the rest. ``before`` (to be pickled)
    is called in its process first; ``kill``: seconds, and the signal that it is sent then.
    """
    (out, its_out), (err, its_err) = (SERVER.Pipe(duplex=False) for _ in range(2))
    given = (command, list(arguments), str(cwd), os.environ | environment, plots, before, its_out, its_err)
    process = SERVER.Process(target=_run, args=given)
    process.start()
    its_out.close()
    its_err.close()
    timer = threading.Timer(kill[0], os.kill, (process.pid, kill[1]))
    timer.start()
    with ThreadPoolExecutor(2) as readers:
        printed = list(readers.map(_all_of, (out, err)))
    process.join()
    timer.cancel()
    return subprocess.CompletedProcess([command, *arguments], process.exitcode, *printed)


def child(words: Sequence[str], cwd: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """An interpreter of its own with these arguments, which imports everything itself."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


def two_processes(words: Sequence[str], cwd: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """``words`` under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return child([*torchrun, *words], cwd, **environment)


def typed(line: str) -> tuple[str, list[str]]:
    """The command that ``line`` starts, in a shell or under torchrun and its like, and its arguments."""
    words = shlex.split(line)
    at = words.index("rankdistill")
    return words[at + 1], words[at + 2 :]


def die(place: str, call: int) -> None:
    """From now on this process ends at once, without a word, in that call of ``place``: module:function."""
    module, name = place.split(":")
    owner = importlib.import_module(module)
    *outer, name = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def dying(*arguments, **more):
        calls.append(1)
        if len(calls) == call:
            os._exit(9)
        return function(*arguments, **more)

    setattr(owner, name, dying)


def _all_of(connection: Connection) -> str:
    with connection, open(connection.fileno(), encoding="utf-8", errors="replace", closefd=False) as printed:
        return printed.read()


def _run(command, arguments, cwd, environment, plots, before, out, err) -> None:
    gc.freeze()  # a collection would copy all that the server has imported
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if not plots:
        drawing = importlib.import_module("rankdistill.analysis.plots")
        drawing.save = drawing.save_group_plots = drawing.save_run_plots = lambda *_: None
    if before is not None:
        before()
    sys.argv = [command, *arguments]
    sys.modules.pop(f"rankdistill.commands.{command}")  # as __main__ it is executed again
    runpy.run_module(f"rankdistill.commands.{command}", run_name="__main__", alter_sys=True)
