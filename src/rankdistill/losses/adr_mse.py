"""Approximate discounted rank MSE (Schlatt et al., Rank-DistiLLM, ECIR 2025, arXiv 2405.07920)."""

import torch
from torch import Tensor, nn

from rankdistill.losses.ranks import ranks, smoothly_above
from rankdistill.losses.shapes import check_group, check_temperature


def adr_mse(
    student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Mean of (r - r̂)² / log2(1 + r) over a query's documents, mean over queries.

    All (B, G); a scalar. r is a document's rank by the teacher, from 1, and r̂ a smooth one by the student:
    1 + the sum over the others of sigmoid((s_j - s_i) / T). Of the teacher only the order counts; equal
    scores share their mean rank. Labels are not used; a query without documents is left out. Unchanged by
    adding a constant to a row of either side.
    """
    check_temperature("temperature", temperature)
    student, teacher, _, mask = check_group(student, teacher, positive, mask)
    wanted = torch.where(teacher.isnan(), teacher, ranks(teacher, mask))  # a NaN is not passed over
    error = wanted - 1 - smoothly_above(student, mask, temperature)
    terms = (error.square() / torch.log2(1 + wanted)).masked_fill(~mask, 0.0)
    per_query = terms.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return per_query.sum() / mask.any(dim=1).sum().clamp(min=1)


class ADRMSE(nn.Module):
    """``adr_mse`` with its setting."""

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        check_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return adr_mse(student, teacher, positive, mask, self.temperature)
