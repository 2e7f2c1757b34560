"""Training groups, a query per line: its positive and negative documents, with scores or without.

Three projects write such lines, and differ in the names:
sentence-transformers' msmarco-hard-negatives {"qid", "pos": [...], "neg": {"system": [...]}},
rankers' {"query_id", "doc_id_a", "doc_id_b": [...]}, Tevatron's {"query_id", "query",
"positive_passages": [{"docid", "text"}], "negative_passages": [...]}.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_objects
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import check_text_name, draft, pools, writing
from rankdistill.scores.formats.jsonl import DOCUMENT, QUERY, field, identifier, in_chunks, number
from rankdistill.scores.formats.mapping import read_json, write_json
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)
POSITIVES = ("pos", "doc_id_a", "positive_passages", "positive_document_ids")
NEGATIVES = ("neg", "doc_id_b", "negative_passages", "negative_document_ids")
SCORE = ("score", "ce-score")


def read_groups(
    path: str | Path, collection: Collection, invalid: Invalid = "error", scores: str | None = None
) -> ScoreTable:
    """Reads the groups of ``path``; a document is an id or an object with an id and a score.

    Where they have no scores, ``scores`` is a file ``{query id: {document id: score}}``; documents
    that it lacks are left out and counted in the log. What is relevant the collection's qrels say,
    not the side of the group. See ``to_table``.
    """
    path = Path(path)
    wanted = in_chunks(_scored(path, scores is None))
    if scores is None:
        return to_table(wanted, collection, path, invalid)
    table = read_json(scores, collection, invalid)
    candidates, size = table.candidates, len(collection.document_ids)
    keys = np.repeat(candidates.query_rows, np.diff(candidates.offsets)) * size + candidates.document_rows
    lacking = 0

    def chunks():
        nonlocal lacking
        for queries, documents, _ in wanted:
            q = np.array([collection.query_row.get(query, -1) for query in queries.to_pylist()])
            d = np.array([collection.document_row.get(document, -1) for document in documents.to_pylist()])
            where = np.minimum(np.searchsorted(keys, q * size + d), len(keys) - 1)
            known = (keys[where] == q * size + d) | (q < 0) | (d < 0)  # unknown ids are counted further on
            lacking += int((~known).sum())
            yield queries.filter(known), documents.filter(known), table.scores[where[known]]

    found = to_table(chunks(), collection, path, invalid)
    if lacking:
        log.warning("%s: %d documents of its groups have no score in %s", path, lacking, scores)
    return found


def _scored(path: Path, inline: bool) -> Iterator[tuple[str, list[str], list[float]]]:
    """Query, documents and scores of each line; zeros where the scores are elsewhere."""
    for place, row in read_objects(path):
        query = identifier(field(row, QUERY, place), place)
        documents, scores = [], []
        for item in [*_items(field(row, POSITIVES, place)), *_items(field(row, NEGATIVES, place))]:
            named = item if isinstance(item, dict) else {"docid": item}
            documents.append(identifier(field(named, DOCUMENT, place), place))
            if not inline:
                scores.append(0.0)
            elif isinstance(item, dict) and any(name in item for name in SCORE):
                scores.append(number(field(item, SCORE, place), place))
            else:
                raise InputError(
                    f"{place}: document {documents[-1]!r} has no score; give the file with the scores, "
                    "{query id: {document id: score}}: teacher.options={scores: scores.json}"
                )
        yield query, documents, scores


def _items(value: Any) -> list:
    """The documents in a list, in the lists of several systems, or a single one."""
    if isinstance(value, dict) and not any(name in value for name in DOCUMENT):
        return [item for items in value.values() for item in _items(items)]
    return value if isinstance(value, list) else [value]


def write_groups(table: ScoreTable, path: str | Path) -> None:
    """Writes rankers' lines and, beside them, their scores: groups.jsonl and groups.scores.json.

    A line has one positive; a query with more has more lines. Raises ``InputError`` if the scores would
    replace a file while ``path`` replaces none: it is of something else.
    """
    check_text_name(path)
    ids, beside = table.collection.document_ids, scores_beside(path)
    if beside.exists() and not Path(path).exists():
        raise InputError(f"{path}: its scores would replace {beside}; move that away, or name another file")
    with draft(beside) as scores, writing(path) as out:  # neither is there if one cannot be written
        write_json(table, scores)
        for query, rows, _, positive in pools(table, copies=False):
            others = [ids[row] for row in rows[~positive]]
            for row in rows[positive]:
                line = {"query_id": query, "doc_id_a": ids[row], "doc_id_b": others}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")


def scores_beside(path: str | Path) -> Path:
    """``groups.scores.json`` for ``groups.jsonl``."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".jsonl") + ".scores.json")


def write_hard_negatives(table: ScoreTable, path: str | Path) -> None:
    """Writes msmarco-hard-negatives' lines, the documents with their ids and scores."""
    ids = table.collection.document_ids
    with writing(path) as out:
        for query, rows, scores, positive in pools(table, copies=False):
            items = [
                {"pid": ids[row], "ce-score": float(f"{score:.9g}")}
                for row, score in zip(rows, scores, strict=True)
            ]
            pos, neg = ([items[i] for i in np.flatnonzero(side)] for side in (positive, ~positive))
            out.write(json.dumps({"qid": query, "pos": pos, "neg": {"candidates": neg}}) + "\n")


def write_tevatron(table: ScoreTable, path: str | Path) -> None:
    """Writes Tevatron's lines, with texts; a passage's score is beside its text."""
    collection = table.collection
    with writing(path) as out:
        for query, rows, scores, positive in pools(table, copies=False):
            items = [
                {
                    "docid": collection.document_ids[row],
                    "title": "",
                    "text": collection.documents[row],
                    "score": float(f"{score:.9g}"),
                }
                for row, score in zip(rows, scores, strict=True)
            ]
            line = {
                "query_id": query,
                "query": collection.queries[collection.query_row[query]],
                "positive_passages": [items[i] for i in np.flatnonzero(positive)],
                "negative_passages": [items[i] for i in np.flatnonzero(~positive)],
            }
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
