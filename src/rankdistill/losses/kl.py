"""Listwise KL divergence between the teacher's and the student's distribution over a group."""

import math
from typing import Literal

import torch
from torch import Tensor

from rankdistill.losses.in_batch import OverTheBatch, joined
from rankdistill.losses.shapes import EQUAL, check_choice, check_flag, check_group, check_temperature

Direction = Literal["forward", "reverse", "symmetric", "jensen_shannon"]
Scores = Literal["raw", "minmax"]


def kl_divergence(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    rescale: bool = False,
    direction: Direction = "forward",
    student_scores: Scores = "raw",
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
    in_batch_teacher: Tensor | None = None,
) -> Tensor:
    """KL(p || q) of p = softmax(t / T_t) and q = softmax(s / T_s), in nats, per query, mean over the queries.

    All (B, G); a scalar. Labels are not used. A query of one document has a divergence of 0; one
    without documents is left out of the mean. Unchanged by adding a constant to a row of either side.
    ``rescale`` multiplies by T_s², which keeps the
    gradient's size when the temperature rises (Hinton et al. 2015, arXiv 1503.02531, section 2);
    off by default, since Adam does not care and a weighted sum should mean what it says.

    ``direction``: ``forward`` (p || q), which covers all that the teacher likes, and whose gradient is that
    of ListNet (Cao et al. 2007); ``reverse`` (q || p), which seeks its highest mode; ``symmetric``, the mean
    of the two (UniME-V2, arXiv 2510.13515); ``jensen_shannon``, the mean of (p || m) and (q || m), with m
    the mean of p and q: at most log 2.

    ``student_scores="minmax"``: a row's are first (s - min) / (max - min), zeros if all are equal
    (``EQUAL``); this is what PyLate's Distillation does unless told not to. It is then unchanged by scaling a
    row too.

    ``in_batch`` (B, V), ``in_batch_mask``, ``in_batch_teacher``: see ``InfoNCE``. The distributions are then
    over the batch's documents too, as far as the teacher's scores of them are known (not NaN).
    """
    check_temperature("student_temperature", student_temperature)
    check_temperature("teacher_temperature", teacher_temperature)
    student, teacher, _, mask = check_group(student, teacher, positive, mask)
    if in_batch is not None:
        if in_batch_mask is None or in_batch_teacher is None or in_batch_teacher.shape != in_batch.shape:
            raise ValueError("in_batch (B, V) needs in_batch_mask and in_batch_teacher, both (B, V)")
        known = in_batch_mask & ~in_batch_teacher.isnan()
        teacher, _ = joined(teacher, mask, in_batch_teacher, known)
        student, mask = joined(student, mask, in_batch, known)
    if student_scores == "minmax":
        student = spread(student, mask)
    padding = ~mask & mask.any(dim=1, keepdim=True)  # a row without documents stays 0: all -inf makes NaN
    log_p, log_q = (
        (scores / temperature).masked_fill(padding, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0.0)
        for scores, temperature in ((teacher, teacher_temperature), (student, student_temperature))
    )

    def terms(log_a: Tensor, log_b: Tensor) -> Tensor:
        a = log_a.exp()
        return (a * (log_a - log_b)).masked_fill(~mask | (a == 0), 0.0)  # 0 log 0 is 0

    if direction == "forward":
        divergence = terms(log_p, log_q)
    elif direction == "reverse":
        divergence = terms(log_q, log_p)
    elif direction == "symmetric":
        divergence = (terms(log_p, log_q) + terms(log_q, log_p)) / 2
    else:
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        divergence = (terms(log_p, log_m) + terms(log_q, log_m)) / 2
    loss = divergence.sum() / mask.any(dim=1).sum().clamp(min=1)
    return loss * student_temperature**2 if rescale else loss


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """(s - min) / (max - min) of each row of ``scores`` (B, G); 0 where all are equal, and of padding."""
    if not scores.shape[1]:
        return scores
    lowest = scores.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    highest = scores.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
    equal = highest - lowest <= EQUAL  # a NaN is not passed over
    return ((scores - lowest) / (highest - lowest).masked_fill(equal, 1.0)).masked_fill(~mask | equal, 0.0)


class KLDivergence(OverTheBatch):
    """``kl_divergence`` with its settings."""

    def __init__(
        self,
        student_temperature: float = 1.0,
        teacher_temperature: float = 1.0,
        rescale: bool = False,
        direction: Direction = "forward",
        student_scores: Scores = "raw",
        in_batch: bool = False,
    ):
        super().__init__(in_batch)
        check_temperature("student_temperature", student_temperature)
        check_temperature("teacher_temperature", teacher_temperature)
        check_flag(rescale=rescale)
        check_choice("direction", direction, Direction)
        check_choice("student_scores", student_scores, Scores)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.rescale = rescale
        self.direction, self.student_scores = direction, student_scores

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        return kl_divergence(
            student,
            teacher,
            positive,
            mask,
            self.student_temperature,
            self.teacher_temperature,
            self.rescale,
            self.direction,
            self.student_scores,
            in_batch,
            in_batch_mask,
            in_batch_teacher,
        )
