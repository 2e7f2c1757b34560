"""Ranks of a group's documents, counted and smooth."""

import torch
from torch import Tensor


def ranks(scores: Tensor, mask: Tensor) -> Tensor:
    """The rank of each document from 1, the highest score first, (B, G); equal ones share their mean rank.

    Of a padding it is some number.
    """
    lead = (scores.unsqueeze(1) - scores.unsqueeze(2)).masked_fill(~mask.unsqueeze(1), -1.0)  # (B, i, j)
    above, tied = ((lead > 0).sum(dim=2), (lead == 0).sum(dim=2))  # each ties with itself
    return (above + 0.5 * tied + 0.5).to(scores.dtype)


def smoothly_above(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """The rank less 1, with a gradient, (B, G): the sum over the others of sigmoid((s_j - s_i) / T)."""
    lead = (scores.unsqueeze(1) - scores.unsqueeze(2)) / temperature  # (B, i, j): s_j - s_i
    own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return torch.sigmoid(lead).masked_fill(own | ~mask.unsqueeze(1), 0.0).sum(dim=2)
