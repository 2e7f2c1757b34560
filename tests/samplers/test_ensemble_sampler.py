from collections import Counter

import numpy as np
import pytest

from rankdistill.data.candidates import UNORDERED, UNRANKED
from rankdistill.errors import InputError
from rankdistill.samplers import EnsembleSampler
from rankdistill.samplers import ensemble as module

SCORES = np.array([5.0, 4.8, 1.0, 2.0, 3.0, 0.0, -1.0, 4.4])
POSITIVE = np.arange(8) == 0
RANKS = {
    "bm25": np.array([2, 0, 1, 3, UNRANKED, UNRANKED, UNRANKED, 4]),
    "dense": np.array([0, 1, UNRANKED, UNRANKED, 2, 3, UNRANKED, 4]),
    "random": np.where(np.arange(8) == 6, UNORDERED, UNRANKED),
}


def shown(sampler, ranks=RANKS, draws=300):
    return [
        set(sampler.select(SCORES, POSITIVE, np.random.default_rng(i), ranks)[1:].tolist())
        for i in range(draws)
    ]


def test_the_union_of_the_first_that_the_margin_leaves():
    """Document 1 is within 0.5 of the positive: the first two of bm25 are then 2 and 3, of dense 4 and 5."""
    groups = shown(EnsembleSampler(1, 2, each=2, absolute_margin=0.5))
    assert set().union(*groups) == {2, 3, 4, 5}
    assert len(set(map(frozenset, groups))) == 6  # each pair of them


def test_a_union_that_is_too_small_is_filled_up_and_still_within_the_margin():
    groups = shown(EnsembleSampler(1, 5, each=2, absolute_margin=0.5))
    assert all({2, 3, 4, 5} < group and 1 not in group for group in groups)
    assert {extra for group in groups for extra in group - {2, 3, 4, 5}} == {6, 7}


def test_fillers_are_drawn_uniformly():
    """Of the first of each, 1, five documents are left for the other two places."""
    groups = shown(EnsembleSampler(1, 2, each=1), draws=3000)
    counts = Counter(extra for group in groups for extra in group - {1})
    assert all(1 in group for group in groups)
    assert [counts[i] / 3000 for i in (2, 3, 4, 5, 6, 7)] == pytest.approx([1 / 6] * 6, abs=0.03)


def test_the_retrievers_order_does_not_matter():
    swapped = dict(reversed(RANKS.items()))
    sampler = EnsembleSampler(1, 3, each=2)
    assert shown(sampler, swapped, 20) == shown(sampler, draws=20)


def test_ranks_of_another_pool_raise():
    with pytest.raises(InputError, match="bm25"):
        EnsembleSampler().select(SCORES, POSITIVE, np.random.default_rng(0), {"bm25": np.arange(3)})


def test_what_has_no_order_is_marked_as_the_candidates_mark_it():
    assert module.UNORDERED == UNORDERED
