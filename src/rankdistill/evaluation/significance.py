"""Is a difference of two systems, or of any two of many, more than chance?"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_letters

import numpy as np
from scipy import stats

DRAWS = 10_000  # of a randomisation test


@dataclass(frozen=True)
class Comparison:
    """Mean difference b - a over ``n`` queries, its 95 % confidence interval, t and p (two-sided)."""

    difference: float
    low: float
    high: float
    t: float
    p: float
    n: int


def compare(a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Paired t-test of per-query values (Student 1908; Urbano et al. 2019 on its use in IR).

    Raises ``ValueError`` unless both have the same queries, two or more.
    """
    if set(a) != set(b) or len(a) < 2:
        raise ValueError(
            f"expected the same two or more queries: got {len(a)} and {len(b)}, {len(set(a) & set(b))} shared"
        )
    differences = np.array([b[query] - a[query] for query in a])
    mean, n = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1) / np.sqrt(n))
    if error == 0:  # every query changed alike: nothing to test if by 0, certain otherwise
        return Comparison(
            mean, mean, mean, 0.0 if mean == 0 else float(np.copysign(np.inf, mean)), float(mean == 0), n
        )
    t = mean / error
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return Comparison(mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), n - 1)), n)


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

    ``differences`` (n,), per query, two or more.
    """
    if differences.std() == 0:
        return float(abs(differences.mean()) >= margin)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


def effect_size(differences: np.ndarray) -> float:
    """Mean difference in standard deviations of the differences (Cohen's d_z); 0 where all are 0."""
    deviation = differences.std(ddof=1)
    if deviation == 0:
        return 0.0 if differences.mean() == 0 else float(np.copysign(np.inf, differences.mean()))
    return float(differences.mean() / deviation)


def holm(p: np.ndarray) -> np.ndarray:
    """``p`` (P,) corrected for testing all P of them (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return corrected.clip(max=1.0)


def letters(different: np.ndarray) -> list[str]:
    """Compact letters (Piepho 2004): two settings share one unless ``different``, bool (S, S).

    The first setting has an ``a``; past z the letters go on with A, past Z with a2.
    """
    columns = [frozenset(range(len(different)))]
    for i, j in zip(*np.nonzero(np.triu(different, 1)), strict=True):
        for column in [c for c in columns if {i, j} <= c]:
            columns.remove(column)
            columns += [column - {i}, column - {j}]
        columns = [c for c in set(columns) if not any(c < other for other in columns)]
    columns.sort(key=sorted)
    rounds = range(1, len(columns) // len(ascii_letters) + 2)
    names = [letter + (str(i) if i > 1 else "") for i in rounds for letter in ascii_letters]
    return [
        "".join(name for name, column in zip(names, columns, strict=False) if s in column)
        for s in range(len(different))
    ]
