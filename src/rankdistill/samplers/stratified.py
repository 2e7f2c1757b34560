"""Stratified sampling: a group that mirrors the distribution of the teacher's scores.

After *Beyond Hard Negatives* (arXiv 2604.04734), which describes K evenly spaced quantile anchors
over min-max-normalised teacher scores, the nearest document serving each. Its abstract and public
notes leave the space and the placement of the anchors open, so both are fields.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankdistill.samplers.pool import PoolSampler, best


@dataclass(frozen=True)
class StratifiedSampler(PoolSampler):
    """Negatives at evenly spaced anchors of the teacher's score distribution.

    There are ``negatives`` anchors, each at a level in [0, 1]:

    * ``placement="mid"``: (i + 0.5) / K, the middles of K strata; ``"ends"``: i / (K - 1), the
      lowest and highest included (a single anchor is at 0.5);
    * ``space="quantile"``: the anchor is the pool's quantile at its level, linearly interpolated,
      so that the group mirrors the distribution; ``"score"``: it is that point between the lowest
      and the highest score, so that the group covers the range evenly.

    Anchors are served from the highest down; each takes the document nearest in score that is not
    yet taken, among equally near ones the higher score, then the lower index. Min-max
    normalisation changes neither which document is nearest nor a quantile, so distances are taken
    on the scores themselves. A pool no larger than the group is taken whole, highest first;
    so are equal scores by index.

    ``jitter`` draws each level again for every query and epoch, uniformly within its stratum (for
    ``"ends"``, within half a step to either side); without it the sampler is deterministic.

    Positives are the highest-scored ones, in addition to the anchors, which are spread over the
    other documents. With ``positives=0`` the anchors are spread over the whole pool and no label
    is used. Negatives that the margins leave out (see ``PoolSampler``) are no part of the distribution.
    """

    space: Literal["quantile", "score"] = "quantile"
    placement: Literal["mid", "ends"] = "mid"
    jitter: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.space not in ("quantile", "score"):
            raise ValueError(f"space={self.space!r}: it must be 'quantile' or 'score'")
        if self.placement not in ("mid", "ends"):
            raise ValueError(f"placement={self.placement!r}: it must be 'mid' or 'ends'")
        if not isinstance(self.jitter, bool):
            raise ValueError(f"jitter={self.jitter!r}: it must be true or false")

    def select(self, scores: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See ``rankdistill.samplers``."""
        relevant, others = self.split(scores, positive)
        ordered = best(scores, others, len(others))  # highest first
        if len(ordered) > self.negatives:
            values = np.asarray(scores, dtype=np.float64)[ordered]
            ordered = ordered[nearest(values, self.anchors(values, rng))]
        return np.concatenate([best(scores, relevant, self.positives), ordered])

    def anchors(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The scores that negatives are sought for, highest first, float64 (K,)."""
        k = self.negatives
        if self.placement == "mid" or k == 1:
            shift = rng.random(k) if self.jitter else 0.5
            levels = (np.arange(k) + shift) / k
        else:
            shift = rng.random(k) - 0.5 if self.jitter else 0.0
            levels = np.clip((np.arange(k) + shift) / (k - 1), 0.0, 1.0)
        if self.space == "quantile":
            places = np.arange(len(values))  # np.quantile's linear method, at a fraction of its cost
            points = np.interp(levels * (len(values) - 1), places, values[::-1])
        else:
            points = values.min() + levels * (values.max() - values.min())
        return points[::-1]


def nearest(values: np.ndarray, anchors: np.ndarray) -> list[int]:
    """For each anchor in turn, the index of the nearest value not yet taken.

    ``values`` descending (n,), ``anchors`` (K,), K <= n. Differences of distance below a billionth
    of the range are rounding and count as equal; the first, higher value then wins.
    """
    slack = 1e-9 * (values[0] - values[-1])
    places = np.searchsorted(-values, -anchors).tolist()  # of the first value not above the anchor
    values, n = values.tolist(), len(values)
    free, taken = [True] * n, []
    for anchor, place in zip(anchors.tolist(), places, strict=True):
        above, below = place - 1, place
        while above >= 0 and not free[above]:
            above -= 1
        while below < n and not free[below]:
            below += 1
        up = values[above] - anchor if above >= 0 else np.inf
        down = anchor - values[below] if below < n else np.inf
        limit = min(up, down) + slack
        chosen = above if up <= limit else below
        while above >= 0 and values[above] - anchor <= limit:  # higher ones as near, ties among them
            chosen = above if free[above] else chosen
            above -= 1
        free[chosen] = False
        taken.append(chosen)
    return taken
