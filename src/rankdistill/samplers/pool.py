"""What every sampler does first: check the pool, split it by label."""

from numbers import Integral

import numpy as np


def check_sizes(positives: int, negatives: int) -> None:
    """Raises ``ValueError`` unless these are whole numbers, and a group of such sizes can teach anything."""
    for name, value in (("positives", positives), ("negatives", negatives)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name}={value!r}: it is a whole number")
    if positives < 0 or negatives < 1:
        raise ValueError(
            f"positives={positives}, negatives={negatives}: a group takes 0 or more positives "
            "and 1 or more negatives"
        )


def split(scores: np.ndarray, positive: np.ndarray, positives: int):
    """Indices of the positives and of the documents that negatives are chosen from, int64.

    With ``positives`` 0 the latter are the whole pool. Raises ``ValueError`` if the two arrays
    aren't (n,) and (n,), or a score isn't finite.
    """
    scores, positive = np.asarray(scores), np.asarray(positive, dtype=bool)
    if scores.ndim != 1 or positive.shape != scores.shape:
        raise ValueError(f"scores {scores.shape} and positive {positive.shape}: expected (n,) and (n,)")
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise ValueError(f"teacher scores must be finite: got {scores[bad[0]]} at index {bad[0]}")
    if positives == 0:
        return np.empty(0, dtype=np.int64), np.arange(len(scores))
    return positive.nonzero()[0], (~positive).nonzero()[0]


def best(scores: np.ndarray, indices: np.ndarray, most: int) -> np.ndarray:
    """The ``most`` highest-scored of ``indices``, best first; equal scores by lower index."""
    if len(indices) < 2:
        return indices[:most]
    return indices[np.argsort(-np.asarray(scores, dtype=np.float64)[indices], kind="stable")[:most]]
