import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankdistill.errors import InputError
from rankdistill.evaluation import compare
from rankdistill.evaluation.significance import (
    LEVELS,
    compare_runs,
    effect_size,
    equivalence,
    holm,
    letters,
    randomisation,
    standard_error,
)


def values(numbers):
    return {f"q{i}": float(x) for i, x in enumerate(numbers)}


@pytest.mark.parametrize(("n", "shift", "seed"), [(2, 0.0, 0), (30, 0.1, 1), (500, -0.02, 2), (40, 0.0, 3)])
def test_equals_scipys_paired_t_test(n, shift, seed):
    rng = np.random.default_rng(seed)
    a = rng.uniform(size=n)
    b = a + shift + rng.normal(scale=0.1, size=n)
    expected = stats.ttest_rel(b, a)
    low, high = expected.confidence_interval(0.95)
    found = compare(values(a), values(b))
    assert [found.t, found.p, found.low, found.high] == pytest.approx(
        [expected.statistic, expected.pvalue, low, high]
    )
    assert found.difference == pytest.approx((b - a).mean()) and found.n == n


def test_queries_are_paired_by_name():
    a, b = values([0.1, 0.5, 0.2]), values([0.3, 0.4, 0.9])
    assert compare(a, b) == compare(a, dict(reversed(b.items())))


def test_the_difference_is_second_minus_first():
    a, b = values([0.1, 0.5, 0.2]), values([0.3, 0.6, 0.9])
    there, back = compare(a, b), compare(b, a)
    assert there.difference > 0 and there.t == -back.t and there.p == back.p
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


@pytest.mark.parametrize(("shift", "t", "p"), [(0.0, 0.0, 1.0), (0.25, np.inf, 0.25), (-0.25, -np.inf, 0.25)])
def test_differences_all_equal_are_no_division_by_zero(shift, t, p):
    """p is the sign test's: two of eight patterns of signs are as far from 0."""
    a = [0.25, 0.5, 0.125]
    found = compare(values(a), values([x + shift for x in a]))
    assert (found.difference, found.low, found.high, found.t, found.p) == (shift, shift, shift, t, p)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"q": 1.0, "r": 0.5}, {"q": 1.0, "s": 0.5}),
        ({"q": 1.0, "r": 0.5}, {"q": 1.0, "r": 0.5, "s": 0.5}),
        ({"q": 1.0}, {"q": 0.5}),
        ({}, {}),
    ],
)
def test_other_queries_or_fewer_than_two_raise(a, b):
    with pytest.raises(ValueError, match="expected the same two or more queries"):
        compare(a, b)


def test_randomisation_equals_all_sign_flips_of_a_small_sample():
    """The share of all 2^n sign patterns, which 10,000 draws come close to."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0.3, 1.0, size=(3, 12))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    means = np.abs(differences @ signs)
    exact = (means >= np.abs(differences.sum(axis=1, keepdims=True)) - 1e-12).mean(axis=1)
    assert randomisation(differences) == pytest.approx(exact, abs=0.02)
    assert randomisation(np.zeros((1, 5))) == 1.0


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    differences = np.random.default_rng(1).normal(0.002, 0.05, size=300)
    margin, n = 0.01, 300
    error = differences.std(ddof=1) / np.sqrt(n)
    lower = stats.t.sf((differences.mean() + margin) / error, n - 1)
    upper = stats.t.cdf((differences.mean() - margin) / error, n - 1)
    assert equivalence(differences[None], margin) == pytest.approx(max(lower, upper))
    assert equivalence(differences[None] + 1, margin) > 0.99
    assert (
        equivalence(np.zeros((1, 5)), margin) == 2**-5 and equivalence(np.full((1, 5), 0.02), margin) == 1.0
    )


def test_holm_on_the_example_of_four():
    """0.01, 0.04, 0.03, 0.005: times 3, 1, 2, 4, then no smaller than the one before."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_effect_size_is_in_deviations_of_the_differences():
    differences = np.array([0.1, 0.3, 0.2, 0.4])
    assert effect_size(differences) == pytest.approx(0.25 / np.std(differences, ddof=1))
    assert effect_size(np.zeros(4)) == 0.0 and effect_size(np.full(4, -0.5)) == -np.inf


