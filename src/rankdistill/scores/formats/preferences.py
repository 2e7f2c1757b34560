"""Pairwise preferences: a row for two documents that were compared, and how probably one is preferred."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.scores.formats.files import write_rows
from rankdistill.scores.formats.jsonl import QUERY, field, identifier, in_chunks, number
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.formats.tuples import read_rows
from rankdistill.scores.preferences import Pairs
from rankdistill.scores.table import ScoreTable

FIRST = ("document_id_a", "doc_id_a", "docid_a", "preferred", "preferred_id")
SECOND = ("document_id_b", "doc_id_b", "docid_b", "rejected", "rejected_id")
PROBABILITY = ("probability", "p")
Compared = Mapping[str, list[tuple[str, str, float]]]  # query id -> first, second, how probably the first


def read_preferences(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads rows of query_id, document_id_a, document_id_b and probability, JSONL, Parquet or Arrow.

    The probability is that a is preferred; rows of ``preferred`` and ``rejected`` may lack it, as 1. A pair
    may be given in both orders, and more than once. The table's ``pairs`` are these; its ``scores`` are the
    mean probability with which a document is preferred in the pairs that it is in. See ``to_table``.

    Raises ``InputError`` for a document compared with itself and an invalid probability, too.
    """
    compared: dict[str, list[tuple[str, str, float]]] = {}
    for place, row in read_rows(Path(path)):
        query = identifier(field(row, QUERY, place), place)
        first, second = (identifier(field(row, names, place), place) for names in (FIRST, SECOND))
        sure = "probability" not in row and "p" not in row and ("preferred" in row or "preferred_id" in row)
        p = 1.0 if sure else number(field(row, PROBABILITY, place), place)
        if not 0 <= p <= 1:
            raise InputError(f"{place}: probability {p}; it must be from 0 to 1")
        if first == second:
            raise InputError(f"{place}: document {first!r} is compared with itself")
        compared.setdefault(query, []).append((first, second, p))
    table = to_table(in_chunks(_means(compared)), collection, path, invalid)
    table = replace(table, pairs=_pairs(compared, table))
    return replace(table, teacher=f"file {fingerprint(table.teacher, table.digests)}", trusted=True)


def _means(compared: Compared) -> Iterator[tuple[str, list[str], list[float]]]:
    """(query, documents, mean probabilities with which they are preferred) of one query after the other."""
    for query, pairs in compared.items():
        preferred: dict[str, list[float]] = {}
        for first, second, p in pairs:
            preferred.setdefault(first, []).append(p)
            preferred.setdefault(second, []).append(1 - p)
        yield query, list(preferred), [sum(shares) / len(shares) for shares in preferred.values()]


def _pairs(compared: Compared, table: ScoreTable) -> Pairs:
    """Those of two candidates of ``table``."""
    collection, candidates = table.collection, table.candidates
    counts, places, probabilities = [0], [], []
    for i, query in enumerate(candidates.query_rows):
        rows = candidates.document_rows[candidates.pool(i)].tolist()
        place = {collection.document_ids[row]: at for at, row in enumerate(rows)}
        for first, second, p in compared[collection.query_ids[query]]:
            if first in place and second in place:
                places.append((place[first], place[second]))
                probabilities.append(p)
        counts.append(len(places))
    first_places, second_places = np.array(places, np.int32).reshape(-1, 2).T.copy()
    return Pairs(np.array(counts, np.int64), first_places, second_places, np.array(probabilities, np.float32))


def write_preferences(table: ScoreTable, path: str | Path) -> None:
    """Writes a row for each pair, without the scores; raises ``InputError`` if there is none.

    JSON lines, or Parquet or Feather where the name says so.
    """
    if table.pairs is None:
        raise InputError(f"{path}: preferences cannot be written of a score table without pairs")
    kinds = dict.fromkeys(("query_id", "document_id_a", "document_id_b"), pa.string())
    write_rows(_rows(table, table.pairs), path, pa.schema(kinds | {"probability": pa.float32()}))


def _rows(table: ScoreTable, pairs: Pairs) -> Iterator[dict[str, Any]]:
    ids = table.collection.document_ids
    for i, query in enumerate(table.candidates.query_rows):
        rows = table.candidates.document_rows[table.candidates.pool(i)]
        for first, second, p in zip(*pairs.of(i), strict=True):
            yield {
                "query_id": table.collection.query_ids[query],
                "document_id_a": ids[rows[first]],
                "document_id_b": ids[rows[second]],
                "probability": float(f"{p:.9g}"),
            }
