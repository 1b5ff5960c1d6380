import json
import math

import pytest
from report.builders import PAD, WIDE, refused, timed

from autotune.errors import AutotuneError
from autotune.search import record, recorded
from autotune.search.results import FAILED, INACCURATE

ROWS = [
    timed(WIDE, 3, "stock", 100, 100),
    timed(WIDE, 3, PAD, 100, 50),
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
    assert time == pytest.approx(own[PAD].time_us / 1e3)
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
