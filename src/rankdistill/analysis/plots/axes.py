"""What the plots share: axes, colours, lines.

Colours are Okabe and Ito's, distinct for the colour-blind, and lines differ in style as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankdistill.runtime.folders import written

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, "black")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")


def new_axes(ax: Axes | None, width: float = 4.8, height: float = 3.2) -> Axes:
    """``ax``, or those of a new figure of that size in inches, without the frame above and at the right."""
    if ax is None:
        ax = Figure(figsize=(width, height), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def figure_of(ax: Axes) -> Figure:
    """The whole figure that ``ax`` is in."""
    return cast(Figure, ax.figure)


def row_axes(ax: Axes | None, names: Sequence[str]) -> Axes:
    """``new_axes`` with a row, from the top, for each of ``names``, which label them in full."""
    longest = max(len(name) for name in names)
    ax = new_axes(ax, 4.5 + 0.08 * longest, 1.4 + 0.3 * len(names))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return ax


def styles() -> Iterator[dict[str, Any]]:
    """Sixteen different pairs of ``color`` and ``linestyle``, over and over."""
    pairs = [(COLOURS[(i + j) % 4], LINES[i]) for j, i in product(range(4), range(4))]
    return cycle([{"color": colour, "linestyle": line} for colour, line in pairs])


def legend_under(ax: Axes) -> None:
    """Under ``ax`` in a figure of its own, which grows; within it where the figure holds other axes."""
    figure = figure_of(ax)
    if len(figure.axes) > 1 or figure.get_layout_engine() is None:
        ax.legend(edgecolor="none", framealpha=0.9)  # lines that run under it don't strike its text
        return
    width, height = figure.get_size_inches()
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return
    inches = 0.7 + 0.08 * max(map(len, labels))  # of an entry, at most
    columns = max(1, min(len(labels), int(width / inches)))
    figure.set_size_inches(max(width, inches), height + 0.2 * -(-len(labels) // columns))
    figure.legend(frameon=False, loc="outside lower center", ncols=columns)


def plot_shares(ax: Axes, named: Mapping[str, np.ndarray | pd.Series], pool: str | None = None) -> None:
    """The share of values (Q,) up to x, a line for each of ``named``; the one named ``pool`` is grey."""
    lines = styles()
    for name, values in named.items():
        values = np.asarray(values, dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        style = {"color": GREY, "linewidth": 3.5, "alpha": 0.5} if name == pool else next(lines)
        ax.ecdf(values, label=f"{name} (mean {values.mean():.3g})", **({"linewidth": 1.8} | style))
    ax.set(ylabel="share of queries up to it", ylim=(0, 1.02))
    legend_under(ax)


def save(ax: Axes, path: str | Path) -> None:
    """Writes the figure that ``ax`` belongs to as PNG and, for papers, as PDF, its text as text."""
    path = Path(path)
    with written(path.with_suffix(".png")) as draft:
        figure_of(ax).savefig(draft, dpi=150)
    with written(path.with_suffix(".pdf")) as draft, rc_context({"pdf.fonttype": 42}):
        figure_of(ax).savefig(draft, metadata={"CreationDate": None})
