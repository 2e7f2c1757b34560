"""FLOPS: how many multiplications an inverted index spends on a pair."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdistill.errors import InputError
from rankdistill.losses.sparsity import Sparsity


def flops(vectors: Tensor, idf: Tensor | None = None) -> Tensor:
    """The sum over dimensions of the squared mean of the absolute values; ``vectors`` float (n, d).

    Paria et al. 2020 (arXiv 2004.05665), of n texts' embeddings. It pulls the most where many texts have a
    value, and so spreads them over the dimensions. With ``idf`` (d,), of the vocabulary's tokens, a
    dimension counts 1 / idf: common tokens are pulled more, rare ones less (after Geng et al. 2024, arXiv
    2411.04403, whose own weights are not published).
    """
    means = vectors.abs().mean(dim=0)
    squares = means.square() if idf is None else means.square() / idf
    return squares.sum()


class FLOPS(Sparsity):
    """``flops`` of queries and documents, see ``Sparsity``; ``idf`` above 0, one for each dimension.

    SPLADE++ trains with 0.5 and 0.4 over 50,000 steps beside Margin-MSE of raw scores.
    """

    idf: Tensor | None

    def __init__(
        self,
        query_weight: float = 0.5,
        document_weight: float = 0.4,
        ramp_steps: int = 50_000,
        idf: Sequence[float] | Tensor | None = None,
        threshold: int = 0,
    ):
        super().__init__(query_weight, document_weight, ramp_steps, threshold)
        if idf is not None:
            idf = torch.as_tensor(idf, dtype=torch.float32)
            if idf.ndim != 1 or not bool(((idf > 0) & idf.isfinite()).all()):
                raise InputError("idf: it must be one finite number above 0 for each dimension")
        self.register_buffer("idf", idf, persistent=False)

    def penalty(self, vectors: Tensor) -> Tensor:
        if self.idf is not None and len(self.idf) != vectors.shape[1]:
            raise InputError(f"idf: it has {len(self.idf)} numbers, and embeddings {vectors.shape[1]}")
        return flops(vectors, self.idf)
