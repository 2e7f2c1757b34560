import numpy as np
import pytest
from scipy import stats

from rankdistill.evaluation import compare


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
