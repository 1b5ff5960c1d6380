"""``autotune verify`` from the shell: on this machine's CPU for real, small; and what it refuses."""

from __future__ import annotations

import json
import sys
from typing import NamedTuple

import pytest

from autotune import machine
from autotune.cli import app as cli
from autotune.errors import FAILED, OK, UNFIT, USAGE, WRONG, AutotuneError
from autotune.kernels import STOCK, Route
from autotune.search import verify
from autotune.search.verdict import Failure, Outcome, Verdict

CASE = "matmul M=5 N=7 K=12 f16 nt | surrounded"
ONE = ("--device", "cpu", "--route", "pad multiple=8 fill=zeros", "--case", CASE, "--seed", "3")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs ``autotune verify`` with these arguments in this process."""

    def call(*args: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["autotune", "verify", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def found(monkeypatch):
    """Has every verification end with this failure."""

    def found(*failures: Failure) -> None:
        verdict = Verdict("pad", "0" * 12, False, runs=1, failures=list(failures))
        monkeypatch.setattr(verify, "verify", lambda *_: Outcome({"pad": verdict}))

    return found


@pytest.mark.slow
class TestOnThisMachine:
    def test_a_route_on_a_case(self, call):
        ended = call(*ONE)
        assert ended.code == OK
        assert ended.out.splitlines()[1].split()[:5] == ["pad", "right", "1", "1", "1"]
        assert "1 runs in" in ended.err
        assert "seed 3" in ended.err
        assert "next: autotune sweep" in ended.err

    def test_json_is_one_document(self, call):
        ended = call(*ONE, "--json")
        document = json.loads(ended.out)
        assert (document["schema"], document["device"], document["seed"]) == (1, "cpu", 3)
        assert document["kernels"][0]["verdict"] == "right"

    def test_a_kernel_on_all_its_cases(self, call):
        ended = call("--device", "cpu", "--kernel", "upcast", "--seed", "1")
        assert ended.code == OK, ended
        assert ended.out.splitlines()[1].split()[:2] == ["upcast", "right"]

    def test_another_seed_each_time(self, call):
        route = ONE[:-2]
        assert len({call(*route).err.split("seed ")[1] for _ in range(2)}) == 2


class TestExitCodes:
    def test_wrong(self, call, found):
        found(Failure(Route.parse("pad multiple=8 fill=zeros"), verify.Case.parse(CASE), "", "wrong", "element"))
        ended = call(*ONE)
        assert ended.code == WRONG
        assert f"--case '{CASE}' --seed 3" in ended.out
        assert "--out report.txt" in ended.err

    def test_failed_to_run(self, call, found):
        found(Failure(STOCK, verify.Case.parse(CASE), "", "crashed", "SIGSEGV"))
        assert call(*ONE).code == FAILED

    def test_the_report_is_written(self, call, found, tmp_path):
        found()
        assert call(*ONE, "--out", str(tmp_path / "report.json")).code == OK
        assert json.loads((tmp_path / "report.json").read_text("utf-8"))["schema"] == 1
        call(*ONE, "--out", str(tmp_path / "report.txt"))
        assert (tmp_path / "report.txt").read_text("utf-8").startswith("autotune ")

    def test_a_report_that_cannot_be_written(self, call, found, tmp_path):
        found()
        ended = call(*ONE, "--out", str(tmp_path / "none" / "report.json"))
        assert (ended.code, ended.out) == (USAGE, "")
        assert "cannot be written" in ended.err


@pytest.mark.parametrize(
    ("code", "said", "args"),
    [
        (USAGE, "unknown device", ("--device", "metla")),
        (USAGE, "unknown kernel", ("--device", "cpu", "--kernel", "padd")),
        (USAGE, "unknown kernel", ("--device", "cpu", "--route", "padd multiple=8")),
        (USAGE, "not legal", ("--device", "cpu", "--route", "upcast", "--case", "matmul M=1 N=1 K=1 f32 nt")),
        (USAGE, "--case needs --route", ("--device", "cpu", "--case", CASE)),
        (USAGE, "neither --kernel nor", ("--device", "cpu", "--route", "upcast", "--kernel", "pad")),
        (USAGE, "are the MSL host's", ("--device", "cpu", "--check")),
        (USAGE, "schedule 'sideways'", ("--device", "msl-host", "--schedule", "sideways")),
        (USAGE, "schedule 'reverse:3'", ("--device", "msl-host", "--schedule", "reverse:3")),
    ],
)
def test_a_slip_is_one_line(call, code, said, args):
    ended = call(*args)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_device_that_is_not_here(call, monkeypatch):
    monkeypatch.setattr(machine, "has", lambda kind: kind == "cpu")
    ended = call("--device", "metal")
    assert ended.code == UNFIT
    assert "no metal device: here: --device cpu, or msl-host" in ended.err


def test_no_compiler_for_the_host(call, monkeypatch):
    from autotune.devices.msl_host import toolchain

    def none():
        raise AutotuneError("no clang is here", "pip install ziglang")

    monkeypatch.setattr(toolchain, "runtime_library", none)
    ended = call("--device", "msl-host")
    assert (ended.code, ended.err) == (UNFIT, "autotune: no clang is here: pip install ziglang\n")


class TestBeforeASweep:
    """``autotune sweep`` leaves out what is wrong on this device, and says so."""

    @pytest.fixture
    def proven(self, monkeypatch):
        from types import SimpleNamespace

        from autotune.cli import sweep
        from autotune.problem import Problem
        from autotune.search.measure import EFFORTS
        from autotune.search.plan import Plan

        def proven(failures, names=()):
            monkeypatch.setattr(verify, "before_sweep", lambda *_: failures)
            plan = Plan((Problem.parse("matmul M=1 N=2 K=3 f16 nt"),), EFFORTS["quick"], names)
            return sweep._proven(plan, SimpleNamespace(machine=machine.local("cpu")))

        return proven

    def test_a_failing_kernel_costs_one_line_and_itself(self, proven, capsys):
        from autotune import kernels

        case = verify.Case.parse(CASE)
        plan = proven({"pad": Failure(Route("pad"), case, "", "wrong", "element")})
        assert set(plan.kernels) == set(kernels.KERNELS) - {"pad"}
        assert capsys.readouterr().err == (
            f"pad is left out of this sweep, it is wrong on {case}: run: autotune verify --device cpu --kernel pad\n"
        )

    def test_the_only_one_asked_for_leaves_stock(self, proven, capsys):
        plan = proven({"pad": Failure(Route("pad"), verify.Case.parse(CASE), "", "hung", "")}, ("pad",))
        assert plan.kernels == ("stock",)
        assert "it failed (hung) on" in capsys.readouterr().err

    def test_where_all_is_right_nothing_changes_and_nothing_is_said(self, proven, capsys):
        assert proven({}).kernels == ()
        assert capsys.readouterr().err == ""
