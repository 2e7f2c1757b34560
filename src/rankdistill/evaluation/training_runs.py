"""What the runs of rankdistill.train left in their folders."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf


@dataclass(frozen=True)
class TrainingRun:
    """One run's folder; ``missing`` says why there are no measures, where there are none.

    ``overrides``: what was set on the command line, less the seed. ``per_query``: system -> measure
    -> query id -> value. ``conditions``: versions, hardware and fingerprints, as the run noted them.
    """

    folder: Path
    overrides: Mapping[str, str]
    seed: int
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
    conditions: Mapping[str, str]
    missing: str = ""


def read_runs(folder: Path) -> list[TrainingRun]:
    """The runs of rankdistill.train under ``folder``, in the order of their folders' names."""
    files = folder.rglob(".hydra/overrides.yaml")
    places = sorted((f.parents[1] for f in files), key=lambda p: [(len(x), x) for x in p.parts])
    return [_read(place) for place in places if _is_training(place)]


def _is_training(place: Path) -> bool:
    config = OmegaConf.load(place / ".hydra" / "config.yaml")
    return {"sampler", "loss", "teacher"} <= set(config)


def _read(place: Path) -> TrainingRun:
    overrides = {}
    for override in OmegaConf.load(place / ".hydra" / "overrides.yaml"):
        name, _, value = str(override).lstrip("+~").partition("=")
        overrides[name] = value
    overrides.pop("seed", None)
    seed = int(OmegaConf.load(place / ".hydra" / "config.yaml").seed)
    noted = place / "conditions.json"
    conditions = json.loads(noted.read_text()) if noted.exists() else {}
    if not (place / "metrics.json").exists():
        return TrainingRun(place, overrides, seed, {}, conditions, _why(place))
    per_query: dict = defaultdict(lambda: defaultdict(dict))
    with open(place / "per_query.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            query = row.pop("query_id")
            for column, value in row.items():
                measure, system = column.rsplit(" ", 1)
                per_query[system][measure][query] = float(value)
    return TrainingRun(place, overrides, seed, per_query, conditions)


def _why(place: Path) -> str:
    """The error that a run ended with, from its log."""
    logs = place.glob("*.log")
    errors = [line for log in logs for line in log.read_text().splitlines() if "[ERROR]" in line]
    return errors[-1].partition("[ERROR] - ")[2] if errors else "unfinished: killed, or still running"
