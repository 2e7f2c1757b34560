"""What the runs of rankdistill.train left in their folders."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class TrainingRun:
    """One run's folder; ``missing`` says why there are no measures, where there are none.

    ``overrides``: what was set on the command line, less the seed; ``config`` the whole configuration and
    ``choices`` the option of each of its groups. ``per_query``: system -> measure -> query id -> value.
    ``conditions``: versions, hardware and fingerprints, as the run noted them.
    """

    folder: Path
    overrides: Mapping[str, str]
    config: DictConfig
    choices: Mapping[str, str]
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
    conditions: Mapping[str, str]
    missing: str = ""

    @property
    def seed(self) -> int:
        return int(self.config.seed)

    def value(self, name: str) -> str:
        """Of the field or group ``name``, set or not; ``-`` where the run has none of that name."""
        if name in self.choices:
            return str(self.choices[name])
        found = OmegaConf.select(self.config, name, default="-")
        if OmegaConf.is_config(found) and name in self.overrides:
            return self.overrides[name]  # as it was written
        return json.dumps(found) if found is None or isinstance(found, bool) else str(found)


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
    config = OmegaConf.load(place / ".hydra" / "config.yaml")
    choices = OmegaConf.select(OmegaConf.load(place / ".hydra" / "hydra.yaml"), "hydra.runtime.choices")
    noted = place / "conditions.json"
    conditions = json.loads(noted.read_text()) if noted.exists() else {}
    per_query: dict = defaultdict(dict)
    if not (place / "metrics.json").exists():
        return TrainingRun(place, overrides, config, dict(choices), per_query, conditions, _why(place))
    with open(place / "per_query.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            query = row.pop("query_id")
            for column, value in row.items():
                measure, system = column.rsplit(" ", 1)
                per_query[system].setdefault(measure, {})[query] = float(value)
    return TrainingRun(place, overrides, config, dict(choices), per_query, conditions)


def _why(place: Path) -> str:
    """The error that a run ended with, from its log."""
    logs = place.glob("*.log")
    errors = [line for log in logs for line in log.read_text().splitlines() if "[ERROR]" in line]
    return errors[-1].partition("[ERROR] - ")[2] if errors else "unfinished: killed, or still running"
