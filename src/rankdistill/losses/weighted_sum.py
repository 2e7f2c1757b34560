"""A weighted sum of losses."""

import inspect
import math
from collections.abc import Mapping

from torch import Tensor, nn

from rankdistill.losses.shapes import is_number


def accepted(function, offered: Mapping) -> dict:
    """Those of ``offered`` that ``function`` names in its signature (all, if it takes ``**kwargs``)."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}


class WeightedSum(nn.Module):
    """Sum of weight * loss; ``losses`` and ``weights`` have the same names.

    Raises ``ValueError`` if the names differ, one isn't a loss, or a weight isn't 0 or more.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]):
        super().__init__()
        if set(losses) != set(weights):
            raise ValueError(f"losses are {sorted(losses)}, weights are for {sorted(weights)}")
        if not all(isinstance(loss, nn.Module) for loss in losses.values()):
            raise ValueError(f"losses={dict(losses)}: each is a loss; leave one out with a weight of 0")
        numbers = all(is_number(weight) and 0 <= weight < math.inf for weight in weights.values())
        if not numbers or not any(weights.values()):
            raise ValueError(f"weights={dict(weights)}: they are 0 or more, and one is above 0")
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = dict(weights)

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, **more) -> Tensor:
        return sum(
            self.weights[name] * loss(student, teacher, positive, mask, **accepted(loss.forward, more))
            for name, loss in self.losses.items()
        )
