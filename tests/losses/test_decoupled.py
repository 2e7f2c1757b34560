import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import DecoupledKD, decoupled_kd, kl_divergence

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    assert DecoupledKD(1, 0)(S, T, FIRST, ALL).item() == pytest.approx(0.106671, abs=1e-6)
    assert DecoupledKD(0, 1)(S, T, FIRST, ALL).item() == pytest.approx(0.067131, abs=1e-6)
    assert DecoupledKD(2, 3)(S, T, FIRST, ALL).item() == pytest.approx(2 * 0.106671 + 3 * 0.067131, abs=3e-6)


def test_of_one_positive_the_two_make_up_the_divergence():
    rng = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 6, generator=rng, dtype=torch.float64)
    positive, mask = torch.arange(6).unsqueeze(0) == 2, torch.ones(1, 6, dtype=torch.bool)
    p = teacher.softmax(dim=1)[0, 2].item()
    parts = decoupled_kd(student, teacher, positive, mask, 1, 1 - p)
    torch.testing.assert_close(parts, kl_divergence(student, teacher, positive, mask))


def test_a_teacher_sure_of_the_positive_still_orders_the_negatives():
    """What tells it from KL, whose gradient on the negatives is gone with their probability."""
    teacher = torch.tensor([[30.0, 2.0, -2.0]])
    student = torch.tensor([[30.0, -2.0, 2.0]])

    def pull(loss):
        scores = student.clone().requires_grad_()
        loss(scores, teacher, FIRST, ALL).backward()
        return scores.grad[0, 2].item()

    assert pull(decoupled_kd) > 0.9 and abs(pull(kl_divergence)) < 1e-9


@pytest.mark.parametrize("name", ["label_weight", "order_weight"])
def test_a_weight_below_zero_is_refused(name):
    with pytest.raises(InputError, match=f"{name}=-1"):
        DecoupledKD(**{name: -1})
