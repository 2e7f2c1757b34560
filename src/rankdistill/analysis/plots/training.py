"""How training went: the learning curve, and what each test query gained."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from rankdistill.analysis.plots.axes import BLUE, COLOURS, GREEN, GREY, ORANGE, legend_under, new_axes
from rankdistill.evaluation.conclusions import count

SYSTEMS = (GREY, *COLOURS)


def plot_learning_curve(
    history: Sequence[Mapping[str, float]], ax: Axes | None = None, queries: int | None = None
) -> Axes:
    """Loss (left) and agreement with the teacher (right) by step; ``history`` holds logged dicts.

    A ``stage`` in them draws a line where it changes. ``queries``: how many were trained on. What was
    measured on a dev split meanwhile has an axis of its own, outside at the right.
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
    title = f"Learning curve ({count(queries, 'training query')})" if queries else "Learning curve"
    ax.set_xlabel("step")
    ax.set_title(title, pad=20 if breaks else None)
    ax.set_ylabel(loss, color=BLUE)
    other = ax.twinx()
    other.spines["top"].set_visible(False)
    agreement = broken([row.get("agreement", np.nan) for row in rows])
    other.plot(broken(steps), agreement, color=ORANGE, linestyle="--", marker=".", label="agreement")
    other.set_ylim(0, 1)
    other.set_ylabel("agreement with the teacher (dashed)", color=ORANGE)
    for i in breaks:
        end = max(row["step"] for row in history if row.get("stage") == stages[i - 1])
        ax.axvline(end, color=GREY, linewidth=1)
        place = ax.get_xaxis_transform()  # above the axes, where no curve is
        ax.text(end, 1.01, f" {stages[i]}", transform=place, va="bottom", color=GREY)
        if i == breaks[0]:  # ends at its own end: a short first stage's name would run into the next one's
            ax.text(end, 1.01, f"{stages[0]} ", transform=place, ha="right", va="bottom", color=GREY)
    if measured := [row for row in history if any(name.startswith("eval_") for name in row)]:
        name = next(name for name in measured[0] if name.startswith("eval_"))
        outer = ax.twinx()
        outer.spines["top"].set_visible(False)
        outer.spines["right"].set_position(("axes", 1.16))
        steps, values = ([row[key] for row in measured] for key in ("step", name))
        label = f"{name.removeprefix('eval_')} of the dev queries"
        outer.plot(steps, values, color=GREEN, linestyle="-.", marker="s", markersize=3, label=label)
        outer.set_ylabel(label, color=GREEN)
    return ax  # the axes' colours say which is which: a legend would cover the lines


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
        title=f"Gain per query ({count(len(gains), 'query')}, {(gains == 0).sum():,} unchanged)",
    )
    legend_under(ax)
    return ax


def plot_measures(results: Mapping[str, Mapping[str, Mapping[str, float]]], ax: Axes | None = None) -> Axes:
    """Each system's means, such as before, after and teacher, a group of bars for each measure.

    ``results``: system -> measure -> query id -> value. The lines are 95 % intervals of each mean over the
    queries (t distribution); whether two systems differ the paired test says, not their overlap.
    """
    ax = new_axes(ax)
    measures = list(next(iter(results.values())))
    width, most = 0.8 / len(results), max(len(measured[measures[0]]) for measured in results.values())
    for i, (name, measured) in enumerate(results.items()):
        values = [np.array(list(measured[measure].values())) for measure in measures]
        n = len(values[0])
        name = name if n == most else f"{name} ({count(n, 'query')})"
        error = [stats.sem(v) * stats.t.ppf(0.975, n - 1) for v in values] if n > 1 else None
        x = np.arange(len(measures)) + (i - (len(results) - 1) / 2) * width
        ax.bar(x, [v.mean() for v in values], 0.92 * width, color=SYSTEMS[i % len(SYSTEMS)], label=name)
        if error:
            ax.errorbar(
                x, [v.mean() for v in values], error, fmt="none", color="black", linewidth=1, capsize=2
            )
    ax.set_xticks(range(len(measures)), measures)
    ax.set(
        ylabel="mean, 95 % interval (t)",
        title=f"Means over {count(most, 'query')}",
        ylim=(0, None),
    )
    legend_under(ax)
    return ax
