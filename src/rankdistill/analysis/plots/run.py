"""All plots of what training did, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rankdistill.analysis.plots.agreement import plot_agreement, plot_student_scores
from rankdistill.analysis.plots.axes import save
from rankdistill.analysis.plots.training import plot_gains, plot_learning_curve, plot_measures
from rankdistill.evaluation import Evaluation
from rankdistill.scores.table import ScoreTable


def save_run_plots(
    folder: Path,
    results: Mapping[str, Evaluation],
    measure: str,
    history: Sequence[dict],
    queries: int,
    scored: ScoreTable | None,
    agreements: Mapping[str, pd.DataFrame],
    student_scores: Mapping[str, np.ndarray],
) -> None:
    """Learning curve, gains, measures; agreement with the teacher, where it ``scored`` measured queries.

    PNG and PDF files in ``folder``. ``results`` are ``before``, ``after`` and others, ``queries`` as many as
    were trained on; ``student_scores`` are (N,), of the candidates of ``scored``, by the names of
    ``agreements``.
    """
    before, after = (results[name].per_query[measure] for name in ("before", "after"))
    measured = {name: result.per_query for name, result in results.items()}
    plots = {
        "learning_curve": plot_learning_curve(history, queries=queries),
        "gains": plot_gains(before, after, measure),
        "measures": plot_measures(measured),
    }
    if scored is not None:
        plots["agreement"] = plot_agreement(agreements)
        plots["student_scores"] = plot_student_scores(scored, student_scores)
    for name, axes in plots.items():
        save(axes, folder / f"{name}.png")
