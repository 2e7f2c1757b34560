"""Writes a bi-encoder in the formats of other runtimes, and measures each beside the original.

rankdistill export model=path/to/model data=beir data.path=path/to/collection
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from rankdistill.commands.evaluate import listed_names
from rankdistill.commands.launch import command, make
from rankdistill.commands.named_models import check_model
from rankdistill.commands.summary import (
    check_split,
    evaluation_queries,
    measured_queries,
    read_measures,
    write_conditions,
)
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import DenseIndex, embed_documents
from rankdistill.runtime import processes
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder, write_json
from rankdistill.students import fingerprint_of, load_model
from rankdistill.students.exported import check_format, export, load_exported
from rankdistill.students.models import BiEncoderModel

log = logging.getLogger(__name__)
FIELDS = {"model": str, "formats": list, "split": str, "max_length": int | None}
ASKED = 100  # queries that speed is measured by
ROUNDS = 5  # of all formats in turns; the fastest of each counts
WEIGHTS = ("*.safetensors", "*.bin", "*.xml")


def run(config: DictConfig, folder: RunFolder) -> float:
    """Exports and measures; returns the main measure of the last format."""
    check_fields(config, FIELDS)
    check_model(config.model, "model")
    formats = listed_names("formats", config.formats)
    if not formats:
        raise InputError("formats: there is none; give one or more")
    for name in formats:
        check_format(name)
    evaluator, collection = make(config.evaluator, Evaluator), make(config.data, Collection)
    check_split(collection, config.split, "split")
    evaluator.check(collection, config.split)
    model = load_model(config.model, config.max_length)
    if not isinstance(model, BiEncoderModel) or model.transformers_model is None:
        raise InputError(f"model={config.model}: only bi-encoders with a transformer are exported")
    inputs = {"collection": collection.fingerprint, "model": fingerprint_of(model)}
    n = len(collection.query_rows(config.split, evaluator.limit, evaluator.seed))
    if folder.ended and folder.finished(**inputs):
        metrics = read_measures(folder.path)
    elif not processes.is_main():
        return 0.0
    else:
        models = {"torch": model.cpu()}
        with folder.drafted("torch") as draft:
            model.save_pretrained(str(draft), create_model_card=False)
        for name in formats:
            with folder.drafted(name) as draft:
                export(folder.path / "torch", draft, name)
            models[name] = load_exported(folder.path / name)
        metrics = measured(models, folder.path, evaluator, collection, config.split)
        write_json(folder.path / "metrics.json", metrics)
        evaluated = evaluation_queries(collection, config.split, n, evaluator.limit)
        write_conditions(folder.path, settings=folder.settings, **inputs, queries={"evaluation": evaluated})
    queries = measured_queries(collection, config.split, n)
    print(f"\n{shown(metrics)}\n\nMeasured: {queries}. Models in {folder.path}")
    return metrics[formats[-1]][evaluator.main]


def measured(
    models: Mapping[str, BiEncoderModel],
    folder: Path,
    evaluator: Evaluator,
    collection: Collection,
    split: str,
) -> dict[str, dict[str, float]]:
    """Measures of each of ``models``, the MB of its weights, and how many queries a second it embeds.

    One query at a time, by as many threads as the process has; all take turns.
    """
    results = {}
    for name, model in models.items():
        log.info("measuring %s", name)
        # not from the cache, whose key is the weights: an exported model has none
        index = DenseIndex(model, embed_documents(model, collection.documents))
        results[name] = dict(evaluator.evaluate(None, collection, split, documents=index).mean)
    queries = [collection.queries[row] for row in collection.query_rows(split, ASKED)]
    seconds = dict.fromkeys(models, float("inf"))
    for _ in range(ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            for query in queries:
                model.encode_query(query)
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    for name, values in results.items():
        files = (file for pattern in WEIGHTS for file in (folder / name).rglob(pattern))
        values["MB"] = sum(file.stat().st_size for file in files) / 1e6
        values["queries/s"] = len(queries) / seconds[name]
    return results


def shown(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table: each measure, what it lost against the first row, size and speed."""
    first = next(iter(metrics.values()))
    rows = ["| | " + " | ".join(first) + " |", "|---|" + "---:|" * len(first)]
    for name, values in metrics.items():
        cells = []
        for key, value in values.items():
            if key in ("MB", "queries/s"):
                cells.append(f"{value:.1f}")
            elif values is first:
                cells.append(f"{value:.4f}")
            else:
                cells.append(f"{value:.4f} ({value - first[key]:+.4f})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    command(run, "export")
