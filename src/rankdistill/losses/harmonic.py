"""Harmonic loss (Baek et al. 2025, arXiv 2502.01628): probabilities by distances, not by products."""

from torch import Tensor

from rankdistill.losses.embedded import OfEmbeddings
from rankdistill.losses.infonce import info_nce
from rankdistill.losses.shapes import check_group, check_temperature
from rankdistill.vocabulary import Batch, Outputs

NEAREST = 1e-6  # a distance of 0 would be certain


def harmonic(
    distances: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, exponent: float = 1.0
) -> Tensor:
    """-log of a positive's share of the sum of distance^-``exponent``, mean over the queries.

    All (B, G), distances 0 or more; a scalar: InfoNCE of scores -``exponent`` log(distance). Unchanged by
    multiplying a row of distances. The teacher is not used.
    """
    check_temperature("exponent", exponent)
    distances, teacher, positive, mask = check_group(distances, teacher, positive, mask)
    return info_nce(-exponent * distances.clamp(min=NEAREST).log(), teacher, positive, mask)


class Harmonic(OfEmbeddings):
    """``harmonic`` of Euclidean distances of the query's vector and the documents'.

    ``exponent`` None is the square root of their number of dimensions.
    """

    def __init__(self, exponent: float | None = None):
        super().__init__()
        if exponent is not None:
            check_temperature("exponent", exponent)
        self.exponent = exponent

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        queries, documents = self.vectors_of(student, batch)
        squares = (queries.unsqueeze(1) - documents).square().sum(dim=2)
        exponent = queries.shape[1] ** 0.5 if self.exponent is None else self.exponent
        distances = squares.clamp(min=NEAREST**2).sqrt()
        return harmonic(distances, teacher.scores, batch.positive, batch.mask, exponent)
