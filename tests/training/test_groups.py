import numpy as np
import pytest

from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler
from rankdistill.training import EpochSampler, TrainingGroups
from rankdistill.training.groups import normalise


def same(a, b):
    return a.query_row == b.query_row and np.array_equal(a.document_rows, b.document_rows)


def test_a_group_depends_on_seed_epoch_and_query_alone(table):
    """Sampling state in the dataset would make groups depend on workers and on where training resumed."""
    one, other = (
        TrainingGroups(table, RandomSampler(1, 3), seed=5),
        TrainingGroups(table, RandomSampler(1, 3), seed=5),
    )
    items = list(range(3 * len(one)))
    forwards = {i: one[i] for i in items}
    assert all(same(forwards[i], other[i]) for i in reversed(items))
    assert not all(same(forwards[i], TrainingGroups(table, RandomSampler(1, 3), seed=6)[i]) for i in items)
    assert not all(same(forwards[i], forwards[i + len(one)]) for i in range(len(one)))  # epochs differ


def test_a_deterministic_sampler_shows_the_same_group_every_epoch(table):
    groups = TrainingGroups(table, StratifiedSampler(1, 3))
    assert all(same(groups[i], groups[i + len(groups)]) for i in range(len(groups)))


def test_a_group_carries_the_scores_and_labels_of_its_documents(table):
    groups = TrainingGroups(table, HardNegativeSampler(1, 3))
    for i in range(len(groups)):
        rows, scores, positive = table.pool(i)
        where = np.searchsorted(rows, groups[i].document_rows)
        assert np.array_equal(rows[where], groups[i].document_rows)
        assert np.array_equal(scores[where], groups[i].teacher)
        assert np.array_equal(positive[where], groups[i].positive)
        assert groups[i].positive.tolist() == [True, False, False, False]


def test_ranks_go_to_samplers_that_name_them(table):
    groups = TrainingGroups(table, HardNegativeSampler(1, 2, by="retriever"))
    span = table.candidates.pool(0)
    ranks = table.candidates.ranks[span].astype(int)
    ranks[table.candidates.positive[span]] = 99999
    rows = table.candidates.document_rows[span]
    assert groups[0].document_rows[1:].tolist() == rows[np.argsort(ranks, kind="stable")[:2]].tolist()


@pytest.mark.parametrize(
    ("how", "expected"), [("raw", [1, 3, 5]), ("minmax", [0, 0.5, 1]), ("zscore", [-(1.5**0.5), 0, 1.5**0.5])]
)
def test_normalised_scores(how, expected):
    np.testing.assert_allclose(normalise(np.array([1, 3, 5], np.float32), how), expected, rtol=1e-6)


@pytest.mark.parametrize("how", ["minmax", "zscore"])
def test_equal_scores_become_zeros(how):
    """Their range and deviation are 0: dividing by them makes NaN."""
    assert normalise(np.full(4, 2.5, np.float32), how).tolist() == [0, 0, 0, 0]


def test_a_sampler_larger_than_every_pool_is_refused(table):
    with pytest.raises(InputError, match=r"group of 101 documents, but the largest pool has \d+"):
        TrainingGroups(table, RandomSampler(1, 100))


def test_an_epoch_holds_every_query_once_in_an_order_of_its_own():
    sampler = EpochSampler(10, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert first != [i - 10 for i in second]
