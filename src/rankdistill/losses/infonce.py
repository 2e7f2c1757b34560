"""InfoNCE over the group (also called LCE), and with in-batch negatives."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rankdistill.losses.in_batch import OverTheBatch, joined
from rankdistill.losses.shapes import check_at_least, check_choice, check_group, check_temperature, is_number

Positives = Literal["each", "any", "sum"]


def info_nce(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    false_negative_margin: float | None = None,
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
    in_batch_teacher: Tensor | None = None,
    positives: Positives = "each",
    focus: float = 0.0,
) -> Tensor:
    """-log of the positive's softmax probability among itself and the negatives, mean over queries.

    ``student``, ``teacher``, ``positive``, ``mask`` (B, G). A query without a positive is left out. Of
    several ``positives`` the value is

    * ``each``: the mean over them, each against the negatives alone;
    * ``any``: -log of the sum of their probabilities among all: at least one of them is right
      (Disj-InfoNCE, Zhang et al. 2025, arXiv 2504.05220);
    * ``sum``: -log of the probability of one document whose score is the sum of theirs (Syntriever's first
      stage, arXiv 2502.03824), a product of experts: n equal positives are n times as sharp as a negative.

    ``focus`` is gamma of (1 - q)^gamma, with q the probability: a factor without a gradient, by which
    queries that the student answers already count less (focal InfoNCE of KaLM-Embedding-V2, arXiv
    2506.20923, with 0.5).

    ``in_batch`` float (B, U): the student's scores of further documents, here all distinct ones of
    the batch; ``in_batch_mask`` bool (B, U): which of them may serve the query as negatives (not
    those of its own group, which count already, nor its known positives).

    ``false_negative_margin``, in units of ``teacher`` as given (the Trainer gives it scaled):
    negatives that the teacher scores above the query's lowest positive less the margin are left
    out, likewise in-batch ones whose ``in_batch_teacher`` (B, U), NaN where unknown, is above that.
    Otherwise teacher scores are
    not used. Unchanged by adding a constant to a query's student scores (in-batch ones too), except for the
    ``sum`` of several positives.
    Raises ``ValueError`` if shapes disagree.
    """
    check_temperature("temperature", temperature)
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    counted = positive.any(dim=1, keepdim=True)  # whatever is in other rows stays out of the gradient
    student = student.masked_fill(~counted, 0.0)
    scores, negative = joined(student, mask & ~positive, in_batch, in_batch_mask)
    scores = scores.masked_fill(~counted, 0.0)
    if false_negative_margin is not None:
        lowest = teacher.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
        known = teacher
        if in_batch is not None:
            if in_batch_teacher is None or in_batch_teacher.shape != in_batch.shape:
                raise ValueError("false_negative_margin with in_batch needs in_batch_teacher (B, U)")
            known = torch.cat([known, in_batch_teacher.to(known.dtype)], dim=1)
        # The difference of like scores is exact. NaN > x is False: what is unknown stays.
        negative = negative & ~(known - lowest > -false_negative_margin)
    low = torch.finfo(scores.dtype).min / 4
    others = (scores / temperature).masked_fill(~negative, low).logsumexp(dim=1, keepdim=True)
    own, shown = student / temperature, positive
    if positives != "each":
        shown = counted
        if positives == "any":
            own = own.masked_fill(~positive, low).logsumexp(dim=1, keepdim=True)
        else:
            own = own.masked_fill(~positive, 0.0).sum(dim=1, keepdim=True)
    # -log(e^s / (e^s + sum e^n)) = log(1 + e^(log sum e^n - s))
    terms = softplus(others - own)
    if focus:
        terms = terms * (-torch.expm1(-terms.detach())) ** focus
    terms = terms.masked_fill(~shown, 0.0)
    per_query = terms.sum(dim=1) / shown.sum(dim=1).clamp(min=1)
    return per_query.sum() / counted.sum().clamp(min=1)


class InfoNCE(OverTheBatch):
    """``info_nce`` with its settings; ``in_batch`` adds the other groups' documents as negatives."""

    def __init__(
        self,
        temperature: float = 1.0,
        in_batch: bool = False,
        false_negative_margin: float | None = None,
        positives: Positives = "each",
        focus: float = 0.0,
    ):
        super().__init__(in_batch)
        check_temperature("temperature", temperature)
        margin = false_negative_margin
        if margin is not None and not (is_number(margin) and math.isfinite(margin)):
            raise ValueError(f"false_negative_margin={margin!r}: it must be a finite number, or null")
        check_choice("positives", positives, Positives)
        check_at_least(0, focus=focus)
        self.temperature = temperature
        self.false_negative_margin = false_negative_margin
        self.positives, self.focus = positives, focus

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        return info_nce(
            student,
            teacher,
            positive,
            mask,
            self.temperature,
            self.false_negative_margin,
            in_batch,
            in_batch_mask,
            in_batch_teacher,
            self.positives,
            self.focus,
        )
