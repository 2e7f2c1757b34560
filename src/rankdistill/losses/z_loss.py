"""The Z-loss (de Brébisson & Vincent 2016, arXiv 1604.08859): of scores in units of their own spread."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from rankdistill.errors import InputError
from rankdistill.losses.shapes import EQUAL, check_group, check_temperature, is_number


def z_loss(
    student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, a: float = 1.0, b: float = 2.0
) -> Tensor:
    """log(1 + e^(a (b - z))) / a with z = (s - mean) / deviation of a positive, mean over the queries.

    All (B, G); a scalar. Of several positives it is their mean. Mean and deviation are those of the group's
    scores. It asks that a positive be about ``b`` deviations above its group, ``a`` says how sharply; neither
    a constant added to a row nor a positive factor changes it, so that it does not pull scores apart. A query
    of equal scores (``EQUAL``), or without a positive, is left out. The teacher is not used.
    """
    student, _, positive, mask = check_group(student, teacher, positive, mask)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    centred = (student - student.sum(dim=1, keepdim=True) / count).masked_fill(~mask, 0.0)
    apart, size = (x.detach().abs().sum(dim=1, keepdim=True) for x in (centred, student))
    # what is less is rounding; a NaN is not passed over
    equal = (apart <= 1e-6 * size) | (apart <= EQUAL * count)
    counted = positive & ~equal
    unit = centred / apart.masked_fill(equal, 1.0)  # a factor changes nothing, and squares of these are not 0
    variance = unit.square().sum(dim=1, keepdim=True) / count
    z = unit / variance.masked_fill(~counted.any(dim=1, keepdim=True), 1.0).sqrt()
    terms = (softplus(a * (b - z)) / a).masked_fill(~counted, 0.0)
    per_query = terms.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return per_query.sum() / counted.any(dim=1).sum().clamp(min=1)


class ZLoss(nn.Module):
    """``z_loss`` with its settings."""

    def __init__(self, a: float = 1.0, b: float = 2.0):
        super().__init__()
        check_temperature("a", a)
        if not is_number(b):
            raise InputError(f"b={b!r}: it must be a number")
        self.a, self.b = a, b

    def forward(self, student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        return z_loss(student, teacher, positive, mask, self.a, self.b)
