"""RankNet (Burges et al. 2005) with the teacher's order as the labels."""

from torch import Tensor, nn, where
from torch.nn.functional import softplus

from rankdistill.losses.shapes import check_group


def rank_net(student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
    """Mean of log(1 + e^-(s_i - s_j)) over the pairs with t_i > t_j of a query, mean over queries.

    All (B, G); a scalar. Of the teacher only the order counts, and labels are not used. A query
    whose documents are all tied is left out; 0 where all are. Unchanged by adding a constant to a
    row of the student.
    """
    student, teacher, _, mask = check_group(student, teacher, positive, mask)
    margin = teacher.unsqueeze(2) - teacher.unsqueeze(1)  # (B, better, worse)
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1) & ~(margin <= 0)
    terms = softplus(student.unsqueeze(1) - student.unsqueeze(2))
    terms = where(margin.isnan(), margin, terms).masked_fill(~pairs, 0.0)  # a NaN is not passed over
    count = pairs.sum(dim=(1, 2))
    per_query = terms.sum(dim=(1, 2)) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)


class RankNet(nn.Module):
    """``rank_net`` as a module."""

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return rank_net(student, teacher, positive, mask)
