"""What the parts of a job cost, and what they were expected to."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from time import perf_counter

log = logging.getLogger(__name__)


class Stopwatch:
    """``seconds`` of each part of a job, in the order in which they began; it runs from when it is made."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = perf_counter()
        self._expected: list[tuple[str, float]] = []

    def expect(self, parts: Sequence[tuple[str, float]]) -> None:
        """``parts`` that are still to come, in their order, and how many seconds each will take.

        From now on each lap says how much is left.
        """
        self._expected = list(parts)

    def lap(self, name: str) -> None:
        """Counts the time since the last lap as ``name``'s, who may have had some before."""
        now = perf_counter()
        took, self._since = now - self._since, now
        self.seconds[name] += took
        places = [i for i, (part, _) in enumerate(self._expected) if part == name]
        if places:
            del self._expected[: places[0] + 1]
            if left := sum(seconds for _, seconds in self._expected):
                log.info("%s: %s; about %s to go", name, duration(took), duration(left))

    def __str__(self) -> str:
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.seconds.items()]
        return f"{duration(sum(self.seconds.values()))}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """In minutes from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
