"""RankNet (Burges et al. 2005) with the teacher's order as the labels."""

from typing import Literal

from torch import Tensor, nn, where
from torch.nn.functional import softplus

from rankdistill.losses.ranks import ranks
from rankdistill.losses.shapes import check_choice, check_flag, check_group

Weights = Literal["none", "first"]


def rank_net(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    weights: Weights = "none",
    pooled: bool = False,
) -> Tensor:
    """Mean of w log(1 + e^-(s_i - s_j)) over the pairs with t_i > t_j of a query, mean over queries.

    All (B, G); a scalar. Of the teacher only the order counts, and labels are not used. A query
    whose documents are all tied is left out; 0 where all are. Unchanged by adding a constant to a
    row of the student.

    ``weights``: ``none``, w = 1; ``first``, w = 1 / (rank_i + rank_j) of the teacher's ranks from 1, so that
    the top of its order counts the most (FIRST, Reddy et al. 2024, arXiv 2406.15657); the mean is still over
    the number of pairs. ``pooled``: the mean over the pairs of the whole batch, as RankNetLoss of
    sentence-transformers has it (in bits), so that queries with ties count less.
    """
    student, teacher, _, mask = check_group(student, teacher, positive, mask)
    margin = teacher.unsqueeze(2) - teacher.unsqueeze(1)  # (B, better, worse)
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1) & ~(margin <= 0)
    terms = softplus(student.unsqueeze(1) - student.unsqueeze(2))
    if weights == "first":
        places = ranks(teacher, mask)
        terms = terms / (places.unsqueeze(2) + places.unsqueeze(1))
    terms = where(margin.isnan(), margin, terms).masked_fill(~pairs, 0.0)  # a NaN is not passed over
    count = pairs.sum(dim=(1, 2))
    if pooled:
        return terms.sum() / count.sum().clamp(min=1)
    per_query = terms.sum(dim=(1, 2)) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)


class RankNet(nn.Module):
    """``rank_net`` with its settings."""

    def __init__(self, weights: Weights = "none", pooled: bool = False):
        super().__init__()
        check_choice("weights", weights, Weights)
        check_flag(pooled=pooled)
        self.weights, self.pooled = weights, pooled

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return rank_net(student, teacher, positive, mask, self.weights, self.pooled)
