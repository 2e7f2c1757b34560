"""A table's scores and those of a teacher inside the step, in one loss."""

from dataclasses import replace

import pytest
import torch
from embeddings import of_the_batch

from rankdistill.errors import InputError
from rankdistill.losses import HiddenStates, KLDivergence, MarginMSE, OfTable, WeightedSum, kl_divergence
from rankdistill.losses.base import reads
from rankdistill.vocabulary import Outputs


@pytest.fixture
def step():
    """Outputs of a student and of a teacher inside the step, and a batch with a table's scores."""
    student, teacher, batch, _ = of_the_batch()
    rng = torch.Generator().manual_seed(3)
    table, other = torch.randn(2, *student.scores.shape, generator=rng, dtype=torch.float64)
    return student, replace(teacher, scores=other), replace(batch, targets={"scores": 5 * table})


def test_each_term_has_its_own_teacher(step):
    student, teacher, batch = step
    loss = WeightedSum(
        {"table": OfTable(KLDivergence(), 0.5), "step": KLDivergence()}, {"table": 2, "step": 3}
    )
    table, inside = (
        kl_divergence(student.scores, scores, batch.positive, batch.mask)
        for scores in (0.5 * batch.targets["scores"], teacher.scores)
    )
    torch.testing.assert_close(loss(student, teacher, batch), 2 * table + 3 * inside)


def test_the_table_s_scores_get_the_student_s_spread_of_the_first_batch(step):
    """Of the groups' own means, padding left out; later batches have the same factor."""
    student, teacher, batch = step
    mask = batch.mask.clone()
    mask[0, 3] = False
    batch = replace(batch, mask=mask)
    squares = [
        sum(((row[kept] - row[kept].mean()) ** 2).sum() for row, kept in zip(scores, mask, strict=True))
        for scores in (student.scores, batch.targets["scores"])
    ]
    factor = (squares[0] / squares[1]).sqrt().item()
    loss = OfTable(MarginMSE())
    for scale in (1.0, 7.0):
        now = replace(student, scores=scale * student.scores)
        expected = OfTable(MarginMSE(), factor)(now, teacher, batch)
        torch.testing.assert_close(loss(now, teacher, batch), expected)
    assert loss.state_dict()["factor"].item() == pytest.approx(factor)  # a checkpoint knows it


def test_it_reads_what_its_loss_does(step):
    assert reads(OfTable(KLDivergence(in_batch=True))) == {"in_batch"}
    student, teacher, batch = step
    assert OfTable(KLDivergence(in_batch=True), 1.0)(
        student, replace(teacher, in_batch=torch.zeros_like(student.in_batch)), batch
    ) == OfTable(KLDivergence(in_batch=True), 1.0)(
        student, replace(teacher, in_batch=torch.full_like(student.in_batch, torch.nan)), batch
    )


def test_what_a_table_does_not_have_is_refused():
    with pytest.raises(InputError, match="HiddenStates reads what no table of scores offers"):
        OfTable(HiddenStates())
    with pytest.raises(InputError, match="scale=0"):
        OfTable(KLDivergence(), 0)


def test_the_toy_case_has_its_published_values(step):
    """s = 2, 1, 0 and a table's t = 3, 1, -1, whatever the teacher inside the step says."""
    _, _, batch = step
    student, table = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
    positive, mask = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)
    batch = replace(batch, positive=positive, mask=mask, targets={"scores": table})
    for loss, value in ((KLDivergence(), 0.115611), (MarginMSE(), 2.5)):
        found = OfTable(loss, 1.0)(Outputs(student), Outputs(-table), batch)
        assert found.item() == pytest.approx(value, abs=1e-6)
