"""A learning rate that is searched: short runs of a stage at several rates, measured on dev queries.

A setting is searched once: its runs with other seeds take what the first one found, out of the cache.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from rankdistill.errors import InputError
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint, once
from rankdistill.runtime.environment import cache_folder
from rankdistill.runtime.folders import read_json, write_json
from rankdistill.training.arguments import NEEDS_DEV, steps_of
from rankdistill.training.dev import dev_collection
from rankdistill.training.trainer import DistillationTrainer

log = logging.getLogger(__name__)
AUTO = "auto"  # trainer.learning_rate: it is searched
FACTOR = math.sqrt(10)  # between two rates
MOST = 7  # rates that are tried
KEPT = "rates.json"


def search(measure: Callable[[float], float], start: float, before: float = -math.inf) -> dict[float, float]:
    """Rates and what they gave, the best one first; of equal ones the lower.

    ``start`` is tried, and the rates a factor of sqrt(10) below and above; as long as the best one is at an
    end, the next one there; while none gave more than ``before``, which is what no step at all gives, the
    next lower one; seven at most.
    """
    measures: dict[int, float] = {}

    def best() -> int:
        return max(sorted(measures), key=measures.__getitem__)

    for place in (0, -1, 1):
        measures[place] = measure(_rate(start, place))
    while len(measures) < MOST:
        lowest, place, highest = min(measures), best(), max(measures)
        if measures[place] <= before or place == lowest:
            beyond = lowest - 1
        elif place == highest:
            beyond = highest + 1
        else:
            break
        measures[beyond] = measure(_rate(start, beyond))
    first = best()
    order = [first, *(place for place in sorted(measures) if place != first)]
    return {_rate(start, place): measures[place] for place in order}


def _rate(start: float, place: int) -> float:
    return float(f"{start * FACTOR**place:.2g}")


@dataclass(frozen=True)
class Rates:
    """``of`` has the rates that were tried and what each gave on the dev queries, the best one first.

    They were tried with ``seed``, which may be another run's of the same setting.
    """

    of: dict[float, float]
    seed: int

    @property
    def best(self) -> float:
        """The rate to train at."""
        return next(iter(self.of))

    def said(self) -> dict[str, Any]:
        """What a run writes of them."""
        return {"seed": self.seed, "rates": {str(rate): value for rate, value in self.of.items()}}


def searched_rates(
    student, table, stage, more: Mapping[str, Any], dev: Mapping[str, Any], setting: str
) -> Rates:
    """``search`` for ``stage``, on copies of ``student``; kept in the stage's folder, and read from there.

    ``more`` are the Trainer's further fields, ``dev`` its ``eval_dataset``, ``evaluator`` and
    ``eval_candidates``. ``setting`` is equal for runs that differ in their seed alone, one of which searches.
    Each rate makes all of the stage's steps: distillation may be below its start for half of them, and until
    then a rate at which little happens is the best. A rate at which training diverges measures -inf. Pools
    are not refreshed. Raises ``InputError`` if each one does.
    """
    if (rates := kept_rates(stage.folder)) is not None:
        return rates
    how = "whole stages, down to the start"  # of the search, which another version may do otherwise
    key = fingerprint(how, setting, stage.name, stage.arguments.world_size)
    path = cache_folder() / "rates" / f"{key}.json"
    with once(path) as missing:
        if missing:
            rates = Rates(_tried(student, table, stage, more, dev), stage.arguments.seed)
            if processes.is_main():
                _write(path, rates)
    if rates is None:
        rates = _read(path)
        log.info("%s: learning rate %g, searched with seed %d (%s)", stage.name, rates.best, rates.seed, path)
    if processes.is_main():
        stage.folder.mkdir(parents=True, exist_ok=True)
        _write(stage.folder / KEPT, rates)
    processes.wait()
    return rates


def _tried(student, table, stage, more: Mapping[str, Any], dev: Mapping[str, Any]) -> dict[float, float]:
    steps = steps_of(stage.arguments, len(table))
    evaluator, begun = dev["evaluator"], perf_counter()
    queries = dev_collection(table, dev["eval_dataset"])

    def measure(rate: float) -> float:
        trial, arguments = copy.deepcopy(student), copy.copy(stage.arguments)
        changed: dict[str, Any] = {
            **dict.fromkeys(NEEDS_DEV),
            "learning_rate": rate,
            "eval_strategy": IntervalStrategy.NO,
            "save_strategy": SaveStrategy.NO,
            "logging_strategy": IntervalStrategy.NO,
            "report_to": [],
            "disable_tqdm": True,
        }
        for name, value in changed.items():
            setattr(arguments, name, value)
        with hushed():
            trainer = DistillationTrainer(
                trial,
                table,
                stage.sampler,
                copy.deepcopy(stage.loss),
                arguments,
                step_teacher=copy.deepcopy(stage.step_teacher),
                order=stage.order,
                **more,
            )
            try:
                trainer.train()
                means = evaluator.evaluate(trial, *queries, candidates=dev["eval_candidates"]).mean
            except InputError:  # a loss or a score that is not finite
                return -math.inf
        return means[evaluator.main]

    start = evaluator.evaluate(student, *queries, candidates=dev["eval_candidates"]).mean[evaluator.main]
    rates = search(measure, stage.arguments.learning_rate, start)
    rate = next(iter(rates))
    log.info(
        "%s: learning rate %g; after %d steps each, %s on the dev queries: %s; %.4f before (%.0f s)",
        stage.name,
        rate,
        steps,
        evaluator.main,
        ", ".join(f"{rates[tried]:.4f} at {tried:g}" for tried in sorted(rates)),
        start,
        perf_counter() - begun,
    )
    if rates[rate] == -math.inf:
        raise InputError(f"{stage.name}: trainer.learning_rate=auto: training diverges at each rate tried")
    if rates[rate] <= start:
        log.warning(
            "%s: at no rate that was tried is the student better on the dev queries than before; leave "
            "the stage out, or try another loss or teacher",
            stage.name,
        )
    return rates


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing up to a warning is logged in here, which the stage itself says again."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def kept_rates(folder: Path) -> Rates | None:
    """What ``searched_rates`` found for the stage of ``folder``; None if nothing was searched there."""
    return _read(folder / KEPT) if (folder / KEPT).exists() else None


def _write(path: Path, rates: Rates) -> None:
    write_json(path, rates.said() | {"checksum": fingerprint(rates.said())})


def _read(path: Path) -> Rates:
    remedy = f"delete {path} to search again"
    kept = read_json(path, dict, remedy)
    try:
        rates = Rates({float(rate): float(value) for rate, value in kept["rates"].items()}, int(kept["seed"]))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); {remedy}") from None
    if kept.get("checksum") != fingerprint(rates.said()):
        raise InputError(f"{path}: damaged (its checksum is not that of its rates); {remedy}")
    return rates
