"""Plots, one function each; every one draws on ``ax`` (or a new figure) and returns the axes.

Colours are Okabe and Ito's, distinct for the colour-blind, and lines differ in style as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdistill.analysis.distribution import group_scores
from rankdistill.data.scores import ScoreTable
from rankdistill.evaluation.report import Report, Setting

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"


def _axes(ax: Axes | None, width: float = 6.0) -> Axes:
    if ax is None:
        ax = Figure(figsize=(width, 3.6), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def save(ax: Axes, path: str | Path) -> None:
    """Writes the figure that ``ax`` belongs to."""
    ax.figure.savefig(path, dpi=150)


def plot_score_distribution(
    table: ScoreTable, samplers: Mapping[str, object], seed: int = 0, ax: Axes | None = None
) -> Axes:
    """The teacher's scores in the pools (grey) and in the groups that each sampler shows (lines)."""
    ax = _axes(ax)
    bins = np.linspace(*np.quantile(table.scores, [0.0005, 0.9995]), 50)
    ax.hist(table.scores, bins, density=True, color=GREY, alpha=0.35, label="pool")
    styles = zip((BLUE, ORANGE, GREEN, "black"), ("-", "--", "-.", ":"), strict=True)
    for (name, sampler), (colour, style) in zip(samplers.items(), styles, strict=False):
        shown = np.concatenate(group_scores(table, sampler, seed))
        ax.hist(
            shown,
            bins,
            density=True,
            histtype="step",
            color=colour,
            linestyle=style,
            linewidth=1.8,
            label=name,
        )
    ax.set(
        xlabel="teacher score", ylabel="density", title="Teacher scores in the pools and in the groups shown"
    )
    ax.legend(frameon=False)
    return ax


def plot_learning_curve(history: Sequence[Mapping[str, float]], ax: Axes | None = None) -> Axes:
    """Loss (left) and agreement with the teacher (right) by step; ``history`` holds logged dicts.

    A ``stage`` in them draws a line where it changes.
    """
    ax = _axes(ax)
    rows = [row for row in history if "loss" in row]
    steps = [row["step"] for row in rows]
    stages = [row.get("stage") for row in rows]
    breaks = [i for i in range(1, len(rows)) if stages[i] != stages[i - 1]]

    def broken(values: Sequence[float]) -> np.ndarray:  # no line from one stage's loss to the next's
        return np.insert(np.asarray(values, dtype=float), breaks, np.nan)

    ax.plot(broken(steps), broken([row["loss"] for row in rows]), color=BLUE, marker=".", label="loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step", ylabel="loss", title="Learning curve")
    other = ax.twinx()
    other.spines["top"].set_visible(False)
    agreement = broken([row.get("agreement", np.nan) for row in rows])
    other.plot(broken(steps), agreement, color=ORANGE, linestyle="--", marker=".", label="agreement")
    other.set_ylim(0, 1)
    other.set_ylabel("pairs ordered as the teacher does")
    for i in breaks:
        between = (steps[i - 1] + steps[i]) / 2
        ax.axvline(between, color=GREY, linewidth=1)
        place = ax.get_xaxis_transform()
        ax.text(between, 0.02, f" {stages[i]}", transform=place, va="bottom", color=GREY)
    if breaks:
        ax.text(0, 0.02, f" {stages[0]}", transform=ax.transAxes, va="bottom", color=GREY)
    lines = [*ax.get_lines()[:1], *other.get_lines()[:1]]
    ax.legend(lines, [line.get_label() for line in lines], frameon=False, loc="lower right")
    return ax


def plot_gains(
    before: Mapping[str, float], after: Mapping[str, float], measure: str, ax: Axes | None = None
) -> Axes:
    """Each query's gain in ``measure``, sorted from the largest loss to the largest gain."""
    ax = _axes(ax)
    gains = np.sort([after[query] - before[query] for query in before])
    x = np.arange(len(gains))
    ax.bar(x, np.where(gains > 0, gains, 0), width=1.0, color=BLUE, label=f"better: {(gains > 0).sum()}")
    ax.bar(x, np.where(gains < 0, gains, 0), width=1.0, color=ORANGE, label=f"worse: {(gains < 0).sum()}")
    ax.axhline(gains.mean(), color="black", linestyle="--", linewidth=1, label=f"mean {gains.mean():+.3f}")
    ax.set(
        xlabel="queries, by gain",
        ylabel=f"gain in {measure}",
        title=f"Gain per query (same: {(gains == 0).sum()})",
    )
    ax.legend(frameon=False)
    return ax


def plot_report(report: Report, ax: Axes | None = None) -> Axes:
    """Each setting's seeds (dots) and their mean (bar), best first; the student before, dashed."""
    settings, measure = report.settings, report.measure
    if ax is None:
        longest = max(len(" ".join(setting.values)) for setting in settings)
        size = (4.5 + 0.08 * longest, 1.4 + 0.3 * len(settings))
        ax = Figure(figsize=size, layout="constrained").subplots()
    ax = _axes(ax)
    for y, setting in enumerate(settings):
        values = setting.by_seed[measure]
        ax.plot(values, [y] * len(values), "o", color=BLUE, markersize=5, alpha=0.7)
        ax.plot([np.mean(values)] * 2, [y - 0.3, y + 0.3], color="black", linewidth=1.8)
    if measure in report.others.get("before", {}):
        low, high = report.others["before"][measure]
        ax.axvline(low, color=GREY, linestyle="--", linewidth=1, label="before")
        ax.axvline(high, color=GREY, linestyle="--", linewidth=1)
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.35), ncols=2)
    names = [
        f"{setting_name(report.swept, setting)}  {letter}"
        for setting, letter in zip(settings, report.letters, strict=True)
    ]
    ax.set_yticks(range(len(settings)), names)
    ax.invert_yaxis()
    ax.set(xlabel=measure, title=f"{measure}: seeds and their mean\n(no common letter: they differ)")
    return ax


def setting_name(swept: Sequence[str], setting: Setting) -> str:
    """What ``setting`` sets of the fields that were ``swept``; those left at their default go unsaid."""
    given = [
        value if "." not in name else f"{name.rpartition('.')[2]}={value}"
        for name, value in zip(swept, setting.values, strict=True)
        if value != "default"
    ]
    return " ".join(given) or ("defaults" if swept else "all runs")
