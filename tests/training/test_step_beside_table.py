"""A step whose loss asks a table and an earlier self (PROD), or reads layers, as the Trainer makes it."""

import pytest
import torch
from conftest import WordTeacher
from test_step_teacher import outputs_of, trainer_of

from rankdistill.losses import HiddenStates, InfoNCE, KLDivergence, OfTable, TokenAlignment, WeightedSum
from rankdistill.students import late_interaction_student, load_student
from rankdistill.training import StepTeacher


def prod(kept=1.0):
    losses = {"infonce": InfoNCE(), "kl": OfTable(KLDivergence()), "kept": KLDivergence()}
    return WeightedSum(losses, {"infonce": 0.1, "kl": 0.9, "kept": kept})


def test_what_holds_the_student_is_nothing_as_the_stage_begins(student_folder, table, tmp_path):
    """And the table's term is that of its scores, not of the copy's."""
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(), prod())
    student, teacher, batch = outputs_of(trainer)
    kept = KLDivergence()(student.scores, teacher.scores, batch.positive, batch.mask)
    assert kept.item() == pytest.approx(0, abs=1e-6)
    collection, words = table.collection, WordTeacher()
    for scores, row, places in zip(batch.targets["scores"], batch.query_rows, batch.index, strict=True):
        documents = [collection.documents[batch.document_rows[place]] for place in places]
        expected = words.score([collection.queries[row]] * len(documents), documents)
        assert scores.numpy() == pytest.approx(expected)


def test_without_its_weight_the_stage_is_one_of_the_table_alone(student_folder, table, tmp_path):
    """The same weights as of the same loss without a teacher inside the step, the scale given."""
    fields = {"max_steps": 3, "warmup_steps": 0}
    table_alone = WeightedSum({"infonce": InfoNCE(), "kl": KLDivergence()}, {"infonce": 0.1, "kl": 0.9})
    alone = trainer_of(student_folder, table, tmp_path / "a", None, table_alone, **fields)
    beside = trainer_of(student_folder, table, tmp_path / "b", StepTeacher(), prod(0.0), **fields)
    alone.train()
    beside.model.loss.losses["kl"].factor.copy_(alone.model.teacher_factor)
    beside.train()
    weights = zip(alone.model.student.parameters(), beside.model.student.parameters(), strict=True)
    for one, other in weights:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_holds_the_student_keeps_it_near_the_copy(student_folder, table, tmp_path):
    apart = []
    for kept in (0.0, 10.0):
        fields = {"max_steps": 8, "warmup_steps": 0, "learning_rate": 1e-3}
        trainer = trainer_of(student_folder, table, tmp_path / str(kept), StepTeacher(), prod(kept), **fields)
        trainer.train()
        student, copy, batch = outputs_of(trainer)
        apart.append(KLDivergence()(student.scores, copy.scores, batch.positive, batch.mask).item())
    assert apart[1] < 0.5 * apart[0]


def test_layers_and_token_vectors_are_learnt(student_folder, table, tmp_path):
    """The loss of the same batch is lower after training."""
    copies = [load_student(student_folder) for _ in range(2)]
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in copies[0].parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    fields = {"max_steps": 12, "warmup_steps": 0, "learning_rate": 3e-3}
    inside = StepTeacher(copies[0])
    layers = trainer_of(student_folder, table, tmp_path / "a", inside, HiddenStates(), **fields)
    copies[0].save_pretrained(str(tmp_path / "copy"), create_model_card=False)
    own, other = (
        late_interaction_student(str(one), dimensions=None) for one in (student_folder, tmp_path / "copy")
    )
    own.save_pretrained(str(tmp_path / "own"), create_model_card=False)
    inside = StepTeacher(other)
    tokens = trainer_of(str(tmp_path / "own"), table, tmp_path / "b", inside, TokenAlignment(), **fields)
    for trainer in (layers, tokens):
        before = trainer.loss(*outputs_of(trainer)).item()
        trainer.train()
        assert trainer.loss(*outputs_of(trainer)).item() < 0.9 * before
