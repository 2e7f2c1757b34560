"""What graded documents are worth to nDCG."""

import torch
from torch import Tensor


def gains_and_ideal(grades: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The gains 2^g - 1 (B, G), and the highest DCG of each group (B,); both over 2^(its highest grade).

    A grade below 0 counts 0, a padding too.
    """
    grades = grades.clamp(min=0).masked_fill(~mask, 0.0)
    highest = grades.amax(dim=1, keepdim=True) if grades.shape[1] else grades.new_zeros(len(grades), 1)
    gains = torch.exp2(grades - highest) - torch.exp2(-highest)  # over 2^highest, which may be infinite
    gains = gains.masked_fill(~mask, 0.0)
    places = torch.arange(grades.shape[1], device=grades.device)
    ideal = (gains.sort(dim=1, descending=True).values / torch.log2(2.0 + places)).sum(dim=1)
    return gains, ideal
