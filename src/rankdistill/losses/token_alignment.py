"""Token vectors learnt from those of other tokens (DR.DECR, Li et al. 2022, arXiv 2112.08185)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss
from rankdistill.vocabulary import Batch, Embeddings, Outputs


def aligned(student: Tensor, teacher: Tensor, student_mask: Tensor, teacher_mask: Tensor) -> Tensor:
    """Which of the teacher's tokens is each of the student's, int64 (n, L); -1 for one that is left over.

    Vectors (n, L, d) and (n, M, d), masks bool (n, L) and (n, M). Greedily: of the pairs of a text the one
    of the highest cosine first, then the highest of those whose tokens are both free, and so on. Its sum of
    cosines need not be the highest that there is.
    """
    cosines = normalize(student, dim=2) @ normalize(teacher, dim=2).transpose(1, 2)
    free = student_mask.unsqueeze(2) & teacher_mask.unsqueeze(1)  # (n, L, M)
    n, length, others = free.shape
    partner = torch.full((n, length), -1, device=student.device)
    rows = torch.arange(n, device=student.device)
    for _ in range(min(length, others)):
        best = cosines.masked_fill(~free, -torch.inf).flatten(1).argmax(dim=1)
        i, j = best // others, best % others
        there = free[rows, i, j]
        partner[rows[there], i[there]] = j[there]
        free[rows[there], i[there], :] = False
        free[rows[there], :, j[there]] = False
    return partner


def token_alignment(student: Embeddings, teacher: Embeddings) -> Tensor:
    """Mean over the texts of the mean over their ``aligned`` tokens of |s - t|²; a scalar.

    Unchanged by the order of the teacher's tokens. Neither the alignment nor the teacher has a gradient.
    """
    assert student.mask is not None and teacher.mask is not None
    vectors, target = student.vectors, teacher.vectors.detach()
    with torch.no_grad():
        partner = aligned(vectors, target, student.mask, teacher.mask)
    there = partner >= 0
    if not there.any():
        return vectors.sum() * 0
    wanted = target.gather(1, partner.clamp(min=0).unsqueeze(2).expand(-1, -1, target.shape[2]))
    squares = (vectors - wanted).square().sum(dim=2).masked_fill(~there, 0.0)
    counts = there.sum(dim=1)
    return (squares.sum(dim=1) / counts.clamp(min=1)).sum() / (counts > 0).sum()


class TokenAlignment(Loss):
    """``query_weight`` times ``token_alignment`` of the queries, plus the rest of 1 times the documents'.

    Of two late-interaction models with as many dimensions, the teacher's texts being translations (a view).
    """

    reads = frozenset({"queries", "documents"})
    reads_of_teacher = reads

    def __init__(self, query_weight: float = 0.5):
        super().__init__()
        if isinstance(query_weight, bool) or not 0 <= query_weight <= 1:
            raise InputError(f"query_weight={query_weight!r}: it must be a number from 0 to 1")
        self.query_weight = query_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.queries is not None and student.documents is not None  # it reads them
        assert teacher.queries is not None and teacher.documents is not None
        own, others = student.queries, teacher.queries
        for who, one in (("student", own), ("teacher", others)):
            if one.mask is None:
                raise InputError(
                    f"loss: TokenAlignment needs token vectors, and the {who} has one vector per text; take "
                    "a model of late interaction"
                )
        if own.vectors.shape[2] != others.vectors.shape[2]:
            raise InputError(
                f"loss: TokenAlignment: the student's tokens have {own.vectors.shape[2]} dimensions, the "
                f"teacher's {others.vectors.shape[2]}; give both as many (dimensions)"
            )
        queries = token_alignment(own, others)
        documents = token_alignment(student.documents, teacher.documents)
        return self.query_weight * queries + (1 - self.query_weight) * documents
