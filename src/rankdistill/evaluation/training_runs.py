"""What the runs of rankdistill train left in their folders."""

import csv
import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.folders import RESULTS, check, files_of, finished_conditions, plain, read_json

PROCESSES = "processes"  # of a run, beside the fields of its configuration
SEARCHED = "teacher:search"  # a bi-encoder teacher's own search of all documents, beside its reranking
SEARCH, RERANKING = "search", "reranking"  # what a run measured; the latter with its candidates' fingerprint
PARTS = ("sampler", "loss", "teacher")  # what a configuration of rankdistill train has, and no other


@dataclass(frozen=True)
class TrainingRun:
    """One run's folder; ``missing`` says why there are no measures, where there are none.

    ``overrides``: what was set on the command line, less the seed, or every field of a run from Python;
    ``config`` the whole configuration and ``choices`` the option of each of its groups. ``per_query``:
    system -> measure -> query id -> value. ``conditions``: versions, hardware and fingerprints, as the run
    noted them; ``evaluated`` is equal for two runs that measured the same queries of the same collection,
    ``task`` for two whose students did the same there; "" in a run of an earlier version.
    ``batches``: of each stage the ``queries`` of a batch, and the number of ``processes`` that share it; none
    in a run of an earlier version. ``curve``: measure -> step -> mean over the dev queries, where these were
    measured while training.
    """

    folder: Path
    overrides: Mapping[str, str]
    config: DictConfig
    choices: Mapping[str, str]
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
    conditions: Mapping[str, str]
    missing: str = ""
    evaluated: str = ""
    batches: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    curve: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    task: str = ""

    @property
    def seed(self) -> int:
        return int(self.config.seed)

    @property
    def processes(self) -> set[int]:
        """How many processes trained; empty where the run does not say."""
        return {batch["processes"] for batch in self.batches.values()}

    def fields(self) -> dict[str, str]:
        """Every field of the configuration by its full name, as it is written."""
        return {
            name: json.dumps(value) if value is None or isinstance(value, bool) else str(value)
            for name, value in _flat(plain(self.config)).items()
        }

    def value(self, name: str) -> str:
        """Of the field or group ``name``, set or not; ``-`` where the run has none of that name.

        ``processes`` is no field, but what the run was started with.
        """
        if name == PROCESSES:
            return next((f"{n} process{'es' * (n > 1)}" for n in self.processes), "-")
        if name in self.choices:
            return str(self.choices[name])
        selected = OmegaConf.select(self.config, name, default="-")
        if OmegaConf.is_config(selected) and name in self.overrides:
            return self.overrides[name]  # as it was written
        return json.dumps(selected) if selected is None or isinstance(selected, bool) else str(selected)


def read_runs(folder: Path) -> list[TrainingRun]:
    """The runs of rankdistill train under ``folder``, in the order of their folders' names.

    One of which a file is damaged is there too, and ``missing`` says which.
    """
    files = [*folder.rglob("run.json"), *folder.rglob("conditions.json")]
    files += [hydra.parent for hydra in folder.rglob(".hydra/overrides.yaml")]  # of an earlier version
    places = sorted({file.parent for file in files}, key=lambda p: [(len(x), x) for x in p.parts])
    runs: list[TrainingRun | None] = [
        TrainingRun(place, {}, OmegaConf.create(), {}, {}, {}, "it cannot be read: check its permissions")
        for place in _closed(folder)
    ]
    for place in places:
        try:
            runs.append(_read(place))
        except (InputError, OSError) as error:
            message = str(error)
            if isinstance(error, OSError):
                message = f"{error.filename or place}: cannot be read ({error.strerror})"
            message = message.removeprefix(f"{place}/")
            runs.append(TrainingRun(place, {}, OmegaConf.create(), {}, {}, {}, message))
    return [run for run in runs if run is not None]


def _closed(folder: Path) -> list[Path]:
    """The folders under ``folder`` whose files cannot be listed."""
    closed: list[Path] = []
    for _ in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        pass
    return closed if folder.is_dir() else []


