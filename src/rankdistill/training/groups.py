"""Training groups: what a sampler shows of each query's pool, as a dataset."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from rankdistill.data.candidates import UNORDERED, Candidates
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, shorten
from rankdistill.samplers import HardNegativeSampler
from rankdistill.scores.table import ScoreTable

log = logging.getLogger(__name__)
RELEASE = 32  # groups after which the table's pages are given back; the system maps up to 2 MB for each read


@dataclass(frozen=True)
class Group:
    """One query and the G documents it is trained on; ``teacher`` float32 and ``positive`` bool (G,).

    ``pool_rows`` ascending and ``pool_teacher`` (n,) are all its candidates: in-batch negatives
    are looked up there. ``targets`` are further columns of its documents, (G,) each, and ``pairs`` int64
    (p, 2), places in the group, with ``pair_p`` float32 (p,).
    """

    query_row: int
    document_rows: np.ndarray
    teacher: np.ndarray
    positive: np.ndarray
    pool_rows: np.ndarray
    pool_teacher: np.ndarray
    pool_positive: np.ndarray
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)


class TrainingGroups(Dataset):
    """Item ``epoch * len(self) + i`` is query i's group in that epoch.

    The group depends on (seed, epoch, query) alone, so it is the same whatever the number of
    workers or processes and wherever training resumed. A document that is the query itself, and copies
    of a positive (``Candidates.copies``), are shown in no group: the sampler chooses from the other
    candidates. Queries that have fewer than two of these teach nothing and are left out; ``left_out`` is
    how many.

    ``teacher_scores``: ``raw``; ``minmax`` ((t - min) / (max - min) over the query's pool) or
    ``zscore`` ((t - mean) / deviation). A pool of equal scores becomes zeros. Samplers see raw
    scores. ``columns`` of the table, besides the scores, are in the groups' ``targets``.
    """

    def __init__(
        self,
        table: ScoreTable,
        sampler,
        seed: int = 0,
        teacher_scores: Literal["raw", "minmax", "zscore"] = "raw",
        columns: Iterable[str] = (),
    ):
        check_teacher_scores(teacher_scores)
        self.sampler, self.seed, self.teacher_scores = sampler, seed, teacher_scores
        self.columns = sorted(columns)
        self.show(table)
        named = inspect.signature(sampler.select).parameters
        self.wants_ranks, self.wants_sources = "ranks" in named, "ranks_by_source" in named

    def show(self, table: ScoreTable) -> None:
        """From now on groups are of ``table``; items are those of before if it has the same queries."""
        table = table.without_own()
        self.table = table
        check_fit(self.sampler, table.candidates)
        self.copies = table.candidates.copies
        sizes = offered_sizes(table)
        self.queries = np.flatnonzero(sizes >= 2)
        self.left_out = len(table) - len(self.queries)
        if not len(self.queries):
            raise nothing_to_compare(table.collection)
        self.alone = self._alone()
        self.small = int((sizes[self.queries] < group_size(self.sampler)).sum())
        self.read = 0

    def say_what_is_few(self) -> None:
        """Logs how many queries are left out, and how many pools are smaller than a group."""
        if self.left_out:
            whole = len(self.table)
            log.info("%d of %d queries have fewer than two documents to show", self.left_out, whole)
        if self.alone:
            log.warning(
                "%d of %d groups have only one document: the sampler's margin leaves out all others, and "
                "a loss within groups learns nothing of them",
                self.alone,
                len(self),
            )
        if self.small:
            log.info(
                "%d of %d pools have fewer documents than a group of %d, and so have their groups",
                self.small,
                len(self),
                group_size(self.sampler),
            )

    def _alone(self) -> int:
        """How many groups have one document alone, as the sampler's margin leaves out all others."""
        margins = (getattr(self.sampler, f"{name}_margin", None) for name in ("absolute", "relative"))
        if not hasattr(self.sampler, "split") or not any(margin is not None for margin in margins):
            return 0
        count = 0
        for i in self.queries.tolist():
            _, scores, positive = self.table.pool(i)
            offered = np.delete(np.arange(len(scores)), self.copies.get(i, []))
            relevant, others = self.sampler.split(scores[offered], positive[offered])
            count += min(len(relevant), self.sampler.positives) + len(others) < 2
        return count

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, item: int) -> Group:
        self.read += 1
        if self.read % RELEASE == 0:
            self.table.release()
        epoch, i = divmod(int(item), len(self))
        i = int(self.queries[i])
        rows, scores, positive = self.table.pool(i)
        query_row = int(self.table.candidates.query_rows[i])
        rng = np.random.default_rng([self.seed, epoch, query_row])
        if i in self.copies:
            offered = np.delete(np.arange(len(rows)), self.copies[i])
            chosen = offered[self._select(scores[offered], positive[offered], rng, self._ranks(i, offered))]
        else:
            chosen = self._select(scores, positive, rng, self._ranks(i, slice(None)))
        teacher = normalise(scores, self.teacher_scores)
        shown = rows[chosen], teacher[chosen], positive[chosen]
        return Group(query_row, *shown, rows, teacher, positive, self._targets(i, chosen))

    def _targets(self, i: int, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Of query i's candidates at the places ``chosen`` (G,) the columns that are asked for; of its pairs
        those that are of two of these."""
        span, targets = self.table.candidates.pool(i), dict[str, np.ndarray]()
        for name in self.columns:
            if name != "pairs":
                targets[name] = self.table.column(name, span)[chosen]
            elif self.table.pairs is not None:
                place = np.full(span.stop - span.start, -1)
                place[chosen] = np.arange(len(chosen))
                first, second, probability = self.table.pairs.of(i)
                pairs = np.stack([place[first], place[second]], axis=1)
                shown = (pairs >= 0).all(axis=1)
                targets |= {"pairs": pairs[shown], "pair_p": probability[shown]}
        return targets

    def _ranks(self, i: int, offered: np.ndarray | slice) -> dict[str, Any]:
        """What the sampler names of ``ranks`` uint16 (n,) and ``ranks_by_source``, a name -> as many."""
        candidates = self.table.candidates
        span, more = candidates.pool(i), dict[str, Any]()
        if self.wants_ranks:
            more["ranks"] = candidates.best_ranks(span)[offered]
        if self.wants_sources:
            more["ranks_by_source"] = {
                name: ranks[span][offered].copy() for name, ranks in candidates.ranks.items()
            }
        return more

    def _select(self, scores: np.ndarray, positive: np.ndarray, rng, more: dict) -> np.ndarray:
        """What the sampler chooses; raises ``InputError`` unless they are distinct indices into the pool.

        It gets copies, which it may write into: the table and the group keep their own.
        """
        chosen = np.asarray(self.sampler.select(scores.copy(), positive.copy(), rng, **more))
        places = chosen.tolist()
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not places:
            what = f"{chosen.dtype} {chosen.shape}"
        elif len(set(places)) < len(places) or min(places) < 0 or max(places) >= len(scores):
            what = f"{places}"
        else:
            return chosen
        raise InputError(
            f"sampler: {type(self.sampler).__name__}.select gave {what} for a pool of {len(scores)}; it "
            "must give one or more distinct int64 indices into the pool"
        )


def check_teacher_scores(how: str) -> None:
    """Raises ``InputError`` unless ``normalise`` knows ``how``."""
    if how not in ("raw", "minmax", "zscore"):
        raise InputError(f"teacher_scores={how!r}: it must be raw, minmax or zscore")


def offered_sizes(table: ScoreTable) -> np.ndarray:
    """How many candidates of each query samplers choose from, int64 (Q,)."""
    table = table.without_own()
    sizes = np.diff(table.candidates.offsets).astype(np.int64)
    for i, places in table.candidates.copies.items():
        sizes[i] -= len(places)
    return sizes


def group_size(sampler) -> int:
    """How many documents a group has; 0 if ``sampler`` doesn't say."""
    return getattr(sampler, "positives", 0) + getattr(sampler, "negatives", 0)


def nothing_to_compare(collection: Collection) -> InputError:
    """What is wrong where no query has two documents, whatever the sampler."""
    if len(collection.documents) < 2:
        return InputError(f"{collection.name}: it has one document, and training compares two; add more")
    return InputError("score table: no query has two documents to show; mine or score more candidates")


def check_fit(sampler, candidates: Candidates) -> None:
    """Raises ``InputError`` if ``sampler`` is not one, no pool has two documents, or as many as its groups,
    or no document has a rank by the retriever that it goes by."""
    if isinstance(sampler, type) or not hasattr(sampler, "select"):
        raise InputError(
            f"sampler: {sampler!r:.60} has no select(scores, positive, rng), as has RandomSampler()"
        )
    if not len(candidates):
        raise InputError("score table: no query in it to train on")
    largest = int(np.diff(candidates.offsets).max())
    if largest < 2:
        raise nothing_to_compare(candidates.collection)
    if group_size(sampler) > largest:
        raise InputError(
            f"sampler: a group of {group_size(sampler)} documents, but the largest pool has {largest}; "
            "lower sampler.negatives or sampler.positives, or mine more candidates"
        )
    source = sampler.source if isinstance(sampler, HardNegativeSampler) else None
    if source is not None and not _is_ordered(candidates, source):
        ordered = [name for name in candidates.ranks if _is_ordered(candidates, name)]
        raise InputError(
            f"sampler.by={source}: the candidates have no ranks of it; available: "
            f"{', '.join(['teacher', 'retriever', *ordered])}"
        )


def _is_ordered(candidates: Candidates, source: str) -> bool:
    """Whether ``source`` ranked any of ``candidates``; Random, for example, ranks none."""
    return source in candidates.ranks and bool((candidates.ranks[source] < UNORDERED).any())


def check_split(table: ScoreTable, split: str | None = None) -> None:
    """Raises ``InputError`` if the qrels of another split than ``split`` judge what ``table`` trains on.

    ``split`` is ``train`` by default, where the collection has one. Queries that no split judges may be
    trained on; the log says how many they are, and warns of those that another split measures too.
    """
    collection, rows = table.collection, table.candidates.query_rows
    if split is None:
        split = default_split(table)
    else:
        collection.judged(split)
    judged = {
        name: np.array([collection.query_row[query] for query, found in qrels.items() if found], np.int64)
        for name, qrels in collection.qrels.items()
    }
    own = np.isin(rows, [] if split is None else judged.pop(split, []))
    elsewhere = {name: np.isin(rows, there) for name, there in judged.items()}
    for name, there in elsewhere.items():
        if (there & ~own).any():
            foreign = [collection.query_ids[row] for row in rows[there & ~own]]
            remedy = (
                f"train on table.of_split({split!r}), or" if own.any() else "if they are to be trained on,"
            )
            raise InputError(
                f"score table: {len(foreign)} of its {len(rows)} queries are judged in {name}"
                f"{f', not in {split}' if split else ''}: {shorten(foreign)}; training on them would spoil "
                f"what is measured there; {remedy} say split={name!r}"
            )
        if split is not None:
            _check_labels(table, split, name, np.flatnonzero(there & own))
        same = collection.alike_queries
        texts = (lambda some: some) if same is None else same.first.__getitem__
        count = int(np.isin(texts(rows), texts(judged[name])).sum())
        if count:
            log.warning(
                "%d of the %d training queries are queries of %s too, by id or by text (case and white "
                "space aside): figures of %s are measured on what was trained",
                count,
                len(rows),
                name,
                name,
            )
    unjudged = len(rows) - int(np.logical_or.reduce([own, *elsewhere.values()]).sum())
    if unjudged:
        log.info("%d of the %d training queries are judged in no split", unjudged, len(rows))


def default_split(table: ScoreTable) -> str | None:
    """The split that ``table`` is taken to be of, unless it is given."""
    return "train" if "train" in table.collection.qrels else None


def _check_labels(table: ScoreTable, split: str, other: str, queries: np.ndarray) -> None:
    """Raises ``InputError`` if a positive of one of ``queries`` is one in the qrels of ``other`` alone."""
    if not len(queries):
        return
    collection = table.collection
    here, there = collection.positive_rows(split), collection.positive_rows(other)
    for i in queries:
        row = int(table.candidates.query_rows[i])
        documents, _, positive = table.pool(i)
        if (set(documents[positive].tolist()) - set(here[row])) & set(there[row]):
            raise InputError(
                f"score table: query {collection.query_ids[row]!r} of {split} has positives that only the "
                f"qrels of {other} name; train on table.of_split({split!r})"
            )


def normalise(scores: np.ndarray, how: str) -> np.ndarray:
    """``scores`` float32 (n,) as ``TrainingGroups`` describes, computed in float64.

    In float32 the scores 1e8 + {0, 8, 16} are equal, and the square of 1e20 is infinite.
    """
    if how == "raw":
        return scores
    exact = np.asarray(scores, dtype=np.float64) - float(scores.min())  # first of all: offsets cost digits
    if not exact.any():
        return np.zeros_like(scores)
    shift, spread = (0.0, exact.max()) if how == "minmax" else (exact.mean(), exact.std())
    return ((exact - shift) / spread).astype(np.float32)
