"""The settings of a sweep, side by side."""

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from rankdistill.analysis.plots.axes import BLUE, GREY, legend_under, new_axes, row_axes, styles
from rankdistill.evaluation.conclusions import count, setting_name
from rankdistill.evaluation.report import Report


def plot_curves(report: Report, ax: Axes | None = None) -> Axes | None:
    """Each setting's main measure of the dev queries by step, best first; None where no run measured it.

    The band is the 95 % interval of the mean over the seeds (t distribution), of two or more. Queries of the
    dev split alone are measured, on which learning rates and best steps may have been chosen.
    """
    measure = report.measure
    curves = {
        setting_name(report.swept, setting): setting.curve[measure]
        for setting in report.settings
        if setting.curve.get(measure)
    }
    if not curves:
        return None
    ax = new_axes(ax, 6.4, 4.2)
    for style, (name, curve) in zip(styles(), curves.items()):  # noqa: B905  (styles never end)
        steps, values = list(curve), np.array(list(curve.values()))
        ax.plot(steps, values.mean(axis=1), label=name, linewidth=1.4, **style)
        if (seeds := values.shape[1]) > 1:
            half = stats.t.ppf(0.975, seeds - 1) * stats.sem(values, axis=1)
            mean = values.mean(axis=1)
            ax.fill_between(steps, mean - half, mean + half, color=style["color"], alpha=0.08, linewidth=0)
    ax.set(
        xlabel="step", ylabel=f"{measure} of the dev queries", title="Learning curves, mean over the seeds"
    )
    legend_under(ax)
    return ax


def plot_report(report: Report, ax: Axes | None = None) -> Axes:
    """Each setting's seeds (dots) and their mean (bar), best first; the student before, dashed.

    The line through a setting's mean is the 95 % interval of its difference from the first setting, of
    queries and seeds as random and for this one pair: where it misses the dotted line, the first one's mean,
    they differ.
    """
    settings, measure = report.settings, report.measure
    names = [
        f"{setting_name(report.swept, setting)}  {letter}"
        for setting, letter in zip(settings, report.letters, strict=True)
    ]
    ax = row_axes(ax, names)
    for y, setting in enumerate(settings):
        values = setting.by_seed[measure]
        seed, mean = ("a seed", "mean") if y == 0 else (None, None)
        ax.plot(values, [y] * len(values), "o", color=BLUE, markersize=5, alpha=0.7, label=seed)
        ax.plot([np.mean(values)] * 2, [y - 0.3, y + 0.3], color="black", linewidth=1.8, label=mean)
    best = np.mean(settings[0].by_seed[measure])
    intervals = [(p.first, p.difference) for p in report.pairs if p.second is settings[0]]
    for i, (setting, difference) in enumerate(intervals):
        ends = best - difference.high, best - difference.low
        label = "95 % interval of the difference from the first" if i == 0 else None
        ax.plot(ends, [settings.index(setting)] * 2, color="black", linewidth=1, marker="|", label=label)
    if intervals:
        ax.axvline(float(best), color="black", linestyle=":", linewidth=1, label="the first one's mean")
    if measure in report.others.get("before", {}):
        low, high = report.others["before"][measure]
        ax.axvline(low, color=GREY, linestyle="--", linewidth=1, label="before")
        ax.axvline(high, color=GREY, linestyle="--", linewidth=1)
    ways = " x ".join(f"{len(values)} {name}" for name, values in report.averaged.items())
    title = f"mean over {ways}" if ways else "by setting"
    if len(settings) > 1:
        title += "\n(no common letter: they differ)"
    if any(letter[0].isdigit() for letter in report.letters):
        title += "\n(another number: other queries, not compared)"
    queries = sorted({len(setting.per_query[measure]) for setting in settings})
    of = " or ".join(count(n, "query") for n in queries)
    ax.set(xlabel=f"{measure}, mean over {of}", title=f"{measure}: {title}")
    legend_under(ax)
    return ax
