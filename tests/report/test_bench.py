"""What a bench says of itself: what is faster and slower, and what of it is beyond the noise."""

from __future__ import annotations

import json
from dataclasses import replace

from autotune.report import bench as report
from autotune.search.bench import FASTER, SAME, SLOWER, Bench, Line


def line(low, high, routed=True):
    return Line("matmul M=1 N=2 K=3 f16 nt", "upcast", routed, 10.0, 5.0, (low + high) / 2, low, high, 0.001)


LINES = (line(1.01, 1.3), line(1.15, 1.3), line(0.9, 1.1), line(0.8, 0.95), line(0.7, 0.8), line(1.2, 1.3, False))
BENCH = Bench("quick", "Fake", "0.32.4", "FakeOS", "2026-01-31", "chained", 0.1, LINES)


def test_both_sides_are_held_to_the_same_noise():
    assert [each.verdict for each in LINES] == [FASTER, FASTER, SAME, SLOWER, SLOWER, SAME]
    assert BENCH.gains == [LINES[1]]
    assert BENCH.regressions == [LINES[4]]


def test_the_summary_counts_both():
    for text in (report.to_text(BENCH), report.to_markdown(BENCH)):
        assert "2 faster, 2 the same, 2 slower; beyond the noise floor of 10.0% 1 faster, 1 slower; geometric" in text


def test_what_is_left_to_stock_is_not_bold():
    lines = [each for each in report.to_markdown(BENCH).splitlines() if each.startswith("| matmul")]
    assert ["**" in each for each in lines] == [each.routed for each in LINES] == [True] * 5 + [False]
    assert "| 1.25x | 1.20 to 1.30 |" in lines[-1]


def test_json_comes_back():
    assert report.parse_json(json.dumps(report.to_json(replace(BENCH, clock="gated")))) == replace(BENCH, clock="gated")


def test_a_file_from_before_clocks_were_named_was_timed_without():
    raw = report.to_json(BENCH)
    del raw["clock"]
    assert report.parse_json(json.dumps(raw)) == BENCH
    assert "cold weights, plain times" in report.to_text(BENCH)
