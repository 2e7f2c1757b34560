"""What the score table says, where a teacher inside the step is asked too."""

import torch
from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss, columns_of, reads, reads_of_teacher, value_of
from rankdistill.losses.shapes import check_group
from rankdistill.runtime import processes
from rankdistill.vocabulary import Batch, Outputs


class OfTable(Loss):
    """``loss`` of the table's scores, though the other terms of a sum are of a teacher inside the step.

    So two teachers teach in one step: a table and an earlier self (PROD's term against forgetting), or a
    reranker's table and a model that scores the whole batch (TAS-B's dual supervision). ``teacher_scale`` of
    the run is the step's teacher's; the table's scores are multiplied by ``scale``, or, if that is None, by
    what gives them the spread of the student's scores in the first batch. ``loss`` may read neither the
    teacher's embeddings nor its scores of the batch, which a table does not have.
    """

    factor: Tensor

    def __init__(self, loss: nn.Module, scale: float | None = None):
        super().__init__()
        if not isinstance(loss, nn.Module):
            raise InputError(f"loss={loss!r:.60}: it must be a loss")
        if reads_of_teacher(loss):
            raise InputError(f"OfTable: {type(loss).__name__} reads what no table of scores offers")
        if scale is not None and (isinstance(scale, bool) or not 0 < scale < float("inf")):
            raise InputError(f"scale={scale!r}: it must be a finite number above 0, or null")
        self.loss = loss
        self.reads, self.columns = reads(loss), columns_of(loss)
        self.register_buffer("factor", torch.tensor(float(scale or 0)))  # 0: not known yet; a checkpoint is

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        table = batch.targets["scores"]
        if not self.factor:
            self.begin(student.scores, table, batch)
        in_batch = None if teacher.in_batch is None else torch.full_like(teacher.in_batch, torch.nan)
        return value_of(self.loss, student, Outputs(self.factor * table, in_batch), batch)

    @torch.no_grad()
    def begin(self, student: Tensor, table: Tensor, batch: Batch) -> None:
        """Sets ``factor`` by the sums of the squared deviations within the groups of all processes."""
        scores = check_group(student, table, batch.positive, batch.mask)[:2]
        counts = batch.mask.sum(dim=1, keepdim=True).clamp(min=1)
        sums = torch.stack([((x - x.sum(1, True) / counts) * batch.mask).square().sum() for x in scores])
        own, taught = processes.gather_rows(sums.unsqueeze(0)).sum(dim=0)
        self.factor.fill_(float((own / taught).sqrt()) if own > 0 and taught > 0 else 1.0)
