import math

import pytest
import torch

from rankdistill.losses import MannWhitney, info_nce, mann_whitney

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    """The mean of softplus(-1) and softplus(-2)."""
    for across in (True, False):
        loss = MannWhitney(across_queries=across)
        assert loss(S, T, FIRST, ALL).item() == pytest.approx(0.220095, abs=1e-6)


def test_across_queries_each_positive_meets_every_negative():
    """Positives 2 and 5; negatives 1 and 0, and 4 and 3."""
    student = torch.tensor([[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]])
    rest = student, FIRST.expand(2, 3), ALL.expand(2, 3)
    assert mann_whitney(student, *rest, across_queries=False).item() == pytest.approx(0.220095, abs=1e-6)
    assert mann_whitney(student, *rest).item() == pytest.approx(0.543179, abs=1e-6)


def test_scores_that_mean_something_else_in_each_query_cost_it_alone():
    """What tells it from InfoNCE: both queries are ranked as they should be, 10 apart."""
    student = torch.tensor([[10.0, 0.0], [30.0, 20.0]])
    positive, mask = torch.tensor([[True, False]] * 2), torch.ones(2, 2, dtype=torch.bool)
    assert info_nce(student, student, positive, mask).item() < 1e-4
    assert mann_whitney(student, student, positive, mask).item() > 2


def test_it_bounds_the_pooled_area_under_the_curve():
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        student = 3 * torch.randn(4, 5, generator=rng)
        positive = torch.rand(4, 5, generator=rng) < 0.3
        positive[0, :2] = torch.tensor([True, False])
        above = (student[positive][:, None] > student[~positive][None, :]).float().mean()
        mask = torch.ones_like(positive)
        assert mann_whitney(student, student, positive, mask) >= math.log(2) * (1 - above)


def test_the_batchs_documents_are_further_negatives():
    """STAR without hard negatives: groups of the positive alone."""
    student, in_batch = torch.tensor([[2.0], [1.0]]), torch.tensor([[0.0, 1.0], [3.0, 9.0]])
    serves = torch.tensor([[True, True], [True, False]])
    positive = torch.ones(2, 1, dtype=torch.bool)
    star = MannWhitney(across_queries=False, in_batch=True)
    value = star(student, student, positive, positive, in_batch, serves)
    expected = sum(math.log1p(math.exp(x)) for x in (0 - 2, 1 - 2, 3 - 1)) / 3
    assert value.item() == pytest.approx(expected)
    assert star.reads == {"in_batch"} and MannWhitney().reads == frozenset()
