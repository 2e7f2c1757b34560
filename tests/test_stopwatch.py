"""Times are counted to the part that they were spent in."""

from rankdistill.runtime import stopwatch
from rankdistill.runtime.stopwatch import Stopwatch


def test_laps_add_up(monkeypatch):
    times = iter([100.0, 103.0, 203.0, 208.0])
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: next(times))
    watch = Stopwatch()
    for name in ("measuring", "distillation", "measuring"):
        watch.lap(name)
    assert watch.seconds == {"measuring": 8.0, "distillation": 100.0}
    assert str(watch) == "1.8 min: measuring 8 s, distillation 1.7 min"
