"""Measures any model or run file; compares two or more.

rankdistill evaluate model=path/to/model data=beir data.path=path/to/collection
rankdistill evaluate run=path/to/run.trec.gz data=beir data.path=path/to/collection
rankdistill evaluate model=[path/to/a,path/to/b] data=beir data.path=path/to/collection
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rankdistill.commands.launch import command, make
from rankdistill.commands.named_models import check_model
from rankdistill.commands.summary import (
    check_split,
    evaluation_queries,
    means,
    measured_queries,
    read_measures,
    table,
    write_conditions,
    write_judgments,
    write_measures,
)
from rankdistill.data import Collection
from rankdistill.data.faults import resemblance
from rankdistill.errors import InputError, shorten
from rankdistill.evaluation import Evaluation, Evaluator, Run
from rankdistill.evaluation.systems import (
    comparison_numbers,
    comparison_text,
    comparisons,
    placed,
    short_names,
)
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder, checksum, write_csv
from rankdistill.students import fingerprint_of, load_model
from rankdistill.students.lengths import cut_pairs, cut_texts
from rankdistill.students.models import CrossEncoderModel, Model

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: RunFolder) -> float:
    """Measures what ``config.model`` and ``config.run`` name; returns the first one's main measure.

    Two or more are compared, on the same queries.
    """
    check_fields(config, {"split": str, "max_length": int | None})
    models, runs = listed_names("model", config.model), listed_names("run", config.run)
    if not models and not runs:
        raise InputError("give model=<folder or hub name>, run=<TREC run file>, or several as model=[a,b]")
    for model in models:
        check_model(model, "model")
    names = short_names([*models, *runs])
    evaluator = make(config.evaluator, Evaluator)
    runs_read = {path: Run.read(path) for path in runs}
    collection = make(config.data, Collection)
    log.info("%s", collection)
    check_split(collection, config.split, "split")
    evaluator.check(collection, config.split)  # before a model is loaded
    for path, ranked in runs_read.items():
        check_run(ranked, collection, config.split, path)
    paths = [*models, *runs]

    def loaded(path: str) -> tuple[Run | Model, str]:
        """What is to be measured, and its fingerprint."""
        if path in runs_read:
            return runs_read[path], checksum(Path(path))
        model = load_model(path, config.max_length)
        return model, fingerprint_of(model)

    def inputs(measured: Sequence[str]) -> dict[str, str]:
        return {"collection": collection.fingerprint, "model": fingerprint(*measured)}

    if folder.ended and folder.finished(**inputs([loaded(path)[1] for path in paths])):
        metrics = read_measures(folder.path)
        if processes.is_main():
            print(f"\n{table(metrics)}\n\nResults in {folder.path}")
        return next(iter(metrics.values()))[evaluator.main]
    results, measured = {}, []
    for name, path in zip(names, paths, strict=True):
        system, who = loaded(path)
        measured.append(who)
        if len(paths) > 1:
            log.info("measuring %s", name)  # what is said from here on is said of it
        if isinstance(system, Model):
            say_cut(system, name, evaluator, collection, config.split)
        if isinstance(system, Run):
            results[name] = measure_run(system, path, evaluator, collection, config.split)
        else:
            results[name] = evaluator.evaluate(system, collection, config.split)
    first = results[names[0]]
    if not processes.is_main():
        return first.mean[evaluator.main]
    for i, result in enumerate(results.values(), 1):
        file = "run.trec.gz" if len(results) == 1 else f"run_{i}.trec.gz"
        result.run.write(folder.path / file)
        same = write_judgments(folder.path, collection, config.split, result, file)
        if same:
            log.info("the same figures of %s: %s", names[i - 1], same)
    compared = comparisons(results)
    if compared:
        write_csv(folder.path / "comparison.csv", comparison_numbers(compared))
    write_measures(results, folder.path)
    n = len(first.per_query[evaluator.main])
    write_conditions(
        folder.path,
        settings=folder.settings,
        **inputs(measured),
        queries={"evaluation": evaluation_queries(collection, config.split, n, evaluator.limit)},
    )
    text = table(means(results))
    if compared:
        text += f"\n\n{comparison_text(compared)}"
    queries = measured_queries(collection, config.split, n)
    print(f"\n{text}\n\nMeasured: {queries}. Results in {folder.path}")
    return first.mean[evaluator.main]


def say_cut(model: Model, name: str, evaluator: Evaluator, collection: Collection, split: str) -> None:
    """Logs what ``model``, called ``name``, cuts of what it is measured on."""
    pools = evaluator.pools(collection, split) if isinstance(model, CrossEncoderModel) else None
    if not processes.is_main():
        return
    if isinstance(model, CrossEncoderModel) and pools is not None:
        cut_pairs(model, pools, "measured pairs", who=name)
    else:
        cut_texts(model, collection, who=name)


def listed_names(field: str, value: Any) -> list[str]:
    """``value`` of ``field``, a name, several or null, as a list.

    Raises ``InputError`` if it is another kind of value, or names something twice.
    """
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not OmegaConf.is_list(names) and not isinstance(names, list):
        raise InputError(f"{field}={value!r}: give a name, or several as {field}=[a,b]")
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{field}: {name!r} is not a name; put it in quotes if it is one")
        if not name.strip():
            raise InputError(f"{field}: an empty name; is the variable that it comes from set?")
    if twice := [name for i, name in enumerate(names) if placed(name) in map(placed, names[:i])]:
        raise InputError(f"{field}: {twice[0]} is given twice; name each once")
    return list(names)


def measure_run(
    given: Run, path: str, evaluator: Evaluator, collection: Collection, split: str
) -> Evaluation:
    """Measures ``given``, read from ``path``; logs the measured queries and the ranks that it lacks."""
    result = evaluator.measure(given, collection, split)
    measured = result.per_query[evaluator.main]
    if lacking := sum(query not in given.ranking for query in measured):
        log.warning(
            "%s: has no results for %d of %d queries; they count 0%s",
            path,
            lacking,
            len(measured),
            drawn_alike(given, evaluator, collection, split),
        )
    deepest = max(map(len, given.ranking.values()))
    if deepest < min(evaluator.depth, len(collection.documents)):
        log.warning(
            "%s: has at most %d documents a query, fewer than the deepest measure's %d; what is below counts "
            "as not found",
            path,
            deepest,
            evaluator.depth,
        )
    if evaluator.uncut:
        log.info("%s: %s: over all its documents, %d at most", path, ", ".join(evaluator.uncut), deepest)
    return result


def drawn_alike(given: Run, evaluator: Evaluator, collection: Collection, split: str) -> str:
    """The ``evaluator.limit`` that measures the queries of ``given`` alone, in words; "" if none does.

    The file of a training run has the queries that its evaluator drew.
    """
    ids = collection.query_ids
    has = sum(ids[row] in given.ranking for row in collection.query_rows(split))
    if not has or not all(
        ids[row] in given.ranking for row in collection.query_rows(split, has, evaluator.seed)
    ):
        return ""
    return f" (evaluator.limit={has} measures those alone that it has)"


def check_run(given: Run, collection: Collection, split: str, path: str) -> None:
    """Raises ``InputError`` if ``given`` cannot be a run of ``split``; logs what it has beyond it."""
    judged = collection.judged(split)
    unknown = [query for query in given.ranking if query not in judged]
    if not given.ranking:
        raise InputError(f"{path}: it is empty")
    if len(unknown) == len(given.ranking):
        raise InputError(
            f"{path}: none of its queries is in split {split!r} of {collection.name}: {shorten(unknown)}"
            + resemblance(unknown, judged)
        )
    if unknown:
        hint = resemblance(unknown, judged)
        log.warning("%s: queries that are not in split %r: %s%s", path, split, shorten(unknown), hint)
    documents = {document for ranked in given.ranking.values() for document, _ in ranked}
    strange = sorted(document for document in documents if document not in collection.document_row)
    if len(strange) == len(documents):
        hint = resemblance(strange, collection.document_ids)
        raise InputError(f"{path}: none of its documents is in {collection.name}: {shorten(strange)}{hint}")
    if strange:
        hint = resemblance(strange, collection.document_ids)
        log.warning("%s: documents that are not in %s: %s%s", path, collection.name, shorten(strange), hint)


if __name__ == "__main__":
    command(run, "evaluate")
