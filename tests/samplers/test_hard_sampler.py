from itertools import pairwise

import numpy as np
import pytest

from rankdistill.samplers import HardNegativeSampler

RNG = np.random.default_rng(0)


def negatives(sampler, scores, relevant, **more):
    """The scores of the negatives shown, where the pool is the ``relevant`` scores, then ``scores``."""
    pool = np.array([*relevant, *scores], dtype=np.float32)
    group = sampler.select(pool, np.arange(len(pool)) < len(relevant), RNG, **more)
    return pool[group[min(sampler.positives, len(relevant)) :]].tolist()


def test_equals_argsort():
    scores = np.random.default_rng(1).normal(size=50).astype(np.float32)
    group = HardNegativeSampler(0, 8).select(scores, np.zeros(50, dtype=bool), RNG)
    assert group.tolist() == np.argsort(scores)[::-1][:8].tolist()


def test_equal_scores_are_taken_in_the_order_of_the_pool():
    group = HardNegativeSampler(0, 3).select(np.array([1, 2, 1, 2, 2.0]), np.zeros(5, dtype=bool), RNG)
    assert group.tolist() == [1, 3, 4]


def test_by_retriever_the_lowest_ranks_come_first():
    """Positives go by the teacher's score still; equal ranks by the order of the pool."""
    scores = np.array([0, 9, 1, 2, 8, 3, 7], dtype=np.float32)
    positive = np.array([1, 1, 0, 0, 0, 0, 0], dtype=bool)
    ranks = np.array([0, 1, 5, 2, 1000, 1000, 3])
    sampler = HardNegativeSampler(1, 4, by="retriever")
    assert sampler.select(scores, positive, RNG, ranks).tolist() == [1, 3, 6, 2, 4]


def test_by_teacher_ranks_are_not_used():
    scores, ranks = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 2])
    assert HardNegativeSampler(0, 1).select(scores, np.zeros(3, dtype=bool), RNG, ranks).tolist() == [2]


def test_by_retriever_without_ranks_raises():
    with pytest.raises(ValueError, match="ranks"):
        HardNegativeSampler(by="retriever").select(np.zeros(3), np.zeros(3, dtype=bool), RNG)


def test_by_one_source_its_ranks_alone_count():
    """Against a sort by hand: what bm25 did not find (65535) comes last, in the order of the pool."""
    scores = np.array([0, 9, 1, 2, 8, 3, 7], dtype=np.float32)
    positive = np.array([1, 1, 0, 0, 0, 0, 0], dtype=bool)
    ranks = {"bm25": np.array([0, 1, 65535, 4, 65535, 2, 3]), "dense": np.array([5, 4, 0, 1, 2, 3, 6])}
    best = np.minimum(ranks["bm25"], ranks["dense"])
    by_bm25 = HardNegativeSampler(1, 5, by="bm25").select(scores, positive, RNG, best, ranks)
    assert by_bm25.tolist() == [1, 5, 6, 3, 2, 4]
    by_dense = HardNegativeSampler(1, 5, by="dense").select(scores, positive, RNG, best, ranks)
    assert by_dense.tolist() == [1, 2, 3, 4, 5, 6]


def test_by_a_source_without_ranks_raises():
    sampler, ranks = HardNegativeSampler(by="bm25"), {"dense": np.arange(3)}
    with pytest.raises(ValueError, match=r"by='bm25'\) needs bm25's ranks"):
        sampler.select(np.zeros(3), np.zeros(3, dtype=bool), RNG, np.arange(3), ranks)


@pytest.mark.parametrize("by", ["", None, 3])
def test_by_no_name_raises(by):
    with pytest.raises(ValueError, match=f"by={by!r}: it must be 'teacher', 'retriever' or the name of a"):
        HardNegativeSampler(by=by)


SCORES = [9.0, 4.0, -1.5, -2.0, -2.0625, -2.125, -3.0]


@pytest.mark.parametrize(
    ("fields", "relevant", "highest"),
    [
        ({}, [-2.0], 9.0),
        ({"absolute_margin": 0.125}, [-2.0], -2.125),
        ({"relative_margin": 0.0625}, [-2.0], -2.125),
        ({"relative_margin": 0.5}, [8.0], 4.0),
        ({"absolute_margin": 0.5}, [-2.0, 7.0], -3.0),
        ({"relative_margin": 0.0625}, [7.0, -2.0], -2.125),
        ({"absolute_margin": 0.0625, "relative_margin": 0.25}, [-2.0], -3.0),
        ({"absolute_margin": 1.0, "relative_margin": 0.0}, [-2.0], -3.0),
        ({"absolute_margin": 0.5}, [], 9.0),
    ],
    ids=[
        "no-filter",
        "absolute",
        "relative-below-0",
        "relative-above-0",
        "absolute-lowest-positive",
        "relative-lowest-positive",
        "relative-is-stricter",
        "absolute-is-stricter",
        "no-positive",
    ],
)
def test_filter_leaves_out_what_is_above_the_limit(fields, relevant, highest):
    """``t * (1 - r)`` is above t for a negative t: it would let likely positives through."""
    shown = negatives(HardNegativeSampler(1, 9, **fields), SCORES, relevant)
    assert shown == [score for score in SCORES if score <= highest]


def test_filter_of_five_per_cent_at_minus_two_is_at_minus_two_point_one():
    shown = negatives(HardNegativeSampler(relative_margin=0.05), [-2.05, -2.099, -2.1, -2.101], [-2.0])
    assert shown == pytest.approx([-2.1, -2.101])


@pytest.mark.parametrize("field", ["absolute_margin", "relative_margin"])
def test_a_larger_margin_keeps_fewer(field):
    scores = np.random.default_rng(2).normal(-3, 1, size=40)
    kept = [
        set(negatives(HardNegativeSampler(1, 40, **{field: margin}), scores, [-2.0]))
        for margin in (0.0, 0.05, 0.2, 0.5, 1.0)
    ]
    assert all(more > fewer for more, fewer in pairwise(kept))


def test_filter_applies_by_retriever_too():
    sampler = HardNegativeSampler(1, 2, by="retriever", absolute_margin=0.5)
    assert negatives(sampler, [4.8, 1.0, 4.5, 2.0], [5.0], ranks=np.arange(5)) == [1.0, 4.5]


def test_filter_without_labels_leaves_nothing_out():
    scores, positive = np.array([3.0, 5.0, 4.9]), np.array([False, True, False])
    group = HardNegativeSampler(0, 3, absolute_margin=1.0).select(scores, positive, RNG)
    assert group.tolist() == [1, 2, 0]


def test_a_margin_that_rounding_loses_still_leaves_out_ties():
    """1e8 - 0.5 is 1e8 in float32."""
    scores = np.array([1e8, 1e8, 1e8 - 8], np.float32)
    group = HardNegativeSampler(1, 2, absolute_margin=0.5).select(
        scores, np.array([True, False, False]), np.random.default_rng(0)
    )
    assert group.tolist() == [0, 2]
