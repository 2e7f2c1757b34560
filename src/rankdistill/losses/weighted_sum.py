"""A weighted sum of losses."""

import inspect
from collections.abc import Mapping

from torch import Tensor, nn


def accepted(function, offered: Mapping) -> dict:
    """Those of ``offered`` that ``function`` names in its signature (all, if it takes ``**kwargs``)."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}


class WeightedSum(nn.Module):
    """Sum of weight * loss; ``losses`` and ``weights`` have the same names.

    Raises ``ValueError`` if the names differ.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]):
        super().__init__()
        if set(losses) != set(weights):
            raise ValueError(f"losses are {sorted(losses)}, weights are for {sorted(weights)}")
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = dict(weights)

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, **more) -> Tensor:
        return sum(
            self.weights[name] * loss(student, teacher, positive, mask, **accepted(loss.forward, more))
            for name, loss in self.losses.items()
        )
