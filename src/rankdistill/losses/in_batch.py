"""What losses share that may also compare with the batch's documents, not the group's alone."""

import torch
from torch import Tensor, nn

from rankdistill.losses.shapes import check_flag


class OverTheBatch(nn.Module):
    """A loss of the group alone or, with ``in_batch``, of the other groups' documents too.

    A subclass defines ``value``, which gets those of the batch, or three times None.
    """

    def __init__(self, in_batch: bool):
        super().__init__()
        check_flag(in_batch=in_batch)
        self.in_batch = in_batch

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"in_batch"} if self.in_batch else ())

    def value(
        self,
        student: Tensor,
        teacher: Tensor,
        positive: Tensor,
        mask: Tensor,
        in_batch: Tensor | None,
        in_batch_mask: Tensor | None,
        in_batch_teacher: Tensor | None,
    ) -> Tensor:
        raise NotImplementedError

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        positive: Tensor,
        mask: Tensor,
        in_batch: Tensor | None = None,
        in_batch_mask: Tensor | None = None,
        in_batch_teacher: Tensor | None = None,
    ) -> Tensor:
        if self.in_batch and in_batch is None:
            raise ValueError(
                f"{type(self).__name__}(in_batch=True) needs in_batch, the scores of the batch's documents"
            )
        others = (in_batch, in_batch_mask, in_batch_teacher) if self.in_batch else (None, None, None)
        return self.value(student, teacher, positive, mask, *others)


def joined(
    scores: Tensor, valid: Tensor, in_batch: Tensor | None, in_batch_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``scores`` (B, G) and which of them count, bool, followed by the batch's (B, V), if there are any.

    Those of the batch that do not count are 0. Raises ``ValueError`` unless both of the batch are (B, V),
    and ``TypeError`` unless ``in_batch_mask`` is bool.
    """
    if in_batch is None:
        return scores, valid
    shapes = [None if x is None else tuple(x.shape) for x in (in_batch, in_batch_mask)]
    queries = len(scores)
    if in_batch_mask is None or shapes[0] != shapes[1] or in_batch.ndim != 2 or len(in_batch) != queries:
        raise ValueError(
            f"in_batch and in_batch_mask must both be (B={queries}, V): got {shapes[0]}, {shapes[1]}"
        )
    if in_batch_mask.dtype != torch.bool:
        raise TypeError(f"in_batch_mask must be bool: got {in_batch_mask.dtype}")
    more = in_batch.to(scores.dtype).masked_fill(~in_batch_mask, 0.0)
    return torch.cat([scores, more], dim=1), torch.cat([valid, in_batch_mask], dim=1)
