"""Embeddings and their relations, learnt from a teacher's (Jasper and Stella, arXiv 2412.19048)."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, relu

from rankdistill.errors import InputError
from rankdistill.losses.embedded import OfEmbeddings
from rankdistill.losses.shapes import check_at_least
from rankdistill.vocabulary import Batch, Outputs


def relation_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of (cos(s_i, s_j) - cos(t_i, t_j))² over all i and j; float (n, d) and (n, d'), a scalar.

    Unchanged by a rotation of either side, whose numbers of dimensions may differ.
    """
    s, t = normalize(student, dim=1), normalize(teacher, dim=1)
    return (s @ s.T - t @ t.T).square().mean() if len(s) else s.sum()


def relation_order(student: Tensor, teacher: Tensor, margin: float = 0.015) -> Tensor:
    """Mean of max(0, margin - (s_ij - s_ik)) over the i, j, k with t_ij > t_ik; float (n, m) cosines."""
    lead = teacher.unsqueeze(2) - teacher.unsqueeze(1)
    counted = ~(lead <= 0)
    terms = relu(margin - (student.unsqueeze(2) - student.unsqueeze(1))).masked_fill(~counted, 0.0)
    return terms.sum() / counted.sum().clamp(min=1)


class Relations(OfEmbeddings):
    """``cosine`` * mean(1 - cos(s, t)) + ``relations`` * ``relation_mse`` + ``order`` * ``relation_order``.

    The first two are of the texts of the batch, queries and documents; the order is that of the documents'
    cosines for each query. The weights are the authors'. The first needs as many dimensions as the teacher
    has, or a weight of 0. A teacher inside the step has embeddings: ``step_teacher=dense``.
    """

    reads_of_teacher = OfEmbeddings.reads

    def __init__(
        self, cosine: float = 10.0, relations: float = 200.0, order: float = 20.0, margin: float = 0.015
    ):
        super().__init__()
        check_at_least(0, cosine=cosine, relations=relations, order=order, margin=margin)
        if not cosine and not relations and not order:
            raise InputError("cosine, relations, order: one must be above 0")
        self.cosine, self.relations, self.order, self.margin = cosine, relations, order, margin

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, others = self.texts_of(student), self.texts_of(teacher)
        s, t = torch.cat(own), torch.cat(others)
        value = s.new_zeros(())
        if self.cosine:
            if s.shape[1] != t.shape[1]:
                raise InputError(
                    f"cosine={self.cosine}: the student has {s.shape[1]} dimensions, the teacher "
                    f"{t.shape[1]}; set it to 0, or take a student of as many"
                )
            value = value + self.cosine * (1 - cosine_similarity(s, t, dim=1)).mean()
        if self.relations:
            value = value + self.relations * relation_mse(s, t)
        if self.order:
            (q, d), (p, e) = ((normalize(x, dim=1) for x in side) for side in (own, others))
            value = value + self.order * relation_order(q @ d.T, p @ e.T, self.margin)
        return value
