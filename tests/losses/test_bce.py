import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import BiXSE, PointwiseBCE, info_nce, kl_divergence, pointwise_bce

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


def test_toy_group():
    assert PointwiseBCE("logits")(S, T, FIRST, ALL).item() == pytest.approx(0.499043, abs=1e-6)
    plain = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1)) + math.log(2)) / 3
    assert PointwiseBCE()(S, T, FIRST, ALL).item() == pytest.approx(plain)


def test_the_gradient_is_the_probability_less_the_target():
    """Of labels, as of an LLM reranker that is fine-tuned: |sigmoid(z) - y|, over the group's size."""
    student = S.clone().requires_grad_()
    (found,) = torch.autograd.grad(pointwise_bce(student, T, FIRST, ALL), student)
    torch.testing.assert_close(found, (S.sigmoid() - FIRST.float()) / 3)


def test_least_at_the_targets_themselves_where_a_softmax_is_content_with_a_shift():
    """What tells it from listwise losses: scores mean the same in each query."""
    student = T.clone().requires_grad_()
    (found,) = torch.autograd.grad(pointwise_bce(student, T, FIRST, ALL, "logits"), student)
    assert found.abs().max() < 1e-7
    assert kl_divergence(T + 5, T, FIRST, ALL).item() == pytest.approx(0, abs=1e-6)
    assert pointwise_bce(T + 5, T, FIRST, ALL, "logits") > 1 + pointwise_bce(T, T, FIRST, ALL, "logits")


def test_probabilities_are_targets_as_they_are():
    judged = torch.tensor([[1.0, 0.25, 0.0]])
    value = pointwise_bce(S, judged, FIRST, ALL, "probabilities").item()
    middle = 0.25 * math.log1p(math.exp(-1)) + 0.75 * math.log1p(math.exp(1))
    terms = [math.log1p(math.exp(-2)), middle, math.log(2)]
    assert value == pytest.approx(sum(terms) / 3)


# BiXSE


def of_two_queries():
    """Scores of each query and each document, the diagonal its own; targets of .8 and .3."""
    scores = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    own = torch.eye(2, dtype=torch.bool)
    teacher = torch.logit(torch.tensor([[0.8], [0.3]]))
    positive = torch.ones(2, 1, dtype=torch.bool)
    return scores[own].unsqueeze(1), teacher, positive, positive, scores, ~own


def test_of_the_whole_batch():
    value = BiXSE(alpha=1.0, beta=0.0)(*of_two_queries())
    assert value.item() == pytest.approx(0.761650, abs=1e-6)


def test_scale_and_shift_are_learnt():
    loss = BiXSE(beta=-5.0)
    student, *rest, in_batch, others = of_two_queries()
    loss(student, *rest, in_batch, others).backward()
    assert loss.alpha.grad != 0 and loss.beta.grad != 0
    expected = pointwise_bce(student - 5, *rest, "logits", in_batch - 5, others)
    torch.testing.assert_close(loss(student, *rest, in_batch, others), expected)
    assert loss.reads == {"in_batch"}


def test_beta_begins_where_the_mean_score_is_one_relevant_among_all():
    """64 documents of a query, all at 11, as cosines of 0.55: begun at 0 the negatives cost 11 each."""
    student, positive = torch.full((1, 1), 11.0), torch.ones(1, 1, dtype=torch.bool)
    batch = torch.full((1, 63), 11.0), torch.ones(1, 63, dtype=torch.bool)
    one = torch.full((1, 1), 9.0), positive, positive
    assert BiXSE(beta=0.0)(student, *one, *batch).item() > 10
    loss = BiXSE()
    assert loss(student, *one, *batch).item() < 0.1
    assert loss.beta.item() == pytest.approx(-11 - math.log(63))
    loss(student + 5, *one, *batch)  # it is set once, and then learnt
    assert loss.beta.item() == pytest.approx(-11 - math.log(63))
    again = BiXSE()
    again.load_state_dict(loss.state_dict())
    again(student + 5, *one, *batch)
    assert again.beta.item() == loss.beta.item()


def test_beta_does_not_begin_by_what_is_no_document():
    student, mask = torch.tensor([[3.0, float("nan")]]), torch.tensor([[True, False]])
    loss = BiXSE(in_batch=False)
    assert loss(student, torch.zeros(1, 2), mask, mask).isfinite()
    assert loss.beta.item() == -3.0


def test_of_labels_it_is_the_sigmoid_contrast():
    """Targets of 1 and 0, as SigLIP; what tells it from InfoNCE is that no document competes with another."""
    student, _, positive, mask, in_batch, others = of_two_queries()
    loss = BiXSE("labels", beta=0.0)
    own = loss(student, student, positive, mask, in_batch, others)
    (found,) = torch.autograd.grad(own, loss.alpha)
    assert found != 0
    shifted = loss(student + 9, student, positive, mask, in_batch + 9, others)
    assert shifted > own + 1
    same = info_nce(student, student, positive, mask, in_batch=in_batch, in_batch_mask=others)
    moved = info_nce(student + 9, student, positive, mask, in_batch=in_batch + 9, in_batch_mask=others)
    torch.testing.assert_close(same, moved)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointwiseBCE("grades"), "targets='grades'"),
        (lambda: BiXSE(alpha=-1), "alpha=-1"),
        (lambda: BiXSE(beta="x"), "beta='x'"),
    ],
)
def test_settings_of_no_meaning_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
