"""How training went: the learning curve, and what each test query gained."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rankdistill.analysis.plots.axes import BLUE, GREY, ORANGE, new_axes


def plot_learning_curve(history: Sequence[Mapping[str, float]], ax: Axes | None = None) -> Axes:
    """Loss (left) and agreement with the teacher (right) by step; ``history`` holds logged dicts.

    A ``stage`` in them draws a line where it changes.
    """
    ax = new_axes(ax)
    rows = [row for row in history if "loss" in row]
    steps = [row["step"] for row in rows]
    stages = [row.get("stage") for row in rows]
    breaks = [i for i in range(1, len(rows)) if stages[i] != stages[i - 1]]

    def broken(values: Sequence[float]) -> np.ndarray:  # no line from one stage's loss to the next's
        return np.insert(np.asarray(values, dtype=float), breaks, np.nan)

    ax.plot(broken(steps), broken([row["loss"] for row in rows]), color=BLUE, marker=".", label="loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss = "loss (each stage has its own)" if breaks else "loss"
    ax.set(xlabel="step", ylabel=loss, title="Learning curve")
    other = ax.twinx()
    other.spines["top"].set_visible(False)
    agreement = broken([row.get("agreement", np.nan) for row in rows])
    other.plot(broken(steps), agreement, color=ORANGE, linestyle="--", marker=".", label="agreement")
    other.set_ylim(0, 1)
    other.set_ylabel("pairs ordered as the teacher does")
    for i in breaks:
        end = max(row["step"] for row in history if row.get("stage") == stages[i - 1])
        ax.axvline(end, color=GREY, linewidth=1)
        place = ax.get_xaxis_transform()
        ax.text(end, 0.02, f" {stages[i]}", transform=place, va="bottom", color=GREY)
    if breaks:
        ax.text(0, 0.02, f" {stages[0]}", transform=ax.transAxes, va="bottom", color=GREY)
    lines = [*ax.get_lines()[:1], *other.get_lines()[:1]]
    ax.legend(lines, [line.get_label() for line in lines], frameon=False, loc="lower right")
    return ax


def plot_gains(
    before: Mapping[str, float], after: Mapping[str, float], measure: str, ax: Axes | None = None
) -> Axes:
    """Each query's gain in ``measure``, sorted from the largest loss to the largest gain."""
    ax = new_axes(ax)
    gains = np.sort([after[query] - before[query] for query in before])
    x = np.arange(len(gains))
    ax.bar(x, np.where(gains > 0, gains, 0), width=1.0, color=BLUE, label=f"better: {(gains > 0).sum()}")
    ax.bar(x, np.where(gains < 0, gains, 0), width=1.0, color=ORANGE, label=f"worse: {(gains < 0).sum()}")
    ax.axhline(gains.mean(), color="black", linestyle="--", linewidth=1, label=f"mean {gains.mean():+.3f}")
    ax.set(
        xlabel="queries, by gain",
        ylabel=f"{measure}, after - before",
        title=f"Gain per query (same: {(gains == 0).sum()})",
    )
    ax.legend(frameon=False)
    return ax
