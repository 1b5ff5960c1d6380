import csv
import io
import json
import math
import random
from dataclasses import asdict, fields, replace

import pytest
from fakes import MACHINE
from report.builders import DENSE, PAD, WIDE, origin, refused, stamp, timed

from autotune.errors import UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import results
from autotune.search.results import FAILED, INACCURATE, OK, PRUNED, Origin, Result

PROBLEM = Problem.parse("quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt")


def some(count=200, seed=0):
    """Rows with all kinds of numbers in them."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        problem, rounds = PROBLEM.with_m(number + 100), rng.randint(1, 16)
        stock = [10 ** rng.uniform(-7, 1) for _ in range(rounds)]
        times = [10 ** rng.uniform(-7, 1) for _ in range(rounds)]
        ratios = [math.log(a / b) for a, b in zip(stock, times)]
        extra = {**stamp("pad"), "error": 10 ** rng.uniform(-9, 9), "stock_error": rng.choice([0.0, 1e-7])}
        rows.append(results.timed(problem, Route.parse(PAD), rng.choice([OK, PRUNED]), stock, times, ratios, **extra))
    return rows


ODD = [
    refused(WIDE, 3, PAD, FAILED, 'raised: ValueError: "a", b\nand\r\nmore\ttext'),
    refused(WIDE, 3, "chunk rows=2", INACCURATE, "error 0.1 is above 0.01 (ü, 漢)"),
    refused(WIDE, 3, "stock", FAILED, ""),
    replace(timed(DENSE, 1, "stock", 7, 7), nax=True, error=1e9, device_name='A "B", C'),
]


class TestTimed:
    def test_numbers(self):
        stock, times = [4e-6, 5e-6, 6e-6], [2e-6, 2.5e-6, 3e-6]
        row = results.timed(PROBLEM, Route.parse(PAD), OK, stock, times, [math.log(2)] * 3, **stamp("pad"))
        assert (row.problem, row.route, row.status, row.reason, row.rounds) == (str(PROBLEM), PAD, OK, "", 3)
        assert (row.time_us, row.stock_us, row.p95_us, row.spread) == (2.5, 5.0, 2.95, 0.2)
        assert (row.speedup, row.low, row.high) == (2.0, 2.0, 2.0)
        assert (row.interval.value, row.interval.low, row.interval.high) == (2.0, 2.0, 2.0)
        assert row.origin == origin()

    def test_five_digits_are_enough(self):
        row = results.timed(PROBLEM, STOCK, OK, [1 / 3] * 2, [1 / 7] * 2, [0.1, 0.2], **stamp("stock"))
        assert row.stock_us == 333330.0
        assert row.time_us == 142860.0
        assert row.speedup == 1.1618

    def test_one_round_has_bounds_that_a_reader_can_read(self):
        row = results.timed(PROBLEM, STOCK, PRUNED, [1e-6], [3e-6], [-math.log(3)], **stamp("stock"))
        assert (row.low, row.high) == (0.0, 1e6)


class TestUntimed:
    def test_has_no_times_and_one_line_of_reason(self):
        row = ODD[0]
        assert row.reason == 'raised: ValueError: "a", b and more text'
        assert (row.rounds, row.time_us, row.p95_us, row.stock_us, row.speedup, row.low, row.high) == (0,) * 7

    def test_a_long_reason_is_cut(self):
        assert len(refused(WIDE, 3, PAD, FAILED, "x" * 10_000).reason) == 300


class TestRoundTrips:
    @pytest.mark.parametrize("rows", [some(), ODD, []], ids=["many", "odd", "none"])
    def test_csv_is_the_same_bytes_again(self, rows):
        text = results.dumps(rows)
        read = results.loads(text, "x.csv")
        assert results.dumps(read) == text
        assert sorted(read, key=results.sort_key) == sorted(rows, key=results.sort_key)

    @pytest.mark.parametrize("rows", [some(), ODD], ids=["many", "odd"])
    def test_json_is_the_same_bytes_again(self, rows):
        for row in rows:
            text = json.dumps(results.to_json(row))
            assert results.from_json(json.loads(text)) == row
            assert json.dumps(results.to_json(results.from_json(json.loads(text)))) == text

    def test_csv_and_json_agree(self):
        rows = results.loads(results.dumps(some()), "x.csv")
        assert rows == sorted((results.from_json(results.to_json(row)) for row in some()), key=results.sort_key)

    def test_types_survive(self):
        row = results.loads(results.dumps([ODD[3]]), "x.csv")[0]
        for each in fields(Result):
            assert type(getattr(row, each.name)) is type(getattr(ODD[3], each.name))

    def test_one_line_a_row(self):
        assert len(results.dumps(ODD).splitlines()) == len(ODD) + 1
        assert results.dumps(ODD).endswith("\n")

    def test_through_a_file(self, tmp_path):
        path = tmp_path / "h100.csv"
        path.write_text(results.dumps(ODD), "utf-8")
        assert results.dumps(results.read(path)) == results.dumps(ODD)


class TestSorting:
    def test_by_family_then_m_as_a_number_then_stock_first(self):
        rows = [
            timed(WIDE, 10, "upcast", 1, 1),
            timed(WIDE, 10, "chunk rows=2", 1, 1),
            timed(WIDE, 9, PAD, 1, 1),
            timed(WIDE, 10, "stock", 1, 1),
            timed(DENSE, 512, "stock", 1, 1),
        ]
        random.Random(3).shuffle(rows)
        read = results.loads(results.dumps(rows), "x.csv")
        assert [(Problem.parse(row.problem).m, row.route) for row in read] == [
            (512, "stock"),
            (9, PAD),
            (10, "stock"),
            (10, "chunk rows=2"),
            (10, "upcast"),
        ]

    def test_order_of_arrival_does_not_matter(self):
        rows = some(50) + ODD
        text = results.dumps(rows)
        for seed in range(5):
            random.Random(seed).shuffle(rows)
            assert results.dumps(rows) == text


class TestBadFiles:
    def refused(self, text):
        with pytest.raises(UsageError) as raised:
            results.loads(text, "h100.csv")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def test_missing_columns_are_named(self):
        rows = [{key: value for key, value in asdict(ODD[0]).items() if key not in ("low", "kernel")}]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        assert self.refused(out.getvalue()).startswith("h100.csv lacks the columns kernel, low: give a CSV that")

    @pytest.mark.parametrize("text", ["", "\n", "a,b\n1,2\n"])
    def test_another_file(self, text):
        assert "h100.csv lacks the columns" in self.refused(text)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("rounds", "four"), ("rounds", ""), ("cores", "1.5"), ("speedup", "2x"), ("time_us", "")],
    )
    def test_a_bad_number_has_its_line(self, field, value):
        rows = [asdict(row) for row in sorted(some(5), key=results.sort_key)]
        rows[2][field] = value
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        assert self.refused(out.getvalue()).startswith("h100.csv, line 4: ")

    def test_a_line_cut_short_has_its_number(self):
        lines = results.dumps(some(3)).splitlines()
        assert self.refused("\n".join([lines[0], lines[1][:80]])).startswith("h100.csv, line 2: ")

    def test_a_line_that_lacks_its_last_word(self):
        lines = results.dumps(some(3)).splitlines()
        text = "\n".join([*lines[:3], lines[3].rpartition(",")[0]])
        assert self.refused(text).startswith("h100.csv, line 4: ")

    @pytest.mark.parametrize("bounds", [{"low": 3.0}, {"high": 1.0}, {"speedup": math.nan}])
    def test_a_speedup_outside_its_bounds(self, bounds):
        rows = [timed(WIDE, 3, PAD, 50, 100), replace(timed(WIDE, 4, PAD, 50, 100), **bounds)]
        assert self.refused(results.dumps(rows)).startswith("h100.csv, line 3: ")
        with pytest.raises(ValueError, match="bounds"):
            results.from_json(results.to_json(rows[1]))

    def test_empty_lines_are_no_rows(self):
        text = results.dumps(some(3))
        assert results.loads(text.replace("\n", "\n\n"), "x.csv") == results.loads(text, "x.csv")

    def test_a_quote_that_never_ends(self):
        text = results.dumps(some(1000))
        assert len(text) > 200_000
        lines = text.splitlines()
        lines[5] = '"' + lines[5]
        assert self.refused("\n".join(lines)).startswith("h100.csv, line ")

    def test_a_file_that_cannot_be_read(self, tmp_path):
        with pytest.raises(UsageError, match=r"none\.csv cannot be read \(No such file or directory\)"):
            results.read(tmp_path / "none.csv")

    def test_a_file_of_bytes(self, tmp_path):
        (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match=r"x\.csv cannot be read \(no text\)"):
            results.read(tmp_path / "x.csv")

    def test_what_the_host_pays_and_the_clock_may_be_missing(self):
        """Files that were written before these were known."""
        row = timed(WIDE, 3, PAD, 50, 100)
        lines = results.dumps([row]).splitlines()
        assert lines[0].endswith(",host_us,clock,between")
        assert results.loads("\n".join(line.rsplit(",", 3)[0] for line in lines), "here") == [row]
        raw = results.to_json(row)
        del raw["host_us"], raw["clock"], raw["between"]
        assert results.from_json(raw) == row

    def test_columns_in_another_order_and_more_of_them_are_fine(self):
        row = asdict(ODD[3])
        names = [*reversed(row), "remark"]
        out = io.StringIO()
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerow({**row, "remark": "nice"})
        assert results.loads(out.getvalue(), "x.csv") == [ODD[3]]


def test_origin_of_a_machine():
    seen = Origin.of("fake", MACHINE, "0.1.0", "queued")
    assert (seen.chip, seen.backend, seen.device_name, seen.cores, seen.nax) == (
        "fake",
        "cpu",
        "Fake Processor",
        8,
        False,
    )
    assert (seen.os, seen.mlx, seen.autotune, seen.load, seen.source) == (
        "FakeOS 1.0",
        "0.32.4",
        "0.1.0",
        "queued",
        "measured",
    )
    assert seen.key.identity == MACHINE.identity
    assert seen.key.id == "fake"
