"""FlagEmbedding's training lines: texts, not ids, {"query", "pos", "neg", "pos_scores", "neg_scores"}."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_objects
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import pools, writing
from rankdistill.scores.formats.jsonl import field, in_chunks, listed, number
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.table import ScoreTable


def read_bge(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads the lines of ``path``; their texts are the collection's, character for character.

    Of equal texts in the collection the first is meant. Texts that it lacks are unknown ids. Raises
    ``InputError`` for lines without scores too; see ``to_table``.
    """
    path = Path(path)

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        for place, row in read_objects(path):
            query, documents, scores = field(row, ("query",), place), [], []
            for side in ("pos", "neg"):
                texts = listed(field(row, (side,), place), side, place)
                values = listed(field(row, (f"{side}_scores",), place), f"{side}_scores", place)
                if len(texts) != len(values):
                    raise InputError(f"{place}: {len(texts)} texts in {side}, {len(values)} scores")
                documents += texts
                scores += [number(value, place) for value in values]
            if not all(isinstance(text, str) for text in [query, *documents]):
                raise InputError(f"{place}: query, pos and neg are texts")
            yield query, documents, scores

    return to_table(
        in_chunks(scored()),
        collection,
        path,
        invalid,
        query_row=first_row(collection.queries),
        document_row=first_row(collection.documents),
    )


def first_row(texts) -> dict[str, int]:
    """Text -> its row, of equal ones the first."""
    rows: dict[str, int] = {}
    for row, text in enumerate(texts):
        rows.setdefault(text, row)
    return rows


def write_bge(table: ScoreTable, path: str | Path) -> None:
    """Writes a line per query."""
    collection = table.collection
    with writing(path) as out:
        for query, rows, scores, positive in pools(table, copies=False):
            line: dict[str, object] = {"query": collection.queries[collection.query_row[query]]}
            for side, chosen in (("pos", np.flatnonzero(positive)), ("neg", np.flatnonzero(~positive))):
                line[side] = [collection.documents[rows[i]] for i in chosen]
                line[f"{side}_scores"] = [float(f"{scores[i]:.9g}") for i in chosen]
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
