"""What the groups that a sampler shows say of what a student learns from them: a regression over runs.

    python scripts/groups_and_results.py outputs/samplers outputs/samplers_functions --plot groups.png

Reads the finished runs of sweeps whose settings differ in sampler and loss, draws the groups that each run
was shown again (of the same table, seed and epochs, from the cache), and asks how far their figures tell
the main measure after training. Printed are, of each figure, Spearman's correlation with the measure, and
its coefficient in a regression on all of them, in units of the measure for one standard deviation, with an
interval of 95 % that holds for other settings (clustered by setting). Measure and figures are taken less
their mean over the runs of the same collection and loss: what is compared are samplers.
"""

import argparse
import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from scipy.stats import spearmanr
from tqdm import tqdm

from rankdistill.analysis import query_statistics, shown_table
from rankdistill.analysis.plots import save
from rankdistill.commands.job import job_of
from rankdistill.commands.launch import make
from rankdistill.commands.tables import training_tables
from rankdistill.evaluation.training_runs import TrainingRun, read_runs
from rankdistill.runtime.cache import fingerprint
from rankdistill.scores import ScoreTable

FIGURES = {
    "std": "deviation of the scores",
    "range": "range of the scores",
    "entropy": "entropy of their softmax, nats",
    "documents": "distinct documents of a query",
}
EPOCHS = 20  # that are drawn again, at most; later ones are like them


def table_of(run: TrainingRun, known: dict[str, ScoreTable]) -> ScoreTable:
    """What the last stage of ``run`` trained on; tables of one collection, teacher and cut are made once."""
    parts = ("data", "candidates", "teacher", "cut", "evaluation")
    key = fingerprint(*(str(run.config[part]) for part in parts))
    if key not in known:
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(run.config, Path(folder))
        held = run.config.evaluation.dev_queries
        tables, *_ = training_tables(job.sources, job.collection, job.stages, held, job.evaluator.seed)
        known[key] = tables[-1]
    return known[key]


def figures_of(table: ScoreTable, sampler, seed: int, groups: float) -> dict[str, float]:
    """Means over the queries of ``table`` and the epochs that ``groups`` groups make, at most ``EPOCHS``.

    ``documents`` are those that a query's groups have shown by then, counted once.
    """
    epochs = range(min(EPOCHS, max(1, math.ceil(groups / len(table)))))
    means, seen = [], set()
    for epoch in epochs:
        shown = shown_table(table, sampler, seed, epoch)
        means.append(query_statistics(shown)[["std", "range", "entropy"]].mean())
        queries = np.repeat(shown.candidates.query_rows, np.diff(shown.candidates.offsets))
        seen |= set(zip(queries.tolist(), shown.candidates.document_rows.tolist(), strict=True))
    return {**pd.concat(means, axis=1).mean(axis=1), "documents": len(seen) / len(shown)}


def rows_of(runs: list[TrainingRun]) -> pd.DataFrame:
    """A row per run: its ``setting``, the ``cell`` of its collection and loss, ``result`` and ``FIGURES``."""
    known: dict[str, ScoreTable] = {}
    rows = []
    for run in tqdm(runs, desc="groups", unit="run"):
        table = table_of(run, known)
        batch = next(reversed(run.batches.values()))["queries"]
        figures = figures_of(table, make(run.config.sampler), run.seed, run.config.trainer.max_steps * batch)
        result = next(iter(run.per_query["after"].values()))
        cell = f"{table.collection.name}, {run.value('loss')}"
        name = run.value("sampler")
        rows.append(
            {"setting": f"{cell}, {name}", "sampler": name, "cell": cell}
            | {"result": float(np.mean(list(result.values())))}
            | figures
        )
    return pd.DataFrame(rows)


def centred(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` less the means of their cells; figures in deviations of what is left."""
    numbers = rows[["result", *FIGURES]]
    left = numbers - numbers.groupby(rows["cell"]).transform("mean")
    left[list(FIGURES)] /= left[list(FIGURES)].std(ddof=0)
    return rows[["setting", "sampler", "cell"]].join(left)


def regression(left: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """A row per figure of ``centred`` rows: alone, and beside the others; and R² of all together."""
    clusters = {"groups": pd.factorize(left["setting"])[0]}
    fitted = sm.OLS(left["result"], left[list(FIGURES)]).fit(cov_type="cluster", cov_kwds=clusters)
    between = fitted.conf_int()
    rows = {
        name: {
            "Spearman": spearmanr(left[name], left["result"]).statistic,
            "coefficient": fitted.params[name],
            "low": between.loc[name, 0],
            "high": between.loc[name, 1],
            "p": fitted.pvalues[name],
        }
        for name in FIGURES
    }
    return pd.DataFrame(rows).T, float(fitted.rsquared)


def plot(rows: pd.DataFrame):
    """The result less its cell's mean over each of ``FIGURES``; colours are samplers, markers are cells."""
    size = (4 * len(FIGURES), 4.6)
    figure, axes = plt.subplots(1, len(FIGURES), figsize=size, sharey=True, layout="constrained")
    result = rows["result"] - rows.groupby("cell")["result"].transform("mean")
    markers = dict(zip(dict.fromkeys(rows["cell"]), "osDv^P*X", strict=False))
    colours = {sampler: f"C{i}" for i, sampler in enumerate(dict.fromkeys(rows["sampler"]))}
    for panel, (name, label) in zip(axes, FIGURES.items(), strict=True):
        for (sampler, cell), own in rows.groupby(["sampler", "cell"]).groups.items():
            panel.scatter(rows[name][own], result[own], 22, colours[sampler], markers[cell], alpha=0.8)
        panel.set_xlabel(label)
    axes[0].set_ylabel("main measure less the mean of\nits collection and loss")
    handles = [Line2D([], [], color=colour, marker="o", ls="", label=x) for x, colour in colours.items()]
    handles += [Line2D([], [], color="0.4", marker=marker, ls="", label=x) for x, marker in markers.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return axes[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="of sweeps")
    parser.add_argument("--plot", type=Path, help="also draw it here")
    parser.add_argument("--csv", type=Path, help="also write a row per run here")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    runs = [run for folder in given.folders for run in read_runs(folder) if not run.missing]
    if len(runs) < 3 * len(FIGURES):
        parser.error(f"{len(runs)} finished runs; a regression on {len(FIGURES)} figures needs more")
    rows = rows_of(runs)
    table, explained = regression(centred(rows))
    print(rows.groupby(["cell", "sampler"])[["result", *FIGURES]].mean().round(4).to_string())
    print(f"\n{len(rows)} runs of {rows['setting'].nunique()} settings\n{table.round(4).to_string()}")
    print(f"R2 of all: {explained:.2f}")
    if given.csv:
        rows.to_csv(given.csv, index=False)
    if given.plot:
        save(plot(rows), given.plot)


if __name__ == "__main__":
    main()
