"""Collections from pairs of a query and a text that answers it."""

from collections.abc import Mapping
from typing import Literal

from rankdistill.data.collection import Collection
from rankdistill.data.frames import Frame, rows_of
from rankdistill.data.rows import Row, assemble
from rankdistill.errors import InputError


def from_pairs(
    pairs: Frame | Mapping[str, Frame],
    query: str = "query",
    positive: str = "positive",
    name: str = "pairs",
    invalid: Literal["error", "skip"] = "error",
) -> Collection:
    """The collection of tables whose columns ``query`` and ``positive`` hold texts.

    ``pairs`` maps split -> table; a table alone is the split ``train``. Ids are made (q0, d0, ...,
    in the order of appearance); a text that recurs is one query or document, so that a query may
    have several positives. The documents of all splits are searched together.
    """
    for parameter, column in (("query", query), ("positive", positive)):
        if not isinstance(column, str):
            raise InputError(f"{parameter}={column!r}: it must be the name of a column")
    tables = pairs if isinstance(pairs, Mapping) else {"train": pairs}
    documents: dict[str, Row] = {}
    queries: dict[str, Row] = {}
    qrels: dict[str, list[Row]] = {}
    for split, table in tables.items():
        qrels[split] = []
        for place, row in rows_of(split, table):
            ids = {}
            for column, known, letter in ((query, queries, "q"), (positive, documents, "d")):
                if column not in row:
                    raise InputError(
                        f"{place}: no column {column!r}; available: {', '.join(map(str, row))}; name "
                        "those of the texts: query=..., positive=..."
                    )
                text = row[column] or ""
                if not isinstance(text, str):
                    raise InputError(f"{place}: column {column!r} holds a {type(text).__name__}, not a text")
                entry = {"id": f"{letter}{len(known)}", "text": text}
                ids[column] = known.setdefault(text.strip(), (place, entry))[1]["id"]
            qrels[split].append((place, {"query": ids[query], "document": ids[positive]}))
    return assemble(
        name, ("documents", documents.values()), ("queries", queries.values()), qrels, invalid=invalid
    )
