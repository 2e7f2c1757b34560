import math

import pytest
import torch
from sentence_transformers.cross_encoder import losses
from test_against_sentence_transformers import Written

from rankdistill.errors import InputError
from rankdistill.losses import LambdaLoss, lambda_loss
from rankdistill.losses.base import columns_of
from rankdistill.vocabulary import Batch, Outputs

SCHEMES = {
    "ndcg_loss2++": losses.NDCGLoss2PPScheme(),
    "ndcg_loss2": losses.NDCGLoss2Scheme(),
    "lambdarank": losses.LambdaRankScheme(),
}


@pytest.mark.parametrize("weights", SCHEMES)
def test_is_that_of_sentence_transformers_in_nats(weights):
    """Theirs of one query: pooling pairs is then their mean."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        student = torch.randn(1, 6, generator=rng)
        grades = torch.randint(0, 4, (1, 6), generator=rng).float()
        mask = torch.ones(1, 6, dtype=torch.bool)
        theirs = losses.LambdaLoss(Written(), SCHEMES[weights])
        texts = [[repr(score) for score in row] for row in student.tolist()]
        expected = theirs([["q"], texts], list(grades)) * math.log(2)
        torch.testing.assert_close(lambda_loss(student, grades, ~mask, mask, weights), expected)


def test_it_reads_grades_and_takes_what_nobody_judged_for_none():
    loss, scores = LambdaLoss(), torch.tensor([[1.0, 3.0, 2.0]])
    rows, whole = torch.arange(3), torch.ones(1, 3, dtype=torch.bool)
    targets = {"scores": scores, "grades": torch.tensor([[2, -1, 0]])}
    batch = Batch(rows[:1], rows, rows.view(1, 3), whole, whole, targets)
    expected = lambda_loss(scores, torch.tensor([[2.0, 0.0, 0.0]]), whole, whole)
    assert loss(Outputs(scores), Outputs(scores), batch) == expected > 0
    assert columns_of(loss) == {"grades"}


def test_a_high_grade_lost_at_the_top_costs_more_than_at_the_bottom():
    mask = torch.ones(1, 4, dtype=torch.bool)
    order = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    top, bottom = torch.tensor([[0.0, 3, 0, 0]]), torch.tensor([[0.0, 0, 0, 3]])
    near = lambda_loss(order, top, ~mask, mask, "lambdarank")
    far = lambda_loss(order, bottom, ~mask, mask, "lambdarank")
    assert far > near > 0


def test_settings_of_no_meaning_are_refused():
    with pytest.raises(InputError, match="weights='ndcg_loss1'"):
        LambdaLoss("ndcg_loss1")
    with pytest.raises(InputError, match="mu=-1"):
        LambdaLoss(mu=-1)
