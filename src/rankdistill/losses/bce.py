"""Pointwise binary cross-entropy: each document's score is a logit of its relevance."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rankdistill.losses.in_batch import OverTheBatch, joined
from rankdistill.losses.shapes import check_choice, check_group

Targets = Literal["labels", "logits", "probabilities"]


def pointwise_bce(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    targets: Targets = "labels",
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
) -> Tensor:
    """-p log sigmoid(s) - (1 - p) log sigmoid(-s) in nats, mean over a query's documents, then over queries.

    All (B, G); a scalar. ``targets`` says what p is: ``labels``, 1 of a positive and 0 of others, with which
    LLM rerankers are fine-tuned (arXiv 2510.14824); ``logits``, sigmoid(t); ``probabilities``, t itself, cut
    to 0..1, as a graded judgment is. ``in_batch`` (B, V) and ``in_batch_mask``, see ``InfoNCE``, have p = 0.
    A score means the same in each query: adding a constant to a row changes it. A query without documents is
    left out.
    """
    student, teacher, positive, mask = check_group(student, teacher, positive, mask)
    if targets == "labels":
        wanted = positive.to(student.dtype)
    else:
        wanted = (torch.sigmoid(teacher) if targets == "logits" else teacher.clamp(0, 1)).to(student.dtype)
    there = mask.any(dim=1, keepdim=True)
    scores, counted = joined(student, mask, in_batch, in_batch_mask)
    wanted = torch.nn.functional.pad(wanted, (0, scores.shape[1] - wanted.shape[1]))
    terms = binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    terms = terms.masked_fill(~(counted & there), 0.0)
    per_query = terms.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return per_query.sum() / there.sum().clamp(min=1)


class PointwiseBCE(OverTheBatch):
    """``pointwise_bce`` with its settings; of ``logits`` set ``scores.teacher_scale`` to 1."""

    def __init__(self, targets: Targets = "labels", in_batch: bool = False):
        super().__init__(in_batch)
        check_choice("targets", targets, Targets)
        self.targets = targets

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        return pointwise_bce(student, teacher, positive, mask, self.targets, in_batch, in_batch_mask)
