"""Rows that cannot be used, gathered so that one line can say how many and where."""

import logging

from rankdistill.errors import InputError, shorten

log = logging.getLogger(__name__)


class Faults:
    """Rows that cannot be used: the first few of each kind, and how many."""

    def __init__(self):
        self.found: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        self.found.setdefault(kind, []).append(where)

    def settle(self, invalid: str) -> None:
        """Raises ``InputError`` for those of the first kind (``error``), or logs all (``skip``)."""
        for kind, places in self.found.items():
            text = f"{len(places):,} {kind}: {shorten(places)}".replace("'", "")
            if invalid == "error":
                raise InputError(f"{text}; mend them, or drop such rows: data.invalid=skip")
            log.warning("skipped %s", text)
