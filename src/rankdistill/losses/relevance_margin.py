"""Adaptive relevance margins (arXiv 2407.21515): how far apart documents should score, by their likeness."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from rankdistill.losses.embedded import OfEmbeddings
from rankdistill.losses.shapes import check_choice
from rankdistill.vocabulary import Batch, Embeddings, Outputs

Error = Literal["square", "absolute", "logistic"]
Targets = Literal["group", "in_batch", "distributed"]


def relevance_margin(
    own: Tensor, others: Tensor, between: Tensor, pairs: Tensor, error: Error = "square"
) -> Tensor:
    """Mean over the pairs of the error of (cos(q, d+) - cos(q, d-)) - (cos(d+, d-) + 1) / 2; a scalar.

    ``own`` (B, P) cosines of the query and positives, ``others`` (B, N) and negatives, ``between`` (B, P, N)
    of the two, or (K, B, P, N): K targets for each margin; ``pairs`` bool (B, P, N). The error x is x² of
    ``square``, abs(x) of ``absolute``, log(1 + e^-x) of ``logistic``. The more alike a negative is to the
    positive, the larger its target, as published. 0 where there is no pair.
    """
    margin = own.unsqueeze(2) - others.unsqueeze(1)
    x = torch.where(pairs, margin - (between + 1) / 2, 0.0)
    terms = {"square": Tensor.square, "absolute": Tensor.abs, "logistic": lambda x: softplus(-x)}[error](x)
    terms = terms.masked_fill(~pairs, 0.0)
    return terms.sum() / (pairs.sum() * (terms.numel() // max(pairs.numel(), 1))).clamp(min=1)


class RelevanceMargin(OfEmbeddings):
    """``relevance_margin`` of the embeddings' cosines; no teacher is used.

    ``targets``: ``group``, each positive and negative of a group; ``in_batch``, the batch's documents are
    negatives too; ``distributed``, each margin of a group has a target of every positive of the (process's)
    batch, which costs no further scores of queries. The authors' code takes the positive of another row
    in its in-batch form, as it subtracts; this is the row's own. Targets have no gradient unless
    ``target_gradient``: the authors' have one.
    """

    def __init__(self, error: Error = "square", targets: Targets = "group", target_gradient: bool = False):
        super().__init__()
        check_choice("error", error, Error)
        check_choice("targets", targets, Targets)
        self.error, self.targets, self.target_gradient = error, targets, target_gradient
        self.in_batch = targets == "in_batch"
        if self.in_batch:
            self.reads = OfEmbeddings.reads | {"in_batch"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        queries, documents = (normalize(x, dim=-1) for x in self.vectors_of(student, batch))
        unit = replace(student, documents=Embeddings(normalize(self.texts_of(student)[1], dim=1)))
        negatives = self.negatives_of(batch, self.in_batch)
        cosines = self.against(queries.unsqueeze(1), documents, unit, self.in_batch).squeeze(1)
        own = cosines[:, : batch.index.shape[1]]
        if self.targets == "distributed":
            positives = documents[batch.positive & batch.mask]
            between = torch.einsum("kd,bgd->kbg", positives, documents).unsqueeze(2)
        else:
            between = self.against(documents, documents, unit, self.in_batch)
        if not self.target_gradient:
            between = between.detach()
        pairs = (batch.positive & batch.mask).unsqueeze(2) & negatives.unsqueeze(1)
        return relevance_margin(own, cosines, between, pairs, self.error)
