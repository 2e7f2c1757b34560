"""Texts of like length together: what is padded is computed for nothing."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rankdistill.students.fast.packing import MULTIPLE, pack


def tokens_at_once(device: torch.device, training: bool = False) -> int:
    """How many tokens a chunk has unless told: small ones leave a GPU idle, and fit a CPU's caches."""
    if device.type == "cpu":
        return 4_096
    return 16_384 if training else 65_536


def by_length(features: dict[str, Any]) -> Tensor:
    """Rows of the padded ``features`` from the longest to the shortest, int64 (n,)."""
    return torch.argsort(features["attention_mask"].sum(dim=1), descending=True, stable=True)


def chunks(
    features: dict[str, Any], order: Tensor, budget: int, first_position: int | None = None
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Rows and features of one chunk after the other, along ``order`` (of ``by_length``).

    A chunk has at most ``budget`` tokens with padding, at least one text, and as many columns as
    its longest text needs, rounded up to a multiple of 16 where there are so many. With a
    ``first_position`` (``packing.first_position``) it is packed, and has no padding.
    """
    if first_position is not None:
        ends = features["attention_mask"].sum(dim=1)[order].cumsum(0)
        start = 0
        while start < len(order):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, before + budget, right=True)))
            yield order[start:stop], pack(features, order[start:stop], first_position)
            start = stop
        return
    start = 0
    while start < len(order):
        columns = _columns(features["attention_mask"][order[start]].bool())
        members = order[start : start + max(1, budget // len(columns))]
        columns = _columns(features["attention_mask"][members].any(dim=0))
        yield (
            members,
            {
                name: value[members][:, columns] if torch.is_tensor(value) and value.ndim == 2 else value
                for name, value in features.items()
            },
        )
        start += len(members)


def _columns(needed: Tensor) -> Tensor:
    """The columns ``needed`` (bool) and some of padding, on whichever side it is; ascending."""
    padding = (~needed).nonzero().squeeze(1)
    nearest = padding if needed[0] else padding.flip(0)
    kept = needed.clone()
    kept[nearest[: -int(needed.sum()) % MULTIPLE]] = True
    return kept.nonzero().squeeze(1)
