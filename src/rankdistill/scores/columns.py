"""Columns of a score table besides the scores: what they may be, and their weighted sum."""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from numbers import Real
from operator import add

import numpy as np

from rankdistill.errors import InputError

KINDS = ("float32", "int16")  # of columns
RESERVED = ("scores", "pairs", "pair_p")  # what no further column is called


def check_column(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises ``InputError`` unless ``values`` may be a score table's column ``name``."""
    check_column_name(name)
    if values.shape != shape or values.dtype.name not in KINDS:
        raise InputError(
            f"score table: column {name} must be {' or '.join(KINDS)} {shape}, not {values.dtype} "
            f"{values.shape}"
        )
    if values.dtype == np.float32 and not np.isfinite(values).all():
        raise InputError(f"score table: column {name} holds what is not finite; score again")


def check_column_name(name: str) -> None:
    """Raises ``InputError`` unless a column may be called ``name``."""
    if not re.fullmatch(r"[\w-]+", name) or name in RESERVED:
        raise InputError(
            f"score table: a column must not be called {name!r:.60}; its name is of letters, digits, _ "
            f"and -, and none of {', '.join(RESERVED)}"
        )


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ``InputError`` unless ``weights`` are finite numbers, one or more."""
    if not isinstance(weights, Mapping) or not weights:
        raise InputError(f"teacher_weights={weights!r:.60}: it must be weights of columns, by name")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not np.isfinite(float(weight)):
            raise InputError(f"teacher_weights={{{name}: {weight!r}}}: a weight must be a finite number")


def weighted_sum(weights: Iterable[float], columns: Iterable[np.ndarray]) -> np.ndarray:
    """float32 (n,): the sum of the aligned ``columns``, each times its weight, from left to right."""
    return reduce(add, (np.float32(weight) * column for weight, column in zip(weights, columns, strict=True)))
