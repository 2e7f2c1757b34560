"""Writes the candidates of a split's queries.

python -m rankdistill.mine data=beir data.path=path/to/collection output=candidates.arrow
"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from rankdistill import processes
from rankdistill.candidates import mine
from rankdistill.command import command, make, make_retrievers
from rankdistill.data import Candidates, Collection
from rankdistill.data.candidates import UNRANKED, to_arrow, write_arrow
from rankdistill.data.formats.files import draft
from rankdistill.errors import InputError
from rankdistill.evaluation import Run
from rankdistill.fields import check_fields
from rankdistill.folders import RunFolder

log = logging.getLogger(__name__)
FIELDS = {
    "output": str,
    "candidates.split": str,
    "candidates.limit": int | None,
    "candidates.retrievers": dict,
}


def run(config: DictConfig, folder: RunFolder) -> str:
    """Mines, or takes from the cache; returns the file's name."""
    check_fields(config, FIELDS)
    output = new_file(config.output)
    name = output.name.removesuffix(".gz")
    if not name.endswith((".trec", ".run")) and output.suffix != ".arrow":
        raise InputError(
            f"output={output}: candidates are written to .arrow, a TREC run to .trec or .trec.gz"
        )
    collection = make(config.data, Collection)
    log.info("%s", collection)
    retrievers = make_retrievers(config.candidates.retrievers)
    candidates = mine(collection, retrievers, config.candidates.split, config.candidates.limit)
    if processes.is_main():
        if output.suffix == ".arrow":
            output.parent.mkdir(parents=True, exist_ok=True)
            write_arrow(to_arrow(candidates), output)
        else:
            with draft(output) as file:
                as_run(candidates).write(file)
        print(f"\n{candidates}\n\nCandidates in {output}")
    return str(output)


def new_file(path: str) -> Path:
    """``path``; raises ``InputError`` if something is there already."""
    if Path(path).exists():
        raise InputError(f"output={path}: is there already; delete it, or name another file")
    return Path(path)


def as_run(candidates: Candidates) -> Run:
    """What the retrievers found, scored by 1 / rank; random documents and mere positives stay out."""
    ids, scored = candidates.collection.document_ids, {}
    for i, query in enumerate(candidates.query_rows):
        span = candidates.pool(i)
        ranked = zip(candidates.document_rows[span], candidates.ranks[span].tolist(), strict=True)
        scored[candidates.collection.query_ids[query]] = {
            ids[row]: 1 / (rank + 1) for row, rank in ranked if rank < UNRANKED
        }
    return Run.from_scores(scored)


if __name__ == "__main__":
    command(run, "mine")
