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


def test_laps_say_what_is_left_of_what_was_expected(monkeypatch, caplog):
    times = iter([0.0, 50.0, 60.0, 100.0, 104.0])
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: next(times))
    watch = Stopwatch()
    watch.expect([("scores", 40.0), ("measuring", 5.0), ("distillation", 45.0), ("measuring", 5.0)])
    with caplog.at_level("INFO"):
        for name in ("scores", "plots", "distillation", "measuring"):
            watch.lap(name)
    assert caplog.messages == ["scores: 50 s; about 55 s to go", "distillation: 40 s; about 5 s to go"]
