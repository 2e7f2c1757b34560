"""Every positive against every negative, of all queries: a bound on the area under the ROC curve."""

from torch import Tensor
from torch.nn.functional import softplus

from rankdistill.losses.in_batch import OverTheBatch, joined
from rankdistill.losses.shapes import check_flag, check_group, check_temperature


def mann_whitney(
    student: Tensor,
    teacher: Tensor,
    positive: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    across_queries: bool = True,
    in_batch: Tensor | None = None,
    in_batch_mask: Tensor | None = None,
) -> Tensor:
    """Mean of log(1 + e^((s- - s+) / T)) over the pairs of a positive and a negative of the batch.

    All (B, G); a scalar, 0 where there is no pair. ``across_queries`` (MW, arXiv 2510.00137): a query's
    positive against the negatives of all queries, so that scores mean the same whatever the query; it is
    at least log 2 times 1 - AUC of the pooled scores, and changes when a constant is added to one row.
    Without it only pairs of one query count: STAR's loss (Zhan et al. 2021, arXiv 2104.08051). ``in_batch``
    (B, V) and ``in_batch_mask``, see ``InfoNCE``, are further negatives: STAR's random ones. Of several
    processes each compares its own queries. The teacher is not used.
    """
    check_temperature("temperature", temperature)
    student, _, positive, mask = check_group(student, teacher, positive, mask)
    scores, negative = joined(student, mask & ~positive, in_batch, in_batch_mask)
    negative = negative & mask.any(dim=1, keepdim=True)
    if across_queries:
        return softplus((scores[negative] - student[positive].unsqueeze(1)) / temperature).sum() / max(
            int(positive.sum()) * int(negative.sum()), 1
        )
    pairs = positive.unsqueeze(2) & negative.unsqueeze(1)
    terms = softplus((scores.unsqueeze(1) - student.unsqueeze(2)) / temperature)
    return terms.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)


class MannWhitney(OverTheBatch):
    """``mann_whitney`` with its settings."""

    def __init__(self, temperature: float = 1.0, across_queries: bool = True, in_batch: bool = False):
        super().__init__(in_batch)
        check_temperature("temperature", temperature)
        check_flag(across_queries=across_queries)
        self.temperature, self.across_queries = temperature, across_queries

    def value(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher) -> Tensor:
        return mann_whitney(
            student, teacher, positive, mask, self.temperature, self.across_queries, in_batch, in_batch_mask
        )
