import json
import math

import pytest
from report.builders import PAD, WIDE, refused, timed

from autotune.errors import AutotuneError
from autotune.kernels import Route
from autotune.search import record, recorded
from autotune.search.results import FAILED, INACCURATE

ROWS = [
    timed(WIDE, 3, "stock", 100, 100),
    timed(WIDE, 3, PAD, 50, 100),
    refused(WIDE, 3, "pad multiple=16 fill=zeros", INACCURATE, "wrong"),
    refused(WIDE, 3, "chunk rows=2", FAILED, "raised"),
    timed(WIDE, 4, "chunk rows=2", 100, 70),
    timed(WIDE, 4, "chunk rows=1", 100, 80),
]


def test_one_file_for_each_problem_and_kernel():
    names = list(record.files(ROWS))
    assert len(names) == 4
    assert all(name.endswith(".json") and "/" not in name and " " not in name for name in names)
    assert sum("M=4" in name and "chunk" in name for name in names) == 1


def test_the_same_rows_give_the_same_bytes():
    assert record.files(ROWS) == record.files(reversed(ROWS))


def test_the_benchmark_reads_what_is_written(tmp_path):
    paths = record.write(ROWS, tmp_path / "new" / "folder")
    space = recorded.read(next(path for path in paths if "M=3" in path.name and "pad" in path.name))
    costs = {space.points.config(number)["multiple"]: cost for number, cost in enumerate(space.costs)}
    own = {row.route: row for row in ROWS[:3]}
    assert costs[16] == math.inf
    (time,) = [cost for cost in costs.values() if cost < math.inf]
    assert time == pytest.approx(own[PAD].time_us / 1e3, rel=1e-3)
    assert space.about["chip"] == ROWS[0].chip
    assert space.about["problem"] == ROWS[0].problem


def test_why_a_config_failed_is_kept():
    by_kernel = {
        json.loads(text)["metadata"]["kernel_name"]: json.loads(text) for text in record.files(ROWS[:4]).values()
    }
    assert [each["invalidity"] for each in by_kernel["chunk"]["results"]] == ["runtime"]
    assert {each["invalidity"] for each in by_kernel["pad"]["results"]} == {"correctness", "correct"}


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutotuneError, match="file cannot be written"):
        record.write(ROWS, tmp_path / "file")


def test_a_time_is_stocks_median_over_the_paired_speedup():
    """Stock took 100 us when one was measured and 120 us when the other was, which took as long by the clock."""
    rows = [timed(WIDE, 3, "chunk rows=1", 50, 100), timed(WIDE, 3, "chunk rows=2", 50, 120)]
    (text,) = record.files(rows).values()
    content = json.loads(text)
    ms = {each["configuration"]["rows"]: each["measurements"][0]["value"] for each in content["results"]}
    assert ms[1] == pytest.approx(0.110 / 2, rel=1e-3)
    assert ms[2] == pytest.approx(0.110 / 2.4, rel=1e-3)
    assert content["metadata"]["time"] == record.TIME
    assert content["metadata"]["rounds"] == [8, 8]


def test_rounds_that_are_at_hand_are_written():
    row = timed(WIDE, 3, "chunk rows=1", 50, 100)
    rounds = {Route.parse(row.route): record.Rounds((1e-4, 3e-4), (math.log(2), math.log(3)), "2026-11-21T10:00:00Z")}
    (text,) = record.files([row], rounds).values()
    (result,) = json.loads(text)["results"]
    assert result["times"]["runtimes"] == pytest.approx([0.1, 0.2 / 3], rel=1e-5)
    assert result["measurements"][0]["value"] == pytest.approx(0.2 / math.sqrt(6), rel=1e-5)
    assert result["timestamp"] == "2026-11-21T10:00:00Z"
