"""Negatives made of negatives (KaLM-Embedding-V2, arXiv 2506.20923): mixtures of their embeddings."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rankdistill.errors import InputError
from rankdistill.losses.embedded import OfEmbeddings
from rankdistill.losses.infonce import info_nce
from rankdistill.losses.shapes import check_temperature
from rankdistill.vocabulary import Batch, Outputs


def mixed_pairs(vectors: Tensor, valid: Tensor, order: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """lambda n_a + (1 - lambda) n_b of length 1, (B, G, d), and which are made of two negatives, bool (B, G).

    ``vectors`` (B, G, d), of which ``valid`` bool (B, G) are negatives; ``order`` float (B, G) chooses each
    one's partner, the next higher; ``shares`` (B, G) are lambda.
    """
    places = order.masked_fill(~valid, torch.inf).argsort(dim=1)
    count = valid.sum(dim=1, keepdim=True)
    following = (torch.arange(valid.shape[1], device=valid.device) + 1) % count.clamp(min=1)
    partners = torch.zeros_like(places).scatter(1, places, places.gather(1, following))
    others = vectors.gather(1, partners.unsqueeze(2).expand_as(vectors))
    share = shares.unsqueeze(2).to(vectors.dtype)
    return normalize(share * vectors + (1 - share) * others, dim=2), valid & (count > 1)


def mixed_all(vectors: Tensor, valid: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of softmax(s_j) n_j over a query's negatives, of length 1, (B, 1, d); has it two, (B, 1)."""
    low = torch.finfo(scores.dtype).min / 4
    weights = scores.masked_fill(~valid, low).softmax(dim=1).masked_fill(~valid, 0.0)
    mixed = normalize((weights.unsqueeze(2) * vectors).sum(dim=1, keepdim=True), dim=2)
    return mixed, valid.sum(dim=1, keepdim=True) > 1


class MixedNegatives(OfEmbeddings):
    """``info_nce`` with further negatives that are mixtures of a group's: of pairs, and of all of them.

    Each negative is mixed with another, ``shares`` of Beta(``beta``, ``beta``) drawn by step and queries; all
    are mixed by the softmax of the student's scores. Both are of length 1, as embeddings that are compared
    by their cosine, and have a gradient for what they are made of. ``in_batch`` adds the other groups'
    documents. The published idea leaves the distribution open, and no code has it; the teacher is not used.
    """

    def __init__(self, pairs: bool = True, all: bool = True, beta: float = 2.0, in_batch: bool = False):
        super().__init__()
        check_temperature("beta", beta)
        if not pairs and not all:
            raise InputError("pairs, all: one must be true; without either it is InfoNCE")
        self.pairs, self.all, self.beta, self.in_batch = pairs, all, beta, in_batch
        if in_batch:
            self.reads = OfEmbeddings.reads | {"in_batch"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        queries, documents = self.vectors_of(student, batch)
        valid = batch.mask & ~batch.positive
        mixed = list[tuple[Tensor, Tensor]]()
        if self.pairs:
            rng = np.random.default_rng([batch.step, *batch.query_rows.tolist()])
            drawn = rng.random(valid.shape), rng.beta(self.beta, self.beta, valid.shape)
            order, shares = (torch.from_numpy(x).to(documents.device) for x in drawn)
            mixed.append(mixed_pairs(documents, valid, order, shares))
        if self.all:
            mixed.append(mixed_all(documents, valid, student.scores))
        scale = self.scale_of(student)
        scores = [scale * (x @ queries.unsqueeze(2)).squeeze(2) for x, _ in mixed]
        masks = [there for _, there in mixed]
        if self.in_batch:
            assert student.in_batch is not None and batch.negatives is not None  # it reads them
            scores, masks = [*scores, student.in_batch], [*masks, batch.negatives]
        in_batch, valid = (torch.cat(x, dim=1) for x in (scores, masks))
        group = student.scores, teacher.scores, batch.positive, batch.mask
        return info_nce(*group, in_batch=in_batch, in_batch_mask=valid)