@pytest.mark.parametrize("n", [3, 2000])
def test_no_p_is_zero_by_rounding(n):
    """0.1 more for each query is not 0.1 exactly: of the deviations' rounding t was 1e16, and p 0."""
    a = np.random.default_rng(0).uniform(size=n)
    found = compare(values(a), values(a + 0.1))
    assert found.p == max(2.0 ** (1 - n), 1e-300) and found.t == np.inf
    assert effect_size(np.array([0.1, 0.3 - 0.2, 0.7 - 0.6])) == np.inf
    assert (
        equivalence((a + 0.1 - a)[None], 0.2) == max(2.0**-n, 1e-300)
        and equivalence((a + 0.1 - a)[None], 0.05) == 1
    )
    wide = np.random.default_rng(1).normal(0.5, 0.001, size=n)
    assert 0 < compare(values(np.zeros(n)), values(wide)).p < 1e-4 and 0 < equivalence(wide[None], 0.9) < 1e-4


def test_series_are_paired_by_their_index():
    """Iterating over a Series gives its values: it compared the values as if they were ids."""
    a, b = values([0.1, 0.5, 0.2]), values([0.3, 0.4, 0.9])
    series = pd.Series(a), pd.Series(b).iloc[::-1]
    assert compare(*series) == compare(a, b) == compare(series[0], b)
    numbered = pd.Series([0.1, 0.5, 0.2], index=[3, 1, 2]), pd.Series([0.4, 0.9, 0.3], index=[1, 2, 3])
    assert compare(*numbered) == compare(a, b)


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ([0.1, 0.2], "compare: a is a list; expected a dict or a Series"),
        (np.ones(2), "compare: a is a ndarray; expected"),
        ({"q0": 1.0, "q1": None}, "compare: a has values that are not numbers"),
        ({"q0": 1.0, "q1": float("nan")}, "compare: a is not finite for 'q1'"),
        (pd.Series([1.0, 2.0], index=["q0", "q0"]), "compare: a has queries twice: 'q0'"),
        ({"q0": 1.0, "x": 2.0}, "got 2 and 2, 1 shared; in one alone: 'x', 'q1'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(a, message):
    with pytest.raises(InputError, match=message):
        compare(a, {"q0": 1.0, "q1": 2.0})


@pytest.mark.parametrize("seed", range(40))
def test_no_letter_can_be_taken_away(seed):
    """Whichever letter of whichever setting goes, two settings that do not differ share none any more."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 10))
    different = np.triu(rng.random((n, n)) < rng.random(), 1)
    different |= different.T
    shown = [set(text) for text in letters(different)]

    def holds(given):
        share = np.array([[bool(one & other) for other in given] for one in given])
        return np.array_equal(share, ~different)

    assert holds(shown)
    for i, own in enumerate(shown):
        for letter in own:
            assert not holds([*shown[:i], own - {letter}, *shown[i + 1 :]])


def test_piephos_sweep_by_hand():
    """A hexagon's neighbours and the inner triangle: three columns do, of the four that absorbing leaves."""
    alike = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (1, 3), (3, 5), (5, 1)]
    different = ~np.eye(6, dtype=bool)
    for i, j in alike:
        different[i, j] = different[j, i] = False
    shown = letters(different)
    assert len(set("".join(shown))) == 3 and sorted(map(len, shown)) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("seed", range(30))
