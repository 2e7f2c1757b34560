"""The processes of one job, as torchrun or ``accelerate launch`` starts them; most jobs have one.

All of them call the same functions in the same order; these say which share a process works on, and
what they tell each other.
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rankdistill.errors import InputError
from rankdistill.runtime.environment import world_size

MEETING = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun and accelerate set besides


def join() -> None:
    """Meets the other processes, if the environment says that there are any.

    Raises ``InputError`` where it says so by half, as what a launcher left in it does.
    """
    if (said := world_size()) > 1:
        if missing := [name for name in MEETING if name not in os.environ]:
            raise InputError(
                f"WORLD_SIZE={said} in the environment, without {', '.join(missing)}: start the processes "
                "with torchrun, or unset WORLD_SIZE for one"
            )
        from accelerate import PartialState

        # one process may build an index for hours while the others wait
        PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))


def leave() -> None:
    """Parts from the others; call ``wait`` before, unless something failed."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        dist.barrier()


def broadcast(value: Any) -> Any:
    """The main process's ``value``, in every process."""
    box = [value]
    if count() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def gathered(value: Any) -> list:
    """The ``value`` of every process, by rank."""
    values = [value]
    if count() > 1:
        values = [None] * count()
        dist.all_gather_object(values, value)
    return values


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        ctx.start, ctx.length = len(tensor) * rank(), len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(count())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.length]


def gather_rows(tensor: Tensor, fill: float = 0) -> Tensor:
    """The rows (U, ...) of every process, by rank, those with fewer filled up; differentiable.

    A row's gradient is the sum of the gradients that all processes have for it, so that the mean of
    their parameters' gradients is that of one process with all rows.
    """
    if count() == 1:
        return tensor
    most = torch.tensor([len(tensor)], device=tensor.device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    filled = tensor.new_full((int(most) - len(tensor), *tensor.shape[1:]), fill)
    return _Gather.apply(torch.cat([tensor, filled]))
