"""LambdaRank of the reciprocal rank, as ADORE (arXiv 2104.08051) and JPQ (arXiv 2108.00644) train with it."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from rankdistill.errors import check_counts
from rankdistill.losses.ranks import ranks
from rankdistill.losses.shapes import check_group


def lambda_rank(student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, cut: int = 200) -> Tensor:
    """Mean of w log(1 + e^(s- - s+)) over a query's pairs of a positive and a negative, mean over queries.

    All (B, G); a scalar. w is abs(1/r+ - 1/r-) of the group's ranks by the student, from 1, and 1/r is 0
    beyond ``cut``: a pair counts as its exchange would change the reciprocal rank. The factor has no
    gradient. A query without such a pair is left out. The teacher is not used. Unchanged by adding a constant
    to a row.
    """
    student, _, positive, mask = check_group(student, teacher, positive, mask)
    places = ranks(student.detach(), mask)
    value = (1 / places).masked_fill(places > cut, 0.0)
    weights = (value.unsqueeze(2) - value.unsqueeze(1)).abs()
    pairs = positive.unsqueeze(2) & (mask & ~positive).unsqueeze(1)
    terms = (weights * softplus(student.unsqueeze(1) - student.unsqueeze(2))).masked_fill(~pairs, 0.0)
    count = pairs.sum(dim=(1, 2))
    return (terms.sum(dim=(1, 2)) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


class LambdaRank(nn.Module):
    """``lambda_rank`` with its setting."""

    def __init__(self, cut: int = 200):
        super().__init__()
        check_counts(cut=cut)
        self.cut = cut

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return lambda_rank(student, teacher, positive, mask, self.cut)
