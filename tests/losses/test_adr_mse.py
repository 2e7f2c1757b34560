import math

import pytest
import torch
from sentence_transformers.cross_encoder import losses
from test_against_sentence_transformers import Written

from rankdistill.losses import ADRMSE, adr_mse, rank_net

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    """Smooth ranks of 1.388144, 2 and 2.611856, the last one's error counting 1 / log2(4)."""
    assert ADRMSE()(S, T, FIRST, ALL).item() == pytest.approx(1.5 * 0.388144**2 / 3, abs=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_is_that_of_sentence_transformers(ties):
    rng = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=rng)
    teacher = teacher.round() if ties else teacher
    texts = [[repr(score) for score in row] for row in student.tolist()]
    theirs = losses.ADRMSELoss(Written(), alpha=2.0)([["q"] * 4, texts], list(teacher))
    mask = torch.ones(4, 5, dtype=torch.bool)
    torch.testing.assert_close(adr_mse(student, teacher, ~mask, mask, temperature=0.5), theirs)


def test_of_the_teacher_only_the_order_counts():
    assert adr_mse(S, T.exp(), FIRST, ALL) == adr_mse(S, T, FIRST, ALL)


def test_an_exchange_at_the_top_costs_more():
    """What tells it from RankNet, to which both are one pair lost. The rest of the order is certain."""
    order = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    top, bottom = 20 * torch.tensor([[3.0, 4.0, 2.0, 1.0]]), 20 * torch.tensor([[4.0, 3.0, 1.0, 2.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    first, last = (adr_mse(scores, order, ~mask, mask).item() for scores in (top, bottom))
    assert first == pytest.approx((1 + 1 / math.log2(3)) / 4) and last < 0.6 * first
    plain = [rank_net(scores, order, ~mask, mask).item() for scores in (top, bottom)]
    assert plain[0] == pytest.approx(plain[1])
