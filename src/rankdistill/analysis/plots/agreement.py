"""Student against teacher, teacher against labels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankdistill.analysis.plots.axes import BLUE, new_axes, plot_shares, row_axes

LABELS = {
    "kendall_tau": "Kendall's tau of student and teacher",
    "kl": "KL(teacher || student), nats",
    "top1": "same document first",
    "margin_correlation": "correlation of the margins positive - negative",
}


def plot_agreement(
    found: Mapping[str, pd.DataFrame], measure: str = "kendall_tau", ax: Axes | None = None
) -> Axes:
    """A column of ``agreement`` over the queries, a line for each of ``found``, such as before and after."""
    ax = new_axes(ax)
    plot_shares(ax, {name: frame[measure] for name, frame in found.items()})
    ax.set(xlabel=LABELS[measure], title="Agreement of student and teacher per query")
    return ax


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
    ax.set(
        xlabel="share of the negatives above the best positive",
        title="Negatives that the teacher prefers",
        xlim=(0, 1.2 * np.nanmax([*means, 0.01])),
    )
    return ax
