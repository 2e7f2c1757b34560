"""Which of two candidates is preferred, and how surely."""

from dataclasses import dataclass

import numpy as np

from rankdistill.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """P compared pairs of the candidates of Q queries, in CSR form.

    ``offsets`` int64 (Q + 1,): query i has the pairs ``offsets[i]:offsets[i + 1]`` of ``first`` and
    ``second`` int32, places in its pool, and ``probability`` float32 that the first is preferred, each (P,).
    """

    offsets: np.ndarray
    first: np.ndarray
    second: np.ndarray
    probability: np.ndarray

    def of(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First and second place int32 and probability float32 of query i's pairs, each (p,)."""
        span = slice(self.offsets[i], self.offsets[i + 1])
        return self.first[span], self.second[span], self.probability[span]

    def only(self, queries: np.ndarray, at: np.ndarray, before: np.ndarray, after: np.ndarray) -> "Pairs":
        """Those of ``queries`` int64 (n,), both of whose candidates are left; places count those left alone.

        ``before`` int64 (Q + 1,) are the offsets of all candidates, ``at`` int64 which of them are left, in
        the order of ``queries``, and ``after`` int64 (n + 1,) the offsets of these.
        """
        left = np.full(before[-1], -1)
        left[at] = np.arange(len(at))
        taken = [np.arange(*self.offsets[i : i + 2]) for i in queries]
        owners = np.repeat(np.arange(len(queries)), [len(span) for span in taken])
        pairs = np.concatenate([np.empty(0, np.int64), *taken])
        starts = before[:-1][queries][owners]
        first, second = left[starts + self.first[pairs]], left[starts + self.second[pairs]]
        shown = (first >= 0) & (second >= 0)
        owners, pairs = owners[shown], pairs[shown]
        counts = np.bincount(owners, minlength=len(queries))
        return Pairs(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            (first[shown] - after[:-1][owners]).astype(np.int32),
            (second[shown] - after[:-1][owners]).astype(np.int32),
            self.probability[pairs],
        )

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What a file holds of them, (P,) each."""
        return {"first": self.first, "second": self.second, "probability": self.probability}


def check_pairs(pairs: Pairs, sizes: np.ndarray, path: str) -> None:
    """Raises ``InputError`` unless ``pairs`` are of pools of ``sizes`` int64 (Q,), with probabilities."""
    counts = np.diff(pairs.offsets)
    if len(counts) != len(sizes) or pairs.offsets[0] != 0 or (counts < 0).any():
        raise InputError(f"{path}: pairs of {len(counts)} queries; there are {len(sizes)}")
    if any(len(values) != pairs.offsets[-1] for values in pairs.columns.values()):
        raise InputError(f"{path}: pairs must have first, second and probability, one each")
    most = np.repeat(sizes, counts)
    outside = (pairs.first < 0) | (pairs.second < 0) | (pairs.first >= most) | (pairs.second >= most)
    if (outside | (pairs.first == pairs.second)).any():
        raise InputError(f"{path}: a pair is not of two candidates of its query; build it again")
    if not ((pairs.probability >= 0) & (pairs.probability <= 1)).all():
        wrong = pairs.probability[~((pairs.probability >= 0) & (pairs.probability <= 1))][0]
        raise InputError(f"{path}: a pair's probability is {wrong}; it must be from 0 to 1")
