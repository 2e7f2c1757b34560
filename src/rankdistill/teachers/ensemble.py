"""Several teachers as one."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real

import numpy as np

from rankdistill.data import Candidates
from rankdistill.errors import InputError, check_aligned
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.scores.columns import check_column_name, weighted_sum
from rankdistill.teachers.scoring import Teacher, forget, identity, score_candidates

log = logging.getLogger(__name__)
COMBINE = ("sum", "minmax", "reciprocal_rank")
BLOCK = 1_000_000  # candidates combined at a time


@checked
class EnsembleTeacher:
    """The weighted sum of the teachers' scores, over whole pools.

    ``combine`` says of what: ``sum`` of the scores as they are (the weights carry the scales),
    ``minmax`` of the scores stretched to 0..1 within each query's pool (0 where all are equal),
    ``reciprocal_rank`` of 1 / (``constant`` + rank within the pool), 1 the highest; equal scores
    share the mean of their ranks (Cormack, Clarke & Buettcher, SIGIR 2009, where the constant is 60
    and all weights are 1). ``weights`` has the names of ``teachers``, by default 1/n each, the mean.

    Every teacher is scored by itself, so that its table is kept and resumed, and other ensembles
    use it again; its scores are a column of the ensemble's table, too. Raises ``InputError`` for other names,
    an unknown ``combine`` or no teacher.
    """

    def __init__(
        self,
        teachers: Mapping[str, Teacher],
        weights: Mapping[str, float] | None = None,
        combine: str = "sum",
        constant: float = 60.0,
    ):
        if weights is None:
            weights = dict.fromkeys(teachers, 1 / max(len(teachers), 1))
        if set(teachers) != set(weights) or not teachers:
            raise InputError(f"teacher: teachers are {sorted(teachers)}, weights are for {sorted(weights)}")
        if combine not in COMBINE:
            raise InputError(
                f"teacher.combine={combine!r}: it must be {', '.join(COMBINE[:-1])} or {COMBINE[-1]}"
            )
        if not _is_real(constant) or not 0 <= constant < np.inf:
            raise InputError(f"teacher.constant={constant!r}: it must be 0 or more")
        for name, weight in weights.items():
            check_column_name(name)
            if not _is_real(weight) or not np.isfinite(weight):
                raise InputError(f"teacher.weights.{name}={weight!r}: it must be a finite number")
            if not hasattr(teachers[name], "score") and not hasattr(teachers[name], "score_pools"):
                raise InputError(
                    f"teacher.teachers.{name}: {type(teachers[name]).__name__} is not a teacher; leave it "
                    "out, or give one with a _target_ of rankdistill.teachers"
                )
        self.teachers, self.weights = dict(teachers), dict(weights)
        self.combine, self.constant = combine, constant

    @property
    def fingerprint(self) -> str:
        members = [[self.weights[name], identity(self.teachers[name])] for name in sorted(self.teachers)]
        how: dict[str, list[object]] = {
            "sum": [],
            "minmax": ["minmax", "float64"],
            "reciprocal_rank": ["reciprocal_rank", self.constant],
        }
        return fingerprint(*how[self.combine], members)

    @property
    def columns(self) -> list[str]:
        """What its table has besides ``scores``: each teacher's, so that other weights may be trained on."""
        return list(self.teachers)

    def score_pools(self, candidates: Candidates) -> np.ndarray:
        """Scores of all candidates, float32 (N,)."""
        return self.score_columns(candidates)["scores"]

    def score_columns(self, candidates: Candidates) -> dict[str, np.ndarray]:
        """``scores``, and those of each teacher as it gave them by its name, each float32 (N,)."""
        log.info("the teacher is an ensemble: %s", ", ".join(self.teachers))
        tables = [score_candidates(teacher, candidates) for teacher in self.teachers.values()]
        summed = np.empty(len(candidates.document_rows), dtype=np.float32)
        for span, sizes in blocks(candidates.offsets):
            summed[span] = self._sum(self._column(table.scores[span], sizes) for table in tables)
        return {"scores": summed} | dict(zip(self.teachers, (table.scores for table in tables), strict=True))

    def forget(self) -> None:
        """As that of its teachers."""
        for teacher in self.teachers.values():
            forget(teacher)

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Scores of the aligned pairs, float32 (n,); raises ``InputError`` if they depend on a pool."""
        if self.combine != "sum" or not all(hasattr(t, "score") for t in self.teachers.values()):
            raise InputError("teacher: these scores depend on a query's whole pool; take score_candidates")
        check_aligned(queries, documents)
        return self._sum(teacher.score(queries, documents) for teacher in self.teachers.values())

    def _sum(self, columns: Iterable[np.ndarray]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its pair
            return weighted_sum([self.weights[name] for name in self.teachers], columns)

    def _column(self, scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        if self.combine == "minmax":
            return minmax(scores, sizes)
        if self.combine == "reciprocal_rank":
            return (1 / (self.constant + ranks(scores, sizes))).astype(np.float32)
        return scores


def _is_real(value: object) -> bool:
    return isinstance(value, Real)


def blocks(offsets: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Spans of whole pools, about a million candidates each, and the pools' sizes, none of them 0."""
    first = 0
    while first < len(offsets) - 1:
        end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + BLOCK, side="right")) - 1)
        sizes = np.diff(offsets[first : end + 1])
        yield slice(int(offsets[first]), int(offsets[end])), sizes[sizes > 0]
        first = end


def minmax(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Scores float32 (n,) of pools of ``sizes`` (all above 0), 0 to 1 in each; 0 where a pool's are equal.

    In float64, as the training groups' ``normalise``: float32 knows no range of 4e38, and rounds a small one.
    """
    scores = np.asarray(scores, dtype=np.float64)
    starts = np.cumsum(sizes) - sizes
    lowest = np.minimum.reduceat(scores, starts)
    width = np.maximum.reduceat(scores, starts) - lowest
    normalised = (scores - np.repeat(lowest, sizes)) / np.repeat(np.where(width > 0, width, 1), sizes)
    return normalised.astype(np.float32)


def ranks(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Ranks float64 (n,) in pools of ``sizes`` (all above 0), 1 the highest; ties share their mean."""
    pools = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((-scores, pools))
    ordered = scores[order]
    new = np.ones(len(scores), dtype=bool)
    new[1:] = (pools[1:] != pools[:-1]) | (ordered[1:] != ordered[:-1])
    first = np.flatnonzero(new)
    ties = np.diff(first, append=len(scores))
    starts = np.cumsum(sizes) - sizes
    averaged = np.empty(len(scores))
    averaged[order] = np.repeat(first - starts[pools[first]] + (ties + 1) / 2, ties)
    return averaged
