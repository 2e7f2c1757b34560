"""What a model gives must be finite, whichever kind it is."""

from collections.abc import Iterable

import numpy as np

from rankdistill.errors import InputError


def check_finite(values: Iterable[np.ndarray | float], texts: Iterable[str], what: str = "embedding") -> None:
    """Raises ``InputError`` with the first of ``texts`` whose numbers in ``found`` aren't all finite."""
    for text, numbers in zip(texts, values, strict=True):
        if not np.isfinite(numbers).all():
            raise InputError(
                f"model: its {what} of {text[:60]!r} is not finite: damaged, or training diverged"
            )
