"""A step: student, teacher and loss in one module, from a batch to the loss's value."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.losses.base import check_signature, reads, reads_of_teacher, value_of
from rankdistill.runtime import processes
from rankdistill.students.base import Ranker
from rankdistill.training.collator import in_batch_negatives
from rankdistill.vocabulary import Batch, Embeddings, Outputs

TABLE = frozenset({"scores", "in_batch"})  # what a table of scores offers


def check_offers(student: Ranker, loss: nn.Module, teacher: Ranker | None = None) -> None:
    """Raises ``InputError`` if ``loss`` reads what ``student``, or ``teacher``, does not offer, or a plain
    module's signature does not fit.

    Without a ``teacher`` inside the step its outputs are a score table's.
    """
    check_signature(loss)
    name = type(loss).__name__
    if missing := reads(loss) - student.offers:
        raise InputError(
            f"loss: {name} reads {', '.join(sorted(missing))}, which the student, "
            f"{type(student).__name__}, does not offer; it offers {', '.join(sorted(student.offers))}"
        )
    offers = TABLE if teacher is None else teacher.offers
    if missing := reads_of_teacher(loss) - offers:
        who = (
            "a table of scores"
            if teacher is None
            else f"the teacher inside the step, {type(teacher).__name__},"
        )
        remedy = "; set step_teacher" if teacher is None else ""
        raise InputError(
            f"loss: {name} reads the teacher's {', '.join(sorted(missing))}, which {who} does not offer; it "
            f"offers {', '.join(sorted(offers))}{remedy}"
        )


def frozen_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights of ``model`` that are not trained, by name."""
    every = model.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in every if not weight.requires_grad}


def digest_of(weights: Iterable[Tensor]) -> Tensor:
    """SHA-256 of the weights' bytes, uint8 (32,)."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


class Step(nn.Module):
    """What the optimiser sees, DDP wraps, clipping and checkpoints take: ``student``, ``teacher``, ``loss``.

    So a loss's own parameters are trained as the student's are. Their names begin with ``loss.``, the
    student's with ``student.``. Without a ``teacher`` its scores are those of the batch's table. One that is
    not trained (none of its parameters has a gradient) is in no checkpoint and never in training mode.
    ``teacher_factor`` scales the teacher's scores; a buffer, so that checkpoints carry it. Raises
    ``InputError`` if the loss reads what student or teacher does not offer.
    """

    teacher_factor: Tensor

    def __init__(self, student: Ranker, loss: nn.Module, teacher: Ranker | None = None):
        super().__init__()
        check_offers(student, loss, teacher)
        self.student, self.loss, self.teacher = student, loss, teacher
        self.trains_teacher = teacher is not None and any(x.requires_grad for x in teacher.parameters())
        self.register_buffer("teacher_factor", torch.ones(()))
        if frozen_of(student):
            self.register_buffer("frozen", digest_of(frozen_of(student).values()))

    def train(self, mode: bool = True) -> "Step":
        super().train(mode)
        if self.teacher is not None and not self.trains_teacher:
            self.teacher.eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Without a frozen teacher and the student's frozen weights, of which ``frozen`` is the digest; each
        tied weight once: safetensors writes no aliases, and loading one loads them all."""
        state, seen = super().state_dict(*args, **kwargs), set()
        for name in frozen_of(self.student):
            state.pop(f"student.{name}", None)
        for name, tensor in list(state.items()):
            place = tensor.data_ptr(), tensor.shape
            if (name.startswith("teacher.") and not self.trains_teacher) or (
                tensor.numel() and place in seen
            ):
                del state[name]
            seen.add(place)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """What no checkpoint has, frozen weights above all, stays as it is."""
        saved = self.state_dict()
        others = {name: weight for name, weight in super().state_dict().items() if name not in saved}
        return super().load_state_dict({**others, **state_dict}, *args, **kwargs)

    def forward(self, **fields: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The loss's value, and the scores (B, G) of student and teacher; ``fields`` are a ``Batch``'s."""
        student, teacher, batch = self.outputs(Batch(**fields))
        with torch.autocast(student.scores.device.type, enabled=False):
            return self.compare(student, teacher, batch), student.scores, teacher.scores

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs, Batch]:
        """The student's and the teacher's, and ``batch`` with its ``negatives`` where the loss wants them."""
        wanted = reads(self.loss)
        student = self.student(batch.inputs["student"], batch, wanted)
        in_batch = None
        if "in_batch" in wanted:
            rows = processes.gather_rows(batch.document_rows, fill=-1)
            negatives, in_batch = in_batch_negatives(rows, batch.pools)
            batch = replace(batch, negatives=negatives)
        if self.teacher is None:
            teacher = Outputs(batch.targets["scores"], in_batch)
        else:
            more = wanted & self.teacher.offers & {"in_batch"}
            teacher = self._taught(self.teacher, batch, reads_of_teacher(self.loss) | more)
            if teacher.in_batch is None and in_batch is not None:
                teacher = replace(teacher, in_batch=torch.full_like(in_batch, torch.nan))
        return student, self._scaled(teacher), batch

    def _taught(self, teacher: Ranker, batch: Batch, wanted: frozenset[str]) -> Outputs:
        """The outputs of ``teacher``, its documents in the batch's order, which need not be its own."""
        features, order = batch.inputs["teacher"]
        place = torch.argsort(order)
        own = replace(batch, document_rows=batch.document_rows[order], index=place[batch.index])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_teacher):
            outputs = teacher(features, own, wanted)
        documents, in_batch = outputs.documents, outputs.in_batch
        if documents is not None:
            documents = Embeddings(
                documents.vectors[place],
                None if documents.mask is None else documents.mask[place],
                tuple(layer[place] for layer in documents.layers),
            )
        if in_batch is not None:
            places = processes.gather_rows(place)
            each = len(places) // processes.count()  # of a process, filled up
            starts = torch.arange(0, len(places), each, device=place.device).repeat_interleave(each)
            in_batch = in_batch[:, places + starts]
        return replace(outputs, documents=documents, in_batch=in_batch, cuts=())

    def _scaled(self, teacher: Outputs) -> Outputs:
        in_batch = None if teacher.in_batch is None else teacher.in_batch * self.teacher_factor
        return replace(teacher, scores=teacher.scores * self.teacher_factor, in_batch=in_batch)

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
            got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"loss: {type(loss).__name__} gives {got}; it must give a scalar tensor, the mean over the "
                "queries"
            )
        return value
