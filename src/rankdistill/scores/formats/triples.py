"""From a file's (query, document, score) triples to the score table."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rankdistill.data.candidates import UNORDERED, Candidates, hash_array
from rankdistill.data.collection import Collection
from rankdistill.data.faults import resemblance
from rankdistill.data.labels import among, relevant_pairs
from rankdistill.errors import InputError, shorten
from rankdistill.runtime.cache import fingerprint
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)
Invalid = Literal["error", "skip"]
Chunk = tuple[pa.Array, pa.Array, np.ndarray]  # query ids, document ids and scores, aligned
NAMED = 1000  # unknown ids remembered, to be named
TIED = 0.01  # share of the scores that may become ties without a word
TOLERANCE = 0.01  # of two scores of one pair: the same model in other batches or half precision


def to_table(
    chunks: Iterable[Chunk],
    collection: Collection,
    path: str | Path,
    invalid: Invalid = "error",
    teacher: str | None = None,
    query_row: Mapping[str, int] | None = None,
    document_row: Mapping[str, int] | None = None,
) -> ScoreTable:
    """The table of all triples in ``chunks``; a query's candidates are the documents it has scores for.

    Relevant is what the qrels of any split say. The order of the file is the retriever's
    rank. A relevant document without a score is in no pool; a query with fewer than two candidates
    or without a relevant one among them is left out; the log counts both. A pair that appears
    twice keeps its first score.

    Raises ``InputError`` for a score that isn't finite and if no query is left; for unknown ids and
    scores of one pair that differ too, unless ``invalid`` is ``skip``. ``query_row`` and
    ``document_row`` are what the file's ids mean, by default the collection's ids.
    """
    if invalid not in ("error", "skip"):
        raise InputError(f"invalid={invalid!r}: it must be 'error' or 'skip'")
    query_row = collection.query_row if query_row is None else query_row
    document_row = collection.document_row if document_row is None else document_row
    unknown: dict[str, Counter] = {"queries": Counter(), "documents": Counter()}
    triples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    tied = total = 0
    for queries, documents, scores in _texts_alone(chunks, path):
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            values = np.asarray(scores)
            scores = values.astype(np.float32)
        if not np.isfinite(scores).all():
            at = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"{path}: score {_number(values[at])} for query {_short(queries[at])}, document "
                f"{_short(documents[at])}; teacher scores must be "
                f"{'given, and ' if np.isnan(values[at]) else ''}finite"
            )
        q = _rows(queries, query_row, unknown["queries"])
        d = _rows(documents, document_row, unknown["documents"])
        known = (q >= 0) & (d >= 0)
        tied, total = tied + _tied(q, values, scores), total + len(q)
        triples.append((q[known], d[known], scores[known]))
    _settle(unknown, collection, path, invalid, any(len(q) for q, _, _ in triples))
    if tied > TIED * total:
        log.warning(
            "%s: %d of %d scores differ from another of their query by less than single precision holds, and "
            "are equal to it now; subtract an offset, or scale them",
            path,
            tied,
            total,
        )
    q, d, s = (np.concatenate(column) for column in zip(*triples, strict=True))
    triples.clear()
    return _table(*_once(q, d, s, collection, path, invalid), collection, path, teacher)


def _tied(q: np.ndarray, values: np.ndarray, scores: np.ndarray) -> int:
    """How many ``values`` of a query differ from the next lower one where their ``scores`` do not."""
    if np.array_equal(values, scores):  # as of float32 itself
        return 0
    order = np.lexsort((values, q))
    same, before, after = (x[order] for x in (q, values, scores))
    lost = (same[1:] == same[:-1]) & (before[1:] != before[:-1]) & (after[1:] == after[:-1])
    return int(lost.sum())


def _texts_alone(chunks: Iterable[Chunk], path) -> Iterator[Chunk]:
    """``chunks``; raises ``InputError`` where a file has half a character in an id, as JSON can."""
    try:
        yield from chunks
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: {error.object[:60]!r} holds half a character (a lone surrogate), and so is not text; "
            "write the file again as UTF-8"
        ) from None


def _number(score: float) -> str:
    """``score``, which float32 does not hold, as it was given."""
    return f"{score:g}, beyond float32's 3.4e38," if np.isfinite(score) else f"{score}"


def _short(value: pa.Scalar) -> str:
    return repr(str(value)[:60])


def _rows(ids: pa.Array, row: Mapping[str, int], unknown: Counter) -> np.ndarray:
    """The row of each id, int32, -1 where there is none; each distinct one is looked up once."""
    encoded = pc.fill_null(ids, "").dictionary_encode()
    rows = np.array([row.get(id_, -1) for id_ in encoded.dictionary.to_pylist()], np.int32)
    where = encoded.indices.to_numpy(zero_copy_only=False)
    rows = rows[where]
    for index, count in zip(*np.unique(where[rows < 0], return_counts=True), strict=True):
        name = str(encoded.dictionary[int(index)])[:60]
        unknown[name if name in unknown or len(unknown) < NAMED else "others"] += int(count)
    return rows


def _settle(unknown: dict[str, Counter], collection, path, invalid: str, any_known: bool) -> None:
    """Raises ``InputError`` for unknown ids, or counts them in the log."""
    ids = {"queries": collection.query_ids, "documents": collection.document_ids}
    if not any_known:
        for kind, names in unknown.items():
            if names:
                raise InputError(
                    f"{path}: none of its {kind} is in {collection.name}: {shorten(names)}"
                    f"{resemblance(names, ids[kind])}"
                )
        raise InputError(f"{path}: no score in it")
    for kind, names in unknown.items():
        if names:
            text = f"{names.total():,} scores of {kind} that {collection.name} lacks: {shorten(names)}"
            if invalid == "error":
                raise InputError(
                    f"{path}: {text}{resemblance(names, ids[kind])}; correct the file, or drop them: "
                    "teacher.invalid=skip"
                )
            log.warning("%s: skipped %s", path, text)


def _once(
    q, d, s, collection: Collection, path, invalid: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Query rows, document rows, scores and ranks, sorted by query and document, each pair once."""
    order = np.argsort(q, kind="stable")
    starts = np.flatnonzero(np.diff(q[order], prepend=-1))
    ranks = np.empty(len(q), np.int64)
    ranks[order] = np.arange(len(q)) - np.repeat(starts, np.diff(starts, append=len(q)))
    order = np.lexsort((d, q))  # stable: of equal pairs the first in the file comes first
    q, d, s, ranks = q[order], d[order], s[order], ranks[order]
    again = np.concatenate([[False], (q[1:] == q[:-1]) & (d[1:] == d[:-1])])
    if again.any():
        at = np.flatnonzero(again)
        apart = at[np.abs(s[at] - s[at - 1]) > TOLERANCE * np.maximum(1, np.abs(s[at]))]
        if len(apart):
            i = apart[0]
            text = (
                f"{len(apart):,} pairs have scores that differ, such as query "
                f"{collection.query_ids[q[i]]!r}, document {collection.document_ids[d[i]]!r}: "
                f"{s[i - 1]:g} and {s[i]:g}"
            )
            if invalid == "error":
                raise InputError(f"{path}: {text}; correct the file, or keep the first: teacher.invalid=skip")
            log.warning("%s: %s; kept the first", path, text)
    return q[~again], d[~again], s[~again], np.minimum(ranks[~again], UNORDERED - 1)


