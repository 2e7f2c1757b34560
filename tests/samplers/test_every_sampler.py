"""What every sampler promises (see ``rankdistill.samplers``), on pools that chance thinks of."""

import numpy as np
import pytest
from conftest import WordTeacher
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdistill.candidates import BM25, Random, mine
from rankdistill.samplers import (
    AmbiguousSampler,
    BalancedMarginSampler,
    EnsembleSampler,
    HardNegativeSampler,
    RandomSampler,
    StratifiedSampler,
)
from rankdistill.teachers import score_candidates
from rankdistill.training import TrainingGroups

MARGINS = {"absolute_margin": 1.0, "relative_margin": 0.05}
KINDS = {
    "random": (RandomSampler, {}),
    "random-filtered": (RandomSampler, MARGINS),
    "ambiguous": (AmbiguousSampler, {}),
    "ambiguous-filtered": (AmbiguousSampler, MARGINS),
    "balanced-margin": (BalancedMarginSampler, {}),
    "balanced-margin-filtered": (BalancedMarginSampler, {"bins": 3, **MARGINS}),
    "ensemble": (EnsembleSampler, {"each": 2}),
    "ensemble-filtered": (EnsembleSampler, {"each": 2, **MARGINS}),
    "stratified-filtered": (StratifiedSampler, MARGINS),
    "hard": (HardNegativeSampler, {}),
    "hard-by-retriever": (HardNegativeSampler, {"by": "retriever"}),
    "hard-by-bm25": (HardNegativeSampler, {"by": "bm25"}),
    "hard-filtered": (HardNegativeSampler, MARGINS),
    **{
        f"{space}/{placement}{'/jitter' * jitter}": (
            StratifiedSampler,
            {"space": space, "placement": placement, "jitter": jitter},
        )
        for space in ("quantile", "score")
        for placement in ("mid", "ends")
        for jitter in (False, True)
    },
}
every = pytest.mark.parametrize("kind", KINDS)
quick = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def make(kind, positives=1, negatives=7):
    sampler, fields = KINDS[kind]
    return sampler(positives=positives, negatives=negatives, **fields)


def choose(sampler, scores, positive, seed=0):
    """The group; where the sampler asks for ranks, those of a retriever that likes low indices."""
    ranks = np.arange(np.size(scores))
    by_rank = {"ranks": ranks} if getattr(sampler, "by", "") == "retriever" else {}
    if isinstance(sampler, EnsembleSampler) or getattr(sampler, "by", "") == "bm25":
        by_rank = {"ranks_by_source": {"bm25": ranks, "other": ranks[::-1]}}
    return sampler.select(scores, positive, np.random.default_rng(seed), **by_rank)


@st.composite
def pools(draw):
    """Scores float32 (n,) and labels; half of the pools have few values, so that many are equal."""
    n = draw(st.integers(0, 25))
    few = st.integers(-1, 1).map(float)
    score = draw(st.sampled_from([few, st.floats(-1e4, 1e4, width=32)]))
    scores = draw(st.lists(score, min_size=n, max_size=n))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return np.array(scores, dtype=np.float32), np.array(positive, dtype=bool)


@every
@quick
@given(pool=pools(), positives=st.integers(0, 4), negatives=st.integers(1, 9), seed=st.integers(0, 3))
def test_group_is_distinct_positives_first_and_no_larger_than_asked(kind, pool, positives, negatives, seed):
    """A positive that the group has no room for, shown as a negative, teaches the opposite."""
    scores, positive = pool
    group = choose(make(kind, positives, negatives), scores, positive, seed)
    assert group.dtype == np.int64 and group.ndim == 1
    assert len(set(group.tolist())) == len(group)
    assert all(0 <= i < len(scores) for i in group)

    shown = min(positives, positive.sum())
    assert positive[group[:shown]].all()
    if positives:
        assert not positive[group[shown:]].any()
    available = (~positive).sum() if positives else len(scores)
    if "filtered" in kind and shown:
        assert len(group) <= shown + min(negatives, available)
    else:
        assert len(group) == shown + min(negatives, available)


@every
@quick
@given(
    scores=st.lists(
        st.one_of(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.sampled_from([3.4e38, -3.4e38, 1e8, 1e8 + 8, 2.0**-149]),
        ),
        min_size=1,
        max_size=20,
    ),
    labels=st.integers(0, 2**20),
)
def test_no_finite_score_is_too_large_or_too_small(kind, scores, labels):
    """A range of 6.8e38 is none that float32 has; nothing overflows, and nothing is chosen twice."""
    scores = np.array(scores, np.float32)
    positive = (labels >> np.arange(len(scores))) % 2 == 1
    with np.errstate(all="raise", under="ignore"):
        group = choose(make(kind, 1, 5), scores, positive)
    assert len(set(group.tolist())) == len(group) and 0 <= group.min(initial=0) <= group.max(initial=0)
    assert len(group) == min(1, positive.sum()) + min(5, (~positive).sum()) or "filtered" in kind


