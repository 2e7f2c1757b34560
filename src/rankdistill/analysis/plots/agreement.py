"""Student against teacher, teacher against labels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rankdistill.analysis.plots.axes import BLUE, ORANGE, new_axes, plot_shares, row_axes
from rankdistill.evaluation.conclusions import count
from rankdistill.scores.table import ScoreTable

LABELS = {
    "kendall_tau": "Kendall's tau of student and teacher",
    "kl": "KL(teacher || student), nats",
    "top1": "same document first",
    "margin_correlation": "correlation of the margins positive - negative",
}


def plot_agreement(
    agreements: Mapping[str, pd.DataFrame], measure: str = "kendall_tau", ax: Axes | None = None
) -> Axes:
    """A column of ``agreement`` over the queries, a line for each of ``found``, such as before and after."""
    ax = new_axes(ax)
    plot_shares(ax, {name: frame[measure] for name, frame in agreements.items()})
    queries = count(max(map(len, agreements.values())), "query")
    ax.set(xlabel=LABELS[measure], title=f"Agreement of student and teacher\n({queries})")
    return ax


def plot_student_scores(table: ScoreTable, found: Mapping[str, np.ndarray]) -> Axes:
    """The student's scores against the teacher's of the pairs in ``table``, a panel for each of ``found``.

    ``found``: name, such as before and after, -> scores (N,). Negatives are counted in hexagons, the darker
    the more; positives are dots. Returns the axes of the first panel.
    """
    figure = Figure(figsize=(0.6 + 2.7 * len(found), 3.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    positive = table.candidates.positive
    for ax, (name, scores) in zip(panels, found.items(), strict=True):
        new_axes(ax)
        counted = {"gridsize": 30, "mincnt": 1, "cmap": "Blues", "norm": LogNorm(vmin=0.2)}
        ax.hexbin(table.scores[~positive], scores[~positive], **counted)
        label = "positive" if ax is panels[0] else None
        ax.plot(
            table.scores[positive],
            scores[positive],
            "o",
            color=ORANGE,
            markersize=2.5,
            alpha=0.7,
            label=label,
        )
        ax.set(title=name, xlabel="teacher score")
    panels[0].plot([], [], "h", color="#6BAED6", label="negatives, counted")
    panels[0].set_ylabel("student score")
    pairs = f"{count(len(table), 'query')}, {count(len(table.scores), 'pair')}"
    figure.suptitle(f"Student and teacher scores\n({pairs})")
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return panels[0]


def plot_false_negatives(found: Mapping[str, pd.Series], ax: Axes | None = None) -> Axes:
    """Means of ``false_negatives``, a bar for each of ``found``: the pools, and what samplers show.

    "none" where no query has both a positive and a negative.
    """
    ax = row_axes(ax, list(found))
    means = [float(shares.mean()) for shares in found.values()]
    ax.barh(range(len(means)), means, height=0.6, color=BLUE)
    for y, mean in enumerate(means):
        text = "none" if np.isnan(mean) else f"{mean:.1%}"
        ax.text(np.nan_to_num(mean), y, f" {text}", va="center")
    queries = max(int(shares.notna().sum()) for shares in found.values())
    ax.set(
        xlabel="share of the negatives above the best positive",
        title=f"Negatives that the teacher prefers\n({count(queries, 'query')})",
        xlim=(0, 1.2 * np.nanmax([*means, 0.01])),
    )
    return ax
