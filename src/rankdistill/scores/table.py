"""The teacher's score of every candidate: written once, memory-mapped after that."""

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from rankdistill.data.candidates import (
    CHANGED,
    COLUMNS,
    RANKS,
    Candidates,
    check_lists,
    check_pools,
    from_arrow,
    hash_array,
    open_arrow,
    positions,
    to_arrow,
    values,
    write_arrow,
)
from rankdistill.data.collection import Collection
from rankdistill.data.labels import among, relevant_pairs
from rankdistill.errors import InputError, disk_refuses
from rankdistill.runtime.cache import fingerprint, seal, sealed
from rankdistill.runtime.checked import checked
from rankdistill.scores.columns import KINDS, check_column, check_weights, weighted_sum
from rankdistill.scores.hub import push
from rankdistill.scores.preferences import Pairs, check_pairs

COLUMN, PAIR = "columns.", "pairs."  # begin the names of such columns in a file


@checked
@dataclass(frozen=True)
class ScoreTable:
    """Candidates and ``scores`` float32 (N,), the teacher's, aligned with them.

    ``teacher`` is the fingerprint of who scored; ``mapped`` the file that a loaded table is in. ``columns``
    are what else is known of each candidate, (N,) by name: float32, such as the scores of an ensemble's
    members, or int16, such as ``grades``, -1 where unjudged; ``pairs`` which of two is preferred.

    Raises ``InputError`` if there are more or fewer scores than candidates or, unless both are ``trusted``, a
    score is not finite, a query is there twice, a pool's documents do not ascend, or a column or a pair is
    not as it must be.
    """

    candidates: Candidates
    scores: np.ndarray
    teacher: str = ""
    trusted: InitVar[bool] = False
    mapped: mmap.mmap | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    pairs: Pairs | None = None

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
        if not trusted:
            for name, values in self.columns.items():
                check_column(name, values, self.scores.shape)
            if self.pairs is not None:
                check_pairs(self.pairs, np.diff(self.candidates.offsets), "score table")

    def __getstate__(self) -> dict:
        return vars(self) | {"mapped": None}  # a spawned worker gets the arrays; a map cannot be sent

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def collection(self) -> Collection:
        return self.candidates.collection

    @property
    def offers(self) -> list[str]:
        """What a loss may read of it, by name: ``scores``, columns, ``pairs``, ``ranks.bm25`` and so on."""
        pairs = [] if self.pairs is None else ["pairs"]
        return ["scores", *self.columns, *pairs, *(RANKS + name for name in self.candidates.ranks)]

    def column(self, name: str, span: slice = slice(None)) -> np.ndarray:
        """``scores``, a column, or the ranks of a source, of the candidates at ``span``.

        Raises ``InputError`` for a name that it does not have.
        """
        if name == "scores":
            return self.scores[span]
        found = self.columns.get(name)
        if found is None:
            found = self.candidates.ranks.get(name.removeprefix(RANKS)) if name.startswith(RANKS) else None
        if found is None:
            raise InputError(f"score table: no column {name}; it has {', '.join(self.offers)}")
        return found[span]

    @property
    def digests(self) -> dict[str, str]:
        """Of each further column, and of the pairs, its checksum; empty where there is none."""
        hashes = {COLUMN + name: hash_array(values) for name, values in self.columns.items()}
        if self.pairs is not None:
            hashes["pairs"] = fingerprint(
                hash_array(self.pairs.offsets), *map(hash_array, self.pairs.columns.values())
            )
        return hashes

    def weighted(self, weights: Mapping[str, float]) -> "ScoreTable":
        """With the weighted sum of these columns as its ``scores``, computed as ``EnsembleTeacher`` does.

        Raises ``InputError`` for a name that is no column of scores, or a weight that is no finite number.
        """
        check_weights(weights)
        columns = [self.column(name) for name in weights]
        for name, scores in zip(weights, columns, strict=True):
            if scores.dtype != np.float32:
                raise InputError(f"teacher_weights={{{name}: ...}}: {name} is not a teacher's scores")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its pair
            scores = weighted_sum(weights.values(), columns)
        who = f"{self.teacher} {fingerprint(dict(weights))}"
        return replace(self, scores=scores, teacher=who, mapped=None)

    def with_grades(self, split: str | None) -> "ScoreTable":
        """With the column ``grades``: what the qrels of ``split`` say, -1 where they say nothing.

        Itself where it has such a column.
        """
        if "grades" in self.columns:
            return self
        collection, candidates = self.collection, self.candidates
        grades = np.full(len(self.scores), -1, np.int16)
        for i, query in enumerate(candidates.query_rows):
            judged = {} if split is None else collection.judged(split).get(collection.query_ids[query], {})
            rows = np.array([collection.document_row[document] for document in judged], np.int64)
            span = candidates.pool(i)
            _, at, of = np.intersect1d(candidates.document_rows[span], rows, return_indices=True)
            grades[span][at] = np.array(list(judged.values()), np.int16)[of]
        return replace(self, columns={**self.columns, "grades": grades}, mapped=None, trusted=True)

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

        With ``places``, an ascending int array a query, of its pool only the candidates at these places.
        Raises ``InputError`` if a query is there twice or isn't in the table, or a place isn't in its pool.
        """
        whole = self.candidates
        taken = positions("queries", queries, len(self), distinct=True)
        spans = [np.arange(*whole.offsets[i : i + 2]) for i in taken]
        if places is not None:
            if len(places) != len(taken):
                raise InputError(f"places: there are {len(places)}, for {len(taken)} queries; give one each")
            spans = [span[_places(own, len(span))] for span, own in zip(spans, places, strict=True)]
        at = np.concatenate([np.empty(0, np.int64), *spans])
        return self._only(at, taken, np.array([len(span) for span in spans]))

    def _only(self, at: np.ndarray, queries: np.ndarray, sizes: np.ndarray) -> "ScoreTable":
        """The candidates at ``at`` int64, the first ``sizes[0]`` of them of ``queries[0]``, and so on."""
        whole = self.candidates
        candidates = whole.only(at, whole.query_rows[queries], sizes)
        columns = {name: values[at] for name, values in self.columns.items()}
        pairs = self.pairs and self.pairs.only(queries, at, whole.offsets, candidates.offsets)
        return ScoreTable(candidates, self.scores[at], self.teacher, True, None, columns, pairs)

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
        return self._only(np.flatnonzero(keep), np.arange(len(self)), np.diff(ends[candidates.offsets]))

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
        """Writes an Arrow file: query_id, document_ids, positive, each source's ranks, scores, and more."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            table = to_arrow(self.candidates, np.asarray(self.scores, dtype=np.float32))
            digest = hash_array(table.column("scores").chunk(0).values.to_numpy())
            more = {COLUMN + name: (values, self.candidates.offsets) for name, values in self.columns.items()}
            if self.pairs is not None:
                more |= {PAIR + x: (values, self.pairs.offsets) for x, values in self.pairs.columns.items()}
            for name, (values_of, offsets) in more.items():
                table = table.append_column(name, pa.LargeListArray.from_arrays(offsets, values_of))
            metadata = table.schema.metadata | {"teacher": self.teacher, "scores": digest, **self.digests}
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
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        stored = from_arrow(table, collection, path, trusted)
        if "scores" not in table.column_names:
            raise InputError(f"{path}: candidates without scores; score them first")
        for what, expected in (
            ("candidates", candidates.fingerprint if candidates is not None else None),
            ("teacher", teacher),
        ):
            if expected is not None and metadata.get(what) != expected:
                raise InputError(
                    f"{path}: scores of another {what.removesuffix('s')} "
                    f"({metadata.get(what)}, not {expected}); delete it to score again"
                )
        scores = values(table, "scores")
        columns, pairs = _further(table, path, trusted)
        loaded = cls(stored, scores, metadata.get("teacher", ""), trusted, mapped, columns, pairs)
        if not trusted:
            digests = {"scores": hash_array(scores), **loaded.digests}
            if any(metadata.get(name, digest) != digest for name, digest in digests.items()):
                raise InputError(f"{path}: {CHANGED}")
            seal(path)
        return loaded


