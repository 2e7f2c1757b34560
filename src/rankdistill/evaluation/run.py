"""A run: for each query, documents in the order a system ranks them."""

import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from pathlib import Path

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.data.lines import plain, read_lines
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked
from rankdistill.runtime.folders import written


def _is_score(value: object) -> bool:
    """A number; NaN would be ranked by the order of insertion."""
    return isinstance(value, Real) and value == value


@checked
@dataclass(frozen=True)
class Run:
    """``ranking[query id]`` lists (document id, score), best first.

    One tie rule for everything in the library: score descending, then document id ascending.
    Raises ``InputError`` unless ids are strings, each document of a query is there once, and scores are
    numbers.
    """

    ranking: Mapping[str, list[tuple[str, float]]]
    name: str = "rankdistill"

    def __post_init__(self):
        for query, ranked in self.ranking.items():
            if not isinstance(query, str):
                raise InputError(f"run {self.name}: query {query!r}: an id must be a string")
            if isinstance(ranked, Mapping) or not all(
                isinstance(x, tuple | list) and len(x) == 2 for x in ranked
            ):
                raise InputError(
                    f"run {self.name}: query {query!r}: expected (document id, score) pairs, got "
                    f"{str(ranked)[:60]}; Run.from_scores takes document id -> score"
                )
            if len(dict(ranked)) < len(ranked):
                raise InputError(f"run {self.name}: query {query!r} has a document twice")
            for document, score in ranked:
                if not (isinstance(document, str) and _is_score(score)):
                    raise InputError(
                        f"run {self.name}: query {query!r}: expected a document's id, a string, and a "
                        f"number, got {document!r}, {score!r}"
                    )

    @classmethod
    def from_scores(cls, scored: Mapping[str, Mapping[str, float]], name: str = "rankdistill") -> "Run":
        """From query id -> document id -> score, in any order; raises ``InputError`` if one is no number."""
        for query, documents in scored.items():
            for document, score in documents.items():
                if not _is_score(score):
                    raise InputError(
                        f"run {name}: the score of {query!r}, {document!r} is {score!r}, no number"
                    )
        return cls(
            {
                query: sorted(documents.items(), key=lambda item: (-item[1], item[0]))
                for query, documents in scored.items()
            },
            name,
        )

    @classmethod
    def from_rows(
        cls, collection: Collection, query_rows: np.ndarray, rows: np.ndarray, scores: np.ndarray, name: str
    ) -> "Run":
        """From document rows and scores (Q, k) of the queries; rows of -1 are no documents."""
        ids = collection.document_ids
        return cls.from_scores(
            {
                collection.query_ids[query]: {
                    ids[row]: score for row, score in zip(found, values, strict=True) if row >= 0
                }
                for query, found, values in zip(
                    query_rows.tolist(), rows.tolist(), scores.tolist(), strict=True
                )
            },
            name,
        )

    def without_own(self, collection: Collection) -> "Run":
        """The run without documents that are the query itself (``Collection.own_document``)."""
        own = {
            collection.query_ids[query]: collection.document_ids[row]
            for query, row in enumerate(collection.own_document.tolist())
            if row >= 0 and collection.query_ids[query] in self.ranking
        }
        if not own:
            return self
        ranking = {
            query: [(document, score) for document, score in ranked if document != own.get(query)]
            for query, ranked in self.ranking.items()
        }
        return Run(ranking, self.name)

    def write(self, path: str | Path) -> None:
        """Writes TREC format (query Q0 document rank score name), gzipped if the name ends in .gz.

        trec_eval goes by the scores, in single precision, and puts the higher document id first where they
        are equal: an equal score is written as the next lower number. Raises ``InputError`` for an id with
        white space, which ends it there.
        """
        ids = chain(self.ranking, (document for ranked in self.ranking.values() for document, _ in ranked))
        if (spaced := next((x for x in ids if x.split() != [x]), None)) is not None:
            raise InputError(
                f"run {self.name}: {spaced!r} is no id in a run file: it is empty, or has white space"
            )
        path, name = Path(path), "_".join(self.name.split()) or "rankdistill"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as draft, open(draft, "wb") as raw:
            # neither the time nor the draft's name in its head: the same run is the same file
            packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
            with io.TextIOWrapper(packed, encoding="utf-8", newline="") as out:
                for query, ranked in self.ranking.items():
                    scores = descending([score for _, score in ranked])
                    for rank, ((document, _), score) in enumerate(zip(ranked, scores, strict=True), 1):
                        out.write(f"{query} Q0 {document} {rank} {score:.9g} {name}\n")

    @classmethod
    def read(cls, path: str | Path) -> "Run":
        """Reads TREC format, also gzipped; raises ``InputError`` with the line that isn't."""
        path = Path(path)
        scored: dict[str, dict[str, float]] = {}
        name = "rankdistill"
        for place, line in read_lines(path):
            try:
                query, _, document, _, score, name = line.split()
                value = float(plain(score))
            except ValueError:
                raise InputError(
                    f"{place}: expected 'query Q0 document rank score name', got {line.strip()[:60]!r}"
                ) from None
            if document in scored.setdefault(query, {}):
                raise InputError(f"{place}: document {document!r} twice for query {query!r}")
            if not np.isfinite(value):
                raise InputError(f"{place}: score {score} is not finite")
            scored[query][document] = value
        return cls.from_scores(scored, name)


def descending(scores: Sequence[float]) -> list[float]:
    """``scores``, best first, as numbers that descend in single precision, and with nine digits.

    They are changed only where they do not, by as little as can be; those too large for it become ranks.
    """
    if not all(abs(score) < 1e38 for score in scores):
        return [float(len(scores) - i) for i in range(len(scores))]
    written, last = [], np.float32(np.inf)
    for score in scores:
        single = np.float32(f"{score:.9g}")
        if single >= last:
            score = single = np.nextafter(last, np.float32(-np.inf))
        written.append(float(score))
        last = single
    return written
