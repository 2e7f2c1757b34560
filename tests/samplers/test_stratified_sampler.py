from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler

SPACES, PLACEMENTS = ("quantile", "score"), ("mid", "ends")
spaces = pytest.mark.parametrize("space", SPACES)
placements = pytest.mark.parametrize("placement", PLACEMENTS)
thorough = settings(max_examples=150, deadline=None, database=None, derandomize=True)


def choose(sampler, scores, positive=None, seed=0):
    positive = np.zeros(len(scores), dtype=bool) if positive is None else positive
    return sampler.select(np.asarray(scores), positive, np.random.default_rng(seed))


def oracle(scores, positive, positives, k, space, placement):
    """The docstring in exact arithmetic."""

    def highest_first(pool):
        return sorted(pool, key=lambda i: (-scores[i], i))

    everything = range(len(scores))
    relevant = [i for i in everything if positive[i]] if positives else []
    free = [i for i in everything if not (positives and positive[i])]
    group = highest_first(relevant)[:positives]
    if len(free) <= k:
        return group + highest_first(free)

    if k == 1:
        levels = [Fraction(1, 2)]
    elif placement == "mid":
        levels = [Fraction(2 * i + 1, 2 * k) for i in range(k)]
    else:
        levels = [Fraction(i, k - 1) for i in range(k)]
    ascending = sorted(Fraction(scores[i]) for i in free)
    for level in reversed(levels):
        if space == "score":
            anchor = ascending[0] + level * (ascending[-1] - ascending[0])
        else:
            place = level * (len(ascending) - 1)
            below = int(place)
            above = min(below + 1, len(ascending) - 1)
            anchor = ascending[below] + (place - below) * (ascending[above] - ascending[below])
        nearest = min(free, key=lambda i: (abs(scores[i] - anchor), -scores[i], i))
        free.remove(nearest)
        group.append(nearest)
    return group


@spaces
@placements
@thorough
@given(
    pool=st.lists(st.tuples(st.integers(-20, 20), st.booleans()), max_size=25),
    positives=st.integers(0, 3),
    negatives=st.integers(1, 9),
)
def test_equals_the_description_in_exact_arithmetic(space, placement, pool, positives, negatives):
    """Scores are integers, so that many are equal and many equally near."""
    scores, positive = [score for score, _ in pool], [label for _, label in pool]
    group = choose(
        StratifiedSampler(positives, negatives, space, placement),
        np.array(scores, dtype=np.float32),
        np.array(positive, dtype=bool),
    )
    assert group.tolist() == oracle(scores, positive, positives, negatives, space, placement)


SKEWED = [10, 9, 8, 7, 2, 1.5, 1, 0.5, 0.2, 0.1, 0]


@pytest.mark.parametrize(
    ("pool", "space", "placement", "expected"),
    [
        (range(11), "quantile", "mid", [8, 5, 2]),
        (range(11), "score", "mid", [8, 5, 2]),
        (range(11), "quantile", "ends", [10, 5, 0]),
        (range(11), "score", "ends", [10, 5, 0]),
        (SKEWED, "quantile", "mid", [8, 1.5, 0.2]),
        (SKEWED, "quantile", "ends", [10, 1.5, 0]),
        (SKEWED, "score", "mid", [8, 7, 1.5]),
        (SKEWED, "score", "ends", [10, 7, 0]),
    ],
)
def test_three_anchors_by_hand(pool, space, placement, expected):
    """In SKEWED, score/ends seeks 5 (7 is nearer than 2), score/mid 8.33, 5 and 1.67."""
    scores = np.array([12.0, *pool])  # a positive is added to the anchors, whatever its score
    group = choose(StratifiedSampler(1, 3, space, placement), scores, scores == 12)
    assert scores[group].tolist() == [12, *expected]


@spaces
@placements
def test_one_anchor_alone_is_at_half(space, placement):
    scores = np.array([0, 0.25, 0.5, 1, 8])
    group = choose(StratifiedSampler(0, 1, space, placement), scores)
    assert scores[group] == (0.5 if space == "quantile" else 1)  # the median; 4, to which 1 is nearest


@spaces
@placements
def test_equal_scores_are_taken_by_index(space, placement):
    assert choose(StratifiedSampler(0, 3, space, placement), np.full(9, 2.5)).tolist() == [0, 1, 2]


@spaces
@placements
def test_a_pool_no_larger_than_the_group_is_taken_whole_highest_first(space, placement):
    assert choose(StratifiedSampler(0, 4, space, placement), [1.0, 4, 2, 4]).tolist() == [1, 3, 2, 0]


