"""Measures any model or run file.

python -m rankdistill.evaluate model=path/to/model data=beir data.path=path/to/collection
python -m rankdistill.evaluate run=path/to/run.trec.gz data=beir data.path=path/to/collection
"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from rankdistill import processes
from rankdistill.command import command, make, run_folder
from rankdistill.data import Collection
from rankdistill.errors import InputError, shorten
from rankdistill.evaluation import Evaluator, Run
from rankdistill.fields import check_fields
from rankdistill.students import load_student
from rankdistill.summary import table, write_measures

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Evaluates ``config.model`` or ``config.run``; returns the main measure."""
    check_fields(config, {"model": str | None, "run": str | None, "split": str, "max_length": int | None})
    folder = run_folder()
    if (config.model is None) == (config.run is None):
        raise InputError("give one of model=<folder or hub name> and run=<TREC run file>")
    evaluator = make(config.evaluator, Evaluator)
    given = Run.read(config.run) if config.run is not None else None
    collection = make(config.data, Collection)
    log.info("%s", collection)
    if given is not None:
        check_run(given, collection, config.split, config.run)
        result = evaluator.measure(given, collection, config.split)
        measured = result.per_query[evaluator.main]
        if lacking := sum(query not in given.ranking for query in measured):
            log.warning(
                "%s: has no results for %d of %d queries; they count 0 (evaluator.limit=500 draws those "
                "that a training run measures)",
                config.run,
                lacking,
                len(measured),
            )
    else:
        model = load_student(config.model, max_length=config.max_length)
        result = evaluator.evaluate(model, collection, config.split)
    if not processes.is_main():
        return result.mean[evaluator.main]
    result.run.write(folder / "run.trec.gz")
    name = Path(str(config.model or config.run)).name
    write_measures({name: result}, folder)
    queries = len(result.per_query[evaluator.main])
    print(f"\n{table({name: result.mean})}\n\n{queries:,} queries. Results in {folder}")
    return result.mean[evaluator.main]


def check_run(given: Run, collection: Collection, split: str, path: str) -> None:
    """Raises ``InputError`` if ``given`` cannot be a run of ``split``; logs what it has beyond it."""
    judged = collection.judged(split)
    unknown = [query for query in given.ranking if query not in judged]
    if len(unknown) == len(given.ranking):
        raise InputError(f"{path}: none of its queries is in split {split!r} of {collection.name}")
    if unknown:
        log.warning("%s: queries that are not in split %r: %s", path, split, shorten(unknown))
    found = {document for ranked in given.ranking.values() for document, _ in ranked}
    strange = sorted(document for document in found if document not in collection.document_row)
    if len(strange) == len(found):
        raise InputError(f"{path}: none of its documents is in {collection.name}: {shorten(strange)}")
    if strange:
        log.warning("%s: documents that are not in %s: %s", path, collection.name, shorten(strange))


if __name__ == "__main__":
    command(run, "evaluate")
