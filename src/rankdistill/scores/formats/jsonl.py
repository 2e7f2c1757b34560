"""What the formats of JSON lines share."""

from collections.abc import Iterable, Iterator
from typing import Any

from rankdistill.errors import InputError
from rankdistill.scores.formats.triples import Chunk, chunk

PAIRS = 200_000  # in a chunk
QUERY = ("query_id", "qid", "query-id", "queryid")  # what the fields are called in published sets
DOCUMENT = (
    *("document_ids", "document_id", "corpus_id", "corpus-id", "doc_id", "doc_ids", "docid", "docids"),
    *("docno", "pid", "pids", "passage_id", "passage_ids"),
)


def field(row: dict[str, Any], names: tuple[str, ...], place: str) -> Any:
    """The value of the one of ``names`` that ``row`` has; raises ``InputError`` where it has none, or two."""
    present = [name for name in names if name in row]
    if len(present) > 1:
        raise InputError(f"{place}: {' and '.join(present)} have one meaning; keep one of them")
    if not present:
        raise InputError(f"{place}: no field {' or '.join(names)}; available: {', '.join(map(str, row))}")
    return row[present[0]]


def identifier(value: Any, place: str) -> str:
    """An id, text or integer, as text."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(f"{place}: an id is a text or an integer, not {str(value)[:60]!r}")
    return str(value)


def number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{place}: a score is a number, not {str(value)[:60]!r}")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{place}: a score that is too large, {str(value)[:20]}...") from None


def listed(value: Any, name: str, place: str) -> list:
    if not isinstance(value, list):
        raise InputError(f"{place}: {name} is a list, not {str(value)[:60]!r}")
    return value


def in_chunks(scored: Iterable[tuple[str, list[str], list[float]]]) -> Iterator[Chunk]:
    """(query, documents, scores) of one query after the other as chunks of many."""
    queries, documents, scores = [], [], []
    for query, found, values in scored:
        queries += [query] * len(found)
        documents += found
        scores += values
        if len(queries) >= PAIRS:
            yield chunk(queries, documents, scores)
            queries, documents, scores = [], [], []
    yield chunk(queries, documents, scores)


def reciprocal(n: int) -> list[float]:
    """1 / rank of ``n`` ranked documents, best first.

    A ranking says nothing about distances. Of the usual choices this one is bounded, the same for
    pools of any size, and tells the first documents apart, where rankings by language models are
    surest, better than the last; minus the rank would make all neighbours equally far apart.
    """
    return [1 / rank for rank in range(1, n + 1)]
