"""How close together the documents are that are shown together."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankdistill.analysis.plots.axes import BLUE, ORANGE, row_axes
from rankdistill.evaluation.conclusions import count


def plot_locality(
    found: pd.DataFrame,
    measure: str = "diameter",
    ax: Axes | None = None,
    space: str = "the model's embeddings",
) -> Axes:
    """``locality``'s ``diameter`` or ``log_density``, a row for the pools and for each sampler.

    The middle half of the queries (bar), their median (dot), 5th to 95th percentile (line). ``space`` says
    whose embeddings these are.
    """
    names = list(dict.fromkeys(found.index.get_level_values("sampler")))
    ax = row_axes(ax, names)
    values = [found.loc[name, measure] for name in names]
    low, first, middle, third, high = np.array(
        [one[np.isfinite(one)].quantile([0.05, 0.25, 0.5, 0.75, 0.95]) for one in values]
    ).T
    y = np.arange(len(names))
    ax.hlines(y, low, high, color="black", linewidth=1)
    ax.barh(y, third - first, left=first, height=0.5, color=BLUE, alpha=0.5)
    ax.plot(middle, y, "o", color=ORANGE, markersize=5)
    quantile, metric = found.attrs.get("quantile"), found.attrs.get("metric")
    of = f"{quantile:.0%} quantile of " if quantile is not None else ""
    distances = f"{metric} distances" if metric else "distances"
    label = f"diameter ({of}{distances})" if measure == "diameter" else "log density (Euclidean)"
    queries = count(found.index.get_level_values("query_id").nunique(), "query")
    ax.set(
        xlabel=f"{label}\nin {space}",
        title=f"Locality: median, quartiles, 5 to 95 %\n({queries})",
    )
    return ax
