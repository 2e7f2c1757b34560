"""A run in words and numbers: the closing table, and the files that hold its measures."""

import json
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import torch
from ir_measures.measures.base import SumAgg

from rankdistill import __version__
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, shorten
from rankdistill.evaluation import Comparison, Evaluation
from rankdistill.evaluation.conclusions import count, probability
from rankdistill.evaluation.evaluator import parse_measure, provider_of
from rankdistill.runtime.folders import checksum, read_json, results_of, write_csv, write_json, write_text
from rankdistill.runtime.hardware import has_bf16

QUERIES = "queries"  # beside a system's measures: how many they are the mean of
PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy", "bm25s", "ir-measures")


def table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table, a row per system and a column per measure.

    Where ``QUERIES`` is among a system's values and below the others', its name says of how many it is.
    """
    measures = [name for name in next(iter(metrics.values())) if name != QUERIES]
    most = max(values.get(QUERIES, 0) for values in metrics.values())
    metrics = {
        name
        if values.get(QUERIES, most) == most
        else f"{name} ({count(int(values[QUERIES]), 'query')})": values
        for name, values in metrics.items()
    }
    width = max(map(len, metrics))
    lines = ["| " + " " * width + " | " + " | ".join(f"{m:>8}" for m in measures) + " |"]
    lines.append("|-" + "-" * width + "-|" + "|".join("-" * max(9, len(m) + 1) + ":" for m in measures) + "|")
    for name, values in metrics.items():
        cells = (f"{values[m]:>{max(8, len(m))}.4f}" for m in measures)
        lines.append(f"| {name:<{width}} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def means(results: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """System -> measure -> mean, and the number of queries that they are of, as ``QUERIES``."""
    return {
        name: {**result.mean, QUERIES: len(next(iter(result.per_query.values())))}
        for name, result in results.items()
    }


def check_split(collection: Collection, split: str, field: str) -> None:
    """Raises ``InputError`` that names ``field`` if it sets a ``split`` that ``collection`` does not have."""
    if split not in collection.qrels:
        raise InputError(
            f"{field}={split}: {collection.name}: no split {split!r}; available: "
            f"{shorten(collection.qrels, 9)}"
        )


def write_measures(results: Mapping[str, Evaluation], folder: Path) -> None:
    """per_query.csv, a row per query, and metrics.json, the ``means``.

    A cell is empty where a system was not measured on a query, such as a teacher that scored only some.
    """
    first = next(iter(results.values())).per_query
    head = ["query_id", *(f"{measure} {name}" for measure in first for name in results)]
    values = [results[name].per_query[measure] for measure in first for name in results]
    rows = [[query, *(one.get(query, "") for one in values)] for query in next(iter(first.values()))]
    write_csv(folder / "per_query.csv", [head, *rows])
    write_text(folder / "metrics.json", json.dumps(means(results), indent=2) + "\n")


def write_judgments(
    folder: Path, collection: Collection, split: str, result: Evaluation, run: str = "run.trec.gz"
) -> str:
    """qrels.trec, the judgments of the queries that ``result`` measured, for other programs.

    Returns the command that gives the same figures for the file ``run``, which is beside it; "" if no figure
    would be the same. It leaves out counts (NumRet), of which ir_measures prints the sum over the queries,
    and what gdeval computes where queries have other names than numbers, which gdeval cannot read.
    """
    judged = collection.judged(split)
    queries = next(iter(result.per_query.values()))
    lines = (
        f"{query} 0 {document} {grade}\n" for query in queries for document, grade in judged[query].items()
    )
    write_text(folder / "qrels.trec", "".join(lines))
    numbered = all(query.isdecimal() for query in queries)
    asked = {name: parse_measure(name) for name in result.per_query}
    measures = [
        name
        for name, measure in asked.items()
        if (numbered or provider_of(measure) != "gdeval") and not isinstance(measure.aggregator(), SumAgg)
    ]
    if not measures:
        return ""
    return shlex.join(["ir_measures", str(folder / "qrels.trec"), str(folder / run), *measures])


def measured_queries(collection: Collection, split: str, n: int) -> str:
    """How many queries of ``split`` the figures are of, and whether a limit drew them."""
    whole, judged = len(collection.query_rows(split)), len(collection.judged(split))
    verb = "have" if whole > 1 else "has"
    rest = "" if whole == judged else f" that {verb} a relevant document ({judged - whole:,} have none)"
    if n < whole:
        drawn = f"drawn at random (evaluator.limit={n})"
        return f"{n:,} of {count(whole, 'query')} of {split}{rest}, {drawn}"
    return f"all {count(n, 'query')} of {split}{rest}" if n > 1 else f"the one query of {split}{rest}"


def evaluation_queries(
    collection: Collection, split: str, measured: int, limit: int | None
) -> dict[str, Any]:
    """Of how many queries of ``split`` figures of ``measured`` are, and why they are not of the others."""
    judged, relevant = len(collection.judged(split)), len(collection.query_rows(split))
    reasons = {"no relevant document": judged - relevant, f"evaluator.limit={limit}": relevant - measured}
    return accounted(split, judged, measured, reasons)


def accounted(split: str, judged: int, used: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    """Of the ``judged`` queries of ``split`` how many were used, and why the others were not."""
    left_out = {reason: count for reason, count in reasons.items() if count}
    return {"split": split, "judged": judged, "used": used, "left out": left_out}


def shared_queries(counts: Mapping[str, Any]) -> str:
    """``counts`` of the measured queries: how many are trained on too; "" if none are."""
    if not counts["trained on"]:
        return ""
    text = (
        f"{counts['trained on']:,} of the {counts['used']:,} measured queries are training queries too, by "
        "id or by text"
    )
    if alike := counts.get("trained on but for case or white space"):
        text += f", {alike:,} of them but for case or white space"
    return text


def used_queries(counts: Mapping[str, Any]) -> str:
    """``accounted``, in words."""
    text = f"{counts['used']:,} of {count(counts['judged'], 'query')} of {counts['split']}"
    if (shown := counts.get("shown", counts["used"])) < counts["used"]:
        text += f", {shown:,} of which it was shown"
    for stage, alone in counts.get("one document alone", {}).items():
        text += f", {alone:,} of which had one document alone in {stage}"
    left_out = ", ".join(f"{number:,} ({reason})" for reason, number in counts["left out"].items())
    return f"{text}; left out: {left_out}" if left_out else text


def read_measures(folder: Path) -> dict[str, dict[str, float]]:
    """metrics.json, in which an earlier version has no ``QUERIES``.

    Raises ``InputError`` if it isn't what ``write_measures`` writes.
    """
    path, remedy = folder / "metrics.json", f"delete {folder} to run it again"
    metrics = read_json(path, dict, remedy)
    if not metrics or not all(isinstance(values, dict) and values for values in metrics.values()):
        raise InputError(f"{path}: damaged (no measures); {remedy}")
    return metrics


def write_conditions(folder: Path, **facts: Any) -> None:
    """conditions.json: what the results depend on, versions and hardware, and checksums of what it left.

    ``facts`` that are texts must be equal for two runs to be comparable, beside what they set.
    """
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    conditions = {
        **facts,
        "hardware": f"{hardware}, {torch.get_num_threads()} threads, {'bf16' if has_bf16() else 'float32'}",
        "python": platform.python_version(),
        "rankdistill": __version__,
        "faiss": faiss.__version__,
    }
    conditions |= {name: version(name) for name in PACKAGES}
    files = {name: checksum(folder / name) for name in results_of(folder)}
    write_json(folder / "conditions.json", conditions | {"files": files})


def significance(measure: str, gain: Comparison, what: str = "after - before") -> str:
    """One line: the mean difference, its interval, and the paired t-test."""
    return (
        f"{measure} {what}: {gain.difference:+.4f}, 95 % interval [{gain.low:+.4f}, {gain.high:+.4f}], "
        f"paired t = {gain.t:.2f}, {probability(gain.p)}, {gain.n} queries"
    )


def summary(metrics: Mapping[str, Mapping[str, float]], measure: str, gain: Comparison | None) -> str:
    """The table of the systems, and how sure the gain is where it was tested."""
    return table(metrics) + (f"\n\n{significance(measure, gain)}" if gain else "")