def test_settings_share_a_letter_exactly_if_they_do_not_differ(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    different = np.triu(rng.random((n, n)) < rng.random(), 1)
    different |= different.T
    shown = letters(different)
    assert all(shown) and shown[0].startswith("a")
    for i in range(n):
        for j in range(n):
            assert bool(set(shown[i]) & set(shown[j])) == (i == j or not different[i, j])


def test_no_setting_loses_its_letters_for_want_of_letters():
    """Sixty settings, each like its five neighbours to either side: more columns than the alphabet has."""
    place = np.arange(60)
    different = np.abs(place[:, None] - place) > 5
    shown = [set(re.findall(r"[a-zA-Z][0-9]*", text)) for text in letters(different)]
    for i in range(60):
        for j in range(60):
            assert bool(shown[i] & shown[j]) == (not different[i, j])


def crossed(rng, seeds, queries, of_seed, of_query, rest):
    """Differences (S, Q) whose true mean is 0: a part of each seed, of each query, and of each pair."""
    return (
        rng.normal(size=(seeds, 1)) * of_seed
        + rng.normal(size=(1, queries)) * of_query
        + rng.normal(size=(seeds, queries)) * rest
    )


def test_the_error_over_seeds_and_queries_is_that_of_the_mean_squares():
    """Against sums of squares of Fractions, as tables of analysis of variance have them."""
    values = [[1, 4, 2], [5, 7, 9]]
    seeds, n = 2, 3
    mean = Fraction(sum(map(sum, values)), seeds * n)
    rows = [Fraction(sum(row), n) for row in values]
    columns = [Fraction(sum(column), seeds) for column in zip(*values, strict=True)]
    of_seeds = n * sum((row - mean) ** 2 for row in rows) / (seeds - 1)
    of_queries = seeds * sum((column - mean) ** 2 for column in columns) / (n - 1)
    left = sum((values[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(seeds) for j in range(n)) / (
        (seeds - 1) * (n - 1)
    )
    total = of_seeds + of_queries - left
    parts = of_seeds**2 / (seeds - 1) + of_queries**2 / (n - 1) + left**2 / ((seeds - 1) * (n - 1))
    error, freedom = standard_error(np.array(values, dtype=float))
    assert error == pytest.approx(float(total / (seeds * n)) ** 0.5) and freedom == pytest.approx(
        float(total**2 / parts)
    )


def test_one_seed_is_the_paired_t_test_and_equal_seeds_are_one():
    differences = np.random.default_rng(1).normal(0.1, 1, 30)
    test, expected = compare_runs(differences[None]), stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval()
    assert (test.t, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high))
    again = compare_runs(np.stack([differences] * 3))
    assert (again.t, again.p, again.n) == pytest.approx((test.t, test.p, 30))
    assert equivalence(np.stack([differences] * 3), 0.5) == pytest.approx(equivalence(differences[None], 0.5))


@pytest.mark.parametrize(("seeds", "level"), LEVELS.items())
def test_how_often_equal_settings_of_few_seeds_seem_to_differ(seeds, level):
    """Where seeds matter about as much as queries: more often than 5 %, and about as often as is said."""
    rng = np.random.default_rng(seeds)
    p = np.array([compare_runs(crossed(rng, seeds, 200, 0.06, 0.2, 0.1)).p for _ in range(1500)])
    assert 0.05 < (p < 0.05).mean() < level + 0.02
    assert abs((p < 0.05).mean() - level) < 0.035


def test_differences_that_cancel_are_no_finding():
    """Queries' means are all 0 here: what is left is their only error."""
    test = compare_runs(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert (test.difference, test.t, test.p) == (0.0, 0.0, 1.0) and test.high > 0


@pytest.mark.parametrize(
    ("of_seed", "of_query", "rest"), [(0.3, 1.0, 1.0), (1.0, 0.3, 0.3), (0.0, 1.0, 1.0), (0.2, 0.0, 1.0)]
)
def test_intervals_hold_for_the_next_seed(of_seed, of_query, rest):
    """95 % of them hold the truth, or a few more; over queries alone far fewer would where seeds differ."""
    rng, held, alone = np.random.default_rng(0), [], []
    for _ in range(1500):
        differences = crossed(rng, 5, 40, of_seed, of_query, rest)
        test, queries = compare_runs(differences), compare_runs(differences.mean(axis=0)[None])
        held.append(test.low <= 0 <= test.high)
        alone.append(queries.low <= 0 <= queries.high)
        assert test.high - test.low >= queries.high - queries.low - 1e-12
    assert 0.935 <= np.mean(held) <= 0.985
    if of_seed == 1.0:
        assert np.mean(alone) < 0.5
