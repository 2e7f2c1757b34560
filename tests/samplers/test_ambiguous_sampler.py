import numpy as np
import pytest

from rankdistill.samplers import AmbiguousSampler

POSITIVE = np.array([True, False, False, False])


def shares(sampler, scores, draws=4000):
    """How often each document is the first negative."""
    drawn = [sampler.select(scores, POSITIVE, np.random.default_rng(i))[1] for i in range(draws)]
    return np.bincount(drawn, minlength=4)[1:] / draws


def test_draws_are_those_of_the_weights():
    """exp(-(t + 1.5)² / 2) of scores 1, 2 and 4 below the positive; shifting all of them changes nothing."""
    scores = np.array([0, -1, -2, -4], np.float32)
    for offset in (0.0, 100.0):
        found = shares(AmbiguousSampler(negatives=1, a=0.5, b=1.5), scores + offset)
        assert found == pytest.approx([0.4879, 0.4879, 0.0243], abs=0.025)


def test_second_draws_are_without_the_first():
    """Of weights .4879, .4879 and .0243 the rare one is second with what the first leaves."""
    weights = np.array([0.4879, 0.4879, 0.0243])
    expected = sum(weights[i] * weights[2] / (1 - weights[i]) for i in (0, 1))
    sampler, scores = AmbiguousSampler(negatives=2), np.array([0, -1, -2, -4], np.float32)
    second = [sampler.select(scores, POSITIVE, np.random.default_rng(i))[2] for i in range(4000)]
    assert np.mean(np.array(second) == 3) == pytest.approx(expected, abs=0.015)


def test_weights_that_underflow_still_have_an_order():
    """exp(-5e5) and exp(-5e7) are both 0 in floating point; the first is likelier by far."""
    scores = np.array([0, -1e4, -1e3, -1e4], np.float32)
    drawn = {
        AmbiguousSampler(negatives=1).select(scores, POSITIVE, np.random.default_rng(i))[1] for i in range(50)
    }
    assert drawn == {2}


def test_no_sharpness_is_a_uniform_draw():
    assert shares(AmbiguousSampler(negatives=1, a=0.0), np.array([0, -1, -2, -4.0])) == pytest.approx(
        [1 / 3] * 3, abs=0.03
    )


def test_the_lowest_positive_counts_and_without_labels_the_highest_score():
    scores = np.array([9, 0, -1.5, 7.5], np.float32)
    two, sharp = np.array([True, True, False, False]), AmbiguousSampler(2, 1, a=50.0)
    assert sharp.select(scores, two, np.random.default_rng(0)).tolist() == [0, 1, 2]
    alone = AmbiguousSampler(0, 1, a=50.0).select(scores, two, np.random.default_rng(0))
    assert alone.tolist() == [3]
