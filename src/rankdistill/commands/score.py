"""Writes a teacher's scores of the candidates, in any of the formats.

rankdistill score data=beir data.path=path/to/collection output=scores.parquet
"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from rankdistill.commands.launch import command, make, make_retrievers
from rankdistill.commands.mine import FIELDS, new_file
from rankdistill.commands.named_models import check_models
from rankdistill.commands.summary import check_split
from rankdistill.data import Candidates, Collection
from rankdistill.data.candidates import read_candidates as read_arrow
from rankdistill.errors import InputError, fields_of
from rankdistill.runtime import processes
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder
from rankdistill.scores import write_scores
from rankdistill.scores.formats import check_format, files_written, read_run
from rankdistill.scores.formats.triples import Invalid
from rankdistill.teachers import FileTeacher, score_candidates, score_split

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: RunFolder) -> str:
    """Scores, or takes from the cache; returns the file's name."""
    check_fields(config, FIELDS | {"input": str | None, "format": str | None})
    output = new_file(config.output)
    format = check_format(config.format, output)
    check_models(config.teacher)
    teacher = make(config.teacher)  # before anything is read: it may not be there
    if config.input is None and not isinstance(teacher, FileTeacher):
        check_models(config.candidates.retrievers)
    for file in files_written(output, format)[1:]:
        new_file(config.output, file)
    collection = make(config.data, Collection)
    log.info("%s", collection)
    if config.input is None:
        check_split(collection, config.candidates.split, "candidates.split")
    if config.input is not None:
        if isinstance(teacher, FileTeacher):
            raise InputError("input: a file of scores brings its own candidates; leave it out")
        if config.candidates.limit is not None:
            raise InputError("candidates.limit: input brings its own queries, all of them; leave it out")
        pools = read_candidates(config.input, collection, config.data.get("invalid") or "error")
        table = score_candidates(teacher, pools)
    else:
        retrievers = {} if isinstance(teacher, FileTeacher) else make_retrievers(config.candidates.retrievers)
        wanted = config.candidates
        with fields_of("candidates"):
            table = score_split(teacher, retrievers, collection, wanted.split, wanted.limit)
        if isinstance(teacher, FileTeacher):
            warn_of_others(teacher, collection, wanted.split)
    if processes.is_main():
        write_scores(table, output, format)
        print(f"\n{table.candidates}\n\nScores of {table.teacher} in {output}")
    return str(output)


def warn_of_others(teacher: FileTeacher, collection: Collection, split: str) -> None:
    """Of the queries that the file has of other splits than the one that is written."""
    counts = {name: teacher.covers(collection, name) for name in collection.qrels if name != split}
    if said := ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count):
        log.warning(
            "%s: scores of %s are not written: candidates.split=%s; each split is a file of its own",
            teacher.path,
            said,
            split,
        )


def read_candidates(path: str, collection: Collection, invalid: Invalid = "error") -> Candidates:
    """Those that ``rankdistill.commands.mine`` wrote, or a TREC run's."""
    if Path(path).suffix != ".arrow":
        try:
            return read_run(path, collection, invalid).candidates
        except InputError as error:  # here it is no teacher's file
            raise InputError(str(error).replace("teacher.invalid", "data.invalid")) from None
    return read_arrow(Path(path), collection)


if __name__ == "__main__":
    command(run, "score")
