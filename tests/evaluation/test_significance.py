import re

import numpy as np
import pytest
from scipy import stats

from rankdistill.evaluation import compare
from rankdistill.evaluation.significance import effect_size, equivalence, holm, letters, randomisation


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


@pytest.mark.parametrize(("shift", "t", "p"), [(0.0, 0.0, 1.0), (0.25, np.inf, 0.0), (-0.25, -np.inf, 0.0)])
def test_differences_all_equal_are_no_division_by_zero(shift, t, p):
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
    assert equivalence(differences, margin) == pytest.approx(max(lower, upper))
    assert equivalence(differences + 1, margin) > 0.99
    assert equivalence(np.zeros(5), margin) == 0.0 and equivalence(np.full(5, 0.02), margin) == 1.0


def test_holm_on_the_example_of_four():
    """0.01, 0.04, 0.03, 0.005: times 3, 1, 2, 4, then no smaller than the one before."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_effect_size_is_in_deviations_of_the_differences():
    differences = np.array([0.1, 0.3, 0.2, 0.4])
    assert effect_size(differences) == pytest.approx(0.25 / np.std(differences, ddof=1))
    assert effect_size(np.zeros(4)) == 0.0 and effect_size(np.full(4, -0.5)) == -np.inf


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
