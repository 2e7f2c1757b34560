"""Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666)."""

from torch import Tensor, nn

from rankdistill.losses.shapes import check_group


def margin_mse(student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
    """Mean of ((s+ - s-) - (t+ - t-))² over each positive and each negative of its group.

    All (B, G); a scalar, the mean over the valid pairs of the whole batch, 0 where it has none.
    Unchanged by adding a constant to a row of either side; not by scaling one side, so both must
    be on like scales.
    """
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    pairs = positive.unsqueeze(2) & (mask & ~positive).unsqueeze(1)
    # margins (B, positive, negative) of each side first: beside a teacher's offset of 1e8 the student's
    # scores would have no digit left
    of_student, of_teacher = (scores.unsqueeze(2) - scores.unsqueeze(1) for scores in (student, teacher))
    error = (of_student - of_teacher).masked_fill(~pairs, 0.0)
    return error.square().sum() / pairs.sum().clamp(min=1)


class MarginMSE(nn.Module):
    """``margin_mse`` as a module."""

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return margin_mse(student, teacher, positive, mask)
