"""Each layer of the student learns what one of the teacher says (Sun et al. 2023, LEAD, arXiv 2212.05225)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdistill.losses.base import Loss
from rankdistill.losses.infonce import info_nce
from rankdistill.losses.kl import kl_divergence
from rankdistill.runtime import processes
from rankdistill.vocabulary import Batch, Outputs


def matched(students: int, teachers: int) -> list[int]:
    """The teacher's layer of each of the student's, both from 0 and evenly apart; the last ones meet."""
    return [(i + 1) * teachers // students - 1 for i in range(students)]


def layerwise(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    positive: Tensor,
    mask: Tensor,
    temperature: float = 10.0,
) -> Tensor:
    """The sum over layers of lambda times KL(softmax(t) || softmax(s)), mean over the queries; a scalar.

    ``student`` and ``teacher`` are float (B, G) of each layer, the same number of both; ``positive`` and
    ``mask`` bool (B, G). lambda, which sums to 1, is softmax(-L / ``temperature``) of the InfoNCE L of the
    teacher's layers, over the queries of all processes: those that rank well count more. It has no gradient.
    The authors draw some of the layers again from time to time; here all of them count in each step.
    """
    errors = torch.stack([info_nce(t, t, positive, mask) for t in teacher]).detach()
    errors = processes.gather_rows(errors.unsqueeze(0)).mean(dim=0)
    parts = [kl_divergence(s, t, positive, mask) for s, t in zip(student, teacher, strict=True)]
    return (torch.softmax(-errors / temperature, dim=0) * torch.stack(parts)).sum()


class Layerwise(Loss):
    """``layerwise`` over the scores that the layers' pooled states give by their inner product.

    Divided by the square root of their number of dimensions, so that softmaxes of wide states stay soft. The
    token embeddings are no layer. Both need a transformer; the teacher's layers are those of ``matched``.
    """

    reads = frozenset({"queries", "documents", "layers"})
    reads_of_teacher = reads

    def __init__(self, temperature: float = 10.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        students, teachers = scores_of(student, batch), scores_of(teacher, batch)
        chosen = [teachers[i] for i in matched(len(students), len(teachers))]
        return layerwise(students, chosen, batch.positive, batch.mask, self.temperature)


def scores_of(outputs: Outputs, batch: Batch) -> list[Tensor]:
    """float32 (B, G) of each layer but the token embeddings."""
    assert outputs.queries is not None and outputs.documents is not None  # it reads them
    pairs = zip(outputs.queries.layers[1:], outputs.documents.layers[1:], strict=True)
    return [(q @ d.T / q.shape[1] ** 0.5).gather(1, batch.index) for q, d in pairs]
