"""PAIR's passage-centric term (Ren et al. 2021, arXiv 2108.06027): passages near queries, not each other."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rankdistill.losses.embedded import OfEmbeddings
from rankdistill.vocabulary import Batch, Outputs


def passage_centric(student: Tensor, to_negatives: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """-log(e^s(p+, q) / (e^s(p+, q) + sum of e^s(p+, p-))), mean over a query's positives, then queries.

    ``student`` float (B, G) scores of query and document; ``to_negatives`` float (B, G, N) of the document
    and others; ``positive`` bool (B, G), ``negative`` bool (B, N). A scalar; a query without a positive is
    left out.
    """
    low = torch.finfo(student.dtype).min / 4
    others = to_negatives.masked_fill(~(positive.unsqueeze(2) & negative.unsqueeze(1)), low).logsumexp(dim=2)
    terms = softplus(others - student).masked_fill(~positive, 0.0)
    per_query = terms.sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return per_query.sum() / positive.any(dim=1).sum().clamp(min=1)


class PassageCentric(OfEmbeddings):
    """``passage_centric`` of scores that the student gives two documents; a part of ``WeightedSum``.

    With InfoNCE it is PAIR's first stage, 0.9 and 0.1 of them; its second has InfoNCE alone. ``in_batch``
    adds the batch's documents as negatives. The teacher is not used.
    """

    def __init__(self, in_batch: bool = False):
        super().__init__()
        self.in_batch = in_batch
        if in_batch:
            self.reads = OfEmbeddings.reads | {"in_batch"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        _, documents = self.vectors_of(student, batch)
        among = self.scale_of(student) * self.against(documents, documents, student, self.in_batch)
        negatives = self.negatives_of(batch, self.in_batch)
        return passage_centric(student.scores, among, batch.positive & batch.mask, negatives)
