"""A verification's table, its failures with their commands, and the report that goes to a bug."""

from __future__ import annotations

import json
import math
import shlex

import pytest
from fakes import MACHINE

from autotune.devices.cases import Case, Kind
from autotune.devices.proof import Element
from autotune.kernels import STOCK, Route
from autotune.report import verify as report
from autotune.search.trials import Target
from autotune.search.verdict import Failure, Outcome, Verdict

CASE = Case.parse("matmul M=5 N=7 K=12 f16 nt | surrounded")
ROUTE = Route.parse("gemm bm=8 bn=16")
HOST = Target("msl-host", "metal", True, ("in-order", "check"))


def outcome():
    kind = Kind.of(CASE.problem)
    right = Verdict("stock", "0" * 12, False, {STOCK}, {kind}, 40, 1.44, str(CASE), [], 3)
    element = Element((4, 6), 0.5, math.nan, 1e-3, math.inf)
    wrong = Failure(ROUTE, CASE, "check", "wrong", "race: two threads\n  line 7: tile[i] = x;")
    number = Failure(ROUTE, CASE, "in-order", "wrong", "element [4, 6] is nan, not 0.5 within 0.001", element)
    gemm = Verdict("gemm", "a" * 12, True, {ROUTE}, {kind}, 80, math.inf, str(CASE), [wrong, number])
    refused = Failure(Route("qmm"), CASE, "", "raised", "no such header")
    return Outcome({"stock": right, "gemm": gemm, "qmm": Verdict("qmm", "b" * 12, True, failures=[refused])}, 12.34)


def test_the_table_has_a_line_for_each_kernel():
    head, *lines = report.table(outcome()).splitlines()
    assert head.split() == ["kernel", "verdict", "kinds", "configs", "runs", "worst", "on"]
    assert [line.split()[0] for line in lines] == ["stock", "gemm", "qmm"]
    assert lines[0].split()[1:3] == ["3", "beyond"]
    assert "144%" in lines[0]
    assert lines[1].split()[1] == "wrong"
    assert lines[1].endswith(str(CASE))
    assert lines[2].split()[1] == "failed"


def test_each_failure_has_the_command_that_repeats_it():
    text = report.failures(outcome(), HOST, 7)
    commands = [line.removeprefix("  repeat  ") for line in text.splitlines() if line.startswith("  repeat")]
    assert len(commands) == 2  # the first failure of each route
    assert "and 1 more of gemm" in text
    words = shlex.split(commands[0])
    assert words[words.index("--route") + 1] == str(ROUTE)
    assert words[words.index("--case") + 1] == str(CASE)
    assert words[-1] == "--check"
    assert "line 7: tile[i] = x;" in text
    assert "raised: qmm" in text


def test_a_flood_of_failures_is_cut_short_in_the_text():
    many = outcome()
    routes = [Route.parse(f"gemm bm={m}") for m in range(40)]
    many.verdicts["gemm"].failures = [Failure(route, CASE, "", "wrong", "element") for route in routes]
    text = report.failures(many, HOST, 7)
    assert text.count("on      ") == report.MOST_LISTED + 1
    assert f"and {40 - report.MOST_LISTED} more of gemm" in text


def test_what_mlx_refused_is_counted_in_the_table_and_listed_last():
    refused = Failure(Route.parse("dequantize compute=native"), CASE, "", "refused", "ValueError: no")
    raised = Failure(Route.parse("dequantize compute=float32"), CASE, "", "raised", "ValueError: ours")
    some = Verdict("dequantize", "d" * 12, False, runs=5, worst=0.5, worst_case=str(CASE), failures=[refused])
    assert "right, 1 refused by MLX" in report.table(Outcome({"dequantize": some}))
    alone = Verdict("dequantize", "d" * 12, False, runs=1, failures=[refused])
    assert report.table(Outcome({"dequantize": alone})).splitlines()[1].split()[1:] == [
        *("1", "refused", "by", "MLX"),
        *("0", "0", "1"),
    ]
    assert "\nrefused by MLX: dequantize" in "\n" + report.failures(Outcome({"dequantize": alone}), HOST, 7)
    both = Verdict("dequantize", "d" * 12, False, runs=9, failures=[refused, raised])
    text = report.failures(Outcome({"dequantize": both}), HOST, 7)
    assert text.index("raised: dequantize") < text.index("refused by MLX: dequantize")
    assert "failed, 1 refused by MLX" in report.table(Outcome({"dequantize": both}))
    json_ = report.to_json(Outcome({"dequantize": both}), MACHINE, HOST, 7, "1.2", "2026-01-31")["kernels"][0]
    assert (json_["verdict"], json_["refused_by_mlx"]) == ("failed", 1)


def test_the_json_is_strict_and_complete():
    raw = json.loads(report.document(report.to_json(outcome(), MACHINE, HOST, 7, "1.2", "2026-01-31")))
    assert raw["schema"] == 1
    assert (raw["device"], raw["seed"], raw["ways"]) == ("msl-host", 7, ["in-order", "check"])
    assert raw["machine"]["device_name"] == MACHINE.device_name
    stock, gemm, qmm = raw["kernels"]
    assert (stock["verdict"], stock["bound"], stock["beyond_bound"]) == ("right", "stock's", 3)
    assert (gemm["verdict"], gemm["bound"], gemm["worst"], gemm["fingerprint"]) == ("wrong", "its own", "inf", "a" * 12)
    assert gemm["failures"][1]["element"] == {
        "index": [4, 6],
        "expected": 0.5,
        "got": "nan",
        "allowed": 1e-3,
        "share": "inf",
    }
    assert qmm["failures"][0]["kind"] == "raised"


def test_the_text_says_where_and_with_what():
    text = report.to_text(outcome(), MACHINE, HOST, 7, "1.2", "2026-01-31")
    for word in (
        "autotune 1.2",
        MACHINE.device_name,
        MACHINE.os,
        MACHINE.mlx,
        "seed      7",
        "gemm " + "a" * 12,
        "check",
    ):
        assert word in text
    assert "repeat  autotune verify" in text
    fine = Outcome({"stock": outcome().verdicts["stock"]})
    assert "No failures." in report.to_text(fine, MACHINE, HOST, 7, "1.2", "2026-01-31")


def test_nothing_is_drawn_where_stderr_is_no_terminal(capsys):
    listener = report.listener()
    listener.started(3)
    listener.close()
    assert isinstance(listener, report.Quiet)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("worst", "said"), [(0.5, "50%"), (0.996, "99%"), (1.0, "100%"), (1.004, "101%"), (float("inf"), "inf%")]
)
def test_no_error_is_rounded_to_the_limit(worst, said):
    verdict = Verdict("dequantize", "d" * 12, False, runs=5, worst=worst, worst_case=str(CASE))
    assert said in report.table(Outcome({"dequantize": verdict})).split()
