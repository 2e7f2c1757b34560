"""Codebooks of product quantisation that are trained by what they do to scores, not to vectors."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

from rankdistill.errors import InputError, check_counts, check_seed
from rankdistill.losses.kl import kl_divergence
from rankdistill.losses.lambda_rank import lambda_rank
from rankdistill.retrieval.faiss_search import search
from rankdistill.retrieval.product_quantisation import ProductQuantiser

log = logging.getLogger(__name__)
Start = Callable[[bool], ProductQuantiser]  # FAISS's own of the same size, of OPQ if True


class Quantiser(Protocol):
    """What makes a FAISS index of vectors."""

    def fit(
        self, start: Start, documents: np.ndarray, queries: np.ndarray, positives: Sequence[np.ndarray]
    ) -> faiss.Index:
        """An index of all ``documents`` float32 (D, d), which it finds by inner product.

        ``queries`` float32 (Q, d) are those of training, ``positives`` the rows of each one's relevant
        documents.
        """
        ...


@dataclass(frozen=True)
class FaissPQ:
    """FAISS's product quantisation, of the least squared error; ``rotated``: after OPQ's rotation."""

    rotated: bool = False

    def fit(self, start, documents, queries, positives) -> faiss.Index:
        quantiser = start(self.rotated)
        return quantiser.index(quantiser.encode(documents))


@dataclass(frozen=True)
class DistillVQ:
    """Distill-VQ (Xiao et al. 2022, arXiv 2204.00185): codebooks that keep the dense scores of documents.

    They begin as FAISS's (``rotated``: OPQ's, whose rotation stays). In each step ``batch`` queries score the
    union of their ``candidates`` best documents, by the vectors (t = q·d) and by their reconstructions
    (s = q·d̂); the loss is KL(softmax(scale t) || softmax(scale s)), whose gradient is that of the paper's
    cross-entropy. No labels are used. A document's codes are its nearest centroids; their gradient is that of
    softmax(-distance² / ``temperature``), straight through. Adam, its rate falling to 0.
    """

    epochs: int = 5
    batch: int = 64
    candidates: int = 20
    learning_rate: float = 1e-3
    scale: float = 20.0
    temperature: float = 0.1
    rotated: bool = True
    seed: int = 0

    def __post_init__(self):
        check_counts(epochs=self.epochs, batch=self.batch, candidates=self.candidates)
        check_above_0(learning_rate=self.learning_rate, scale=self.scale, temperature=self.temperature)
        check_seed(self.seed)

    def fit(self, start, documents, queries, positives) -> faiss.Index:
        quantiser = start(self.rotated)
        best, _ = search(documents, queries, self.candidates)
        vectors, wanted = quantiser.rotate(documents), torch.from_numpy(quantiser.rotate(queries))

        def loss(rows: np.ndarray, codebooks: Tensor) -> Tensor:
            pool = torch.from_numpy(np.array(vectors[np.unique(best[rows])]))
            q, kept = wanted[rows], reconstructed(pool, codebooks, self.temperature)
            everything = torch.ones(len(q), len(pool), dtype=torch.bool)
            return kl_divergence(self.scale * q @ kept.T, self.scale * q @ pool.T, everything, everything)

        quantiser = quantiser.with_codebooks(
            trained(quantiser.codebooks, len(queries), loss, self, "Distill-VQ")
        )
        return quantiser.index(quantiser.encode(documents))


@dataclass(frozen=True)
class JPQ:
    """JPQ (Zhan et al. 2021, arXiv 2108.00644): OPQ's codes stay, the centroids learn to rank what they find.

    In each step each of ``batch`` queries takes the ``cut`` best documents of the index as it is then, and
    the known relevant ones; the loss is LambdaRank of their reciprocal ranks, of ``scale`` times the inner
    product. Here the queries' vectors are fixed. Adam, its rate falling to 0.
    """

    epochs: int = 6
    batch: int = 32
    cut: int = 200
    learning_rate: float = 3e-5
    scale: float = 20.0
    seed: int = 0

    def __post_init__(self):
        check_counts(epochs=self.epochs, batch=self.batch, cut=self.cut)
        check_above_0(learning_rate=self.learning_rate, scale=self.scale)
        check_seed(self.seed)

    def fit(self, start, documents, queries, positives) -> faiss.Index:
        quantiser = start(True)
        codes = quantiser.encode(documents)
        wanted, numbers = torch.from_numpy(quantiser.rotate(queries)), torch.from_numpy(codes)
        asked = np.flatnonzero([len(relevant) > 0 for relevant in positives])
        if not len(asked):
            raise InputError("JPQ: no training query has a relevant document, and it learns from these alone")
        flat: Any = ProductQuantiser(quantiser.codebooks).index(codes)  # of rotated queries
        parts = torch.arange(codes.shape[1])

        def loss(picked: np.ndarray, codebooks: Tensor) -> Tensor:
            rows = asked[picked]
            faiss.copy_array_to_vector(codebooks.detach().numpy().ravel(), flat.pq.centroids)
            _, found = flat.search(wanted[rows].numpy(), min(self.cut, len(codes)))
            groups, positive, mask = with_positives(found, [positives[row] for row in rows])
            kept = codebooks[parts, numbers[groups]].flatten(2)  # (B, G, d)
            scores = self.scale * torch.einsum("bd,bgd->bg", wanted[rows], kept)
            return lambda_rank(scores, scores, positive, mask, self.cut)

        quantiser = quantiser.with_codebooks(trained(quantiser.codebooks, len(asked), loss, self, "JPQ"))
        return quantiser.index(codes)


def check_above_0(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name}={value}: it must be above 0")


def reconstructed(vectors: Tensor, codebooks: Tensor, temperature: float) -> Tensor:
    """The nearest centroids of the parts of ``vectors`` (n, d) by ``codebooks`` (M, K, d / M); (n, d).

    Its gradient reaches all centroids, through the choice too: that of softmax(-distance² / ``temperature``).
    """
    parts = vectors.unflatten(1, (codebooks.shape[0], -1)).transpose(0, 1)  # (M, n, d / M)
    distances = torch.cdist(parts, codebooks).square()  # (M, n, K)
    soft = (-distances / temperature).softmax(dim=2)
    hard = torch.zeros_like(soft).scatter_(2, distances.argmin(dim=2, keepdim=True), 1.0)
    chosen = hard + soft - soft.detach()
    return (chosen @ codebooks).transpose(0, 1).flatten(1)


def with_positives(found: np.ndarray, positives: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """``found`` int64 (B, n), -1 for none, and each query's ``positives`` that are not there: rows (B, G).

    With which are positive, and where there is a document: both bool (B, G).
    """
    groups = [
        [*row[row >= 0], *np.setdiff1d(relevant, row)] for row, relevant in zip(found, positives, strict=True)
    ]
    rows = torch.zeros(len(groups), max(map(len, groups)), dtype=torch.long)
    positive, mask = (torch.zeros(rows.shape, dtype=torch.bool) for _ in range(2))
    for i, (group, relevant) in enumerate(zip(groups, positives, strict=True)):
        rows[i, : len(group)] = torch.tensor(np.array(group))
        positive[i, : len(group)] = torch.from_numpy(np.isin(group, relevant))
        mask[i, : len(group)] = True
    return rows, positive, mask


def trained(
    codebooks: np.ndarray,
    queries: int,
    loss: Callable[[np.ndarray, Tensor], Tensor],
    settings: DistillVQ | JPQ,
    name: str,
) -> np.ndarray:
    """``codebooks`` after ``settings.epochs`` over so many ``queries``; ``loss`` is of rows of these."""
    weights = torch.from_numpy(codebooks.copy()).requires_grad_()
    optimizer = torch.optim.Adam([weights], settings.learning_rate)
    steps = settings.epochs * -(-queries // settings.batch)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    rng = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        order, losses = rng.permutation(queries), []
        for at in range(0, queries, settings.batch):
            value = loss(order[at : at + settings.batch], weights)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            falling.step()
            losses.append(value.item())
        log.info("%s: epoch %d of %d, loss %.5f", name, epoch + 1, settings.epochs, np.mean(losses))
    return weights.detach().numpy()
