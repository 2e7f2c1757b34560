import numpy as np
import pytest

from rankdistill.samplers import BalancedMarginSampler, RandomSampler

EASY_AND_HARD = np.concatenate([[10.0], np.full(90, -5.0), np.full(10, 9.0)])
POSITIVE = np.arange(101) == 0


def hard_share(sampler):
    drawn = [sampler.select(EASY_AND_HARD, POSITIVE, np.random.default_rng(i))[1] for i in range(3000)]
    return np.mean(np.array(drawn) > 90)


def test_ten_hard_of_a_hundred_are_half_of_what_two_bins_show():
    """Drawn uniformly they are a tenth."""
    assert hard_share(BalancedMarginSampler(negatives=1, bins=2)) == pytest.approx(0.5, abs=0.03)
    assert hard_share(RandomSampler(negatives=1)) == pytest.approx(0.1, abs=0.03)


def test_bins_without_a_document_are_not_drawn():
    assert hard_share(BalancedMarginSampler(negatives=1, bins=10)) == pytest.approx(0.5, abs=0.03)


def test_each_bin_has_its_share_and_each_document_the_same_within_it():
    """Margins 0, 1, 2, 2 and 10 in four bins of a width of 2.5: four documents in one bin, one in another."""
    scores, positive = np.array([10, 10, 9, 8, 8, 0.0]), np.arange(6) == 0
    sampler = BalancedMarginSampler(negatives=1, bins=4)
    drawn = [sampler.select(scores, positive, np.random.default_rng(i))[1] for i in range(6000)]
    assert np.bincount(drawn, minlength=6)[1:] / 6000 == pytest.approx([0.125] * 4 + [0.5], abs=0.02)


def test_bins_that_run_empty_leave_the_others():
    group = BalancedMarginSampler(negatives=30, bins=2).select(
        EASY_AND_HARD, POSITIVE, np.random.default_rng(0)
    )
    assert len(set(group.tolist())) == 31
    assert (group[1:] > 90).sum() == 10


def test_equal_margins_are_one_bin():
    """The authors' code divides by their range."""
    group = BalancedMarginSampler(negatives=3).select(np.ones(8), np.arange(8) == 0, np.random.default_rng(0))
    assert len(set(group.tolist())) == 4
