"""Writes the candidates of a split's queries.

python -m rankdistill.mine data=beir data.path=path/to/collection output=candidates.arrow
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from rankdistill import processes
from rankdistill.candidates import mine
from rankdistill.candidates.mine import Retriever, retrieve_together
from rankdistill.command import command, make, make_retrievers
from rankdistill.data import Collection
from rankdistill.data.candidates import SOURCES, Candidates, to_arrow, write_arrow
from rankdistill.data.formats.files import draft
from rankdistill.errors import InputError, fields_of
from rankdistill.evaluation import Run
from rankdistill.fields import check_fields
from rankdistill.folders import RunFolder

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
    output = new_file(config.output)
    name = output.name.removesuffix(".gz")
    if not name.endswith((".trec", ".run")) and output.suffix != ".arrow":
        raise InputError(
            f"output={output}: candidates are written to .arrow, a TREC run to .trec or .trec.gz"
        )
    collection = make(config.data, Collection)
    log.info("%s", collection)
    retrievers = make_retrievers(config.candidates.retrievers)
    split, limit = config.candidates.split, config.candidates.limit
    with fields_of("candidates"):
        query_rows = collection.query_rows(split, limit)
    found: Candidates | Run
    if output.suffix == ".arrow":
        found = mine(collection, retrievers, split, limit)
        empty = not (found.sources & ~np.uint8(SOURCES["positive"])).any()
    else:
        found = as_run(collection, retrievers, query_rows)
        empty = not any(found.ranking.values())
    if empty:
        raise InputError(
            f"candidates.retrievers: {', '.join(r.source for r in retrievers)} found nothing for any query; "
            f"are queries and documents of one language (bm25.language)? {output} isn't written"
        )
    if processes.is_main():
        if isinstance(found, Run):
            with draft(output) as file:
                found.write(file)
            sizes = list(map(len, found.ranking.values()))
            said = f"Run {found.name} of {len(sizes):,} queries, {min(sizes)}-{max(sizes)} documents each"
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_arrow(to_arrow(found), output)
            said = str(found)
        print(f"\n{said}\n\nCandidates in {output}")
    return str(output)


def new_file(path: str) -> Path:
    """``path``; raises ``InputError`` if something is there already, or nothing can be."""
    file = Path(path)
    if file.is_dir():
        raise InputError(f"output={path}: is a folder; name a file in it")
    if file.exists() or file.is_symlink():
        raise InputError(f"output={path}: is there already; delete it, or name another file")
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"output={path}: {above} is a file, and no folder; name another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"output={path}: {above} cannot be written to; name another folder")
    return file


def as_run(collection: Collection, retrievers: Sequence[Retriever], query_rows: np.ndarray) -> Run:
    """What the retrievers rank: a single one's documents by its own scores, called by its source.

    Several have no common scale: their documents are scored by reciprocal rank fusion, the sum of
    1 / (60 + rank) (Cormack et al., SIGIR 2009), as is one that gives no scores, and the run is called
    rrf60. Random documents stay out, since nobody ranked them; raises ``InputError`` if there are no others.
    """
    ranking = [retriever for retriever in retrievers if retriever.source != "random"]
    if not ranking:
        raise InputError(
            "candidates.retrievers: random documents have no rank, as a run must; write to .arrow"
        )
    if len(ranking) == 1 and hasattr(ranking[0], "ranked"):
        rows, scores = ranking[0].ranked(collection, query_rows)
        return Run.from_rows(collection, query_rows, rows, scores, ranking[0].source).without_own(collection)
    fused: dict[str, dict[str, float]] = {collection.query_ids[query]: {} for query in query_rows}
    for retriever in ranking:
        rows = retrieve_together(retriever, collection, query_rows)
        ranks = np.broadcast_to(-np.arange(1.0, 1 + rows.shape[1]), rows.shape)
        own = Run.from_rows(collection, query_rows, rows, ranks, retriever.source).without_own(collection)
        for query, ranked in own.ranking.items():
            for rank, (document, _) in enumerate(ranked, 1):
                fused[query][document] = fused[query].get(document, 0.0) + 1 / (RRF + rank)
    return Run.from_scores(fused, f"rrf{RRF}")


if __name__ == "__main__":
    command(run, "mine")
