import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import LambdaRank, lambda_rank, mann_whitney


def group(scores, place):
    student = torch.tensor([scores])
    positive = torch.arange(len(scores)).unsqueeze(0) == place
    return student, student, positive, torch.ones_like(positive)


def test_a_positive_in_the_last_of_three_places():
    """Weights of 2/3 and 1/6 over softplus(2) and softplus(1)."""
    value = LambdaRank()(*group([3.0, 2.0, 1.0], 2))
    assert value.item() == pytest.approx(0.818415, abs=1e-6)


def test_the_factor_has_no_gradient():
    student, *rest = group([3.0, 2.0, 1.0], 2)
    (found,) = torch.autograd.grad(lambda_rank(student.requires_grad_(), *rest), student)
    by_weight = torch.tensor([2 / 3, 1 / 6]) * torch.sigmoid(torch.tensor([2.0, 1.0])) / 2
    torch.testing.assert_close(found[0], torch.tensor([*by_weight, -by_weight.sum()]))


def test_an_exchange_at_the_top_counts_more():
    """What tells it from the plain pairs, which pull alike at both ends."""

    def pull(loss, place):
        scores = [8.0 - i for i in range(8)]
        student, *rest = group(scores, place)
        (gradient,) = torch.autograd.grad(loss(student.requires_grad_(), *rest), student)
        return gradient[0, place - 1].item()  # on the negative just above

    assert pull(lambda_rank, 1) > 20 * pull(lambda_rank, 7)
    assert pull(mann_whitney, 1) == pytest.approx(pull(mann_whitney, 7))


def test_beyond_the_cut_no_exchange_counts():
    student, *rest = group([4.0, 3.0, 2.0, 1.0], 3)
    (found,) = torch.autograd.grad(lambda_rank(student.requires_grad_(), *rest, cut=2), student)
    assert found[0, 2] == 0 and (found[0, :2] > 0).all()
    with pytest.raises(InputError, match="cut=0"):
        LambdaRank(0)
