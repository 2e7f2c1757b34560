"""A run: for each query, documents in the order a system ranks them."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError


@dataclass(frozen=True)
class Run:
    """``ranking[query id]`` lists (document id, score), best first.

    One tie rule for everything in the library: score descending, then document id ascending.
    """

    ranking: Mapping[str, list[tuple[str, float]]]
    name: str = "rankdistill"

    @classmethod
    def from_scores(cls, scored: Mapping[str, Mapping[str, float]], name: str = "rankdistill") -> "Run":
        """From query id -> document id -> score, in any order."""
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
                    ids[row]: float(score) for row, score in zip(found, values, strict=True) if row >= 0
                }
                for query, found, values in zip(query_rows, rows, scores, strict=True)
            },
            name,
        )

    def strict(self) -> dict[str, dict[str, float]]:
        """Query id -> document id -> -rank: the same order with no ties, which measures break differently."""
        return {
            query: {document: float(-rank) for rank, (document, _) in enumerate(ranked)}
            for query, ranked in self.ranking.items()
        }

    def write(self, path: str | Path) -> None:
        """Writes TREC format (query Q0 document rank score name), gzipped if the name ends in .gz."""
        path = Path(path)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "wt", encoding="utf-8") as out:
            for query, ranked in self.ranking.items():
                for rank, (document, score) in enumerate(ranked, 1):
                    out.write(f"{query} Q0 {document} {rank} {score:.9g} {self.name}\n")

    @classmethod
    def read(cls, path: str | Path) -> "Run":
        """Reads TREC format, also gzipped; raises ``InputError`` with the line that isn't."""
        path = Path(path)
        scored: dict[str, dict[str, float]] = {}
        name = "rankdistill"
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    cells = line.split()
                    if not cells:
                        continue
                    try:
                        query, _, document, _, score, name = cells
                        value = float(score)
                    except ValueError:
                        raise InputError(
                            f"{path}:{number}: expected 'query Q0 document rank score name', "
                            f"got {line.strip()[:60]!r}"
                        ) from None
                    if not np.isfinite(value):
                        raise InputError(f"{path}:{number}: score {score} is not finite")
                    if document in scored.setdefault(query, {}):
                        raise InputError(f"{path}:{number}: document {document!r} twice for query {query!r}")
                    scored[query][document] = value
        except FileNotFoundError:
            raise InputError(f"{path}: no such run file") from None
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, IsADirectoryError) as error:
            raise InputError(f"{path}: not a TREC run ({error})") from None
        return cls.from_scores(scored, name)
