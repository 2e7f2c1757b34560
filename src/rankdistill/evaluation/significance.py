"""Is a difference of two systems, or of any two of many, more than chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from rankdistill.errors import InputError, shorten

DRAWS = 10_000  # of a randomisation test
LEAST = 1e-300  # the smallest p that is given: no chance is 0
LEVELS = {2: 0.14, 3: 0.09, 4: 0.08}  # seeds -> the highest level of a test at 0.05; of 5 it is 0.07
ROUNDING = 1e-12  # deviations by less of the values are of floating point


@dataclass(frozen=True)
class Comparison:
    """Mean difference b - a over ``n`` queries, its 95 % confidence interval, t and p (two-sided)."""

    difference: float
    low: float
    high: float
    t: float
    p: float
    n: int


def compare(a: Mapping[str, float] | pd.Series, b: Mapping[str, float] | pd.Series) -> Comparison:
    """Paired t-test of per-query values (Student 1908; Urbano et al. 2019 on its use in IR).

    ``a`` and ``b`` map query ids to values, or are Series with the ids as index. Where every query changed
    alike, t is infinite and p that of the sign test, 2^(1 - n): the least that n queries can show.

    Raises ``InputError`` unless both have the same queries, two or more, and finite values.
    """
    a, b = by_query("a", a), by_query("b", b)
    if set(a) != set(b) or len(a) < 2:
        alone = [query for query in [*a, *b] if (query in a) != (query in b)]
        raise InputError(
            f"compare: expected the same two or more queries: got {len(a)} and {len(b)}, "
            f"{len(set(a) & set(b))} shared" + (f"; in one alone: {shorten(alone)}" if alone else "")
        )
    return compare_runs(np.array([[b[query] - a[query] for query in a]]))


def compare_runs(differences: np.ndarray) -> Comparison:
    """Is the mean of paired ``differences``, float (S, n) of S seeds and n >= 2 queries, more than chance?

    A t-test whose error takes both as drawn at random, so that it holds for other queries and for the next
    seed: see ``standard_error``. With one seed it is the paired t-test over the queries.
    """
    mean, n = float(differences.mean()), differences.shape[1]
    if constant(differences):
        if mean == 0:
            return Comparison(0.0, 0.0, 0.0, 0.0, 1.0, n)
        return Comparison(mean, mean, mean, float(np.copysign(np.inf, mean)), max(2.0 ** (1 - n), LEAST), n)
    error, freedom = standard_error(differences)
    t = mean / error
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = max(float(2 * stats.t.sf(abs(t), freedom)), LEAST)
    return Comparison(mean, mean - half, mean + half, t, p, n)


def standard_error(differences: np.ndarray) -> tuple[float, float]:
    """Of the mean of ``differences``, float (S, n), with seeds and queries as crossed random effects.

    The variance is (M_s + M_q - M_r) / (S n), of the mean squares between seeds, between queries and of what
    is left, but no less than M_q / (S n), that of the queries alone; for balanced data these are the
    estimates of a linear mixed model (Searle, Casella and McCulloch 1992, chapter 4; Clark 1973 on why both
    are random). Degrees of freedom are Satterthwaite's (1946). Of one seed: those of the mean over n queries.

    A variance between few seeds is badly known. Where it counts as much as that between queries, of settings
    that are equal more than 5 % have p < 0.05: ``LEVELS``.
    """
    seeds, n = differences.shape
    between_queries = seeds * float(differences.mean(axis=0).var(ddof=1))
    if seeds == 1:
        return float(np.sqrt(between_queries / n)), n - 1
    between_seeds = n * float(differences.mean(axis=1).var(ddof=1))
    rows, columns = differences.mean(axis=1, keepdims=True), differences.mean(axis=0, keepdims=True)
    rest = (seeds - 1) * (n - 1)
    left = float(np.square(differences - rows - columns + differences.mean()).sum()) / rest
    if between_seeds <= left:
        return float(np.sqrt((between_queries or left) / (seeds * n))), n - 1
    total = between_seeds + between_queries - left
    parts = between_seeds**2 / (seeds - 1) + between_queries**2 / (n - 1) + left**2 / rest
    return float(np.sqrt(total / (seeds * n))), total**2 / parts


def by_query(name: str, values: Mapping[str, float] | pd.Series) -> dict[str, float]:
    """``values`` as a dict; raises ``InputError`` if they are no numbers by query id."""
    if isinstance(values, pd.Series):
        if not values.index.is_unique:
            twice = values.index[values.index.duplicated()].unique()
            raise InputError(f"compare: {name} has queries twice: {shorten(twice)}")
        values = {cast(str, query): value for query, value in values.items()}
    if not isinstance(values, Mapping):
        raise InputError(
            f"compare: {name} is a {type(values).__name__}; expected a dict or a Series of values by query "
            "id, such as evaluation.per_query['nDCG@10']"
        )
    try:
        numbers = {query: float(value) for query, value in values.items()}
    except (TypeError, ValueError):
        raise InputError(f"compare: {name} has values that are not numbers") from None
    if bad := [query for query, value in numbers.items() if not np.isfinite(value)]:
        raise InputError(f"compare: {name} is not finite for {shorten(bad)}")
    return numbers


def constant(differences: np.ndarray) -> bool:
    """Whether all are equal but for rounding, which would pass for a deviation of its own."""
    return bool(np.ptp(differences) <= ROUNDING * np.abs(differences).max())


def randomisation(differences: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Two-sided p (P,) of P paired differences over n queries, (P, n): Fisher's randomisation test.

    Signs are drawn at random ``draws`` times; p is the share of draws whose mean is at least as far
    from 0, the observed one counted among them (Phipson & Smyth 2010).
    """
    pairs, n = differences.shape
    rng = np.random.default_rng(seed)
    observed = np.abs(differences.sum(axis=1))
    beyond = np.zeros(pairs, dtype=np.int64)
    for start in range(0, draws, 1000):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(min(1000, draws - start), n))
        beyond += (np.abs(signs @ differences.T) >= observed - 1e-12).sum(axis=0)
    return (1 + beyond) / (1 + draws)


