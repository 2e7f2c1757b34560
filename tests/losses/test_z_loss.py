import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import ZLoss, info_nce, z_loss

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    """The positive is 1.224745 deviations above the mean."""
    assert ZLoss(1.0, 2.0)(S, T, FIRST, ALL).item() == pytest.approx(1.154093, abs=1e-6)
    expected = math.log1p(math.exp(3 * (1 - 1.224745))) / 3
    assert ZLoss(3.0, 1.0)(S, T, FIRST, ALL).item() == pytest.approx(expected, abs=1e-6)


def test_neither_a_factor_nor_a_constant_changes_it():
    """What tells it from InfoNCE, which a factor satisfies."""
    for factor in (0.01, 100.0):
        assert z_loss(factor * S.double() + 7, T, FIRST, ALL).item() == pytest.approx(1.154093, abs=1e-5)
    assert info_nce(100 * S, T, FIRST, ALL) < 1e-6 < 0.4 < info_nce(S, T, FIRST, ALL)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_equal_scores_are_left_out(value):
    """They have no deviation; in float32 the mean of three times 0.1 is not 0.1."""
    student = torch.cat([S, torch.full((1, 3), value)]).requires_grad_()
    found = z_loss(student, student, FIRST.expand(2, 3), ALL.expand(2, 3))
    found.backward()
    assert found.item() == pytest.approx(1.154093, abs=1e-6)
    assert (student.grad[1] == 0).all()


def test_settings_of_no_meaning_are_refused():
    with pytest.raises(ValueError, match="a=0"):
        ZLoss(0)
    with pytest.raises(InputError, match="b='2'"):
        ZLoss(b="2")
