"""A step: student and loss in one module, from a batch to the loss's value."""

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from rankdistill import processes
from rankdistill.errors import InputError
from rankdistill.losses.base import reads, value_of
from rankdistill.students.base import Ranker
from rankdistill.training.collator import in_batch_negatives
from rankdistill.vocabulary import Batch, Outputs


def check_offers(student: Ranker, loss: nn.Module) -> None:
    """Raises ``InputError`` if ``loss`` reads what ``student`` does not offer."""
    if missing := reads(loss) - student.offers:
        raise InputError(
            f"loss: {type(loss).__name__} reads {', '.join(sorted(missing))}, which the student, "
            f"{type(student).__name__}, does not offer; it offers {', '.join(sorted(student.offers))}"
        )


class Step(nn.Module):
    """What the optimiser sees, DDP wraps, clipping and checkpoints take: ``student`` and ``loss``.

    So a loss's own parameters are trained as the student's are. Their names begin with ``loss.``, the
    student's with ``student.``. ``teacher_factor`` scales the teacher's scores; a buffer, so that checkpoints
    carry it. Raises ``InputError`` if the loss reads what the student does not offer.
    """

    teacher_factor: Tensor

    def __init__(self, student: Ranker, loss: nn.Module):
        super().__init__()
        check_offers(student, loss)
        self.student, self.loss = student, loss
        self.register_buffer("teacher_factor", torch.ones(()))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Each tied weight once: safetensors writes no aliases, and loading one loads them all."""
        state, seen = super().state_dict(*args, **kwargs), set()
        for name, tensor in list(state.items()):
            place = tensor.data_ptr(), tensor.shape
            if tensor.numel() and place in seen:
                del state[name]
            seen.add(place)
        return state

    def forward(self, **fields: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The loss's value, and the scores (B, G) of student and teacher; ``fields`` are a ``Batch``'s."""
        student, teacher, batch = self.outputs(Batch(**fields))
        with torch.autocast(student.scores.device.type, enabled=False):
            return self.compare(student, teacher, batch), student.scores, teacher.scores

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs, Batch]:
        """The student's and the teacher's, and ``batch`` with its ``negatives`` where the loss wants them."""
        wanted = reads(self.loss)
        student = self.student(batch.inputs["student"], batch, wanted)
        teacher = Outputs(batch.targets["scores"] * self.teacher_factor)
        if "in_batch" in wanted:
            rows = processes.gather_rows(batch.document_rows, fill=-1)
            negatives, known = in_batch_negatives(rows, batch.pools)
            teacher = replace(teacher, in_batch=known * self.teacher_factor)
            batch = replace(batch, negatives=negatives)
        return student, teacher, batch

    def compare(
        self, student: Outputs, teacher: Outputs, batch: Batch, loss: nn.Module | None = None
    ) -> Tensor:
        """The value of the loss, or of another ``loss`` that is tried; the mean over the student's ``cuts``.

        Raises ``InputError`` unless it is a tensor of one number and no dimension.
        """
        loss = self.loss if loss is None else loss
        values = [value_of(loss, one, teacher, batch) for one in (student, *student.cuts)]
        return reduce(add, (self._checked(loss, value) for value in values)) / len(values)

    @staticmethod
    def _checked(loss: nn.Module, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or value.ndim:
            given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"loss: {type(loss).__name__} gives {given}; it gives a scalar tensor, the mean over the "
                "queries"
            )
        return value