def _further(table: pa.Table, path: Path, trusted: bool) -> tuple[dict[str, np.ndarray], Pairs | None]:
    """The columns and the pairs of ``table``; raises ``InputError`` unless they are lists of such numbers."""
    names = [name for name in table.column_names if name.startswith(COLUMN)]
    if not trusted:
        for name in names:
            kind = getattr(table.column(name).type, "value_type", None)
            if kind not in map(pa.from_numpy_dtype, KINDS):
                raise InputError(f"{path}: {name} holds {kind}, neither {' nor '.join(KINDS)}")
            check_lists(table, {"document_ids": COLUMNS["document_ids"], name: kind}, path)
    pairs = None
    if any(name.startswith(PAIR) for name in table.column_names):
        kinds = {"first": pa.int32(), "second": pa.int32(), "probability": pa.float32()}
        if not trusted:
            check_lists(table, {PAIR + name: kind for name, kind in kinds.items()}, path)
        offsets = table.column(PAIR + "first").chunk(0).offsets.to_numpy().astype(np.int64, copy=False)
        pairs = Pairs(offsets, *(values(table, PAIR + name) for name in kinds))
    return {name.removeprefix(COLUMN): values(table, name) for name in names}, pairs


def _places(given: np.ndarray, size: int) -> np.ndarray:
    """``given`` as ``positions`` in a pool of ``size``; raises ``InputError`` unless they ascend."""
    places = positions("places", given, size)
    if (places[1:] <= places[:-1]).any():
        raise InputError(f"places={given!r:.60}: those of a query must ascend, each there once")
    return places