def _table(q, d, s, ranks, collection: Collection, path, teacher: str | None) -> ScoreTable:
    """The table of the sorted pairs, less the queries that teach nothing."""
    size = len(collection.document_ids)
    relevant = relevant_pairs(collection, collection.qrels)
    keys = q.astype(np.int64) * size + d
    positive = among(keys, relevant)
    queries, first, counts = np.unique(q, return_index=True, return_counts=True)
    positives = np.add.reduceat(positive, first, dtype=np.int64)
    usable = (counts >= 2) & (positives >= 1)
    lacking = among(relevant // size, queries) & ~among(relevant, keys)
    if lacking.any():
        log.warning(
            "%s: %d relevant documents of its queries have no score there, and are in no pool",
            path,
            lacking.sum(),
        )
    if not usable.all():
        log.warning(
            "%s: left out %d of %d queries, without a scored relevant document or a second candidate",
            path,
            (~usable).sum(),
            len(usable),
        )
    if not usable.any():
        raise InputError(
            f"{path}: none of its {len(usable):,} queries has two scored documents, one of them relevant in "
            f"the qrels of {collection.name}"
        )
    rows = np.repeat(usable, counts)
    candidates = Candidates(
        collection,
        queries[usable].astype(np.int64),
        np.concatenate([[0], np.cumsum(counts[usable])]).astype(np.int64),
        d[rows],
        positive[rows],
        {"file": ranks[rows].astype(np.uint16)},
    )
    who = teacher or f"file {fingerprint(candidates.fingerprint, hash_array(s[rows]))}"
    log.info("%s: %s", path, candidates)
    return ScoreTable(candidates, s[rows], who, trusted=True)


def chunk(queries: list[str], documents: list[str], scores: list[float]) -> Chunk:
    """Lists as a ``Chunk``."""
    kind = pa.large_string()
    return pa.array(queries, kind), pa.array(documents, kind), np.array(scores, dtype=np.float64)
