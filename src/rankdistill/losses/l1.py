"""L1: the sum of an embedding's absolute values."""

from torch import Tensor

from rankdistill.losses.sparsity import Sparsity


def l1(vectors: Tensor) -> Tensor:
    """The mean over n texts of the sum of their absolute values; ``vectors`` float (n, d)."""
    return vectors.abs().sum(dim=1).mean()


class L1(Sparsity):
    """``l1`` of queries and documents, see ``Sparsity``; SPLADE takes it for queries, 5e-3 of it."""

    def __init__(self, query_weight: float = 5e-3, document_weight: float = 0.0, ramp_steps: int = 50_000):
        super().__init__(query_weight, document_weight, ramp_steps)

    def penalty(self, vectors: Tensor) -> Tensor:
        return l1(vectors)
