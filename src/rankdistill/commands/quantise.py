"""Writes a model's documents as product-quantised FAISS indexes, and measures each beside the exact one.

rankdistill quantise model=path/to/model data=beir data.path=path/to/collection
"""

import functools
import logging
from collections.abc import Mapping

import faiss
import numpy as np
from omegaconf import DictConfig

from rankdistill.commands.launch import command, make
from rankdistill.commands.named_models import check_model
from rankdistill.commands.summary import (
    check_split,
    evaluation_queries,
    measured_queries,
    read_measures,
    table,
    write_conditions,
)
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import (
    DenseIndex,
    FaissIndex,
    Index,
    ProductQuantiser,
    embed_queries,
    product_quantiser,
    stored_index,
)
from rankdistill.runtime import processes
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder, write_json, written
from rankdistill.students import fingerprint_of, load_model
from rankdistill.training.quantisation import Quantiser

log = logging.getLogger(__name__)
FIELDS = {
    "model": str,
    "split": str,
    "training_split": str,
    "max_length": int | None,
    "parts": int,
    "bits": int,
    "quantisers": dict,
}
DEPTHS = (10, 100)  # of the exact best documents, which an index should find
BEST = "best@k: the share of the exact best k that an index finds."


def run(config: DictConfig, folder: RunFolder) -> float:
    """Trains and measures each of ``config.quantisers``; returns the last one's main measure."""
    check_fields(config, FIELDS)
    evaluator = make(config.evaluator, Evaluator)
    if evaluator.index != "Flat":
        raise InputError("evaluator.index: the indexes that are measured are the quantisers'; leave it Flat")
    check_model(config.model, "model")
    quantisers = made_quantisers(config.quantisers)
    collection = make(config.data, Collection)
    log.info("%s", collection)
    check_split(collection, config.split, "split")
    evaluator.check(collection, config.split)
    check_split(collection, config.training_split, "training_split")
    collection.query_rows(config.training_split)  # before a model is loaded
    if config.training_split == config.split:
        raise InputError(f"training_split={config.split}: it is what is measured (split); give another")
    model = load_model(config.model, config.max_length)
    exact = stored_index(model, collection)
    if not isinstance(exact, DenseIndex):
        raise InputError(
            f"model={config.model}: it makes no single vector of a document that could be cut in parts"
        )
    inputs = {"collection": collection.fingerprint, "model": fingerprint_of(model)}
    n = len(collection.query_rows(config.split, evaluator.limit, evaluator.seed))
    queries = measured_queries(collection, config.split, n)
    if folder.ended and folder.finished(**inputs):
        results = read_measures(folder.path)
    elif processes.is_main():
        indexes = trained(config, quantisers, collection, exact)
        for name, index in indexes.items():
            with written(folder.path / f"{name}.faiss") as draft:
                draft.write_bytes(faiss.serialize_index(index.built).data)  # its own writer hides a full disk
        write_json(folder.path / "document_ids.json", list(collection.document_ids))
        every: dict[str, Index] = {"exact": exact, **indexes}
        results = {name: measured(i, exact, collection, config.split, evaluator) for name, i in every.items()}
        write_json(folder.path / "metrics.json", results)
        evaluated = evaluation_queries(collection, config.split, n, evaluator.limit)
        write_conditions(folder.path, settings=folder.settings, **inputs, queries={"evaluation": evaluated})
    if not processes.is_main():
        return 0.0
    rows = {
        f"{name}, {values['bytes']:.0f} bytes": {k: v for k, v in values.items() if k != "bytes"}
        for name, values in results.items()
    }
    print(f"\n{table(rows)}\n\nMeasured: {queries}. {BEST} Indexes in {folder.path}")
    return list(results.values())[-1][evaluator.main]


def trained(
    config: DictConfig, quantisers: Mapping[str, Quantiser], collection: Collection, exact: DenseIndex
) -> dict[str, FaissIndex]:
    """An index of each of ``quantisers``, by the queries of ``config.training_split``."""
    documents, embed = np.array(exact.vectors), functools.partial(embed_queries, exact.model)
    split = config.training_split
    rows, positive = collection.query_rows(split), collection.positive_rows(split)
    queries = embed([collection.queries[row] for row in rows])
    relevant = [np.array(positive[row]) for row in rows]

    @functools.cache
    def start(rotated: bool) -> ProductQuantiser:
        return product_quantiser(documents, config.parts, config.bits, rotated)

    indexes = {}
    for name, quantiser in quantisers.items():
        log.info("training %s", name)
        indexes[name] = FaissIndex(quantiser.fit(start, documents, queries, relevant), embed)
    return indexes


def made_quantisers(config: DictConfig) -> dict[str, Quantiser]:
    """Those of ``config``, a name -> quantiser; one that is null is left out."""
    quantisers = {str(name): quantiser for name, quantiser in make(config).items() if quantiser is not None}
    if not quantisers:
        raise InputError("quantisers: there is none; give one or more")
    return quantisers


def measured(
    index: Index, exact: DenseIndex, collection: Collection, split: str, evaluator: Evaluator
) -> dict[str, float]:
    """The bytes of a document in ``index``, the measures, and the shares of the exact best that it finds."""
    evaluation = evaluator.evaluate(None, collection, split, documents=index)
    asked = collection.query_rows(split, evaluator.limit, evaluator.seed)
    queries = [collection.queries[row] for row in asked]
    best, rows = (one.search(queries, max(DEPTHS), collection.document_ids)[0] for one in (exact, index))
    shares = {f"best@{k}": found_of(best[:, :k], rows[:, :k]) for k in DEPTHS}
    size = index.built.sa_code_size() if isinstance(index, FaissIndex) else exact.vectors[:1].nbytes
    return {"bytes": size, **evaluation.mean, **shares}


def found_of(best: np.ndarray, rows: np.ndarray) -> float:
    """The mean share of each row of ``best`` that is in the same row of ``rows``, both int64 (Q, k)."""
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(best, rows, strict=True)]))


if __name__ == "__main__":
    command(run, "quantise")
