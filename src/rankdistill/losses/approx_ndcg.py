"""ApproxNDCG (Qin, Liu & Li, Information Retrieval 13, 2010): nDCG with smooth ranks, of graded labels."""

import torch
from torch import Tensor

from rankdistill.losses.base import Loss
from rankdistill.losses.gains import gains_and_ideal
from rankdistill.losses.ranks import smoothly_above
from rankdistill.losses.shapes import check_group, check_temperature
from rankdistill.vocabulary import Batch, Outputs


def approx_ndcg(
    student: Tensor, grades: Tensor, positive: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """1 - nDCG of a group, mean over queries, with gains 2^g - 1 and smooth ranks.

    A document's rank by the student is 1 + the sum over the others of sigmoid((s_j - s_i) / T). All (B, G); a
    scalar. A grade below 0 (unjudged) counts 0; ``positive`` is not used. The ideal is that of the group. A
    query whose documents all have grade 0 is left out; 0 where all are. T is 1 / alpha of the paper: the
    lower, the nearer to nDCG, and the smaller most gradients. Unchanged by adding a constant to a row of the
    student.
    """
    check_temperature("temperature", temperature)
    student, grades, _, mask = check_group(student, grades, positive, mask)
    gains, ideal = gains_and_ideal(grades, mask)
    above = smoothly_above(student, mask, temperature)
    gained = (gains / torch.log2(2 + above)).sum(dim=1)
    graded = ~(ideal <= 0)  # a NaN is not passed over
    terms = (1 - gained / ideal.where(graded, torch.ones_like(ideal))).masked_fill(~graded, 0.0)
    return terms.sum() / graded.sum().clamp(min=1)


class ApproxNDCG(Loss):
    """``approx_ndcg`` of the column ``grades``: the table's, or else what the qrels of the split say."""

    columns = frozenset({"grades"})

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        check_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        grades = batch.targets["grades"].to(student.scores.dtype)
        return approx_ndcg(student.scores, grades, batch.positive, batch.mask, self.temperature)
