"""Rankings as teachers: TREC runs, JSON lines {"query_id", "ranking": [ids, best first]}, LLMs' answers."""

import json
import logging
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.data.lines import plain, read_lines, read_objects
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import pools, writing
from rankdistill.scores.formats.jsonl import QUERY, field, identifier, in_chunks, listed, reciprocal
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)


def read_run(
    path: str | Path,
    collection: Collection,
    invalid: Invalid = "error",
    by: Literal["score", "rank"] = "score",
) -> ScoreTable:
    """Reads a TREC run, also gzipped; with ``by="rank"`` its ranks are the teacher (``reciprocal``).

    A query's lines may be anywhere if they are read by score, and must be together if by rank. Raises
    ``InputError`` for malformed lines too; see ``to_table``.
    """
    if by not in ("score", "rank"):
        raise InputError(f"by={by!r}: it must be 'score' or 'rank'")
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
            raise InputError(f"{path}: the lines of query {query!r} are not together; sort the file")
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
    """Reads ``{"query_id", "ranking"}`` lines, also gzipped; scores are ``reciprocal``. See ``to_table``.

    In place of ``ranking`` a line may have ``candidates``, ids in the retriever's order, and ``permutation``,
    what a language model answered of them: "[2] > [1] > [3]", counted from 1; see ``permuted``. An
    answer without an order raises ``InputError``; with ``invalid="skip"`` its query is left out.
    """
    path, silent = Path(path), 0
    known: set[str] = set()

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        nonlocal silent
        for place, row in read_objects(path):
            query = identifier(field(row, QUERY, place), place)
            if query in known:
                raise InputError(f"{place}: query {query!r} again; a line has the whole order of a query")
            known.add(query)
            answered = "permutation" in row
            if answered and "ranking" in row:
                raise InputError(f"{place}: ranking and permutation are both an order; keep one of them")
            name = "candidates" if answered else "ranking"
            ranked = listed(field(row, (name,), place), name, place)
            documents = [identifier(document, place) for document in ranked]
            if len(set(documents)) < len(documents):
                raise InputError(f"{place}: a document appears twice in the {name}")
            places = permuted(row["permutation"], len(documents)) if answered else range(len(documents))
            if places is None:
                if invalid == "error":
                    raise InputError(
                        f"{place}: no order of {len(documents)} candidates in "
                        f"{str(row['permutation'])[:60]!r}; ask again, or leave such queries out: "
                        "teacher.invalid=skip"
                    )
                silent += 1
                continue
            score = dict(zip(places, reciprocal(len(documents)), strict=True))
            yield query, documents, [score[i] for i in range(len(documents))]
        if silent:
            log.warning("%s: left out %d queries whose answers have no order", path, silent)

    return to_table(in_chunks(scored()), collection, path, invalid)


def permuted(answer: Any, n: int) -> list[int] | None:
    """Places of ``n`` candidates from 0, best first, by a language model's ``answer``; None if it has no
    order.

    What it thought first, up to </think>, does not count. The numbers in brackets do, or all where none are
    in any; or it is a list of numbers. They are from 1. One
    that is given again or is no candidate's is passed over, and what the answer leaves out
    follows in its own order, as RankGPT does (Sun et al. 2023, arXiv 2304.09542).
    """
    if isinstance(answer, str):
        answer = answer.rpartition("</think>")[2]
        digits = re.findall(r"\[\s*(\d{1,9})\s*\]", answer) or re.findall(r"\d{1,9}", answer)
        numbers = [int(number) for number in digits]
    else:
        numbered = answer if isinstance(answer, list) else []
        numbers = [number for number in numbered if isinstance(number, int) and not isinstance(number, bool)]
    order = [number - 1 for number in dict.fromkeys(numbers) if 1 <= number <= n]
    return order + sorted(set(range(n)) - set(order)) if order else None


def write_ranking(table: ScoreTable, path: str | Path) -> None:
    """Writes a line per query; of the scores their order is all that is kept."""
    ids = table.collection.document_ids
    with writing(path) as out:
        for query, rows, scores, _ in pools(table):
            best = [ids[rows[i]] for i in np.argsort(-scores, kind="stable")]
            out.write(json.dumps({"query_id": query, "ranking": best}, ensure_ascii=False) + "\n")
