"""What the parts of a job cost."""

from collections import defaultdict
from time import perf_counter


class Stopwatch:
    """``seconds`` of each part of a job, in the order in which they began; it runs from when it is made."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = perf_counter()

    def lap(self, name: str) -> None:
        """Counts the time since the last lap as ``name``'s, who may have had some before."""
        now = perf_counter()
        self.seconds[name] += now - self._since
        self._since = now

    def __str__(self) -> str:
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.seconds.items()]
        return f"{duration(sum(self.seconds.values()))}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """In minutes from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
