"""Which texts are the same: identity by text, where two ids do not mean two things."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np


class SameText:
    """Of n texts, ``first`` int64 (n,): the row of the first that is the same; ``repeated`` bool (n,)."""

    def __init__(self, first: np.ndarray):
        self.first = first
        self.repeated = np.bincount(first, minlength=len(first))[first] > 1
        self._order = np.argsort(first, kind="stable")
        self._sorted = first[self._order]

    def rows(self, some: Iterable[int]) -> set[int]:
        """The rows of all texts that are the same as one of ``some``, these among them."""
        firsts = self.first[list(some)]
        ends = np.searchsorted(self._sorted, [firsts, firsts + 1])
        return {row for start, stop in ends.T for row in self._order[start:stop].tolist()}


def same_text(texts: Sequence[str], folded: bool = False) -> SameText | None:
    """None if all of ``texts`` differ.

    Texts are the same that are equal in Unicode's NFC, without the white space around them; ``folded``, also
    those that differ in nothing but case and white space.
    """
    rows: dict[str, int] = {}
    compared = (" ".join(text.casefold().split()) if folded else text.strip() for text in texts)
    first = np.fromiter(
        (rows.setdefault(unicodedata.normalize("NFC", text), row) for row, text in enumerate(compared)),
        dtype=np.int64,
        count=len(texts),
    )
    return SameText(first) if len(rows) < len(texts) else None
