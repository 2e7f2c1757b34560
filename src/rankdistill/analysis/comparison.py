"""Samplers side by side: what their groups keep of the teacher's scores in the pools."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rankdistill.analysis.distribution import STATISTICS, check_statistic, query_statistics
from rankdistill.analysis.per_query import offered, shown_table
from rankdistill.errors import InputError
from rankdistill.evaluation.significance import compare
from rankdistill.scores.table import ScoreTable


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
        for name, statistics in shown.items():
            difference, half = _paired(first[statistic], statistics[statistic])
            rows[statistic, name] = {
                "pool": pool[statistic].mean(),
                "shown": statistics[statistic].mean(),
                "off": (statistics[statistic] - pool[statistic]).abs().mean(),
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
    first epoch, their ratio ``kept``, and its 95 % interval ``low`` to ``high`` over the ``queries``, pool
    and group paired (by the linearised variance of a ratio of means, Cochran 1977, chapter 6; NaN of one
    query).
    """
    pool, shown = _aligned(table, samplers, seed)
    rows = {}
    for statistic in statistics:
        check_statistic(statistic=statistic)
        whole = pool[statistic].mean()
        for name, values in shown.items():
            share = values[statistic].mean() / whole if whole > 0 else np.nan
            half = _paired(share * pool[statistic], values[statistic])[1] / whole if whole > 0 else np.nan
            rows[statistic, name] = {
                "pool": whole,
                "shown": values[statistic].mean(),
                "kept": share,
                "low": share - half,
                "high": share + half,
                "queries": len(values),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["statistic", "sampler"])


def _aligned(table: ScoreTable, samplers: Mapping[str, object], seed: int):
    """``query_statistics`` of the pools and of each sampler's groups, for the queries that all have."""
    if not samplers:
        raise InputError("samplers: none to compare; give a name and a sampler each")
    pool = query_statistics(offered(table))
    shown = {name: query_statistics(shown_table(table, sampler, seed)) for name, sampler in samplers.items()}
    shared = pool.index[
        [all(query in statistics.index for statistics in shown.values()) for query in pool.index]
    ]
    return pool.loc[shared], {name: statistics.loc[shared] for name, statistics in shown.items()}


def _paired(first: pd.Series, second: pd.Series) -> tuple[float, float]:
    """The mean of ``second`` - ``first`` and half its 95 % interval, NaN of one query."""
    if len(first) < 2:
        return float((second - first).mean()), np.nan
    comparison = compare(first, second)
    return comparison.difference, (comparison.high - comparison.low) / 2
