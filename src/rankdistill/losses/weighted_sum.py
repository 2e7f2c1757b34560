"""A weighted sum of losses."""

import math
from collections.abc import Mapping
from functools import reduce
from operator import add

from torch import Tensor, nn

from rankdistill.losses.base import Loss, columns_of, reads, reads_of_teacher, value_of
from rankdistill.losses.shapes import is_number
from rankdistill.vocabulary import Batch, Outputs


class WeightedSum(Loss):
    """Sum of weight * loss; ``losses`` and ``weights`` have the same names.

    Raises ``ValueError`` if one is no dict, the names differ, one isn't a loss, or a weight isn't 0 or more.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]):
        super().__init__()
        for name, value in (("losses", losses), ("weights", weights)):
            if not isinstance(value, Mapping):
                raise ValueError(f"{name}={value!r:.60}: it must be a dict, by the losses' names")
        if set(losses) != set(weights):
            raise ValueError(f"losses are {sorted(losses)}, weights are for {sorted(weights)}")
        if not all(isinstance(loss, nn.Module) for loss in losses.values()):
            raise ValueError(f"losses={dict(losses)}: each must be a loss; leave one out with a weight of 0")
        numbers = all(is_number(weight) and 0 <= weight < math.inf for weight in weights.values())
        if not numbers or not any(weights.values()):
            raise ValueError(f"weights={dict(weights)}: they must be 0 or more, and one above 0")
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = dict(weights)
        self.columns = frozenset[str]().union(*map(columns_of, self.losses.values()))
        self.reads = frozenset[str]().union(*map(reads, self.losses.values()))
        self.reads_of_teacher = frozenset[str]().union(*map(reads_of_teacher, self.losses.values()))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return reduce(
            add,
            (
                self.weights[name] * value_of(loss, student, teacher, batch)
                for name, loss in self.losses.items()
            ),
        )
