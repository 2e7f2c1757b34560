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


def test_weights_of_first():
    assert RankNet(weights="first")(S, T, FIRST, ALL).item() == pytest.approx(0.066268, abs=1e-6)
    assert 3 * rank_net(S, T, FIRST, ALL, "first").item() == pytest.approx(0.198805, abs=1e-6)


def test_weights_of_first_make_a_swap_at_the_top_cost_more():
    """What tells them from plain RankNet, which sees no difference."""
    order = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    top, bottom = torch.tensor([[3.0, 4.0, 2.0, 1.0]]), torch.tensor([[4.0, 3.0, 1.0, 2.0]])
    positive, mask = torch.zeros(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    plain, first = (
        [rank_net(scores, order, positive, mask, weights).item() for scores in (top, bottom)]
        for weights in ("none", "first")
    )
    assert plain[0] == pytest.approx(plain[1]) and first[0] > 1.05 * first[1]


def test_pooled_is_the_mean_over_the_pairs_of_the_batch():
    """Here it is three pairs and one."""
    mask = torch.tensor([[True, True, True], [True, True, False]])
    whole, part = (rank_net(S, T, FIRST, row.unsqueeze(0)).item() for row in mask)
    value = RankNet(pooled=True)(S.repeat(2, 1), T.repeat(2, 1), FIRST.expand(2, 3), mask)
    assert value.item() == pytest.approx((3 * whole + part) / 4)
    assert whole != pytest.approx(part)
