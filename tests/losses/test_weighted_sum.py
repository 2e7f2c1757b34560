import pytest
import torch
from torch import nn

from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, WeightedSum
from rankdistill.losses.base import value_of
from rankdistill.vocabulary import Batch, Embeddings, Outputs

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
GROUP = S, T, torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def value(loss, student, teacher, positive, mask, in_batch=None, negatives=None, queries=None):
    """What the step gets of ``loss``."""
    rows = torch.arange(len(student)), torch.arange(student.numel())
    batch = Batch(
        *rows, rows[1].view(student.shape), positive, mask, {"scores": teacher}, negatives=negatives
    )
    outputs = Outputs(student, in_batch, queries and Embeddings(queries[0]))
    return value_of(loss, outputs, Outputs(teacher), batch)


class Learned(nn.Module):
    """A loss with a parameter that asks for something of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, student, teacher, positive, mask, query_embeddings):
        return self.scale * query_embeddings.sum()


def test_is_the_weighted_sum():
    both = WeightedSum({"kl": KLDivergence(), "margin": MarginMSE()}, {"margin": 0.5, "kl": 2.0})
    assert value(both, *GROUP).item() == pytest.approx(2 * 0.115611 + 0.5 * 2.5, abs=1e-5)


def test_gradients_add_with_the_same_weights():
    def gradient(loss):
        student = S.clone().requires_grad_()
        value(loss, student, *GROUP[1:]).backward()
        return student.grad

    both = WeightedSum({"kl": KLDivergence(), "margin": MarginMSE()}, {"kl": 2.0, "margin": 0.5})
    torch.testing.assert_close(gradient(both), 2 * gradient(KLDivergence()) + 0.5 * gradient(MarginMSE()))


def test_each_loss_gets_only_what_it_names():
    """Margin-MSE would raise on in_batch, and the group's InfoNCE on query_embeddings."""
    losses = {"margin": MarginMSE(), "nce": InfoNCE(in_batch=True), "learned": Learned()}
    in_batch = {"in_batch": torch.zeros(1, 2), "in_batch_mask": torch.ones(1, 2, dtype=torch.bool)}
    total = WeightedSum(losses, dict.fromkeys(losses, 1.0))
    assert total.reads == {"in_batch", "queries"}
    negatives = in_batch["in_batch_mask"]
    found = value(total, *GROUP, in_batch["in_batch"], negatives, [torch.ones(2)])
    assert found.item() == pytest.approx(2.5 + InfoNCE(in_batch=True)(*GROUP, **in_batch).item() + 6)


def test_a_sum_in_a_sum_passes_everything_on():
    inner = WeightedSum({"learned": Learned(), "margin": MarginMSE()}, {"learned": 1.0, "margin": 1.0})
    outer = WeightedSum({"inner": inner}, {"inner": 2.0})
    assert value(outer, *GROUP, queries=[torch.ones(2)]).item() == pytest.approx(2 * (6 + 2.5))


def test_parameters_of_its_losses_are_its_own():
    """Left out, they would neither be trained nor moved to the device."""
    assert len(list(WeightedSum({"learned": Learned()}, {"learned": 1.0}).parameters())) == 1


@pytest.mark.parametrize("weights", [{}, {"kl": 1.0}, {"kl": 1.0, "margin": 1.0, "nce": 1.0}])
def test_a_missing_or_a_superfluous_weight_raises(weights):
    with pytest.raises(ValueError, match="weights"):
        WeightedSum({"kl": KLDivergence(), "margin": MarginMSE()}, weights)


@pytest.mark.parametrize(("loss", "weight"), [(MarginMSE(), -1.0), (MarginMSE(), float("nan")), (None, 1.0)])
def test_weights_are_not_negative_and_losses_are_there(loss, weight):
    with pytest.raises(ValueError, match="weights=|losses="):
        WeightedSum({"kl": KLDivergence(), "margin": loss}, {"kl": 1.0, "margin": weight})
    with pytest.raises(ValueError, match="above 0"):
        WeightedSum({"kl": KLDivergence()}, {"kl": 0})
