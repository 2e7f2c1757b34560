"""Rankings as teachers: TREC runs, and JSON lines {"query_id", "ranking": [ids, best first]}."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.data.lines import plain, read_lines, read_objects
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import pools, writing
from rankdistill.scores.formats.jsonl import QUERY, field, identifier, in_chunks, listed, reciprocal
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.table import ScoreTable


def read_run(
    path: str | Path,
    collection: Collection,
    invalid: Invalid = "error",
    by: Literal["score", "rank"] = "score",
) -> ScoreTable:
    """Reads a TREC run, also gzipped; with ``by="rank"`` its ranks are the teacher (``reciprocal``).

    A query's lines may stand anywhere if they are read by score, together if by rank. Raises
    ``InputError`` for malformed lines too; see ``to_table``.
    """
    if by not in ("score", "rank"):
        raise InputError(f"by={by!r}: it is 'score' or 'rank'")
    rows = _rows(Path(path))
    scored: Iterator[tuple[str, list[str], list[float]]]
    if by == "score":
        scored = ((query, [document], [score]) for query, document, _, score in rows)
    else:
        scored = _by_rank(rows, path)
    return to_table(in_chunks(scored), collection, path, invalid)


def _rows(path: Path) -> Iterator[tuple[str, str, int, float]]:
    for place, line in read_lines(path):
        try:
            query, _, document, rank, score, _ = line.split()
            yield query, document, int(plain(rank)), float(plain(score))
        except ValueError:
            raise InputError(
                f"{place}: expected 'query Q0 document rank score name', got {line.strip()[:60]!r}"
            ) from None


def _by_rank(rows, path: str | Path) -> Iterator[tuple[str, list[str], list[float]]]:
    seen = set()
    for query, lines in groupby(rows, key=lambda row: row[0]):
        if query in seen:
            raise InputError(f"{path}: the lines of query {query!r} do not stand together; sort the file")
        seen.add(query)
        ranked = sorted(lines, key=lambda row: row[2])
        again = [row for row, before in zip(ranked[1:], ranked, strict=False) if row[2] == before[2]]
        if again:
            raise InputError(
                f"{path}: query {query!r} has rank {again[0][2]} twice, at {again[0][1]!r} too; number its "
                "lines, or read it by score (by=score)"
            )
        yield query, [row[1] for row in ranked], reciprocal(len(ranked))


def write_run(table: ScoreTable, path: str | Path) -> None:
    """Writes a TREC run: score descending, then document id."""
    ids = table.collection.document_ids
    with writing(path) as out:
        for query, rows, scores, _ in pools(table):
            ranked = sorted(zip(rows, scores, strict=True), key=lambda pair: (-pair[1], ids[pair[0]]))
            for rank, (row, score) in enumerate(ranked, 1):
                out.write(f"{query} Q0 {ids[row]} {rank} {score:.9g} rankdistill\n")


def read_ranking(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads ``{"query_id", "ranking"}`` lines, also gzipped; scores are ``reciprocal``. See ``to_table``."""
    path = Path(path)

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        for place, row in read_objects(path):
            query = identifier(field(row, QUERY, place), place)
            ranking = listed(field(row, ("ranking",), place), "ranking", place)
            documents = [identifier(document, place) for document in ranking]
            if len(set(documents)) < len(documents):
                raise InputError(f"{place}: a document stands twice in the ranking")
            yield query, documents, reciprocal(len(documents))

    return to_table(in_chunks(scored()), collection, path, invalid)


def write_ranking(table: ScoreTable, path: str | Path) -> None:
    """Writes a line per query; of the scores their order is all that is kept."""
    ids = table.collection.document_ids
    with writing(path) as out:
        for query, rows, scores, _ in pools(table):
            best = [ids[rows[i]] for i in np.argsort(-scores, kind="stable")]
            out.write(json.dumps({"query_id": query, "ranking": best}, ensure_ascii=False) + "\n")
