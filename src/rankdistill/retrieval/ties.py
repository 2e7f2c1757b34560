"""The best of many documents, and which of equal ones these are."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankdistill.errors import InputError

BEYOND = 8  # results beyond the k-th, to see what ties with it
LOWEST = np.finfo(np.float32).min  # the score of no document, as FAISS has it
RESULTS = 20_000_000  # scores and rows held at a time


def check_exact(how: str, index: str, parameters: Mapping[str, float] | None, field: str) -> None:
    """Raises ``InputError``, under the name ``field``, for an ``index`` or ``parameters`` of FAISS's.

    ``how`` says what is searched without one.
    """
    if index != "Flat" or parameters:
        raise InputError(
            f"{field}.index={index!r}: {how} no parameters; leave it at Flat, without {field}.search"
        )


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Each of ``texts`` once, and the place there of each of them, int64 (n,)."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), np.array([places[text] for text in texts], dtype=np.int64)


def best_ranked(
    find: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    queries: int,
    documents: int,
    k: int,
    ids: Sequence[str] | None = None,
    own: np.ndarray | None = None,
    tolerance: np.ndarray | None = None,
    settle: Callable[[int, np.ndarray, np.ndarray], Sequence[float] | np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best of so many ``documents`` for each of so many ``queries``: rows and scores (Q, k).

    ``find(some, n)`` gives scores float32 and rows (len(some), n) of those queries, best first, -1 at the end
    where there are fewer; which of equal scores and in what order does not matter. Here equal scores are
    ordered by ``ids`` (by row without). A few more than k are looked at, and more again for those queries
    alone whose k-th score ties with the last. ``own``: see ``search``. Scores that differ by ``tolerance``
    (Q,) at most may be equal; ``settle(query, rows, scores)`` says what they are.
    """
    rows = np.full((queries, k), -1, dtype=np.int64)
    scores = np.full((queries, k), LOWEST)
    if not k:  # no documents
        return rows, scores
    tolerance = np.zeros(queries) if tolerance is None else tolerance
    left, width = np.arange(queries), min(k + BEYOND, documents)
    while len(left):
        again = []
        at_once = max(1, RESULTS // width)
        for start in range(0, len(left), at_once):
            some = left[start : start + at_once]
            best, where = find(some, width)
            last, full = best[:, -1], where[:, -1] >= 0
            if own is not None:
                best, where = _without(best, where, own[some])
            near = tolerance[some]
            tied = full & (best[:, k - 1] - last <= near) & (width < documents)
            again.append(some[tied])
            close = (best[:, :-1] - best[:, 1:] <= near[:, None]) & (where[:, 1:] >= 0)
            for i in np.flatnonzero(close.any(axis=1) & ~tied):
                n = np.count_nonzero(where[i] >= 0)
                best[i, :n], where[i, :n] = _ordered(
                    int(some[i]), where[i, :n], best[i, :n], close[i, : n - 1], ids, settle
                )
            scores[some], rows[some] = best[:, :k], where[:, :k]
        left, width = np.concatenate(again), min(4 * width, documents)
    return rows, scores


def _ordered(query: int, rows, scores, close, ids, settle) -> tuple[np.ndarray, np.ndarray]:
    """``scores`` and ``rows`` (n,) of a query by the tie rule; ``close`` (n - 1,): as good as the next.

    Only those that are change places, each within its run.
    """
    near = np.flatnonzero(np.append(close, False) | np.append(False, close))
    some, values = rows[near], scores[near]
    if settle is not None:
        values = np.asarray(settle(query, some, values), dtype=np.float32)
    keys = some.tolist() if ids is None else [ids[row] for row in some.tolist()]
    order = [i for *_, i in sorted(zip((-values).tolist(), keys, range(len(keys)), strict=True))]
    rows, scores = rows.copy(), scores.copy()
    rows[near], scores[near] = some[order], values[order]
    return scores, rows


def _without(scores: np.ndarray, rows: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``scores`` and ``rows`` (Q, n) without the row ``own`` (Q,): in its place -1, at the end."""
    mine = (rows == own[:, None]) & (rows >= 0)
    scores = np.where(mine, LOWEST, scores)
    order = np.argsort(mine, axis=1, kind="stable")
    rows = np.where(mine, -1, rows)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
