"""Measures any model or run file.

python -m rankdistill.evaluate model=path/to/model data=beir data.path=path/to/collection
python -m rankdistill.evaluate run=path/to/run.trec.gz data=beir data.path=path/to/collection
"""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rankdistill.command import command, make
from rankdistill.errors import InputError
from rankdistill.evaluation import Run
from rankdistill.students import load_student
from rankdistill.summary import table, write_measures

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Evaluates ``config.model`` or ``config.run``; returns the main measure."""
    if (config.model is None) == (config.run is None):
        raise InputError("give one of model=<folder or hub name> and run=<TREC run file>")
    evaluator = make(config.evaluator)
    given = Run.read(config.run) if config.run is not None else None
    collection = make(config.data)
    log.info("%s", collection)
    if given is not None:
        unknown = set(given.ranking) - set(collection.query_ids)
        if len(unknown) == len(given.ranking):
            raise InputError(f"{config.run}: none of its queries is in {collection.name}")
        result = evaluator.measure(given, collection, config.split)
    else:
        model = load_student(config.model, max_length=config.max_length)
        result = evaluator.evaluate(model, collection, config.split)
    folder = Path(HydraConfig.get().runtime.output_dir)
    result.run.write(folder / "run.trec.gz")
    name = Path(str(config.model or config.run)).name
    write_measures({name: result}, folder)
    queries = len(result.per_query[evaluator.main])
    print(f"\n{table({name: result.mean})}\n\n{queries:,} queries. Results in {folder}")
    return result.mean[evaluator.main]


if __name__ == "__main__":
    command(run, "evaluate")