def equivalence(differences: np.ndarray, margin: float) -> float:
    """p of two one-sided t-tests (TOST, Schuirmann 1987): small if |mean difference| < ``margin``.

    ``differences`` (S, n) of S seeds and two or more queries, with the error of ``compare_runs``. Where all
    are equal it is that of one-sided sign tests, 2^-n, or 1.
    """
    mean = float(differences.mean())
    if constant(differences):
        return 1.0 if abs(mean) >= margin else max(2.0 ** -differences.shape[1], LEAST)
    error, freedom = standard_error(differences)
    above, below = stats.t.sf((mean + margin) / error, freedom), stats.t.cdf((mean - margin) / error, freedom)
    return float(max(above, below, LEAST))


def effect_size(differences: np.ndarray) -> float:
    """Mean difference in standard deviations of the differences (Cohen's d_z); 0 where all are 0."""
    if constant(differences):
        return 0.0 if differences.mean() == 0 else float(np.copysign(np.inf, differences.mean()))
    return float(differences.mean() / differences.std(ddof=1))


def holm(p: np.ndarray) -> np.ndarray:
    """``p`` (P,) corrected for testing all P of them (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return corrected.clip(max=1.0)


def letters(different: np.ndarray) -> list[str]:
    """Compact letters (Piepho 2004): two settings share one unless ``different``, bool (S, S).

    Insert and absorb give columns of settings that do not differ, sweeping takes out each letter that no
    pair needs. The first setting has an ``a``; past z the letters go on with A, past Z with a2.
    """
    columns = [frozenset(range(len(different)))]
    for i, j in zip(*np.nonzero(np.triu(different, 1)), strict=True):
        for column in [c for c in columns if {i, j} <= c]:
            columns.remove(column)
            columns += [column - {i}, column - {j}]
        columns = [c for c in set(columns) if not any(c < other for other in columns)]
    columns = sorted(swept(sorted(columns, key=sorted), len(different)), key=sorted)
    rounds = range(1, len(columns) // len(ascii_letters) + 2)
    names = [letter + (str(i) if i > 1 else "") for i in rounds for letter in ascii_letters]
    return [
        "".join(name for name, column in zip(names, columns, strict=False) if s in column)
        for s in range(len(different))
    ]


def swept(columns: Sequence[frozenset[int]], size: int) -> list[frozenset[int]]:
    """``columns`` of ``size`` settings, less each member that meets all its companions in others too."""
    shared = np.zeros((size, size), dtype=np.int64)  # columns that hold both
    for column in columns:
        shared[np.ix_(list(column), list(column))] += 1
    left = []
    for column in columns:
        remaining = sorted(column)
        for member in list(remaining):
            if (shared[member, remaining] > 1).all():
                shared[member, remaining] -= 1
                shared[remaining, member] = shared[member, remaining]
                remaining.remove(member)
        left.append(frozenset(remaining))
    return [column for column in left if column]
