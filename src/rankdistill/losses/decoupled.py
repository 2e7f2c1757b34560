"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679), an option of PROD's code."""

import torch
from torch import Tensor, nn

from rankdistill.losses.shapes import check_at_least, check_group, check_temperature


def decoupled_kd(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    label_weight: float = 1.0,
    order_weight: float = 1.0,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """``label_weight`` * TCKD + ``order_weight`` * NCKD in nats, mean over the queries.

    All (B, G); a scalar. With p = softmax(t / T_t) and q = softmax(s / T_s), TCKD is the KL divergence of two
    outcomes, a positive or a negative, and NCKD that of the distributions among the negatives. Of one
    positive KL(p || q) = TCKD + (1 - p_positive) * NCKD: the plain divergence hardly hears what the teacher
    says of negatives where it is sure of the positive, and here it does. A query without a positive, or
    without a negative, has a TCKD of 0. One without documents is left out. Unchanged by adding a constant
    to a row of either side.
    """
    check_temperature("student_temperature", student_temperature)
    check_temperature("teacher_temperature", teacher_temperature)
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    negative = mask & ~positive
    low = torch.finfo(student.dtype).min / 4
    log_p, log_q = (
        (scores / temperature).masked_fill(~mask, low).log_softmax(dim=1)
        for scores, temperature in ((teacher, teacher_temperature), (student, student_temperature))
    )

    def terms(log_a: Tensor, log_b: Tensor, counted: Tensor) -> Tensor:
        a = log_a.exp()
        return (a * (log_a - log_b)).masked_fill(~counted | (a == 0), 0.0)  # 0 log 0 is 0

    both = positive.any(dim=1) & negative.any(dim=1)
    loss = torch.zeros_like(both, dtype=student.dtype)
    for side in (positive, negative):
        mass_p, mass_q = (x.masked_fill(~side, low).logsumexp(dim=1) for x in (log_p, log_q))
        loss = loss + label_weight * terms(mass_p, mass_q, both)
    among_p, among_q = (x.masked_fill(~negative, low).log_softmax(dim=1) for x in (log_p, log_q))
    loss = loss + order_weight * terms(among_p, among_q, negative).sum(dim=1)
    return loss.sum() / mask.any(dim=1).sum().clamp(min=1)


class DecoupledKD(nn.Module):
    """``decoupled_kd`` with its settings."""

    def __init__(
        self,
        label_weight: float = 1.0,
        order_weight: float = 1.0,
        student_temperature: float = 1.0,
        teacher_temperature: float = 1.0,
    ):
        super().__init__()
        check_at_least(0, label_weight=label_weight, order_weight=order_weight)
        check_temperature("student_temperature", student_temperature)
        check_temperature("teacher_temperature", teacher_temperature)
        self.settings = label_weight, order_weight, student_temperature, teacher_temperature

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return decoupled_kd(student, teacher, positive, mask, *self.settings)
