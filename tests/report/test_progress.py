import sys
from dataclasses import replace

import pytest

from autotune.kernels import Route
from autotune.report import progress
from autotune.report.progress import Lines, Live, duration, speedup
from autotune.search.results import FAILED
from autotune.search.sweep import Done
from report.builders import PAD, STOCK, WIDE, problem, refused, timed

PROBLEM = problem(WIDE, 3)
FAST, SLOW = timed(WIDE, 3, PAD, 40, 120), timed(WIDE, 3, "upcast", 130, 120)


WHY = "(MLX compiles its kernels at first use)"


class Log(Lines):
    """Lines into a list, on a clock that the test sets."""

    def __init__(self, every=5.0):
        self.now = 100.0
        self.said = []
        super().__init__(every, lambda: self.now, self.said.append)


def done(best=FAST, refused=0, resumed=False, seconds=12.34):
    return Done(PROBLEM, best, 14, refused, resumed, seconds, Route.parse(best.route if best else STOCK))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (12_600, "3.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


class TestSpeedup:
    def test_a_gain(self):
        assert speedup(FAST) == "pad multiple=8 fill=zeros 3x [2.98, 3.02]"

    def test_a_small_gain(self):
        assert speedup(timed(WIDE, 3, PAD, 100, 120)).startswith("pad multiple=8 fill=zeros 1.2x [")

    def test_one_round_has_no_bounds(self):
        assert speedup(timed(WIDE, 3, PAD, 40, 120, rounds=1)) == "pad multiple=8 fill=zeros 3x"

    def test_no_gain_is_stock(self):
        assert speedup(SLOW).startswith("stock (next best: upcast 0.923x [")

    def test_nothing_timed(self):
        assert speedup(None) == "stock (no other route was timed to the end)"


class TestLines:
    def test_a_problem_is_announced(self):
        log = Log()
        log.started(PROBLEM, 2, 7, None)
        log.started(PROBLEM, 3, 7, 600)
        assert log.said == [f"[2/7] {PROBLEM}", f"[3/7] {PROBLEM}, about 10 min left"]

    def test_measurements_are_told_every_few_seconds(self):
        log = Log(every=5)
        log.started(PROBLEM, 1, 1, None)
        for second in range(1, 13):
            log.now = 100 + second
            log.measured(PROBLEM, SLOW, FAST, 1, False)
        assert log.said[1:] == [f"[1/1] {PROBLEM}: upcast ok; best {speedup(FAST)}"] * 2

    def test_a_route_that_took_long_is_named_at_once(self):
        log = Log(every=60)
        log.started(PROBLEM, 1, 1, None)
        for seconds in (1, 27, 9):
            log.measured(PROBLEM, SLOW, FAST, seconds, False)
        assert log.said[1:] == [f"[1/1] {PROBLEM}: upcast took 27 s {WHY}"]

    @pytest.mark.parametrize(
        ("fields", "play_off"), [({}, True), ({"backend": "cpu"}, False), ({"source": "simulated"}, False)]
    )
    def test_where_nothing_is_compiled_nothing_is_said_of_it(self, fields, play_off):
        log = Log(every=60)
        log.started(PROBLEM, 1, 1, None)
        log.measured(PROBLEM, replace(SLOW, **fields), FAST, 27, play_off)
        assert log.said[1:] == [f"[1/1] {PROBLEM}: upcast took 27 s"]

    def test_what_passed_before_is_not_what_the_route_took(self):
        log = Log(every=60)
        log.started(PROBLEM, 1, 1, None)
        log.now += 27
        log.measured(PROBLEM, SLOW, FAST, 9, False)
        assert log.said[1:] == []

    def test_one_that_hung_was_not_compiled(self):
        log = Log(every=60)
        log.started(PROBLEM, 1, 1, None)
        log.now += 120
        log.measured(PROBLEM, refused(WIDE, 3, PAD, FAILED, "hung: no answer"), None, 120, False)
        assert log.said[1] == f"[1/1] {PROBLEM}: {PAD} failed; best stock (no other route was timed to the end)"

    def test_a_quick_problem_is_two_lines(self):
        log = Log(every=5)
        log.started(PROBLEM, 1, 1, None)
        log.now += 4.9
        log.measured(PROBLEM, SLOW, FAST, 4.9, False)
        log.finished(done())
        assert len(log.said) == 2

    def test_what_was_refused_is_told_as_such(self):
        log = Log(every=0)
        log.started(PROBLEM, 1, 1, None)
        log.measured(PROBLEM, refused(WIDE, 3, PAD, FAILED, "hung: no answer"), None, 1, False)
        assert log.said[1] == f"[1/1] {PROBLEM}: {PAD} failed; best stock (no other route was timed to the end)"

    def test_the_end_of_a_problem(self):
        log = Log()
        log.started(PROBLEM, 1, 9, None)
        log.finished(done())
        log.finished(done(refused=2, best=None))
        log.finished(done(resumed=True))
        assert log.said[1:] == [
            f"[1/9] {PROBLEM}: {speedup(FAST)} (14 routes, 12.3 s)",
            f"[1/9] {PROBLEM}: stock (no other route was timed to the end) (14 routes, 2 refused, 12.3 s)",
            f"[1/9] {PROBLEM}: {speedup(FAST)} (14 routes, known)",
        ]

    def test_goes_to_stderr_by_default(self, capsys):
        lines = Lines()
        lines.started(PROBLEM, 1, 1, None)
        lines.close()
        captured = capsys.readouterr()
        assert captured.err == f"[1/1] {PROBLEM}\n"
        assert not captured.out


class TestListener:
    def test_lines_where_stderr_is_no_terminal(self):
        assert isinstance(progress.listener(), Lines)

    @pytest.mark.parametrize(("term", "kind"), [("dumb", Lines), ("xterm-256color", Live)])
    def test_on_a_terminal(self, monkeypatch, term, kind):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("TERM", term)
        listener = progress.listener()
        listener.close()
        assert isinstance(listener, kind)


def test_live_names_a_route_that_took_long(capsys):
    live = Live()
    try:
        live.started(PROBLEM, 1, 1, None)
        for seconds in (1, 27):
            live.measured(PROBLEM, SLOW, FAST, seconds, False)
    finally:
        live.close()
    assert " ".join(capsys.readouterr().err.split()).count(f"upcast took 27 s {WHY}") == 1


def test_live_tells_the_same_and_leaves_stdout_alone(capsys):
    live = Live()
    try:
        live.started(PROBLEM, 1, 2, None)
        live.measured(PROBLEM, timed(WIDE, 3, STOCK, 120, 120), None, 1, False)
        live.measured(PROBLEM, FAST, FAST, 1, False)
        live.finished(done())
        live.started(PROBLEM, 2, 2, 45.0)
        live.finished(done(resumed=True))
    finally:
        live.close()
    captured = capsys.readouterr()
    assert f"{PROBLEM}: {speedup(FAST)}" in captured.err
    assert captured.err.count(f"{PROBLEM}: {speedup(FAST)}") == 1
    assert not captured.out
