"""A run in words and numbers: the closing table, and the files that hold its measures."""

import csv
import json
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import faiss
import torch

from rankdistill import __version__
from rankdistill.data.collection import Collection
from rankdistill.evaluation import Comparison, Evaluation
from rankdistill.evaluation.conclusions import count
from rankdistill.hardware import has_bf16

PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy", "bm25s", "ir-measures")


def table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table, a row per system and a column per measure."""
    measures = list(next(iter(metrics.values())))
    width = max(map(len, metrics))
    lines = ["| " + " " * width + " | " + " | ".join(f"{m:>8}" for m in measures) + " |"]
    lines.append("|-" + "-" * width + "-|" + "|".join("-" * max(9, len(m) + 1) + ":" for m in measures) + "|")
    for name, values in metrics.items():
        cells = (f"{values[m]:>{max(8, len(m))}.4f}" for m in measures)
        lines.append(f"| {name:<{width}} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_measures(results: Mapping[str, Evaluation], folder: Path) -> None:
    """per_query.csv, a row per query, and metrics.json, system -> measure -> mean: last, and at once."""
    first = next(iter(results.values())).per_query
    with open(folder / "per_query.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["query_id", *(f"{measure} {name}" for measure in first for name in results)])
        for query in next(iter(first.values())):
            values = (results[name].per_query[measure][query] for measure in first for name in results)
            writer.writerow([query, *values])
    metrics = {name: dict(result.mean) for name, result in results.items()}
    draft = folder / ".metrics.json"
    draft.write_text(json.dumps(metrics, indent=2) + "\n")
    draft.replace(folder / "metrics.json")


def write_judgments(
    folder: Path, collection: Collection, split: str, result: Evaluation, run: str = "run.trec.gz"
) -> str:
    """qrels.trec, the judgments of the queries that ``result`` measured, for other programs.

    Returns the command that gives the same figures for the file ``run``, which lies beside it.
    """
    judged = collection.judged(split)
    queries = next(iter(result.per_query.values()))
    with open(folder / "qrels.trec", "w", encoding="utf-8") as out:
        for query in queries:
            out.writelines(f"{query} 0 {document} {grade}\n" for document, grade in judged[query].items())
    return shlex.join(["ir_measures", str(folder / "qrels.trec"), str(folder / run), *result.per_query])


def measured_queries(collection: Collection, split: str, n: int) -> str:
    """How many queries of ``split`` the figures are of, and whether a limit drew them."""
    whole = len(collection.query_rows(split))
    if n == whole:
        return f"all {count(n, 'query')} of {split}" if n > 1 else f"the one query of {split}"
    return f"{n:,} of {count(whole, 'query')} of {split}, drawn at random (evaluator.limit={n})"


def write_conditions(folder: Path, **fingerprints: str) -> None:
    """conditions.json: what must be equal for two runs to be comparable, beside what they set."""
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    conditions = {
        **fingerprints,
        "hardware": f"{hardware}, {torch.get_num_threads()} threads, {'bf16' if has_bf16() else 'float32'}",
        "python": platform.python_version(),
        "rankdistill": __version__,
        "faiss": faiss.__version__,
    }
    conditions |= {name: version(name) for name in PACKAGES}
    (folder / "conditions.json").write_text(json.dumps(conditions, indent=1) + "\n")


def significance(measure: str, gain: Comparison, what: str = "after - before") -> str:
    """One line: the mean difference, its interval, and the paired t-test."""
    return (
        f"{measure} {what}: {gain.difference:+.4f}, 95 % interval [{gain.low:+.4f}, {gain.high:+.4f}], "
        f"paired t = {gain.t:.2f}, p = {gain.p:.2g}, {gain.n} queries"
    )


def summary(metrics: Mapping[str, Mapping[str, float]], measure: str, gain: Comparison | None) -> str:
    """The table of the systems, and how sure the gain is where it was tested."""
    return table(metrics) + (f"\n\n{significance(measure, gain)}" if gain else "")
