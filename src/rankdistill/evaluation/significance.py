"""Is a difference of two systems more than chance?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats


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
