"""BiXSE (arXiv 2508.06781): graded targets of a query's own documents, 0 of the batch's others."""

import torch
from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.losses.bce import PointwiseBCE, Targets
from rankdistill.losses.in_batch import joined
from rankdistill.losses.shapes import check_at_least, check_group, is_number
from rankdistill.runtime import processes


class BiXSE(PointwiseBCE):
    """``pointwise_bce`` of alpha * s + beta, both learnt with the student, over the batch's documents too.

    s are the student's scores as they are, so that ``alpha`` begins at 1. ``beta`` begins, unless given,
    where the first batch's mean score is answered with one relevant document among all that a query is held
    against: begun at 0, a student whose cosines are far above 0 pulls all of them down before it tells any
    from another. Both are in ``history.json``. How the authors parametrise the two is not published; SigLIP's
    way is this one. For graded judgments between 0 and 1 ``targets`` are ``probabilities``.
    """

    begun: Tensor

    def __init__(
        self,
        targets: Targets = "logits",
        alpha: float = 1.0,
        beta: float | None = None,
        in_batch: bool = True,
    ):
        super().__init__(targets, in_batch)
        check_at_least(0, alpha=alpha)
        if beta is not None and not is_number(beta):
            raise InputError(f"beta={beta!r}: it must be a number, or null")
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.beta = nn.Parameter(torch.tensor(0.0 if beta is None else float(beta)))
        self.register_buffer("begun", torch.tensor(beta is not None))  # a checkpoint knows it

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        if not self.begun:
            self.begin(
                *joined(check_group(student, teacher, positive, mask)[0], mask, in_batch, in_batch_mask)
            )
        logits, others = (
            None if scores is None else self.alpha * scores + self.beta for scores in (student, in_batch)
        )
        return super().value(logits, teacher, positive, mask, others, in_batch_mask, in_batch_teacher)

    @torch.no_grad()
    def begin(self, scores: Tensor, counted: Tensor) -> None:
        """Sets beta by the first batch's scores (B, n) of all processes."""
        sums = torch.stack([(scores * counted).sum(), counted.sum(), counted.any(dim=1).sum()])
        total, count, queries = processes.gather_rows(sums.unsqueeze(0)).sum(dim=0)
        if count:
            others = (count / queries - 1).clamp(min=1)
            self.beta.copy_(-self.alpha * total / count - others.log())
            self.begun.fill_(True)
