"""LambdaLoss (Wang et al., CIKM 2018): pairs of graded labels, weighted by what they cost nDCG."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rankdistill.losses.base import Loss
from rankdistill.losses.gains import gains_and_ideal
from rankdistill.losses.ranks import ranks
from rankdistill.losses.shapes import check_at_least, check_choice, check_group
from rankdistill.vocabulary import Batch, Outputs

Weights = Literal["ndcg_loss2++", "ndcg_loss2", "lambdarank"]


def lambda_loss(
    student: Tensor,
    grades: Tensor,
    positive: Tensor,
    mask: Tensor,
    weights: Weights = "ndcg_loss2++",
    mu: float = 10.0,
) -> Tensor:
    """Mean of w log(1 + e^-(s_i - s_j)) over the pairs with g_i > g_j of a query, mean over queries.

    All (B, G); a scalar. A grade below 0 (unjudged) counts 0; ``positive`` is not used. With r the ranks by
    the student, from 1, D(r) = log2(1 + r) and G the gains 2^g - 1 over the group's highest DCG, w is
    abs(G_i - G_j) times

    * ``lambdarank``: abs(1/D(r_i) - 1/D(r_j)), what exchanging the two would cost;
    * ``ndcg_loss2``: 1/D(d) - 1/D(d + 1) of d = abs(r_i - r_j), of which the sum is a bound of 1 - nDCG;
    * ``ndcg_loss2++``: ``mu`` times the second plus the first.

    It has no gradient. Documents of equal scores are one rank apart. A query without a pair is left out.
    LambdaLoss of sentence-transformers is in bits, and its mean is over the batch's pairs.
    Unchanged by adding a constant to a row of the student.
    """
    student, grades, _, mask = check_group(student, grades, positive, mask)
    gains, ideal = gains_and_ideal(grades, mask)
    gains = gains / ideal.where(~(ideal <= 0), torch.ones_like(ideal)).unsqueeze(1)
    margin = gains.unsqueeze(2) - gains.unsqueeze(1)  # (B, better, worse)
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1) & ~(margin <= 0)
    places = ranks(student.detach(), mask)
    factor = torch.zeros_like(margin)
    if weights != "ndcg_loss2":
        discounts = 1 / torch.log2(1 + places)
        factor = factor + (discounts.unsqueeze(2) - discounts.unsqueeze(1)).abs()
    if weights != "lambdarank":
        apart = (places.unsqueeze(2) - places.unsqueeze(1)).abs().clamp(min=1)
        bound = (1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)).abs()
        factor = factor + (mu if weights == "ndcg_loss2++" else 1.0) * bound
    terms = factor * margin * softplus(student.unsqueeze(1) - student.unsqueeze(2))
    count = pairs.sum(dim=(1, 2))
    per_query = terms.masked_fill(~pairs, 0.0).sum(dim=(1, 2)) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)


class LambdaLoss(Loss):
    """``lambda_loss`` of the column ``grades``: the table's, or else what the qrels of the split say."""

    columns = frozenset({"grades"})

    def __init__(self, weights: Weights = "ndcg_loss2++", mu: float = 10.0):
        super().__init__()
        check_choice("weights", weights, Weights)
        check_at_least(0, mu=mu)
        self.weights, self.mu = weights, mu

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        grades = batch.targets["grades"].to(student.scores.dtype)
        return lambda_loss(student.scores, grades, batch.positive, batch.mask, self.weights, self.mu)
