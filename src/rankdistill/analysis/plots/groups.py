"""All plots of what a sampler shows, as files."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rankdistill.analysis.agreement import false_negatives
from rankdistill.analysis.comparison import kept_shares
from rankdistill.analysis.locality import locality
from rankdistill.analysis.per_query import shown_table
from rankdistill.analysis.plots.agreement import plot_false_negatives
from rankdistill.analysis.plots.axes import save
from rankdistill.analysis.plots.locality import plot_locality
from rankdistill.analysis.plots.scores import plot_kept, plot_score_distribution, plot_statistic
from rankdistill.scores.table import ScoreTable
from rankdistill.students.models import BiEncoderModel

log = logging.getLogger(__name__)
DRAWN = 1000  # queries at most: the plots of more look the same


def save_group_plots(
    folder: Path,
    table: ScoreTable,
    samplers: Mapping[str, object],
    model: BiEncoderModel | None,
    documents: np.ndarray | None = None,
    seed: int = 0,
) -> None:
    """Scores, entropy, what is kept, diameters and false negatives of the pools and of the groups shown.

    PNG and PDF files in ``folder``. ``model`` embeds the documents unless ``documents`` (D, d) are given;
    with None there are no diameters. Of more than 1,000 queries so many are drawn.
    """
    if len(table) > DRAWN:
        log.info("plots of the groups: of %d of the %d training queries", DRAWN, len(table))
        drawn = np.random.default_rng(seed).choice(len(table), DRAWN, replace=False)
        table = table.take(np.sort(drawn))
    shown = {name: shown_table(table, sampler, seed) for name, sampler in samplers.items()}
    above = {name: false_negatives(each) for name, each in ({"pool": table} | shown).items()}
    plots = {
        "score_distribution": plot_score_distribution(table, samplers, seed),
        "entropy": plot_statistic(table, samplers, "entropy_share", seed),
        "kept": plot_kept(kept_shares(table, samplers, ("variance", "entropy_share", "range"), seed)),
    }
    if model is None and documents is None:
        log.info("plots of the groups: locality is left out: the student has no dense vector of a document")
    else:
        places = locality(table, model, samplers, documents, k=None, seed=seed)
        plots["locality"] = plot_locality(places, space="the student's embeddings before training")
    plots["false_negatives"] = plot_false_negatives(above)
    for name, axes in plots.items():
        save(axes, folder / f"{name}.png")
