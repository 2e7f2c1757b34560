"""Spread and entropy of teacher scores, in whole pools and in the groups shown of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rankdistill.analysis.per_query import per_query, shown_table
from rankdistill.errors import InputError
from rankdistill.scores.table import ScoreTable

STATISTICS = (
    "variance",
    "std",
    "range",
    "entropy",
    "entropy_share",
    "pairwise_entropy",
    "top_gap",
    "near_ties",
)


@dataclass(frozen=True)
class Distribution:
    """Means over queries: ``std`` and ``range`` of the scores, ``entropy`` of their softmax in nats,
    ``entropy_share`` of the highest possible, log n."""

    std: float
    range: float
    entropy: float
    entropy_share: float


def statistics(scores: np.ndarray, near: float = 0.01) -> dict[str, np.ndarray]:
    """``STATISTICS``, each float64 (k,), of the teacher scores (k, n) of k queries, n > 1.

    ``std``, ``range`` and ``top_gap``, between the highest and the second, in the teacher's units,
    ``variance`` in their square; ``entropy`` of the softmax in nats and ``entropy_share`` of log n;
    ``pairwise_entropy`` in bits, the mean over the pairs i < j of the binary entropy of
    sigmoid(t_i - t_j) (arXiv 2505.21058): 1 where all scores are equal; ``near_ties``, the share of the
    n - 1 neighbours in score that are no further apart than ``near`` times the range.
    """
    x = -np.sort(-np.asarray(scores, dtype=np.float64), axis=1)  # highest first
    n = x.shape[1]
    spread = x[:, 0] - x[:, -1]
    p = np.exp(x - x[:, :1])
    p /= p.sum(axis=1, keepdims=True)
    entropy = 0.0 - (p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    variance = np.where(spread > 0, x.var(axis=1), 0.0)  # not what rounding the mean leaves
    pairs = sum(binary_entropy(x[:, :-lag] - x[:, lag:]).sum(axis=1) for lag in range(1, n))
    return {
        "variance": variance,
        "std": np.sqrt(variance),
        "range": spread,
        "entropy": entropy,
        "entropy_share": entropy / np.log(n),
        "pairwise_entropy": pairs / (n * (n - 1) / 2),
        "top_gap": x[:, 0] - x[:, 1],
        "near_ties": (x[:, :-1] - x[:, 1:] <= near * spread[:, None]).mean(axis=1),
    }


def binary_entropy(difference: np.ndarray) -> np.ndarray:
    """Of sigmoid(``difference``), in bits; ``difference`` of any shape and 0 or more."""
    e = np.exp(-difference)
    return (np.log1p(e) + difference * e / (1 + e)) / np.log(2)


def check_statistic(**named: str) -> None:
    """Raises ``InputError`` unless each of ``named`` is one of ``STATISTICS``."""
    for name, value in named.items():
        if value not in STATISTICS:
            raise InputError(f"{name}={value!r}: it must be one of {', '.join(STATISTICS)}")


def query_statistics(table: ScoreTable, near: float = 0.01) -> pd.DataFrame:
    """A row per query (see ``per_query``): how many ``documents``, and ``statistics`` of their scores.

    Of the groups that a sampler shows: ``query_statistics(shown_table(table, sampler))``.
    """
    return per_query(table, lambda places: statistics(table.scores[places], near))


def pool_distribution(table: ScoreTable) -> Distribution:
    """Of the whole pools of ``table``."""
    means = query_statistics(table).mean()
    return Distribution(*(float(means[name]) for name in Distribution.__dataclass_fields__))


def shown_distribution(table: ScoreTable, sampler, seed: int = 0) -> Distribution:
    """Of the groups that ``sampler`` shows of ``table`` in its first epoch."""
    return pool_distribution(shown_table(table, sampler, seed))


def score_histogram(tables: Mapping[str, ScoreTable], bins: int = 50) -> pd.DataFrame:
    """The density of each table's teacher scores (a column each) in ``bins`` equal intervals, the index.

    They span the middle 99.9 % of the first table's scores, or a little around the only one.
    """
    first = next(iter(tables.values())).scores
    low = float(np.quantile(first, 0.0005, method="lower"))
    high = float(np.quantile(first, 0.9995, method="higher"))
    if low == high:
        margin = max(0.5, 1e-6 * abs(low))
        low, high = low - margin, high + margin
    edges = np.linspace(low, high, bins + 1)  # float64: in float32 the edges of 1e8 to 1e8 + 16 are two
    density = {name: np.histogram(table.scores, edges, density=True)[0] for name, table in tables.items()}
    return pd.DataFrame(density, index=pd.IntervalIndex.from_breaks(edges, closed="left"))
