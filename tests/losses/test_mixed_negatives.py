from dataclasses import replace

import pytest
import torch
from embeddings import SCALE, of_the_batch

from rankdistill.errors import InputError
from rankdistill.losses import MixedNegatives, info_nce
from rankdistill.losses.mixed_negatives import mixed_all, mixed_pairs

VALID = torch.tensor([[False, True, True, True], [False, True, False, False]])


@pytest.fixture
def negatives():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, generator=rng, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=2).requires_grad_()


def test_a_pair_is_on_the_arc_between_two_negatives(negatives):
    """Ascending order: 3, then 1, then 2, then 3 again."""
    order = torch.tensor([[0.0, 0.5, 0.9, 0.1], [0.0, 0.5, 0.9, 0.1]])
    shares = torch.full((2, 4), 0.25)
    mixed, made = mixed_pairs(negatives, VALID, order, shares)
    for a, b in ((3, 1), (1, 2), (2, 3)):
        expected = 0.25 * negatives[0, a] + 0.75 * negatives[0, b]
        torch.testing.assert_close(mixed[0, a], expected / expected.norm())
    torch.testing.assert_close(mixed.norm(dim=2)[0, 1:], torch.ones(3, dtype=torch.float64))
    assert made.tolist() == [[False, True, True, True], [False] * 4]  # one alone makes no pair


def test_a_share_of_one_is_the_negative_itself(negatives):
    mixed, _ = mixed_pairs(negatives, VALID, torch.rand(2, 4), torch.ones(2, 4))
    torch.testing.assert_close(mixed[0, 1:], negatives[0, 1:])


def test_all_together_by_the_students_softmax(negatives):
    scores = torch.tensor([[9.0, 1.0, 0.0, -1.0], [9.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    mixed, made = mixed_all(negatives, VALID, scores)
    weights = scores[0, 1:].softmax(dim=0)
    expected = (weights.unsqueeze(1) * negatives[0, 1:]).sum(dim=0)
    torch.testing.assert_close(mixed[0, 0], expected / expected.norm())
    assert made.tolist() == [[True], [False]]


def test_all_together_are_harder_than_the_mean_negative(negatives):
    """Weights grow with the score: equal ones would be the mean's direction."""
    query = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = negatives @ query
    hard, _ = mixed_all(negatives, VALID, 10 * scores)
    mean, _ = mixed_all(negatives, VALID, torch.zeros_like(scores))
    assert hard[0, 0] @ query > mean[0, 0] @ query


def test_both_parents_have_a_gradient(negatives):
    order = torch.tensor([[0.0, 0.5, 0.9, 0.1]] * 2)
    mixed, _ = mixed_pairs(negatives, VALID, order, torch.full((2, 4), 0.5))
    mixed[0, 3, 0].backward()
    moved = negatives.grad[0].abs().sum(dim=1) > 1e-6
    assert moved.tolist() == [False, True, False, True]


@pytest.mark.parametrize("in_batch", [False, True])
def test_it_is_infonce_of_more_negatives(in_batch):
    student, teacher, batch, texts = of_the_batch()
    loss = MixedNegatives(in_batch=in_batch)
    value = loss(student, teacher, batch)
    documents, valid = student.documents.vectors[batch.index], batch.mask & ~batch.positive
    mixed, made = mixed_all(documents, valid, student.scores)
    more, there = [SCALE * (mixed @ student.queries.vectors.unsqueeze(2)).squeeze(2)], [made]
    if in_batch:
        more, there = [*more, student.in_batch], [*there, batch.negatives]
    alone = MixedNegatives(pairs=False, in_batch=in_batch)(student, teacher, batch)
    group = student.scores, teacher.scores, batch.positive, batch.mask
    expected = info_nce(*group, in_batch=torch.cat(more, dim=1), in_batch_mask=torch.cat(there, dim=1))
    torch.testing.assert_close(alone, expected)
    assert value > alone > info_nce(*group)
    value.backward()
    assert texts.grad.isfinite().all()


def test_the_draw_depends_on_step_and_queries_alone():
    student, teacher, batch, _ = of_the_batch()
    loss = MixedNegatives(all=False)
    torch.manual_seed(0)
    first = loss(student, teacher, batch)
    torch.manual_seed(1)
    assert loss(student, teacher, batch) == first
    assert loss(student, teacher, replace(batch, step=1)) != first


def test_neither_kind_is_refused():
    with pytest.raises(InputError, match="pairs, all"):
        MixedNegatives(pairs=False, all=False)
