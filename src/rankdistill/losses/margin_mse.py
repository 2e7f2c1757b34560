"""Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666)."""

from typing import Literal

import torch
from torch import Tensor, nn

from rankdistill.losses.shapes import check_choice, check_group

Pairs = Literal["positive", "teacher", "all", "all_with_diagonal"]


def margin_mse(
    student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, pairs: Pairs = "positive"
) -> Tensor:
    """Mean of ((s_i - s_j) - (t_i - t_j))² over the pairs of a group.

    All (B, G); a scalar, the mean over the valid pairs of the whole batch, 0 where it has none.
    ``pairs``: ``positive``, each positive i and each negative j of its group; without labels ``teacher``,
    those with t_i > t_j (as lightning-ir has them); ``all``, any two of a group; ``all_with_diagonal``, a
    document with itself too, which adds nothing and divides by more (as the SPLADE repository's trainer for
    transformers has it).
    Unchanged by adding a constant to a row of either side; not by scaling one side, so both must
    be on like scales.
    """
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    # margins (B, i, j) of each side first: beside a teacher's offset of 1e8 the student's
    # scores would have no digit left
    of_student, of_teacher = (scores.unsqueeze(2) - scores.unsqueeze(1) for scores in (student, teacher))
    if pairs == "positive":
        counted = positive.unsqueeze(2) & (mask & ~positive).unsqueeze(1)
    else:
        counted = mask.unsqueeze(2) & mask.unsqueeze(1)
        if pairs == "teacher":
            counted = counted & ~(of_teacher <= 0)  # a NaN is not passed over
        elif pairs == "all":
            counted = counted & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    error = (of_student - of_teacher).masked_fill(~counted, 0.0)
    return error.square().sum() / counted.sum().clamp(min=1)


class MarginMSE(nn.Module):
    """``margin_mse`` with its setting."""

    def __init__(self, pairs: Pairs = "positive"):
        super().__init__()
        check_choice("pairs", pairs, Pairs)
        self.pairs = pairs

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return margin_mse(student, teacher, positive, mask, self.pairs)
