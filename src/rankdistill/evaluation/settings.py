"""What runs that differ in nothing but the seed have in common."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from rankdistill.errors import InputError
from rankdistill.evaluation.training_runs import TrainingRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What the runs that differ in nothing but the seed have in common.

    ``values``: of the swept fields; ``names``: what these are called, paths by their ends;
    ``by_seed``: measure -> the mean of each seed's run(s); ``per_query``:
    measure -> query id -> mean over the seeds; ``per_run``: measure -> float64 (S, Q), each seed's value of
    each query, in the order of ``seeds`` and of ``per_query``. ``evaluated`` is equal where queries of equal
    ids are the same queries of the same collection. ``batches``: each stage and the queries of its batch,
    where all runs have the same. ``tasks``: what its runs measured, as ``TrainingRun`` has it.
    ``curve``: measure -> step -> each seed's mean over the dev queries, of the
    steps that all runs measured.
    ``before``: measure -> the mean over the runs before training, where all have it.
    """

    values: tuple[str, ...]
    seeds: tuple[int, ...]
    by_seed: Mapping[str, Sequence[float]]
    per_query: Mapping[str, Mapping[str, float]]
    per_run: Mapping[str, np.ndarray]
    evaluated: str = ""
    batches: tuple[tuple[str, int], ...] = ()
    curve: Mapping[str, Mapping[int, Sequence[float]]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    tasks: frozenset[str] = frozenset()
    before: Mapping[str, float] = field(default_factory=dict)

    def queries(self, measure: str) -> tuple[str, frozenset[str]]:
        """Equal for two settings that can be compared in pairs of queries."""
        return self.evaluated, frozenset(self.per_query[measure])

    def runs_of(self, measure: str, queries: Iterable[str], seeds: Sequence[int]) -> np.ndarray:
        """``per_run`` of ``measure``, in the order of ``queries`` and ``seeds``, float64 (S, Q)."""
        place = {query: i for i, query in enumerate(self.per_query[measure])}
        rows = [self.seeds.index(seed) for seed in seeds]
        return self.per_run[measure][np.ix_(rows, [place[query] for query in queries])]


def settings_of(
    runs: Sequence[TrainingRun], swept: tuple[str, ...], measures: tuple[str, ...]
) -> list[Setting]:
    """A setting for each combination of values of ``swept``; the later of two runs with one seed counts.

    Raises ``InputError`` if the seeds of one were measured on different queries.
    """
    groups: dict[tuple, dict[int, TrainingRun]] = defaultdict(dict)
    for run in runs:
        values = tuple(run.value(name) for name in swept)
        if run.seed in groups[values]:
            log.warning(
                "%s: the same setting and seed as %s; the later counts",
                run.folder,
                groups[values][run.seed].folder,
            )
        groups[values][run.seed] = run
    settings = []
    for values, by_seed in groups.items():
        measured = [run.per_query["after"] for run in by_seed.values()]
        evaluated = {run.evaluated for run in by_seed.values()}
        if len({frozenset(one[measures[0]]) for one in measured}) > 1 or len(evaluated) > 1:
            raise InputError(f"{' '.join(values)}: its seeds were measured on different queries")
        per_run = {m: np.array([[one[m][q] for q in measured[0][m]] for one in measured]) for m in measures}
        per_query = {
            m: dict(zip(measured[0][m], per_run[m].mean(axis=0).tolist(), strict=True)) for m in measures
        }
        means = {m: [float(np.mean(list(one[m].values()))) for one in measured] for m in measures}
        batches = {
            tuple((stage, batch["queries"]) for stage, batch in run.batches.items())
            for run in by_seed.values()
        }
        alike = batches.pop() if len(batches) == 1 else ()
        curves = [run.curve for run in by_seed.values()]
        settings.append(
            Setting(
                values,
                tuple(by_seed),
                means,
                per_query,
                per_run,
                evaluated.pop(),
                alike,
                {measure: _shared([curve.get(measure, {}) for curve in curves]) for measure in measures},
                tasks=frozenset(run.task for run in by_seed.values()),
                before=_means_before(list(by_seed.values()), measures),
            )
        )
    return settings


def _means_before(runs: Sequence[TrainingRun], measures: Sequence[str]) -> dict[str, float]:
    """Measure -> mean over the queries and ``runs``, of the measures that all have of ``before``."""
    found = [run.per_query.get("before", {}) for run in runs]
    return {
        m: float(np.mean([list(one[m].values()) for one in found]))
        for m in measures
        if all(m in one for one in found)
    }


def _shared(curves: Sequence[Mapping[int, float]]) -> dict[int, list[float]]:
    """Each one's value, by the steps that all of ``curves`` have."""
    steps = [step for step in curves[0] if all(step in curve for curve in curves)]
    return {step: [curve[step] for curve in curves] for step in sorted(steps)}


def _averaged(curves: Sequence[Mapping[int, Sequence[float]]]) -> dict[int, list[float]]:
    """The mean over ``curves`` of each seed's value, by the steps that all have."""
    steps = [step for step in curves[0] if all(step in curve for curve in curves)]
    return {step: np.mean([curve[step] for curve in curves], axis=0).tolist() for step in steps}


def averaged_settings(
    settings: Sequence[Setting], swept: tuple[str, ...], by: tuple[str, ...]
) -> list[Setting]:
    """A setting for each combination of the fields ``by``: the mean over what else was ``swept``.

    Raises ``InputError`` for a field that was not swept, or where a run is missing from a mean.
    """
    for name in by:
        if name == "seed":
            raise InputError(
                "by seed: settings are compared by the mean over their seeds; name other fields"
                + (f": {', '.join(swept)}" if swept else ", of which none was swept")
            )
        if name not in swept:
            raise InputError(f"by {name}: was not swept; {', '.join(swept) or 'nothing'} was")
    columns = [swept.index(name) for name in by]
    others = [i for i in range(len(swept)) if i not in columns]
    groups: dict[tuple, dict[tuple, Setting]] = defaultdict(dict)
    for one in settings:
        groups[tuple(one.values[i] for i in columns)][tuple(one.values[i] for i in others)] = one
    wanted = set(
        product(
            {rest for group in groups.values() for rest in group}, {s for one in settings for s in one.seeds}
        )
    )
    averaged = []
    for values, group in groups.items():
        lacking = wanted - {(rest, seed) for rest, one in group.items() for seed in one.seeds}
        if lacking:
            rest, seed = min(lacking)
            raise InputError(
                f"by {' '.join(by)}: {' '.join((*values, *rest))} has no run with seed {seed} in the table, "
                "and means over unlike runs are not compared; finish the sweep, or leave by out"
            )
        members = list(group.values())
        seeds = members[0].seeds
        if len({m.queries(measure) for m in members for measure in m.per_query}) > 1:
            raise InputError(f"by {' '.join(by)}: {' '.join(values)} was measured on different queries")
        by_seed = {
            measure: [
                float(np.mean([m.by_seed[measure][m.seeds.index(seed)] for m in members])) for seed in seeds
            ]
            for measure in members[0].by_seed
        }
        per_query = {
            measure: {q: float(np.mean([m.per_query[measure][q] for m in members])) for q in queries}
            for measure, queries in members[0].per_query.items()
        }
        batches = {m.batches for m in members}
        alike = batches.pop() if len(batches) == 1 else ()
        per_run = {
            measure: np.mean([m.runs_of(measure, queries, seeds) for m in members], axis=0)
            for measure, queries in members[0].per_query.items()
        }
        curve = {m: _averaged([one.curve[m] for one in members]) for m in by_seed}
        averaged.append(
            Setting(
                values,
                seeds,
                by_seed,
                per_query,
                per_run,
                members[0].evaluated,
                alike,
                curve,
                tasks=frozenset().union(*(m.tasks for m in members)),
                before={
                    measure: float(np.mean([m.before[measure] for m in members]))
                    for measure in by_seed
                    if all(measure in m.before for m in members)
                },
            )
        )
    return averaged
