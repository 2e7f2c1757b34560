"""The teacher's score of every candidate: written once, memory-mapped after that."""

import mmap
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, replace
from pathlib import Path

import numpy as np

from rankdistill.data.cache import seal, sealed
from rankdistill.data.candidates import (
    CHANGED,
    Candidates,
    check_pools,
    from_arrow,
    hash_array,
    open_arrow,
    to_arrow,
    values,
    write_arrow,
)
from rankdistill.data.collection import Collection
from rankdistill.data.labels import among, relevant_pairs
from rankdistill.data.score_hub import push
from rankdistill.errors import InputError, disk_refuses


@dataclass(frozen=True)
class ScoreTable:
    """Candidates and ``scores`` float32 (N,), the teacher's, aligned with them.

    ``teacher`` is the fingerprint of who scored; ``mapped`` the file that a loaded table lies in. Raises
    ``InputError`` if there are more or fewer scores than candidates or, unless both are ``trusted``, a score
    is not finite, a query is there twice, or a pool's documents do not ascend.
    """

    candidates: Candidates
    scores: np.ndarray
    teacher: str = ""
    trusted: InitVar[bool] = False
    mapped: mmap.mmap | None = None

    def __post_init__(self, trusted: bool):
        expected = len(self.candidates.document_rows)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        if not trusted:
            check_pools(self.candidates, "score table")
        if self.scores.shape != (expected,):
            raise InputError(f"score table: {self.scores.shape} scores for {expected} candidates")
        if not trusted and not np.isfinite(self.scores).all():
            bad = int(np.flatnonzero(~np.isfinite(self.scores))[0])
            collection = self.candidates.collection
            i = int(np.searchsorted(self.candidates.offsets, bad, side="right")) - 1
            raise InputError(
                f"score table: {self.scores[bad]} for query "
                f"{collection.query_ids[self.candidates.query_rows[i]]!r}, document "
                f"{collection.document_ids[self.candidates.document_rows[bad]]!r}; "
                "teacher scores must be finite: score again, or fix the teacher"
            )

    def __getstate__(self) -> dict:
        return vars(self) | {"mapped": None}  # a spawned worker gets the arrays; a map cannot be sent

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def collection(self) -> Collection:
        return self.candidates.collection

    def pool(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document rows int32 (n,), scores float32 (n,) and positive bool (n,) of query i."""
        span = self.candidates.pool(i)
        return self.candidates.document_rows[span], self.scores[span], self.candidates.positive[span]

    def release(self) -> None:
        """Takes what was read of the mapped file off this process's memory; the system's cache keeps it."""
        if self.mapped is not None and hasattr(self.mapped, "madvise"):  # not on Windows
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def __repr__(self) -> str:
        low, high = (self.scores.min(), self.scores.max()) if len(self.scores) else (0, 0)
        return f"ScoreTable({self.candidates}; scores {low:.3g} to {high:.3g})"

    def take(
        self, queries: Sequence[int] | np.ndarray, places: Sequence[np.ndarray] | None = None
    ) -> "ScoreTable":
        """A table of ``queries`` alone, distinct positions in this one, in the order given.

        With ``places``, an ascending int array a query, of its pool only the candidates that stand there.
        Raises ``InputError`` if one stands there twice, or isn't in the table.
        """
        taken = np.asarray(queries, dtype=np.int64)
        if len(np.unique(taken)) < len(taken):
            raise InputError("score table: a query to take twice; give each once")
        if not np.isin(taken, np.arange(len(self))).all():
            asked = f"{taken.min()} to {taken.max()}"
            raise InputError(f"score table: it has the queries 0 to {len(self) - 1}, not {asked}")
        whole = self.candidates
        spans = [np.arange(*whole.offsets[i : i + 2]) for i in taken]
        if places is not None:
            spans = [span[chosen] for span, chosen in zip(spans, places, strict=True)]
        at = np.concatenate([np.empty(0, np.int64), *spans])
        candidates = whole.only(at, whole.query_rows[taken], np.array([len(span) for span in spans]))
        return ScoreTable(candidates, self.scores[at], self.teacher, trusted=True)

    def without_own(self) -> "ScoreTable":
        """Without the documents that are the queries themselves; itself if it holds none."""
        candidates = self.candidates
        own = self.collection.own_document[candidates.query_rows]
        if (own < 0).all():
            return self
        keep = candidates.document_rows != np.repeat(own, np.diff(candidates.offsets))
        if keep.all():
            return self
        ends = np.concatenate([[0], np.cumsum(keep)])
        left = candidates.only(keep, candidates.query_rows, np.diff(ends[candidates.offsets]))
        return ScoreTable(left, self.scores[keep], self.teacher, trusted=True)

    def of_split(self, split: str) -> "ScoreTable":
        """The pools of the queries of ``split``; relevant is what its qrels say, and no other split's.

        Left out are queries without a relevant candidate, and documents that are the query itself. Raises
        ``InputError`` for an unknown split.
        """
        table = self.without_own()
        candidates, size = table.candidates, len(table.collection.document_ids)
        owners = np.repeat(candidates.query_rows, np.diff(candidates.offsets))
        positive = among(owners * size + candidates.document_rows, relevant_pairs(table.collection, [split]))
        labelled = replace(
            table, candidates=replace(candidates, positive=positive), mapped=None, trusted=True
        )
        return labelled.take(np.flatnonzero(np.isin(candidates.query_rows, owners[positive])))

    def save(self, path: str | Path) -> None:
        """Writes an Arrow file: query_id, document_ids, positive, each source's ranks, scores."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            table = to_arrow(self.candidates, np.asarray(self.scores, dtype=np.float32))
            digest = hash_array(table.column("scores").chunk(0).values.to_numpy())
            metadata = table.schema.metadata | {"teacher": self.teacher, "scores": digest}
            belongs_to = f"{self.collection.name}, {len(self):,} queries"
            write_arrow(table.replace_schema_metadata(metadata), path, belongs_to)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({disk_refuses(error) or error.strerror}); or write elsewhere"
            ) from None

    def push_to_hub(self, repo_id: str, private: bool = False) -> None:
        """Uploads ids and scores as the dataset ``repo_id``; ``read_scores(repo_id, ...)`` reads it.

        Raises ``InputError`` where the hub cannot be reached.
        """
        push(self, repo_id, private)

    @classmethod
    def load(
        cls,
        path: str | Path,
        collection: Collection,
        candidates: Candidates | None = None,
        teacher: str | None = None,
    ) -> "ScoreTable":
        """Opens the table at ``path`` without reading it into memory.

        What this library wrote here is known by its size, its time and a checksum in the cache; any other
        file is read whole when it is first opened, and, if nothing is wrong, known after that.

        Raises ``InputError`` if it is missing, damaged, or belongs to another collection, or to
        another candidate set or teacher (fingerprint) where these are given.
        """
        path = Path(path)
        trusted = sealed(path)
        table, mapped = open_arrow(path, trusted)
        found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        stored = from_arrow(table, collection, path, trusted)
        if "scores" not in table.column_names:
            raise InputError(f"{path}: candidates without scores; score them first")
        for what, expected in (
            ("candidates", candidates.fingerprint if candidates is not None else None),
            ("teacher", teacher),
        ):
            if expected is not None and found.get(what) != expected:
                raise InputError(
                    f"{path}: scores of another {what.removesuffix('s')} "
                    f"({found.get(what)}, not {expected}); delete it to score again"
                )
        scores = values(table, "scores")
        loaded = cls(stored, scores, found.get("teacher", ""), trusted, mapped)
        if not trusted:
            if found.get("scores") not in (None, hash_array(scores)):
                raise InputError(f"{path}: {CHANGED}")
            seal(path)
        return loaded
