"""Rows that cannot be used, gathered so that one line can say how many and where."""

import logging
import unicodedata
from collections.abc import Iterable

from rankdistill.errors import InputError, shorten

log = logging.getLogger(__name__)


class Faults:
    """Rows that cannot be used: the first few of each kind, and how many."""

    def __init__(self):
        self.found: dict[str, list[str]] = {}
        self.unknown: dict[str, tuple[list[str], Iterable[str]]] = {}

    def add(self, kind: str, where: str, id_: str | None = None, known: Iterable[str] = ()) -> None:
        """One more of ``kind``; where it is an ``id_`` that isn't among the ``known``, with both."""
        self.found.setdefault(kind, []).append(where)
        if id_ is not None and len(self.unknown.setdefault(kind, ([], known))[0]) < LOOKED_AT:
            self.unknown[kind][0].append(id_)

    def settle(self, invalid: str) -> None:
        """Raises ``InputError`` for those of the first kind (``error``), or logs all (``skip``)."""
        for kind, places in self.found.items():
            text = f"{len(places):,} {kind}: {shorten(places)}".replace("'", "")
            if invalid == "error":
                hint = resemblance(*self.unknown.get(kind, ((), ())))
                raise InputError(f"{text}{hint}; correct them, or drop such rows: data.invalid=skip")
            log.warning("skipped %s", text)


LIKE = {  # what two ids may differ by, and what is left of an id without it
    "Unicode normalisation": lambda id_: unicodedata.normalize("NFC", id_),
    "the quotes around it": lambda id_: id_.strip("\"'"),
    "leading zeros": lambda id_: id_.lstrip("0") or "0",
    "the .0 of a float": lambda id_: id_.removesuffix(".0"),
    "upper and lower case": str.casefold,
}
LOOKED_AT = 3  # unknown ids, which are those that a message names


def resemblance(unknown: Iterable[str], known: Iterable[str]) -> str:
    """What an error about ``unknown`` ids may add where one of ``known`` is almost the same, or nothing."""
    first = list(unknown)[:LOOKED_AT]
    if not first:
        return ""
    for what, bare in LIKE.items():
        wanted = {bare(id_): id_ for id_ in first}
        for id_ in known:
            if (meant := wanted.get(bare(id_))) is not None:
                return f" ({meant!r} differs from {id_!r} only by {what})"
    return ""
