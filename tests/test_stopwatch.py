"""Times are counted to the part that they were spent in."""

import io
import logging
import sys
from time import sleep
from types import SimpleNamespace

from tqdm import tqdm

from rankdistill.runtime import stopwatch
from rankdistill.runtime.screen import Lines
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


def test_the_bar_follows_what_was_expected(monkeypatch):
    """A part that takes longer waits at its end; one that took less jumps to it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: clock.now)
    watch = Stopwatch()
    watch.expect([("scores", 40.0), ("distillation", 50.0), ("measuring", 10.0)])
    seen = []
    for now, over in ((0, ""), (30, ""), (70, "scores"), (75, ""), (90, "distillation"), (90, "measuring")):
        clock.now = now
        seen.append(watch.progress())
        if over:
            watch.lap(over)
    assert [*seen, watch.progress()] == [0, 30, 40, 45, 60, 90, 100]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_bar_over_the_whole(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(stopwatch, "TICK", 0.01)
    with Stopwatch() as watch:
        watch.expect([("scores", 1.0), ("distillation", 3.0)])
        watch.lap("scores")
        sleep(0.2)
    assert "whole run:  25%" in screen.getvalue() or "whole run:  3" in screen.getvalue()
    assert not watch._drawing.is_alive()


def test_a_line_of_the_log_is_above_the_bars(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    handler = Lines(screen)
    with tqdm(total=4, desc="whole run", file=screen):
        handler.emit(logging.makeLogRecord({"msg": "mining"}))
    lines = screen.getvalue().replace("\r", "\n").splitlines()
    assert "mining" in lines, "not at the end of a bar"
    assert [x for x in lines[lines.index("mining") + 1 :] if x][0].startswith("whole run")
