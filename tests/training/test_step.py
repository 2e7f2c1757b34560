"""The step: what a loss reads, what a student offers, and that one holds no more than the other asks for."""

import pytest
import torch
from torch import nn

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, Loss, MarginMSE, WeightedSum
from rankdistill.losses.base import reads
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.students.base import Ranker
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.step import Step
from rankdistill.vocabulary import Outputs


class Shrinking(Loss):
    """A number times the mean first coordinate of the documents' embeddings, which are all that it reads."""

    reads = frozenset({"documents"})

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, student, teacher, batch):
        assert student.documents.vectors.shape[0] == len(batch.document_rows)
        return self.scale * student.documents.vectors[:, 0].mean()


class Bonus(Ranker):
    """Scores each place of a group by a number of its own; it offers no more than that."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.tensor([3.0, 2.0, 1.0, 0.0]))
        self.asked = []

    def forward(self, inputs, batch, wanted):
        self.asked.append(set(wanted))
        return Outputs(self.places.expand(batch.mask.shape))


def plain(student, teacher, positive, mask, document_embeddings, index):
    return student.sum()


class Plain(nn.Module):
    forward = staticmethod(plain)


@pytest.mark.parametrize(
    ("loss", "fields"),
    [
        (KLDivergence(), set()),
        (InfoNCE(in_batch=True), {"in_batch"}),
        (InfoNCE(), set()),
        (Plain(), {"documents"}),
        (Shrinking(), {"documents"}),
        (WeightedSum({"kl": KLDivergence(), "mse": MarginMSE()}, {"kl": 1.0, "mse": 1.0}), set()),
        (
            WeightedSum({"nce": InfoNCE(in_batch=True), "a": Shrinking()}, {"nce": 1.0, "a": 1.0}),
            {"in_batch", "documents"},
        ),
    ],
    ids=["kl", "infonce", "lce", "plain", "own", "sum", "sum-of-kinds"],
)
def test_what_a_loss_reads_is_known_before_it_is_called(loss, fields):
    assert reads(loss) == fields


def too_much(student, teacher, positive, mask, in_batch_teachers):
    return student.sum()


def too_little(student, teacher):
    return student.sum()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (too_much, "missing a required argument: 'in_batch_teachers'; it is called with student, teacher, "),
        (too_little, "too many positional arguments; it is called with student, teacher, positive and mask"),
    ],
)
def test_a_loss_whose_signature_does_not_fit_is_refused(function, message):
    class Wrong(nn.Module):
        forward = staticmethod(function)

    with pytest.raises(InputError, match=r"loss: Wrong.forward\(student, .*\): " + message):
        Step(Bonus(), Wrong())


def test_a_loss_that_reads_what_the_student_does_not_offer_is_refused():
    message = r"loss: Shrinking reads documents, which the student, Bonus, does not offer; it offers scores"
    with pytest.raises(InputError, match=message):
        Step(Bonus(), Shrinking())
    with pytest.raises(InputError, match="WeightedSum reads documents, in_batch, which"):
        losses = {"nce": InfoNCE(in_batch=True), "a": Shrinking()}
        Step(Bonus(), WeightedSum(losses, dict.fromkeys(losses, 1.0)))


def test_any_ranker_goes_through_the_step(table, student_folder, tmp_path):
    """The value is the loss's of its scores; the teacher's are those of the table, times the factor."""
    trainer = trainer_of(table, student_folder, tmp_path, KLDivergence())
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    step = Step(Bonus(), MarginMSE())
    step.teacher_factor.fill_(0.5)
    value, student, teacher = step(**batch)
    torch.testing.assert_close(teacher, 0.5 * batch["targets"]["scores"])
    expected = MarginMSE()(step.student.places.expand(4, 4), teacher, batch["positive"], batch["mask"])
    assert value.item() == expected.item() and step.student.asked == [set()]
    value.backward()
    assert step.student.places.grad.abs().sum() > 0


def test_a_loss_of_embeddings_alone_trains_student_and_its_own_parameter(table, student_folder, tmp_path):
    """Adam's first step is as long as the learning rate, whatever the gradient."""
    fields = {"max_steps": 1, "learning_rate": 0.25, "lr_scheduler_type": "constant"}
    trainer = trainer_of(table, student_folder, tmp_path, Shrinking(), **fields)
    before = trainer.student[0].auto_model.embeddings.word_embeddings.weight.clone()
    trainer.train()
    assert abs(trainer.loss.scale.item() - 2) == pytest.approx(0.25, abs=1e-5)
    assert not torch.equal(trainer.student[0].auto_model.embeddings.word_embeddings.weight, before)


def trainer_of(table, student_folder, folder, loss, **fields):
    arguments = training_arguments(
        str(folder), **{"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, **fields}
    )
    return DistillationTrainer(load_student(student_folder), table, RandomSampler(1, 3), loss, arguments)
