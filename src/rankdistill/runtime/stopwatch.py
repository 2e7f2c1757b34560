"""What the parts of a job cost, and what they were expected to."""

import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from threading import Event, Thread
from time import perf_counter

from tqdm.auto import tqdm

from rankdistill.runtime import processes

log = logging.getLogger(__name__)
TICK = 1.0  # seconds between two drawings of the bar


class Stopwatch:
    """``seconds`` of each part of a job, in the order in which they began; it runs from when it is made.

    On a terminal a bar over the whole job is drawn from ``expect`` to the end of the context that this is.
    """

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = perf_counter()
        self._expected: list[tuple[str, float]] = []
        self._total = 0.0
        self._over = Event()
        self._drawing = Thread(target=self._draw, daemon=True)

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._drawing.is_alive():
            self._drawing.join()

    def expect(self, parts: Sequence[tuple[str, float]]) -> None:
        """``parts`` that are still to come, in their order, and how many seconds each will take.

        From now on each lap says how much is left.
        """
        self._expected = list(parts)
        self._total = sum(seconds for _, seconds in parts)
        if processes.is_main() and sys.stderr.isatty():
            self._drawing.start()

    def progress(self) -> float:
        """Seconds of the expected ones that are over: a part that takes longer waits at its end."""
        if not self._expected:
            return self._total
        left = sum(seconds for _, seconds in self._expected)
        return self._total - left + min(perf_counter() - self._since, self._expected[0][1])

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

    def _draw(self) -> None:
        shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        with tqdm(total=self._total, desc="whole run", bar_format=shape, smoothing=0, leave=False) as bar:
            while not self._over.wait(TICK):
                bar.n = max(bar.n, self.progress())
                bar.refresh()

    def __str__(self) -> str:
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.seconds.items()]
        return f"{duration(sum(self.seconds.values()))}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """In minutes from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
