"""Spread and entropy of teacher scores, in whole pools and in the groups shown of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rankdistill.analysis.per_query import per_query, shown_table
from rankdistill.data.scores import ScoreTable
from rankdistill.errors import InputError
from rankdistill.evaluation.significance import compare

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

    ``variance``, ``std`` and ``range`` in the teacher's units; ``entropy`` of the softmax in nats and
    ``entropy_share`` of log n; ``pairwise_entropy`` in bits, the mean over the pairs i < j of the binary
    entropy of sigmoid(t_i - t_j) (arXiv 2505.21058): 1 where all scores are equal; ``top_gap`` between the
    highest and the second; ``near_ties``, the share of the n - 1 neighbours in score that are no further
    apart than ``near`` times the range.
    """
    x = -np.sort(-np.asarray(scores, dtype=np.float64), axis=1)  # highest first
    n = x.shape[1]
    spread = x[:, 0] - x[:, -1]
    p = np.exp(x - x[:, :1])
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    variance = x.var(axis=1)
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

    They span the middle 99.9 % of the first table's scores.
    """
    first = next(iter(tables.values())).scores
    edges = np.histogram_bin_edges(first, bins, tuple(np.quantile(first, [0.0005, 0.9995]).tolist()))
    density = {name: np.histogram(one.scores, edges, density=True)[0] for name, one in tables.items()}
    return pd.DataFrame(density, index=pd.IntervalIndex.from_breaks(edges, closed="left"))


def compare_samplers(table: ScoreTable, samplers: Mapping[str, object], seed: int = 0) -> pd.DataFrame:
    """How much of the pools' spread and entropy each sampler's groups keep, before any training.

    A row for each of ``STATISTICS`` and each of ``samplers`` (name -> sampler): its mean over the
    queries' whole ``pool``s and over the groups ``shown`` in the first epoch; ``off``, the mean
    distance of the two within a query; and the mean ``difference`` of the groups from those of the
    first sampler, paired by query, with its 95 % interval ``low`` to ``high`` (NaN of one query).
    Queries of which a sampler shows fewer than two documents are left out for all.
    """
    pool, shown = _aligned(table, samplers, seed)
    first = next(iter(shown.values()))
    rows = {}
    for statistic in STATISTICS:
        for name, found in shown.items():
            difference, half = _paired(first[statistic], found[statistic])
            rows[statistic, name] = {
                "pool": pool[statistic].mean(),
                "shown": found[statistic].mean(),
                "off": (found[statistic] - pool[statistic]).abs().mean(),
                "difference": difference,
                "low": difference - half,
                "high": difference + half,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["statistic", "sampler"])


def kept_shares(
    table: ScoreTable,
    samplers: Mapping[str, object],
    statistics: tuple[str, ...] = ("variance", "entropy", "range"),
    seed: int = 0,
) -> pd.DataFrame:
    """Which share of the pools' ``statistics`` the groups of each sampler keep.

    A row for each statistic and sampler: the means over the ``pool``s and over the groups ``shown`` in the
    first epoch, their ratio ``kept``, and its 95 % interval ``low`` to ``high`` over the queries, pool and
    group paired (by the linearised variance of a ratio of means, Cochran 1977, chapter 6; NaN of one query).
    """
    pool, shown = _aligned(table, samplers, seed)
    rows = {}
    for statistic in statistics:
        check_statistic(statistic=statistic)
        whole = pool[statistic].mean()
        for name, found in shown.items():
            kept = found[statistic].mean() / whole if whole > 0 else np.nan
            half = _paired(kept * pool[statistic], found[statistic])[1] / whole if whole > 0 else np.nan
            rows[statistic, name] = {
                "pool": whole,
                "shown": found[statistic].mean(),
                "kept": kept,
                "low": kept - half,
                "high": kept + half,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["statistic", "sampler"])


def check_statistic(**named: str) -> None:
    """Raises ``InputError`` unless each of ``named`` is one of ``STATISTICS``."""
    for name, value in named.items():
        if value not in STATISTICS:
            raise InputError(f"{name}={value!r}: it is one of {', '.join(STATISTICS)}")


def _aligned(table: ScoreTable, samplers: Mapping[str, object], seed: int):
    """``query_statistics`` of the pools and of each sampler's groups, for the queries that all have."""
    if not samplers:
        raise InputError("samplers: none to compare; give a name and a sampler each")
    pool = query_statistics(table)
    shown = {name: query_statistics(shown_table(table, sampler, seed)) for name, sampler in samplers.items()}
    shared = pool.index[[all(query in found.index for found in shown.values()) for query in pool.index]]
    return pool.loc[shared], {name: found.loc[shared] for name, found in shown.items()}


def _paired(first: pd.Series, second: pd.Series) -> tuple[float, float]:
    """The mean of ``second`` - ``first`` and half its 95 % interval, NaN of one query."""
    if len(first) < 2:
        return float((second - first).mean()), np.nan
    found = compare(first.to_dict(), second.to_dict())
    return found.difference, (found.high - found.low) / 2
