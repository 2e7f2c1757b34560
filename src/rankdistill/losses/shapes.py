"""What every loss does first: check the shapes, leave half precision."""

import math
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor

from rankdistill.errors import InputError

# Scores of a row that differ by no more are equal to what divides by their spread: its gradient is
# 1 / spread, and its square, of which the norm of all gradients is made, must have a place in float32.
EQUAL = 1e-18


def check_group(student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor):
    """The four matrices, scores in float32 (float64 stays), padding's scores 0.

    Zeros keep whatever is in the padding (NaN, infinities) out of values and gradients.
    Raises ``ValueError`` if the four shapes differ or aren't (B, G), ``TypeError`` if
    ``positive`` or ``mask`` isn't bool.
    """
    shapes = [tuple(x.shape) for x in (student, teacher, positive, mask)]
    if len(set(shapes)) != 1 or student.ndim != 2:
        raise ValueError(
            "student, teacher, positive and mask must all be (B, G): got " + ", ".join(map(str, shapes))
        )
    if positive.dtype != torch.bool or mask.dtype != torch.bool:
        raise TypeError(f"positive and mask must be bool: got {positive.dtype}, {mask.dtype}")
    student, teacher = (
        x.to(torch.promote_types(x.dtype, torch.float32)).masked_fill(~mask, 0.0) for x in (student, teacher)
    )
    return student, teacher, positive & mask, mask


def check_temperature(name: str, value: float | Tensor) -> None:
    """Raises ``ValueError`` unless scores can be divided by ``value`` and still differ."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: a temperature is a finite number above 0")


def is_number(value: object) -> bool:
    """Whether ``value`` is a number or, as one that is learnt, a tensor; True and False are not."""
    return isinstance(value, (Real, Tensor)) and not isinstance(value, bool)


def check_at_least(least: float, **values: float) -> None:
    """Raises ``InputError`` naming the first of ``values`` that is no finite number of ``least`` or more."""
    for name, value in values.items():
        if not is_number(value) or not least <= value < math.inf:
            raise InputError(f"{name}={value!r}: it must be a finite number, {least} or more")


def check_flag(**values: bool) -> None:
    """Raises ``InputError`` naming the first of ``values`` that is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r}: it must be True or False")


def check_choice(name: str, value: str, options: Any) -> None:
    """Raises ``InputError`` unless ``value`` is one of ``options``, a ``Literal``."""
    if value not in get_args(options):
        raise InputError(f"{name}={value!r}: it must be {', '.join(get_args(options))}")
