"""What a regulariser of sparse embeddings is: a penalty of each side, under a ramp."""

import math
from functools import reduce
from operator import add

from torch import Tensor

from rankdistill.errors import InputError, check_counts
from rankdistill.losses.base import Loss
from rankdistill.losses.shapes import is_number
from rankdistill.runtime import processes
from rankdistill.vocabulary import Batch, Outputs


class Sparsity(Loss):
    """ramp * (``query_weight`` * penalty(queries) + ``document_weight`` * penalty(documents)).

    The ramp is min(1, (step / ``ramp_steps``)²), of the optimiser's steps, each stage's from 0 on (Formal et
    al. 2021, arXiv 2109.10086): until embeddings rank, nothing pulls them to 0; ``ramp_steps=0`` has none. A
    part of ``WeightedSum``. Documents are the batch's distinct ones, of all processes. Those of at most
    ``threshold`` entries that are not 0 are short enough, and nothing pulls them (OpenSearch's trainer has
    200).
    Raises ``InputError`` for a weight below 0, or if none is above 0.
    """

    def __init__(self, query_weight: float, document_weight: float, ramp_steps: int, threshold: int = 0):
        super().__init__()
        for name, weight in (("query_weight", query_weight), ("document_weight", document_weight)):
            if not is_number(weight) or not 0 <= weight < math.inf:
                raise InputError(f"{name}={weight!r}: it must be a finite number, 0 or more")
        if not query_weight and not document_weight:
            raise InputError("query_weight, document_weight: one must be above 0, or leave the loss out")
        if ramp_steps != 0:
            check_counts(ramp_steps=ramp_steps)
        self.weights = {
            name: weight
            for name, weight in (("queries", query_weight), ("documents", document_weight))
            if weight
        }
        self.reads = frozenset({*self.weights, "term_weights"})
        if threshold != 0:
            check_counts(threshold=threshold)
        self.ramp_steps, self.threshold = ramp_steps, threshold

    def penalty(self, vectors: Tensor) -> Tensor:
        """A scalar, of embeddings float (n, d); it must depend on the mean of their absolute values alone."""
        raise NotImplementedError

    def ramp(self, step: int) -> float:
        return min(1.0, (step / self.ramp_steps) ** 2) if self.ramp_steps else 1.0

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        sides = {side: getattr(student, side) for side in self.weights}
        rows = {"queries": batch.query_rows, "documents": batch.document_rows}
        vectors = {side: embeddings.vectors for side, embeddings in sides.items()}
        if self.threshold and "documents" in vectors:
            vectors["documents"] = longer(vectors["documents"], self.threshold)
        values = [
            weight * self.penalty(of_all_processes(vectors[side], rows[side]))
            for side, weight in self.weights.items()
        ]
        return self.ramp(batch.step) * reduce(add, values)


def longer(vectors: Tensor, threshold: int) -> Tensor:
    """``vectors`` (n, d), zeros in place of those that have ``threshold`` entries or fewer that are not 0."""
    return vectors.masked_fill((vectors != 0).sum(dim=1, keepdim=True) <= threshold, 0.0)


def of_all_processes(vectors: Tensor, rows: Tensor) -> Tensor:
    """``vectors`` (n, d) as they are in one process; of several the mean of all absolute values, (1, d).

    Differentiable; ``rows`` int64 (n,) tell texts that several processes have, which count once.
    """
    if processes.count() == 1:
        return vectors
    copies = (rows.unsqueeze(1) == processes.gather_rows(rows, fill=-1)).sum(dim=1)
    parts = vectors.abs() / copies.unsqueeze(1)
    texts = processes.gather_rows((1 / copies).sum(dim=0, keepdim=True)).sum()
    return processes.gather_rows(parts.sum(dim=0, keepdim=True)).sum(dim=0, keepdim=True) / texts
