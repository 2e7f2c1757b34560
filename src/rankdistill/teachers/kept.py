"""What a teacher's model made of texts, kept between calls while the model stays as it is."""

from typing import Any

from torch import nn


class Kept(dict[tuple[str, str], Any]):
    """(kind, text) -> embeddings; empty again once the model changed or more than ``most`` are kept.

    ``size`` counts what ``most`` limits.
    """

    def __init__(self, most: int):
        super().__init__()
        self.most, self.size = most, 0
        self._weights: list = []
        self._fingerprint: str | None = None

    def forget(self) -> None:
        """Empties itself: what a text's embedding is to the last digit depends on those it was made with."""
        self.clear()
        self.size = 0

    def check(self, model: nn.Module, fingerprint: str | None = None) -> None:
        """Empties itself if ``model`` isn't as it was at the last call, or too much is kept.

        Where its weights are and how often each was written to is read in microseconds; what goes past
        torch's counters (``weight.data``) is seen by another ``fingerprint``, where it is given.
        """
        weights = [
            (x.data_ptr(), 0 if x.is_inference() else x._version)
            for x in (*model.parameters(), *model.buffers())
        ]
        changed = weights != self._weights or fingerprint not in (None, self._fingerprint)
        if changed or self.size > self.most:
            self.forget()
        self._weights, self._fingerprint = weights, fingerprint or self._fingerprint
