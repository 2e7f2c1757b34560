"""Training of tables of which a step touches few rows: their gradient is sparse."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw


class RowAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) of the rows that have a gradient.

    The others keep value and moments, as with torch's SparseAdam, and do not decay. A dense gradient, of
    several processes, moves the same rows as a sparse one: those that are not all 0.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: Tensor, group: dict) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        (beta1, beta2), rate = group["betas"], float(group["lr"])
        gradient, wholes = cast(Tensor, weight.grad), (weight, state["exp_avg"], state["exp_avg_sq"])
        parts: Sequence[Tensor] = wholes
        rows = None
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, gradient = gradient.indices()[0], gradient.values()
        elif gradient.ndim > 1:
            rows = gradient.flatten(1).any(dim=1).nonzero().flatten()
            gradient = gradient.index_select(0, rows)
        if rows is not None:
            parts = [part.index_select(0, rows) for part in parts]
        moved, first, second = parts
        adamw(
            [moved],
            [gradient],
            [first],
            [second],
            [],
            [state["step"] - 1],  # which it counts
            fused=True,  # one pass over memory in the place of eight
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=rate,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        if rows is not None:
            for whole, part in zip(wholes, parts, strict=True):
                whole.index_copy_(0, rows, part)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Parameter], largest: float) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_`` for sparse gradients too; returns the norm before."""
    values = []
    for weight in parameters:
        if weight.grad is not None:
            if weight.grad.is_sparse:
                weight.grad = weight.grad.coalesce()
            values.append(weight.grad.values() if weight.grad.is_sparse else weight.grad)
    norm = torch.nn.utils.get_total_norm(values)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(factor)
    return norm
