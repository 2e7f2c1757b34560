"""Spread and entropy of teacher scores, in whole pools and in the groups shown of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rankdistill.data.scores import ScoreTable
from rankdistill.evaluation.significance import compare


@dataclass(frozen=True)
class Distribution:
    """Means over queries: ``std`` and ``range`` of the scores, ``entropy`` of their softmax in nats,
    ``entropy_share`` of the highest possible, log n."""

    std: float
    range: float
    entropy: float
    entropy_share: float


def statistics(scores: np.ndarray) -> tuple[float, float, float, float]:
    """``Distribution``'s fields, in its order, of one query's teacher scores (n,), n > 1."""
    x = np.asarray(scores, dtype=np.float64)
    p = np.exp(x - x.max())
    p /= p.sum()
    entropy = float(-(p * np.log(np.where(p > 0, p, 1))).sum())
    return float(x.std()), float(np.ptp(x)), entropy, entropy / np.log(len(x))


def describe(scores: list[np.ndarray]) -> Distribution:
    """Of one array of teacher scores (n,) a query; those with fewer than two are left out."""
    rows = [statistics(values) for values in scores if len(values) > 1]
    return Distribution(*(float(value) for value in np.mean(rows, axis=0)))


def group_scores(table: ScoreTable, sampler, seed: int = 0, epoch: int = 0) -> list[np.ndarray]:
    """The teacher's scores (G,) of the group that ``sampler`` shows of each query in ``epoch``."""
    from rankdistill.training.groups import TrainingGroups

    groups = TrainingGroups(table, sampler, seed)
    return [groups[epoch * len(groups) + i].teacher for i in range(len(groups))]


def pool_distribution(table: ScoreTable) -> Distribution:
    """Of the whole pools of ``table``."""
    return describe([table.pool(i)[1] for i in range(len(table))])


def shown_distribution(table: ScoreTable, sampler, seed: int = 0) -> Distribution:
    """Of the groups that ``sampler`` shows of ``table`` in its first epoch."""
    return describe(group_scores(table, sampler, seed))


def compare_samplers(table: ScoreTable, samplers: Mapping[str, object], seed: int = 0) -> pd.DataFrame:
    """How much of the pools' spread and entropy each sampler's groups keep, before any training.

    A row for each statistic of ``Distribution`` and each of ``samplers`` (name -> sampler): its
    mean over the queries' whole ``pool``s and over the groups ``shown`` in the first epoch; ``off``,
    the mean distance of the two within a query; and the mean ``difference`` of the groups from
    those of the first sampler, paired by query, with its 95 % interval ``low`` to ``high``. Queries
    of which a sampler shows fewer than two documents are left out for all.
    """
    pools = [table.pool(i)[1] for i in range(len(table))]
    pools = [pool for pool in pools if len(pool) > 1]
    groups = {name: group_scores(table, sampler, seed) for name, sampler in samplers.items()}
    queries = [i for i in range(len(pools)) if all(len(shown[i]) > 1 for shown in groups.values())]
    of_pool = np.array([statistics(pools[i]) for i in queries])
    of_group = {name: np.array([statistics(shown[i]) for i in queries]) for name, shown in groups.items()}
    first = next(iter(of_group.values()))
    rows = {}
    for column, statistic in enumerate(Distribution.__dataclass_fields__):
        for name, found in of_group.items():
            pool, shown = of_pool[:, column], found[:, column]
            gap = compare(dict(enumerate(first[:, column])), dict(enumerate(shown)))
            rows[statistic, name] = {
                "pool": pool.mean(),
                "shown": shown.mean(),
                "off": np.abs(shown - pool).mean(),
                "difference": gap.difference,
                "low": gap.low,
                "high": gap.high,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["statistic", "sampler"])
