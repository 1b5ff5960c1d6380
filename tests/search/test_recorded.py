import gzip
import json
import math

import pytest

from autotune.errors import UsageError
from autotune.search import recorded
from autotune.search.recorded import Entry

CACHE = {
    "device_name": "A GPU",
    "kernel_name": "a kernel",
    "problem_size": [64],
    "tune_params_keys": ["x", "y"],
    "tune_params": {"x": [2, 4], "y": [0, 1]},
    "objective": "GFLOP/s",
    "cache": {
        "2,0": {"x": 2, "y": 0, "time": 3.0, "GFLOP/s": 1.0, "times": [3.0]},
        "4,0": {"x": 4, "y": 0, "time": "RuntimeFailedConfig"},
        "4,1": {"x": 4, "y": 1, "time": 2},
        "2,1": {"x": 2, "y": 1, "time": 1e20},
    },
}
ENTRIES = [
    Entry({"kernel": "pad", "multiple": 8}, "correct", 2e-3, (1.9e-3, 2.1e-3), "2026-11-21"),
    Entry({"kernel": "pad", "multiple": 4}, "correctness", 0.0, (), "2026-11-21"),
]


def write(path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def costs(space):
    return {tuple(space.points.config(number).values()): cost for number, cost in enumerate(space.costs)}


class TestRead:
    @pytest.mark.parametrize("name", ["a_space.json", "a_space.json.gz"])
    def test_a_cache_file(self, tmp_path, name):
        space = recorded.read(write(tmp_path / name, CACHE))
        assert costs(space) == {(2, 0): 3.0, (4, 0): math.inf, (4, 1): 2.0, (2, 1): math.inf}
        assert (space.name, space.optimum, space.about["device_name"]) == ("a_space", 2.0, "A GPU")

    def test_a_t4_file_that_was_written_here(self, tmp_path):
        space = recorded.read(write(tmp_path / "t4.json", recorded.t4(ENTRIES, {"chip": "m5max"})))
        assert costs(space) == {("pad", 8): 2.0, ("pad", 4): math.inf}
        assert space.about == {"chip": "m5max", "timeunit": "milliseconds"}

    @pytest.mark.parametrize(
        "content",
        [
            "no JSON",
            "[]",
            {},
            {"results": []},
            {**CACHE, "cache": {}},
            {**CACHE, "tune_params_keys": ["z"]},
            {**CACHE, "cache": {"2,0": CACHE["cache"]["2,0"], "again": CACHE["cache"]["2,0"]}},
            {**CACHE, "cache": {"4,0": CACHE["cache"]["4,0"]}},
        ],
        ids=["text", "a list", "nothing", "no results", "empty", "another parameter", "twice", "all failed"],
    )
    def test_what_is_none_is_named(self, tmp_path, content):
        with pytest.raises(UsageError, match=r"odd\.json is no recorded space"):
            recorded.read(write(tmp_path / "odd.json", content))

    def test_a_file_that_is_not_there_or_cut_off(self, tmp_path):
        with pytest.raises(UsageError, match="no recorded space"):
            recorded.read(tmp_path / "none.json")
        whole = gzip.compress(json.dumps(CACHE).encode())
        (tmp_path / "cut.json.gz").write_bytes(whole[:40])
        with pytest.raises(UsageError, match="no recorded space"):
            recorded.read(tmp_path / "cut.json.gz")


class TestT4:
    def test_has_what_the_schema_asks_for(self):
        """Names and words of Kernel Tuner's schema/T4/1.0.0/results-schema.json."""
        content = json.loads(recorded.t4(ENTRIES, {}))
        assert content["schema_version"] == "1.0.0"
        for result in content["results"]:
            assert {"configuration", "times", "invalidity", "correctness"} <= set(result)
            assert result["invalidity"] in ("timeout", "compile", "runtime", "correctness", "constraints", "correct")
        good, bad = content["results"]
        assert good["measurements"] == [{"name": "time", "value": 2.0, "unit": "ms"}]
        assert good["times"]["runtimes"] == [1.9, 2.1]
        assert (good["correctness"], bad["correctness"], bad["measurements"]) == (1, 0, [])
