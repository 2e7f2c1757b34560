"""The teacher's scores in the pools and in the groups that samplers show."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankdistill.analysis.distribution import check_statistic, query_statistics, score_histogram
from rankdistill.analysis.per_query import shown_table
from rankdistill.analysis.plots.axes import (
    COLOURS,
    GREY,
    MARKERS,
    legend_under,
    new_axes,
    plot_shares,
    row_axes,
    styles,
)
from rankdistill.evaluation.conclusions import count
from rankdistill.scores.table import ScoreTable

SOFTMAX = "entropy of the softmax of the teacher's raw scores"
RAW = "(not scaled as for the loss)"
UNITS = {
    "variance": "variance of the teacher's scores",
    "std": "standard deviation of the teacher's scores",
    "range": "range of the teacher's scores",
    "entropy": f"{SOFTMAX},\nnats, at most ln n {RAW}",
    "entropy_share": f"{SOFTMAX},\nas a share of ln n of n documents {RAW}",
    "pairwise_entropy": "mean pairwise entropy of the teacher's raw scores, bits",
    "top_gap": "gap of the two highest scores of the teacher",
    "near_ties": "share of near-ties among neighbours in score",
}


def plot_score_distribution(
    table: ScoreTable, samplers: Mapping[str, object], seed: int = 0, ax: Axes | None = None
) -> Axes:
    """The teacher's scores in the pools (grey) and in the groups that each sampler shows (lines).

    Ticks under them mark the scores of the pools' positives.
    """
    ax = new_axes(ax)
    tables = {"pool": table} | {name: shown_table(table, sampler, seed) for name, sampler in samplers.items()}
    density = score_histogram(tables)
    intervals = cast(pd.IntervalIndex, density.index)
    edges = np.append(intervals.left, intervals[-1].right)
    ax.stairs(density.pop("pool"), edges, fill=True, color=GREY, alpha=0.35, label="pool")
    for name, style in zip(density, styles(), strict=False):
        ax.stairs(density[name], edges, linewidth=1.8, label=name, **style)
    positives = table.scores[table.candidates.positive]
    if len(positives):
        low = -0.05 * ax.get_ylim()[1]
        lows = np.full(len(positives), low)
        ax.plot(positives, lows, "|", color="black", alpha=0.5, markersize=6, label="positives")
        ax.set_ylim(bottom=2 * low)
        ax.axhline(0, color="black", linewidth=0.8)
    ax.set(
        xlabel="teacher score",
        ylabel="density",
        title=f"Teacher scores in pools and groups\n({count(len(table), 'query')})",
    )
    legend_under(ax)
    return ax


def plot_statistic(
    table: ScoreTable,
    samplers: Mapping[str, object],
    statistic: str = "entropy",
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """One of ``STATISTICS`` of every query's pool (grey) and of the groups that each sampler shows.

    Thin lines are the pools' quartiles, where ``Cut`` cuts.
    """
    check_statistic(statistic=statistic)
    ax = new_axes(ax)
    pools = query_statistics(table)[statistic]
    shown = {name: query_statistics(shown_table(table, sampler, seed)) for name, sampler in samplers.items()}
    for quartile in pools.quantile([0.25, 0.5, 0.75]):
        ax.axvline(quartile, color=GREY, linewidth=0.8)
    plot_shares(
        ax, {"pool": pools} | {name: statistics[statistic] for name, statistics in shown.items()}, "pool"
    )
    name = statistic.replace("_", " ").capitalize()
    queries = count(len(pools), "query")
    ax.set(xlabel=UNITS[statistic], title=f"{name} per query ({queries})\n(grey lines: the pools' quartiles)")
    return ax


def plot_kept(kept: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What each sampler keeps of the pools' statistics: ``kept_shares``, with its intervals."""
    statistics = list(dict.fromkeys(kept.index.get_level_values("statistic")))
    names = list(dict.fromkeys(kept.index.get_level_values("sampler")))
    ax = row_axes(ax, names)
    for i, statistic in enumerate(statistics):
        shares = kept.loc[statistic].loc[names]
        y = np.arange(len(names)) + (i - (len(statistics) - 1) / 2) * 0.6 / len(statistics)
        half = shares["kept"] - shares["low"]
        ax.errorbar(
            shares["kept"],
            y,
            xerr=None if half.isna().all() else half,
            fmt=MARKERS[(i + i // 4) % 4],
            color=COLOURS[i % 4],
            markersize=5,
            capsize=2,
            label="entropy / ln n" if statistic == "entropy_share" else statistic.replace("_", " "),
        )
    ax.axvline(1, color=GREY, linestyle="--", linewidth=1)
    queries = count(int(kept["queries"].max()), "query")
    ax.set(
        xlabel="share of the pools' mean (dashed: all of it)",
        title=f"What the groups shown keep\n(95 % intervals over {queries})",
    )
    legend_under(ax)
    return ax
