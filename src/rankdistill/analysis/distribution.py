"""Spread and entropy of teacher scores, in whole pools and in the groups shown of them."""

from dataclasses import dataclass

import numpy as np

from rankdistill.data.scores import ScoreTable


@dataclass(frozen=True)
class Distribution:
    """Means over queries: ``std`` and ``range`` of the scores, ``entropy`` of their softmax in nats,
    ``entropy_share`` of the highest possible, log n."""

    std: float
    range: float
    entropy: float
    entropy_share: float


def describe(scores: list[np.ndarray]) -> Distribution:
    """Of one array of teacher scores (n,) a query; those with fewer than two are left out."""
    rows = []
    for values in scores:
        if len(values) > 1:
            x = np.asarray(values, dtype=np.float64)
            p = np.exp(x - x.max())
            p /= p.sum()
            entropy = float(-(p * np.log(np.where(p > 0, p, 1))).sum())
            rows.append((x.std(), np.ptp(x), entropy, entropy / np.log(len(x))))
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
