import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import MultiSimilarity, multi_similarity
from rankdistill.vocabulary import Batch, Outputs

COSINES = torch.tensor([[0.8, 0.3, 0.6, 0.1]])
POSITIVE, ALL = torch.tensor([[True, True, False, False]]), torch.ones(1, 4, dtype=torch.bool)


def test_two_positives_and_two_negatives():
    """The hard ones, 0.3 and 0.6, are what mining leaves."""
    unmined = multi_similarity(COSINES, COSINES, POSITIVE, ALL, beta=50.0, margin=None)
    mined = multi_similarity(COSINES, COSINES, POSITIVE, ALL, beta=50.0)
    assert unmined.item() == pytest.approx(0.656168, abs=1e-6)
    assert mined.item() == pytest.approx(0.556642, abs=1e-6)


def test_easy_pairs_have_no_gradient_at_all():
    """What tells it from InfoNCE, which pulls at every pair."""
    scores = COSINES.clone().requires_grad_()
    multi_similarity(scores, COSINES, POSITIVE, ALL).backward()
    assert (scores.grad[0, [0, 3]] == 0).all()
    assert scores.grad[0, 1] < 0 < scores.grad[0, 2]


def test_a_query_that_is_right_counts_zero():
    right = torch.tensor([[0.9, 0.8, 0.2, 0.1]])
    both = torch.cat([COSINES, right])
    value = multi_similarity(both, both, POSITIVE.expand(2, 4), ALL.expand(2, 4), beta=50.0)
    assert value.item() == pytest.approx(0.556642 / 2, abs=1e-6)


def outputs(scale):
    in_batch = torch.tensor([[0.8, 0.3, 0.6, 0.1, 0.7]])
    rows = torch.arange(5)
    negatives = torch.tensor([[False, False, False, False, True]])
    batch = Batch(rows[:1], rows, rows[:4].view(1, 4), POSITIVE, ALL, {}, negatives=negatives)
    return Outputs(scale * COSINES, scale * in_batch, scale=scale), Outputs(COSINES), batch


def test_the_module_takes_the_scores_scale_away():
    loss = MultiSimilarity(beta=50.0)
    assert loss(*outputs(20.0)).item() == pytest.approx(0.556642, abs=1e-6)
    assert loss.reads == frozenset()


def test_the_batchs_documents_are_further_negatives():
    """0.7 of another group is harder than 0.6, but not so that the positive of 0.8 is near it."""
    loss = MultiSimilarity(beta=50.0, in_batch=True)
    student = torch.tensor([[0.8, 0.3, 0.6, 0.1, 0.7]])
    positive, mask = torch.tensor([[True, True, False, False, False]]), torch.ones(1, 5, dtype=torch.bool)
    expected = multi_similarity(student, student, positive, mask, beta=50.0)
    torch.testing.assert_close(loss(*outputs(20.0)), expected)
    assert loss.reads == {"in_batch"}


@pytest.mark.parametrize("settings", [{"margin": -0.1}, {"threshold": "x"}])
def test_settings_of_no_meaning_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        MultiSimilarity(**settings)
