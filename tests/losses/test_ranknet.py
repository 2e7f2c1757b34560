import pytest
import torch

from rankdistill.losses import RankNet, rank_net

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    """The mean of softplus(-1), softplus(-2), softplus(-1)."""
    assert rank_net(S, T, FIRST, ALL).item() == pytest.approx(0.251150, abs=1e-6)
    assert RankNet()(S, T, FIRST, ALL).item() == rank_net(S, T, FIRST, ALL).item()


def test_of_the_teacher_only_the_order_counts():
    assert rank_net(S, T.exp(), FIRST, ALL) == rank_net(S, T, FIRST, ALL)
    assert rank_net(S, -T, FIRST, ALL).item() == pytest.approx(0.251150 + 4 / 3, abs=1e-6)


def test_a_query_of_ties_teaches_nothing_and_does_not_dilute_the_others():
    teacher, mask = torch.cat([T, torch.zeros_like(T)]), ALL.expand(2, 3)
    student = S.repeat(2, 1).requires_grad_()
    value = rank_net(student, teacher, FIRST.expand(2, 3), mask)
    value.backward()
    assert value.item() == rank_net(S, T, FIRST, ALL).item()
    assert (student.grad[1] == 0).all() and (student.grad[0] != 0).any()


def test_queries_count_alike_however_many_pairs_they_have():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    both = rank_net(S.repeat(2, 1), T.repeat(2, 1), FIRST.expand(2, 3), mask)
    one, other = (rank_net(S, T, FIRST, row.unsqueeze(0)) for row in mask)
    assert both.item() == pytest.approx((one.item() + other.item()) / 2)
