import math

import pytest
import torch
from embeddings import of_the_batch, vectors

from rankdistill.errors import InputError
from rankdistill.losses import RelevanceMargin, relevance_margin
from rankdistill.losses.base import reads

ERRORS = {
    "square": lambda x: x**2,
    "absolute": abs,
    "logistic": lambda x: math.log1p(math.exp(-x)),
}


@pytest.mark.parametrize(("error", "expected"), [("square", 0.01), ("absolute", 0.1), ("logistic", 0.744397)])
def test_one_triple(error, expected):
    """cos(q, d+) = .6, cos(q, d-) = .1, cos(d+, d-) = .2: a margin of .5 where .6 is wanted."""
    own, others, between = torch.tensor([[0.6]]), torch.tensor([[0.1]]), torch.tensor([[[0.2]]])
    value = relevance_margin(own, others, between, torch.ones(1, 1, 1, dtype=torch.bool), error)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def expected_of(student, batch, error, targets):
    q, groups, d = vectors(student, batch)
    terms = []
    for b, group in enumerate(groups):
        others = group[1:]
        if targets == "in_batch":
            others = others + [d[u] for u in range(len(d)) if batch.negatives[b, u]]
        for n in others:
            margin = (q[b] @ group[0] - q[b] @ n).item()
            positives = [one[0] for one in groups] if targets == "distributed" else [group[0]]
            terms += [ERRORS[error](margin - ((p @ n).item() + 1) / 2) for p in positives]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("targets", ["group", "in_batch", "distributed"])
def test_value_is_that_of_plain_loops(error, targets):
    student, teacher, batch, _ = of_the_batch()
    loss = RelevanceMargin(error, targets)
    value = loss(student, teacher, batch).item()
    assert value == pytest.approx(expected_of(student, batch, error, targets), rel=1e-9)
    assert reads(loss) == {"queries", "documents"} | ({"in_batch"} if targets == "in_batch" else set())


def test_in_batch_a_margin_is_of_the_rows_own_positive():
    """The authors' subtraction takes the positive of the negative's row. Two queries, asymmetric."""
    own, others = torch.tensor([[0.9], [0.2]]), torch.tensor([[0.1, 0.3], [0.4, 0.0]])
    between = torch.full((2, 1, 2), -1.0)  # targets of 0
    value = relevance_margin(own, others, between, torch.ones(2, 1, 2, dtype=torch.bool), "absolute")
    assert value.item() == pytest.approx((0.8 + 0.6 + 0.2 + 0.2) / 4)


def test_a_negative_like_the_positive_should_be_farther_away():
    """What tells it from a fixed margin."""
    own, others = torch.tensor([[0.6]]), torch.tensor([[0.1]], requires_grad=True)
    pairs = torch.ones(1, 1, 1, dtype=torch.bool)
    pull = []
    for like in (-0.5, 0.5):
        value = relevance_margin(own, others, torch.full((1, 1, 1), like), pairs)
        pull.append(torch.autograd.grad(value, others)[0].item())
    assert pull[0] < 0 < pull[1]


def test_targets_have_no_gradient_unless_asked_for():
    student, teacher, batch, texts = of_the_batch(group=2)
    found = []
    for asked in (False, True):
        value = RelevanceMargin(target_gradient=asked)(student, teacher, batch)
        found += torch.autograd.grad(value, texts, retain_graph=True)
    margin_alone = (found[0][3:] - found[1][3:]).abs().max()
    assert margin_alone > 1e-4
    torch.testing.assert_close(found[0][:3], found[1][:3])  # a target is of documents alone


def test_without_a_pair_it_is_zero():
    student, teacher, batch, texts = of_the_batch(positives=4)
    for targets in ("group", "distributed"):
        value = RelevanceMargin(targets=targets)(student, teacher, batch)
        value.backward(retain_graph=True)
        assert value == 0 and texts.grad.isfinite().all()


@pytest.mark.parametrize("settings", [{"error": "huber"}, {"targets": "batch"}])
def test_settings_of_no_meaning_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        RelevanceMargin(**settings)
