"""Listwise KL divergence between the teacher's and the student's distribution over a group."""

import torch
from torch import Tensor, nn

from rankdistill.losses.shapes import check_group, check_temperature


def kl_divergence(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    rescale: bool = False,
) -> Tensor:
    """KL(softmax(t / T_t) || softmax(s / T_s)) in nats, per query, mean over the queries.

    All (B, G); a scalar. Labels are not used. A query of one document has a divergence of 0; one
    without documents is left out of the mean. Unchanged by adding a constant to a row of either side.
    ``rescale`` multiplies by T_s², which keeps the
    gradient's size when the temperature rises (Hinton et al. 2015, arXiv 1503.02531, section 2);
    off by default, since Adam does not care and a weighted sum should mean what it says.
    """
    check_temperature("student_temperature", student_temperature)
    check_temperature("teacher_temperature", teacher_temperature)
    student, teacher, _, mask = check_group(student, teacher, positive, mask)
    padding = ~mask & mask.any(dim=1, keepdim=True)  # a row without documents stays 0: all -inf makes NaN
    log_p = (teacher / teacher_temperature).masked_fill(padding, -torch.inf).log_softmax(dim=1)
    log_q = (student / student_temperature).masked_fill(padding, -torch.inf).log_softmax(dim=1)
    p = log_p.exp()
    terms = (p * (log_p - log_q)).masked_fill(~mask | (p == 0), 0.0)  # 0 log 0 is 0
    loss = terms.sum() / mask.any(dim=1).sum().clamp(min=1)
    return loss * student_temperature**2 if rescale else loss


class KLDivergence(nn.Module):
    """``kl_divergence`` with its settings."""

    def __init__(
        self, student_temperature: float = 1.0, teacher_temperature: float = 1.0, rescale: bool = False
    ):
        super().__init__()
        check_temperature("student_temperature", student_temperature)
        check_temperature("teacher_temperature", teacher_temperature)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.rescale = rescale

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return kl_divergence(
            student,
            teacher,
            positive,
            mask,
            self.student_temperature,
            self.teacher_temperature,
            self.rescale,
        )
