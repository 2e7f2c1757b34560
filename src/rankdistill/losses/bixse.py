"""BiXSE (arXiv 2508.06781): graded targets of a query's own documents, 0 of the batch's others."""

import torch
from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.losses.bce import PointwiseBCE, Targets
from rankdistill.losses.shapes import check_at_least, is_number


class BiXSE(PointwiseBCE):
    """``pointwise_bce`` of alpha * s + beta, both learnt with the student, over the batch's documents too.

    s are the student's scores as they are, so that ``alpha`` begins at 1; ``beta``, where it begins, is about
    -log of the number of the batch's documents: at first nearly all of them are answered rightly. Both are in
    ``history.json``. How the authors parametrise the two is not published; SigLIP's way is this one. For
    graded judgments between 0 and 1 ``targets`` are ``probabilities``.
    """

    def __init__(
        self, targets: Targets = "logits", alpha: float = 1.0, beta: float = -5.0, in_batch: bool = True
    ):
        super().__init__(targets, in_batch)
        check_at_least(0, alpha=alpha)
        if not is_number(beta):
            raise InputError(f"beta={beta!r}: it must be a number")
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        logits, others = (
            None if scores is None else self.alpha * scores + self.beta for scores in (student, in_batch)
        )
        return super().value(logits, teacher, positive, mask, others, in_batch_mask, in_batch_teacher)
