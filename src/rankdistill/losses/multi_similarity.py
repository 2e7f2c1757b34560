"""Multi-similarity loss (Wang et al. 2019, arXiv 1904.06627), its mining included."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss
from rankdistill.losses.in_batch import joined
from rankdistill.losses.shapes import check_at_least, check_flag, check_group, check_temperature, is_number
from rankdistill.vocabulary import Batch, Outputs


def multi_similarity(
    similarity: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    alpha: float = 2.0,
    beta: float = 40.0,
    threshold: float = 0.5,
    margin: float | None = 0.1,
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
) -> Tensor:
    """log(1 + sum+ e^(-alpha (c - threshold))) / alpha + log(1 + sum- e^(beta (c - threshold))) / beta.

    ``similarity`` c, ``teacher``, ``positive``, ``mask`` (B, G), c in units in which ``threshold`` and
    ``margin`` mean something, such as cosines; a scalar, the mean over the queries that have a positive and a
    negative. With a ``margin`` the sums are of negatives above the lowest positive less the margin, and of
    positives below the highest negative plus it: others are right already and have no gradient, and
    a query without any counts 0. ``in_batch`` (B, V) and ``in_batch_mask``, see ``InfoNCE``, are further
    negatives. The teacher is not used. The authors' code has the defaults, their paper 50 for ``beta``, 1 for
    ``threshold``.
    """
    similarity, _, positive, mask = check_group(similarity, teacher, positive, mask)
    scores, negative = joined(similarity, mask & ~positive, in_batch, in_batch_mask)
    both = positive.any(dim=1, keepdim=True) & negative.any(dim=1, keepdim=True)
    positive, negative = positive & both, negative & both
    if margin is not None and similarity.shape[1]:
        lowest = similarity.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
        highest = scores.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True)
        positive = positive & ~(similarity >= highest + margin)  # a NaN is not passed over
        negative = negative & ~(scores <= lowest - margin)
    low = torch.finfo(scores.dtype).min / 4
    near = (-alpha * (similarity - threshold)).masked_fill(~positive, low).logsumexp(dim=1)
    far = (beta * (scores - threshold)).masked_fill(~negative, low).logsumexp(dim=1)
    return (softplus(near) / alpha + softplus(far) / beta).sum() / both.sum().clamp(min=1)


class MultiSimilarity(Loss):
    """``multi_similarity`` of the student's similarities, its scores without their scale."""

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 40.0,
        threshold: float = 0.5,
        margin: float | None = 0.1,
        in_batch: bool = False,
    ):
        super().__init__()
        check_temperature("alpha", alpha)
        check_temperature("beta", beta)
        if not is_number(threshold):
            raise InputError(f"threshold={threshold!r}: it must be a number")
        if margin is not None:
            check_at_least(0, margin=margin)
        check_flag(in_batch=in_batch)
        self.settings = alpha, beta, threshold, margin
        self.reads = frozenset({"in_batch"} if in_batch else ())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        scale = 1.0 if student.scale is None else student.scale
        others = (student.in_batch, batch.negatives) if self.reads else (None, None)
        if others[0] is not None:
            others = others[0] / scale, others[1]
        return multi_similarity(
            student.scores / scale, teacher.scores, batch.positive, batch.mask, *self.settings, *others
        )