def _read(place: Path) -> TrainingRun | None:
    """The run in ``place``, None if it is another command's; raises ``InputError`` for a damaged file."""
    remedy = "run it again"
    conditions = finished_conditions(place) or {}
    if (place / "run.json").exists() or "files" in conditions:
        check(
            place, {"run.json": files_of(conditions, place).get("run.json", "")} if conditions else {}, remedy
        )
        record = read_json(place / "run.json", dict, remedy)
        config, overrides, choices = _told(place / "run.json", record, remedy)
    elif (place / ".hydra").is_dir():
        config, overrides, choices = _told_by_hydra(place / ".hydra")
    else:
        return None
    if not set(PARTS) <= set(config):
        return None
    if conditions and fingerprint(plain(config)) != conditions.get("settings"):
        raise InputError(
            f"{place}: what it says of its settings is not what it ran with: another command was started "
            "in the same folder later; run it again in a folder of its own"
        )
    measured = {name: value for name, value in conditions.items() if isinstance(value, str)}
    run = TrainingRun(place, overrides, config, choices, {}, measured, "" if conditions else _why(place))
    if not conditions:
        return run
    files = files_of(conditions, place)
    check(place, {name: files[name] for name in RESULTS if name in files}, remedy)
    split = OmegaConf.select(config, "evaluation.split")
    evaluated = conditions.get("evaluated") or f"{conditions.get('collection')} {split}"
    measured.pop("evaluated", None)
    task = measured.pop("task", "")
    per_query = _per_query(place / "per_query.csv", remedy)
    batches = _batches(conditions, place / "conditions.json", remedy)
    curve = _curve(place / "history.json", remedy)
    parts = place, overrides, config, choices, per_query, measured
    return TrainingRun(*parts, evaluated=evaluated, batches=batches, curve=curve, task=task)


def _told(path: Path, record: Mapping, remedy: str) -> tuple[DictConfig, dict[str, str], dict[str, str]]:
    """Configuration, overrides and choices, from what ``RunFolder`` wrote."""
    config, words, choices = (record.get(name) for name in ("config", "overrides", "choices"))
    if not isinstance(config, dict) or not isinstance(words, list | None) or not isinstance(choices, dict):
        raise InputError(f"{path}: damaged (no configuration); {remedy}")
    own = {name: str(value) for name, value in _flat(config).items()}  # of a run that Python started
    overrides = own if words is None else _overrides(words)
    overrides.pop("seed", None)
    return OmegaConf.create(config), overrides, choices


def _told_by_hydra(folder: Path) -> tuple[DictConfig, dict[str, str], dict[str, str]]:
    """The same from Hydra's files, which every command in a folder used to overwrite."""
    try:
        config = OmegaConf.create(plain(cast(DictConfig, OmegaConf.load(folder / "config.yaml"))))
        words: Any = OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml"))
        choices = OmegaConf.select(OmegaConf.load(folder / "hydra.yaml"), "hydra.runtime.choices")
        overrides = _overrides(words)
        overrides.pop("seed", None)
        return config, overrides, dict(choices)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: missing; run it again") from None
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(f"{folder}: damaged ({reason}); run it again") from None


def _overrides(words: list) -> dict[str, str]:
    parts = (str(word).lstrip("+~").partition("=") for word in words)
    return {name: value for name, _, value in parts}


def _flat(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """Every field of a configuration by its full name."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            fields |= _flat(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def _batches(conditions: Mapping, path: Path, remedy: str) -> dict[str, dict[str, int]]:
    try:
        return {
            stage: {name: int(batch[name]) for name in ("queries", "processes")}
            for stage, batch in conditions.get("batches", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: damaged (batches); {remedy}") from None


def _curve(path: Path, remedy: str) -> dict[str, dict[int, float]]:
    """Measure -> step -> value of the dev queries; {} where none were measured, or by an earlier version."""
    curve: dict[str, dict[int, float]] = defaultdict(dict)
    try:
        for row in read_json(path, list, remedy) if path.exists() else []:
            for name, value in row.items():
                if name.startswith("eval_") and name != "eval_runtime":
                    curve[name.removeprefix("eval_")][int(row["step"])] = float(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: damaged (measures of steps); {remedy}") from None
    return dict(curve)


def _per_query(path: Path, remedy: str) -> dict[str, dict[str, dict[str, float]]]:
    """System -> measure -> query id -> value; raises ``InputError`` for a file that isn't whole."""
    per_query: dict = defaultdict(dict)
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines, strict=True):
                query = row.pop("query_id")
                for column, value in row.items():
                    measure, system = column.rsplit(" ", 1)
                    if value == "" and system.startswith("teacher"):  # it scored only some of the queries
                        continue
                    number = per_query[system].setdefault(measure, {})[query] = float(value)
                    if not math.isfinite(number):
                        raise ValueError(f"{value} of {query}")
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: damaged ({' '.join(str(error).split())}); {remedy}") from None
    if not per_query.get("after"):
        raise InputError(f"{path}: damaged (no measures of after); {remedy}")
    return per_query


def _why(place: Path) -> str:
    """The error that a run ended with, from its log."""
    logs = sorted(place.glob("*.log"))
    lines = [line for log in logs for line in log.read_text("utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if "[ERROR]" in line]
    return errors[-1].partition("[ERROR] - ")[2] if errors else "unfinished: killed, or still running"