@spaces
@placements
@thorough
@given(
    scores=st.lists(st.integers(-100, 100), min_size=9, max_size=30),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
def test_units_of_the_teacher_do_not_matter(space, placement, scores, scale, shift):
    """Logits or their min-max normalisation: the same group, rounding and ties included."""
    sampler, scores = StratifiedSampler(0, 7, space, placement), np.array(scores, dtype=np.float64)
    scaled = scores * scale + shift
    assert choose(sampler, scaled).tolist() == choose(sampler, scores).tolist()


def test_quantile_anchors_follow_the_order_and_score_anchors_the_values():
    """A monotone map of the scores (here a teacher's sigmoid) moves only the latter."""
    logits = np.random.default_rng(0).normal(0, 3, 101)  # quantiles at i / 10 are documents
    probabilities = 1 / (1 + np.exp(-logits))
    for space, same in (("quantile", True), ("score", False)):
        sampler = StratifiedSampler(0, 11, space, "ends")
        assert (choose(sampler, logits).tolist() == choose(sampler, probabilities).tolist()) is same


@spaces
@placements
def test_without_jitter_the_generator_is_not_used(space, placement):
    rng = np.random.default_rng(0)
    StratifiedSampler(space=space, placement=placement).select(np.arange(50.0), np.arange(50) == 49, rng)
    assert rng.random() == np.random.default_rng(0).random()


def jittered_levels(space, placement, k, seed):
    """Levels of the anchors, lowest first, read off a pool of 2001 evenly spaced scores in [0, 1]."""
    scores = np.linspace(0, 1, 2001)
    return scores[choose(StratifiedSampler(0, k, space, placement, jitter=True), scores, seed=seed)][::-1]


@spaces
@pytest.mark.parametrize("k", [1, 2, 5])
def test_jitter_is_uniform_within_each_stratum(space, k):
    levels = np.array([jittered_levels(space, "mid", k, seed) for seed in range(300)])
    within = levels * k - np.arange(k)
    assert within.min() > -0.01 and within.max() < 1.01  # the nearest document may be just outside
    for stratum in within.T:
        assert kstest(stratum, "uniform").pvalue > 0.001
    if k > 1:
        assert abs(np.corrcoef(within.T)[np.triu_indices(k, 1)]).max() < 0.25  # one draw per anchor


@spaces
def test_jitter_of_ends_stays_within_half_a_step_and_within_the_range(space):
    levels = np.array([jittered_levels(space, "ends", 5, seed) for seed in range(300)])
    shift = levels * 4 - np.arange(5)
    assert abs(shift).max() < 0.51
    for inner in shift[:, 1:-1].T:
        assert kstest(inner, "uniform", args=(-0.5, 1)).pvalue > 0.001
    assert levels[:, 0].min() == 0 and levels[:, -1].max() == 1
    assert abs(np.corrcoef(shift.T)[np.triu_indices(5, 1)]).max() < 0.25


@spaces
@placements
def test_jitter_differs_with_the_generator_and_only_with_it(space, placement):
    groups = [jittered_levels(space, placement, 5, seed).tolist() for seed in (1, 1, 2)]
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.parametrize("field", ["space", "placement"])
def test_an_unknown_choice_raises(field):
    with pytest.raises(ValueError, match="middle"):
        StratifiedSampler(**{field: "middle"})


# Statistics of groups. Three simulations of a query's pool, logits of a cross-encoder; no real scores.


def retrieved_and_random(rng):
    """A retriever's top 100 (a few relevant, the others near misses) and 100 random documents."""
    relevant = rng.normal(4, 1.5, rng.integers(2, 9))
    return np.concatenate([relevant, rng.normal(-3, 2.5, 100 - len(relevant)), rng.normal(-9, 1, 100)])


def exponential(rng):
    """200 documents that grow exponentially rarer with the score."""
    return -10 + rng.exponential(2.5, 200)


def retrieved(rng):
    """A retriever's top 100, most low, one heavy tail upwards."""
    return rng.gamma(2, 2, 100) - 8


SAMPLERS = {
    "hard": HardNegativeSampler,
    "random": RandomSampler,
    **{f"{s}/{p}": lambda *k, s=s, p=p: StratifiedSampler(*k, s, p) for s in SPACES for p in PLACEMENTS},
}


POOLS = [retrieved_and_random, exponential, retrieved]


@pytest.fixture(scope="module", params=POOLS, ids=lambda pool: pool.__name__)
def statistics(request):
    """By sampler: variance of its 7 negatives, range, distance from the pool's variance.

    Means over 200 pools. The highest document of each pool is the positive.
    """
    found = {name: [] for name in SAMPLERS}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = request.param(rng).astype(np.float32)
        positive = scores == scores.max()
        for name, sampler in SAMPLERS.items():
            chosen = scores[sampler(1, 7).select(scores, positive, rng)[1:]]
            distance = abs(chosen.var() - scores[~positive].var())
            found[name].append((chosen.var(), np.ptp(chosen), distance))
    names = "variance", "range", "distance"
    return {name: dict(zip(names, np.mean(x, axis=0), strict=True)) for name, x in found.items()}


def test_mid_quantiles_keep_the_pools_variance_better_than_hard_and_random_negatives(statistics):
    """Group by group: a random group has the pool's variance on average, but seldom by itself."""
    mid = statistics["quantile/mid"]["distance"]
    assert mid < 0.5 * statistics["hard"]["distance"] and mid < 0.5 * statistics["random"]["distance"]


def test_mid_quantiles_keep_more_variance_than_hard_negatives_and_more_range_than_random_ones(statistics):
    mid, hard, random = statistics["quantile/mid"], statistics["hard"], statistics["random"]
    assert mid["variance"] > 1.5 * hard["variance"]
    assert mid["range"] > random["range"] > hard["range"]


@pytest.mark.parametrize("name", ["quantile/ends", "score/mid", "score/ends"])
def test_anchors_at_the_ends_or_in_score_keep_more_variance_and_range_than_random_negatives(statistics, name):
    """Mid quantiles needn't: they leave out half a stratum at either end, and with it a tail's variance."""
    anchored, random = statistics[name], statistics["random"]
    assert anchored["variance"] > 1.25 * random["variance"] and anchored["range"] > random["range"]
