"""Pairwise preferences with probabilities: RankNet's cross-entropy (Burges et al., ICML 2005)."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rankdistill.losses.base import Loss
from rankdistill.vocabulary import Batch, Outputs


def pairwise_preference(student: Tensor, pairs: Tensor, pair_p: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(s_i - s_j) against p, in nats: mean over a query's pairs, then over queries.

    ``student`` float (B, G); ``pairs`` int64 (P, 3), rows of a query's place in the batch and of two places
    i, j in its group; ``pair_p`` float (P,), how probably i is preferred (Bradley-Terry). A scalar; queries
    without a pair are left out, 0 where all are. Unchanged by adding a constant to a row. Raises
    ``ValueError`` for other shapes.
    """
    if student.ndim != 2 or pairs.ndim != 2 or pairs.shape[1] != 3 or pair_p.shape != pairs.shape[:1]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (student, pairs, pair_p))
        raise ValueError(f"student, pairs and pair_p must be (B, G), (P, 3) and (P,): got {shapes}")
    student = student.to(torch.promote_types(student.dtype, torch.float32))
    owner, i, j = pairs.unbind(1)
    scores, start = student.flatten(), owner * student.shape[1]
    # index_select, not [...]: whose gradient threads add up in an order of their own
    margin = scores.index_select(0, start + i) - scores.index_select(0, start + j)
    terms = binary_cross_entropy_with_logits(margin, pair_p.to(student.dtype), reduction="none")
    count = torch.bincount(owner, minlength=len(student))
    per_query = terms.new_zeros(len(student)).index_add(0, owner, terms) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)


class PairwisePreference(Loss):
    """``pairwise_preference`` of the table's pairs both of whose documents the sampler shows."""

    columns = frozenset({"pairs"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return pairwise_preference(student.scores, batch.targets["pairs"], batch.targets["pair_p"])