@every
@quick
@given(pool=pools(), negatives=st.integers(1, 9))
def test_without_positives_no_label_is_used(kind, pool, negatives):
    scores, positive = pool
    groups = [choose(make(kind, 0, negatives), scores, y) for y in (positive, ~positive, positive | True)]
    assert all(np.array_equal(groups[0], group) for group in groups)


@every
@quick
@given(pool=pools(), seed=st.integers(0, 3))
def test_group_depends_on_nothing_but_pool_and_generator(kind, pool, seed):
    """State kept between calls is stale in workers; a changed pool spoils the next epoch."""
    scores, positive = pool
    before = scores.copy(), positive.copy()
    sampler = make(kind, 2, 3)
    first = choose(sampler, scores, positive, seed)
    choose(sampler, scores[::-1], positive, seed + 1)
    assert np.array_equal(choose(sampler, scores, positive, seed), first)
    assert np.array_equal(scores, before[0]) and np.array_equal(positive, before[1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "random" not in kind])
def test_positives_are_the_highest_scored(kind):
    scores = np.array([1, 5, 9, 7, 0, 3], dtype=np.float32)
    positive = np.array([1, 1, 0, 1, 0, 1], dtype=bool)
    assert choose(make(kind, 2, 1), scores, positive)[:2].tolist() == [3, 1]


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [2, 40], ids=["small-pool", "large-pool"])
def test_a_score_that_is_not_finite_raises(kind, bad, n):
    """NaN sorts last or first, depending on the sort, and is nearest to every anchor."""
    scores = np.zeros(n, dtype=np.float32)
    scores[1] = bad
    with pytest.raises(ValueError, match="finite.*index 1"):
        choose(make(kind), scores, np.zeros(n, dtype=bool))


@every
@pytest.mark.parametrize(("scores", "positive"), [((5,), (4,)), ((5,), (5, 1)), ((5, 1), (5, 1)), ((), ())])
def test_other_shapes_raise(kind, scores, positive):
    with pytest.raises(ValueError, match="expected"):
        choose(make(kind), np.zeros(scores), np.zeros(positive, dtype=bool))


@every
@pytest.mark.parametrize(("positives", "negatives"), [(-1, 7), (0, 0), (1, 0), (1, -1)])
def test_a_group_that_teaches_nothing_raises(kind, positives, negatives):
    """A positive alone, of the random sampler, is for the negatives of the batch."""
    if (positives, negatives) == (1, 0) and type(make(kind)) is RandomSampler:
        assert make(kind, 1, 0).negatives == 0
        return
    with pytest.raises(ValueError, match="positives"):
        make(kind, positives, negatives)


@every
@pytest.mark.parametrize("value", [True, 2.5, "3", None, np.nan])
@pytest.mark.parametrize("field", ["positives", "negatives"])
def test_a_size_that_is_no_whole_number_raises(kind, field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}: it must be a whole number"):
        make(kind, **{field: value})


@pytest.mark.parametrize(
    ("sampler", "fields"),
    [
        (HardNegativeSampler, {"absolute_margin": np.nan}),
        (HardNegativeSampler, {"absolute_margin": "0.1"}),
        (HardNegativeSampler, {"relative_margin": np.inf}),
        (HardNegativeSampler, {"relative_margin": True}),
        (StratifiedSampler, {"jitter": "false"}),
        (StratifiedSampler, {"jitter": 1}),
        (StratifiedSampler, {"relative_margin": "0.1"}),
        (BalancedMarginSampler, {"bins": 0}),
        (BalancedMarginSampler, {"bins": 2.5}),
        (AmbiguousSampler, {"a": -1.0}),
        (AmbiguousSampler, {"b": np.nan}),
        (EnsembleSampler, {"each": True}),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(sampler, fields):
    """The text "false" is true; a margin that is no number leaves out everything."""
    with pytest.raises(ValueError, match=f"{next(iter(fields))}="):
        sampler(**fields)


@every
def test_a_group_far_larger_than_the_pool_is_the_pool(kind):
    scores, positive = np.array([3, 1, 2], np.float32), np.array([True, False, False])
    group = choose(make(kind, 10**9, 10**9), scores, positive)
    assert sorted(group.tolist()) == [0, 1, 2] and group[0] == 0


@every
@pytest.mark.parametrize("positives", [0, 1])
def test_no_group_shows_a_copy_of_a_positive(kind, positives, copied):
    """It scores as the positive does, so that hard negatives are copies before all else."""
    table = score_candidates(WordTeacher(), mine(copied, [BM25(12), Random(12)], "train"))
    groups = TrainingGroups(table, make(kind, positives, 5))
    for i in range(2 * len(groups)):
        group = groups[i]
        query = copied.query_ids[group.query_row]
        same = ["q0", "q1"] if query in ("q0", "q1") else [query]
        texts = {copied.documents[int(one[1:])].strip() for one in same}  # q3's is d3, and c3
        shown = [copied.documents[row].strip() for row in group.document_rows[~group.positive]]
        assert not texts & set(shown), query
        assert group.positive[:positives].all()
        assert len(group.document_rows) == positives + 5 or "filtered" in kind
