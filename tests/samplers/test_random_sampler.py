from collections import Counter
from itertools import permutations

import numpy as np
from scipy.stats import chisquare

from rankdistill.samplers import RandomSampler


def test_every_ordered_draw_from_a_pool_of_ten_is_equally_likely():
    """Three positives and ten others: each positive, and each ordered pair of others, alike."""
    scores = np.linspace(-5, 5, 13)
    positive = np.isin(np.arange(13), [2, 3, 11])
    rng, sampler = np.random.default_rng(0), RandomSampler(positives=1, negatives=2)
    groups = [sampler.select(scores, positive, rng).tolist() for _ in range(9000)]
    others = np.flatnonzero(~positive).tolist()
    for drawn, outcomes in [
        (Counter(group[0] for group in groups), [2, 3, 11]),
        (Counter((first, second) for _, first, second in groups), list(permutations(others, 2))),
    ]:
        assert set(drawn) == set(outcomes)
        assert chisquare([drawn[outcome] for outcome in outcomes]).pvalue > 0.001


def test_scores_are_not_used():
    positive = np.arange(20) < 2
    for seed in range(5):
        groups = [
            RandomSampler().select(scores, positive, np.random.default_rng(seed)).tolist()
            for scores in (np.zeros(20), np.arange(20.0))
        ]
        assert groups[0] == groups[1]
