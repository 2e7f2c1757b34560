import numpy as np
import pandas as pd
import pytest

from rankdistill.analysis.distribution import query_statistics
from rankdistill.analysis.per_query import shown_table
from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler

RNG = np.random.default_rng(0)


def test_blocks_change_nothing(table, monkeypatch):
    whole = query_statistics(table)
    monkeypatch.setattr("rankdistill.analysis.per_query.BLOCK", 30)
    pd.testing.assert_frame_equal(query_statistics(table), whole)


def test_pools_of_one_document_have_no_distribution(table_of):
    with pytest.raises(InputError, match="score table: no query has two or more documents"):
        query_statistics(table_of([[1], [2]]))


def test_shown_scores_are_those_of_the_groups(table):
    shown = shown_table(table, HardNegativeSampler(1, 3))
    assert shown.candidates.query_rows.tolist() == table.candidates.query_rows.tolist()
    for i in range(len(table)):
        rows, scores, labels = shown.pool(i)
        _, pool, positive = table.pool(i)
        assert sorted(scores) == sorted([*pool[positive], *np.sort(pool[~positive])[::-1][:3]])
        assert (np.diff(rows) > 0).all() and labels.sum() == 1
        of_pool = dict(zip(*table.pool(i)[:2], strict=True))
        assert scores.tolist() == [of_pool[row] for row in rows]


def test_epochs_and_seeds_draw_other_groups(table):
    first, *others = (
        shown_table(table, RandomSampler(1, 3), seed, epoch).candidates.document_rows.tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    )
    assert others[-1] == first and first not in others[:2]


@pytest.mark.parametrize("name", ["absolute_margin", "relative_margin"])
def test_a_margin_that_leaves_no_negative_is_named(table, name):
    """Not the pools, which have enough documents."""
    sampler = HardNegativeSampler(1, 3, **{name: 1e9})
    with pytest.raises(InputError, match=f"shows one document of each query, .*; lower sampler.{name}$"):
        shown_table(table, sampler)
