"""The mean of models' weights, a soup.

Wortsman et al. 2022, arXiv 2203.05482; KaLM-Embedding-V2, arXiv 2506.20923.
"""

import copy
from collections.abc import Sequence

import torch
from sentence_transformers.base.model import BaseModel

from rankdistill.errors import InputError
from rankdistill.students.load import settings_of


def averaged(models: Sequence[BaseModel], weights: Sequence[float] | None = None) -> BaseModel:
    """A model whose weights are the mean of those of ``models``, all alike or in the shares of ``weights``.

    What is no floating-point number, such as positions, is the first one's, and so is how many tokens are
    read of a text. Models of equal weights give these to the bit: sums are in double precision. Raises
    ``InputError`` for models that are built otherwise or compare otherwise than the first.
    """
    first, shares = models[0], shares_of(models, weights)
    for place, model in enumerate(models[1:], 2):
        if settings_of(model) != settings_of(first) or shapes_of(model) != shapes_of(first):
            raise InputError(
                f"model: number {place} is built, reads or compares otherwise than the first (layers, "
                "tokenizer, prompts or similarity), and weights of unlike models have no mean"
            )
    states = [model.state_dict() for model in models]
    mean = {}
    for name, weight in states[0].items():
        if weight.is_floating_point():
            parts = (share * state[name].double() for share, state in zip(shares, states, strict=True))
            mean[name] = sum(parts, torch.zeros_like(weight, dtype=torch.float64)).to(weight.dtype)
    made = copy.deepcopy(first)
    made.load_state_dict(mean, strict=False)
    return made


def shares_of(models: Sequence[BaseModel], weights: Sequence[float] | None) -> list[float]:
    """``weights`` divided by their sum; raises ``InputError`` unless there is one of 0 or more for each."""
    if weights is None:
        return [1 / len(models)] * len(models)
    if len(weights) != len(models) or not all(weight >= 0 for weight in weights) or not sum(weights) > 0:
        raise InputError(f"weights={list(weights)}: give one for each of the {len(models)} models, 0 or more")
    return [weight / sum(weights) for weight in weights]


def shapes_of(model: BaseModel) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.state_dict().items()}
