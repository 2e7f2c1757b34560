"""InfoNCE over the group (also called LCE), and with in-batch negatives."""

import math

import torch
from torch import Tensor, nn

from rankdistill.losses.shapes import check_group, check_temperature, is_number


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
) -> Tensor:
    """-log of the positive's softmax probability among itself and the negatives, mean over queries.

    ``student``, ``teacher``, ``positive``, ``mask`` (B, G). A query with several positives gives
    the mean over them, each against the negatives alone; one without a positive is left out.

    ``in_batch`` float (B, U): the student's scores of further documents, here all distinct ones of
    the batch; ``in_batch_mask`` bool (B, U): which of them may serve the query as negatives (not
    those of its own group, which count already, nor its known positives).

    ``false_negative_margin``, in units of ``teacher`` as given (the Trainer gives it scaled):
    negatives that the teacher scores above the query's lowest positive less the margin are left
    out, likewise in-batch ones whose ``in_batch_teacher`` (B, U), NaN where unknown, is above that.
    Otherwise teacher scores are
    not used. Unchanged by adding a constant to a query's student scores (in-batch ones too).
    Raises ``ValueError`` if shapes disagree.
    """
    check_temperature("temperature", temperature)
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    counted = positive.any(dim=1, keepdim=True)  # whatever is in other rows stays out of the gradient
    student = student.masked_fill(~counted, 0.0)
    negative = mask & ~positive
    scores = student
    if in_batch is not None:
        in_batch_mask = _checked_mask(in_batch, in_batch_mask, len(student))
        scores = torch.cat([scores, in_batch.to(scores.dtype).masked_fill(~counted, 0.0)], dim=1)
        negative = torch.cat([negative, in_batch_mask], dim=1)
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
    # -log(e^s / (e^s + sum e^n)) = log(1 + e^(log sum e^n - s))
    terms = torch.nn.functional.softplus(others - student / temperature).masked_fill(~positive, 0.0)
    per_query = terms.sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return per_query.sum() / counted.sum().clamp(min=1)


def _checked_mask(in_batch: Tensor, in_batch_mask: Tensor | None, queries: int) -> Tensor:
    """``in_batch_mask``; raises unless both are (B, U) and it is bool."""
    shapes = [None if x is None else tuple(x.shape) for x in (in_batch, in_batch_mask)]
    if in_batch_mask is None or shapes[0] != shapes[1] or in_batch.ndim != 2 or len(in_batch) != queries:
        raise ValueError(
            f"in_batch and in_batch_mask must both be (B={queries}, U): got {shapes[0]}, {shapes[1]}"
        )
    if in_batch_mask.dtype != torch.bool:
        raise TypeError(f"in_batch_mask must be bool: got {in_batch_mask.dtype}")
    return in_batch_mask


class InfoNCE(nn.Module):
    """``info_nce`` with its settings; ``in_batch`` adds the other groups' documents as negatives."""

    def __init__(
        self,
        temperature: float = 1.0,
        in_batch: bool = False,
        false_negative_margin: float | None = None,
    ):
        super().__init__()
        check_temperature("temperature", temperature)
        margin = false_negative_margin
        if margin is not None and not (is_number(margin) and math.isfinite(margin)):
            raise ValueError(f"false_negative_margin={margin!r}: it is a finite number, or null")
        self.temperature = temperature
        self.in_batch = in_batch
        self.false_negative_margin = false_negative_margin

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"in_batch"} if self.in_batch else ())

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        positive: Tensor,
        mask: Tensor,
        in_batch: Tensor | None = None,
        in_batch_mask: Tensor | None = None,
        in_batch_teacher: Tensor | None = None,
    ) -> Tensor:
        if self.in_batch and in_batch is None:
            raise ValueError("InfoNCE(in_batch=True) needs in_batch, the scores of the batch's documents")
        others = (in_batch, in_batch_mask, in_batch_teacher) if self.in_batch else (None, None, None)
        return info_nce(
            student, teacher, positive, mask, self.temperature, self.false_negative_margin, *others
        )
