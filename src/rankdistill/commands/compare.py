"""Samplers or losses of the user's own file against the library's, as a sweep with its report.

    rankdistill compare my_sampler.py
    rankdistill compare my_loss.py --data my_collection --data another

A class with select(scores, positive, rng) is a sampler, a torch module a loss; each must be made without
arguments. Each is trained with as the library's are, on each collection (a folder in BEIR layout, by default
python_functions), by three seeds; further words are overrides of rankdistill train, such as seed=0,1,2,3,4,
trainer.max_steps=2000 or loss=margin_mse, and --study names another study. The report of each collection is
printed and left beside its runs; the same command resumes what was interrupted.
"""

import argparse
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from torch import nn
from tqdm.auto import tqdm

from rankdistill.commands import report as reports
from rankdistill.commands.launch import end_on_signals, status_of
from rankdistill.commands.words import config_folder
from rankdistill.errors import InputError
from rankdistill.evaluation.report import report
from rankdistill.runtime.folders import claim, own_files, write_text
from rankdistill.runtime.output import output_kept

AGAINST = {
    "sampler": ["random", "hard", "stratified", "stratified_jitter", "stratified_score_ends_jitter"],
    "loss": ["kl", "margin_mse", "ranknet", "infonce", "kl_infonce"],
}


def parts_of(file: Path) -> tuple[str, dict[str, dict]]:
    """``sampler`` or ``loss``, and what ``file`` has of them: an option's name -> ``_target_`` and fields.

    Raises ``InputError`` if it has none, or both, or one that is not to be made without arguments.
    """
    spec = importlib.util.spec_from_file_location(file.stem, file) if file.is_file() else None
    if spec is None or spec.loader is None or not file.stem.isidentifier():
        raise InputError(f"{file}: no such Python file; name one, such as my_sampler.py")
    if file.stem in sys.stdlib_module_names:
        raise InputError(f"{file}: Python itself has a module {file.stem}; give the file another name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # as dataclasses want it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file}: {type(error).__name__}: {error}") from None
    options: dict[str, dict[str, dict]] = {"sampler": {}, "loss": {}}
    for name, part in inspect.getmembers(module, inspect.isclass):
        if part.__module__ != file.stem or name.startswith("_"):
            continue
        kind = "sampler" if hasattr(part, "select") else "loss" if issubclass(part, nn.Module) else None
        if kind is None:
            continue
        try:
            made = part()
        except Exception as error:
            raise InputError(f"{file}: {name} must be made without arguments: {error}") from None
        if kind == "sampler":
            check_selects(made, f"{file}: {name}")
        fields = {
            field: parameter.default
            for field, parameter in inspect.signature(part).parameters.items()
            if isinstance(parameter.default, int | float | str | None)
        }
        options[kind][_option(name, kind)] = {"_target_": f"{file.stem}.{name}", **fields}
    kinds = [kind for kind, parts in options.items() if parts]
    if len(kinds) != 1:
        had = "both samplers and losses" if kinds else "neither a class with select nor a torch module"
        raise InputError(f"{file}: it has {had}; give samplers, or losses")
    return kinds[0], options[kinds[0]]


def check_selects(sampler: Any, name: str) -> None:
    """Raises ``InputError`` if ``sampler`` fails on a pool of 64; one that reads more isn't asked."""
    if len(inspect.signature(sampler.select).parameters) != 3:
        return
    scores, positive = np.linspace(1, 0, 64), np.arange(64) == 3
    try:
        sampler.select(scores, positive, np.random.default_rng(0))
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise InputError(
            f"{name}.select fails on a pool of 64 documents: {type(error).__name__}: {error} (line {line})"
        ) from None


def _option(name: str, kind: str) -> str:
    """``MySampler`` as the name of an option: ``my_sampler``; with ``own_`` before one that there is."""
    option = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"own_{option}" if (config_folder() / kind / f"{option}.yaml").exists() else option


def words_of(kind: str, own: dict[str, dict], study: str, options: Path, more: list[str]) -> list[str]:
    """The words of ``rankdistill train`` that compare ``own``, written as ``options``, with the library's."""
    with own_files(options / kind) as files:
        for name, fields in own.items():
            write_text(files / f"{name}.yaml", OmegaConf.to_yaml(fields))
    chosen = ",".join([*own, *AGAINST[kind]])  # what may fail comes first
    return ["-m", "--config-dir", str(options), f"+study={study}", f"{kind}={chosen}", *more]


def train(words: list[str], folder: Path, beside: Path) -> None:
    """Runs the sweep; what it prints goes to sweep.log. Raises ``InputError`` with its last error."""
    log = claim(folder, "sweep.log")
    path = os.pathsep.join([str(beside), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "rankdistill", "train", *words, f"hydra.sweep.dir={folder}"]
    with (
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": path}
        ) as job,
        tqdm(desc=folder.name, unit="run") as bar,
    ):
        try:
            while job.poll() is None:
                try:
                    job.wait(1)
                except subprocess.TimeoutExpired:
                    pass
                if finished := len(list(folder.glob("*/conditions.json"))) - bar.n:
                    bar.update(finished)
        except KeyboardInterrupt:  # SIGTERM and SIGHUP as well
            job.terminate()
            job.wait()  # else the same command finds the runs in use
            raise
    if job.returncode:
        lines = [x for x in log.read_text(encoding="utf-8").splitlines() if x.startswith("error: ")]
        reason = lines[-1].removeprefix("error: ") if lines else f"it ended with status {job.returncode}"
        raise InputError(f"{reason} (all of it: {log})")


@output_kept()
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="rankdistill compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a Python file with samplers or losses")
    parser.add_argument("overrides", nargs="*", help="of rankdistill train")
    parser.add_argument("--data", type=Path, action="append", metavar="FOLDER", help="in BEIR layout")
    parser.add_argument("--study", default="compare", help="of configs/study (default: compare)")
    parser.add_argument("--into", type=Path, help="a folder for runs and reports (default: outputs/<file>)")
    arguments = parser.parse_intermixed_args()
    end_on_signals()
    try:
        kind, own = parts_of(arguments.file)
        into = (arguments.into or Path("outputs") / arguments.file.stem).absolute()
        words = words_of(kind, own, arguments.study, into / "options", arguments.overrides)
        collections = {x.name: ["data=beir", f"data.path={x.absolute()}"] for x in arguments.data or ()}
        for name, data in (collections or {"python_functions": ["data=python_functions"]}).items():
            train([*words, *data], into / name, arguments.file.absolute().parent)
            comparison = report(into / name)
            print(f"\n{name}\n\n{reports.printed(comparison)}", flush=True)
            reports.write(comparison, into / name)
            print(f"\nThe tests of every pair, and more: {into / name / 'report.md'}", flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        print("\ninterrupted; start the same command again", file=sys.stderr)
        sys.exit(status_of(stopped))


if __name__ == "__main__":
    main()
