"""Writes the candidates of a split's queries.

rankdistill mine data=beir data.path=path/to/collection output=candidates.arrow
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from rankdistill.candidates import mine
from rankdistill.candidates.mining import Retriever, by_name, is_ordered, retrieve_together
from rankdistill.commands.launch import command, make, make_retrievers
from rankdistill.commands.named_models import check_models
from rankdistill.commands.summary import check_split
from rankdistill.data import Collection
from rankdistill.data.candidates import UNRANKED, Candidates, to_arrow, write_arrow
from rankdistill.errors import InputError, fields_of
from rankdistill.evaluation import Run
from rankdistill.runtime import processes
from rankdistill.runtime.cache import draft_of
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder
from rankdistill.scores.formats.files import draft, told

log = logging.getLogger(__name__)
RRF = 60  # what is added to a rank in reciprocal rank fusion
FIELDS = {
    "output": str,
    "candidates.split": str,
    "candidates.limit": int | None,
    "candidates.retrievers": dict,
}


def run(config: DictConfig, folder: RunFolder) -> str:
    """Mines, or takes from the cache what isn't a run; returns the file's name."""
    check_fields(config, FIELDS)
    each = str(config.output).endswith("/")
    output = Path(config.output) if each else new_file(config.output)
    name = output.name.removesuffix(".gz")
    if not each and not name.endswith((".trec", ".run")) and output.suffix != ".arrow":
        raise InputError(
            f"output={output}: candidates are written to .arrow, a TREC run to .trec or .trec.gz, each "
            "retriever's run into a folder, which ends in /"
        )
    check_models(config.candidates.retrievers)
    collection = make(config.data, Collection)
    log.info("%s", collection)
    check_split(collection, config.candidates.split, "candidates.split")
    with fields_of("candidates"):
        retrievers = by_name(make_retrievers(config.candidates.retrievers))
    if each:
        outputs = {name: new_file(str(output / f"{name}.trec")) for name in ordered(retrievers)}
    split, limit = config.candidates.split, config.candidates.limit
    with fields_of("candidates"):
        query_rows = collection.query_rows(split, limit)
    if each:
        for name, file in outputs.items():
            write_run(as_run(collection, {name: retrievers[name]}, query_rows), file, name)
        return str(output)
    mined: Candidates | Run
    if output.suffix == ".arrow":
        mined = mine(collection, retrievers, split, limit)
        if all((ranks == UNRANKED).all() for ranks in mined.ranks.values()):
            raise nothing_found(", ".join(retrievers), output)
        if processes.is_main():
            with told(output):
                output.parent.mkdir(parents=True, exist_ok=True)
                write_arrow(to_arrow(mined), output)
            print(f"\n{mined}\n\nCandidates in {output}")
    else:
        write_run(as_run(collection, retrievers, query_rows), output, ", ".join(retrievers))
    return str(output)


def write_run(found: Run, output: Path, names: str) -> None:
    """Writes what the retrievers ``names`` found; raises ``InputError`` if that is nothing."""
    if not any(found.ranking.values()):
        raise nothing_found(names, output)
    if processes.is_main():
        with draft(output) as file:
            found.write(file)
        sizes = list(map(len, found.ranking.values()))
        summary = f"Run {found.name} of {len(sizes):,} queries, {min(sizes)}-{max(sizes)} documents each"
        print(f"\n{summary}\n\nCandidates in {output}")


def nothing_found(names: str, output: Path) -> InputError:
    return InputError(
        f"candidates.retrievers: {names} found nothing for any query; are queries and documents of one "
        f"language (bm25.language)? {output} isn't written"
    )


def new_file(path: str, beside: Path | None = None) -> Path:
    """``path``; raises ``InputError`` if something is there already, or nothing can be: that is tried.

    Of a file that is written ``beside`` it, that file.
    """
    file = Path(path) if beside is None else beside
    also = "" if file == Path(path) else f"{file}, which is written beside it, "
    try:
        if file.is_dir():
            raise InputError(
                f"output={path}: {also}is a folder; name {'another' if also else 'a file in it'}"
            )
        if file.exists() or file.is_symlink():
            raise InputError(f"output={path}: {also}exists already; delete it, or name another file")
    except OSError as error:  # of a name that is too long
        raise InputError(f"output={path}: cannot be written ({error.strerror}); name another") from None
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"output={path}: {above} is a file, not a folder; name another")
    trial = draft_of(above / file.name)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(
            f"output={path}: cannot be written to {above} ({error.strerror}); name another"
        ) from None
    return file


def ordered(retrievers: Mapping[str, Retriever]) -> dict[str, Retriever]:
    """The retrievers that rank documents; raises ``InputError`` if there are none."""
    ranking = {name: retriever for name, retriever in retrievers.items() if is_ordered(retriever)}
    if not ranking:
        raise InputError(
            "candidates.retrievers: random documents have no rank, as a run must; write to .arrow"
        )
    return ranking


def as_run(collection: Collection, retrievers: Mapping[str, Retriever], query_rows: np.ndarray) -> Run:
    """What the retrievers rank: a single one's documents by its own scores, called by its name.

    Several have no common scale: their documents are scored by reciprocal rank fusion, the sum of
    1 / (60 + rank) (Cormack et al., SIGIR 2009), as is one that gives no scores, and the run is called
    rrf60. Random documents have no rank and are left out; raises ``InputError`` if there are no others.
    """
    ranking = ordered(retrievers)
    if len(ranking) == 1:
        ((name, alone),) = ranking.items()
        if hasattr(alone, "ranked"):
            rows, scores = alone.ranked(collection, query_rows)
            return Run.from_rows(collection, query_rows, rows, scores, name).without_own(collection)
    fused: dict[str, dict[str, float]] = {collection.query_ids[query]: {} for query in query_rows}
    for name, retriever in ranking.items():
        rows = retrieve_together(retriever, collection, query_rows)
        ranks = np.broadcast_to(-np.arange(1.0, 1 + rows.shape[1]), rows.shape)
        own = Run.from_rows(collection, query_rows, rows, ranks, name).without_own(collection)
        for query, ranked in own.ranking.items():
            for rank, (document, _) in enumerate(ranked, 1):
                fused[query][document] = fused[query].get(document, 0.0) + 1 / (RRF + rank)
    return Run.from_scores(fused, f"rrf{RRF}")


if __name__ == "__main__":
    command(run, "mine")
