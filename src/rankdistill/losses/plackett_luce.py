"""The likelihood of the teacher's order by the student's scores, whole (ListMLE) or of its first places."""

from typing import Literal

import torch
from torch import Tensor

from rankdistill.errors import check_counts
from rankdistill.losses.in_batch import OverTheBatch, joined
from rankdistill.losses.shapes import check_choice, check_group, check_temperature

Weights = Literal["none", "teacher"]
Of = Literal["group", "negatives"]


def plackett_luce(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    places: int | None = None,
    weights: Weights = "none",
    of: Of = "group",
    hardest: int | None = None,
    teacher_temperature: float = 1.0,
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
) -> Tensor:
    """Sum over the teacher's ranks r of -w_r log(e^s_r / sum of e^s from r on), mean over the queries.

    All (B, G); a scalar. A document is drawn for each place from those that are left (Plackett 1975, Luce
    1959). Whole, it is ListMLE (Xia et al. 2008). With ``places`` the sum is of the first so many: 1 is
    InfoNCE of the teacher's best, 2 with ``in_batch`` is Syntriever's second stage (arXiv 2502.03824).
    Documents of equal teacher scores are in the student's order.

    ``weights``: ``none``, w = 1; ``teacher``, w_r = softmax(t / ``teacher_temperature``) at rank r, as
    FlagEmbedding has it for BGE-M3 (its m3_kd_loss, whose order is that of the group's places).

    ``of="negatives"`` leaves out the positives, and ``hardest`` all but so many that the student scores
    highest: with ``places``, CPRD (Chen et al. 2024, arXiv 2407.07479), which learns the order of the hard
    negatives that the teacher finds valid, and none among the others. How many are valid is a number here;
    the authors let the teacher's judgments decide.

    ``in_batch`` (B, V) and ``in_batch_mask``, see ``InfoNCE``: documents that are left at every place.
    Of the teacher only the order counts, unless it weighs. Unchanged by adding a constant to a row of either
    side (the batch's included).
    """
    check_temperature("teacher_temperature", teacher_temperature)
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    unknown = (student.isnan() | teacher.isnan()).any(dim=1)
    counted = mask & ~positive if of == "negatives" else mask
    if hardest is not None and hardest < counted.shape[1]:
        best = student.masked_fill(~counted, -torch.inf).argsort(dim=1, descending=True, stable=True)
        counted = counted & torch.zeros_like(counted).scatter(1, best[:, :hardest], True)
    order = student.argsort(dim=1, descending=True, stable=True)
    by_teacher = teacher.masked_fill(~counted, -torch.inf).gather(1, order)
    order = order.gather(1, by_teacher.argsort(dim=1, descending=True, stable=True))
    student, teacher, counted = (x.gather(1, order) for x in (student, teacher, counted))
    low = torch.finfo(student.dtype).min / 4
    later = torch.ones(2 * student.shape[1:], dtype=torch.bool, device=student.device).triu()
    left = counted.unsqueeze(1) & later  # (B, rank, document)
    whole = student.unsqueeze(1).masked_fill(~left, low).logsumexp(dim=2)
    if in_batch is not None:
        others, valid = joined(student[:, :0], counted[:, :0], in_batch, in_batch_mask)
        whole = torch.logaddexp(whole, others.masked_fill(~valid, low).logsumexp(dim=1, keepdim=True))
    terms = whole - student
    if weights == "teacher":
        terms = terms * (teacher / teacher_temperature).masked_fill(~counted, low).softmax(dim=1)
    shown = counted if places is None else counted & (counted.cumsum(dim=1) <= places)
    per_query = terms.masked_fill(~shown, 0.0).sum(dim=1)
    per_query = per_query.masked_fill(unknown, torch.nan)  # sorted, it would be the best
    return per_query.sum() / counted.any(dim=1).sum().clamp(min=1)


class PlackettLuce(OverTheBatch):
    """``plackett_luce`` with its settings; as it is, ListMLE."""

    def __init__(
        self,
        places: int | None = None,
        weights: Weights = "none",
        of: Of = "group",
        hardest: int | None = None,
        teacher_temperature: float = 1.0,
        in_batch: bool = False,
    ):
        super().__init__(in_batch)
        check_counts(places=places, hardest=hardest)
        check_choice("weights", weights, Weights)
        check_choice("of", of, Of)
        check_temperature("teacher_temperature", teacher_temperature)
        self.places, self.weights, self.of, self.hardest = places, weights, of, hardest
        self.teacher_temperature = teacher_temperature

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        return plackett_luce(
            student,
            teacher,
            positive,
            mask,
            self.places,
            self.weights,
            self.of,
            self.hardest,
            self.teacher_temperature,
            in_batch,
            in_batch_mask,
        )
