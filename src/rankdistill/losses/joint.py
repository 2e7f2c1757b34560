"""Teacher and student trained on each other (Ren et al. 2021, RocketQAv2, arXiv 2110.07367, section 3.2)."""

from torch import Tensor, nn

from rankdistill.losses.infonce import info_nce
from rankdistill.losses.kl import kl_divergence


def joint(
    student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, label_weight: float = 1.0
) -> Tensor:
    """KL(softmax(t) || softmax(s)), whose gradient reaches both, plus ``label_weight`` times InfoNCE of t.

    All (B, G); a scalar, the mean over the queries (the authors' code divides the KL by G as well). Labels
    hold the teacher: by the KL alone the two could agree on a uniform distribution. Of a teacher that is not
    trained the second term is a constant, and what is left is ``kl_divergence``.
    """
    labels = info_nce(teacher, teacher, positive, mask)
    return kl_divergence(student, teacher, positive, mask) + label_weight * labels


class Joint(nn.Module):
    """``joint`` with its setting."""

    def __init__(self, label_weight: float = 1.0):
        super().__init__()
        self.label_weight = label_weight

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return joint(student, teacher, positive, mask, self.label_weight)
