"""``autotune spaces`` through the command line: options, streams, exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from autotune.cli import app as cli
from autotune.errors import USAGE
from autotune.problem import Problem
from autotune.search import space, workloads

PROBLEM = "quantized_matmul M=3 N=512 K=512 f16 affine-b4-g64 nt"


def run(*args: str):
    return CliRunner().invoke(cli.app, ["spaces", *args])


def test_every_kernel_of_this_machine():
    done = run()
    assert done.exit_code == 0
    for name in ("stock", "pad", "chunk", "dequantize", "split_k", "fold_k", "upcast"):
        assert f"\n{name}  " in done.stdout
    assert "legal" not in done.stdout
    assert "next: autotune spaces --problem" in done.stderr


def test_a_chip_and_a_problem_as_json():
    document = json.loads(run("--chip", "M4 Pro", "--problem", PROBLEM, "--kernel", "pad", "--json").stdout)
    assert document["schema"] == 1
    assert document["chip"]["id"] == "m4pro"
    (pad,) = document["kernels"]
    assert (pad["kernel"], pad["raw"], pad["legal"]) == ("pad", 30, {PROBLEM: 26})


def test_the_legal_routes_and_nothing_else():
    done = run("--chip", "m4pro", "--problem", PROBLEM, "--list")
    expected = space.legal_routes(Problem.parse(PROBLEM), "metal")
    assert done.stdout.splitlines() == [str(route) for route in expected]
    assert f"next: autotune sweep --chip m4pro --problem '{PROBLEM}' --dry-run" in done.stderr


def test_a_workload_and_a_problem_of_it():
    problems = workloads.load("quick").problems
    done = run("--chip", "h100", "--workload", "quick", "--problem", str(problems[0]), "--json")
    (stock,) = json.loads(run("--chip", "h100", "--workload", "quick", "--kernel", "stock", "--json").stdout)["kernels"]
    assert list(stock["legal"]) == [str(each) for each in problems]
    assert {len(each["legal"]) for each in json.loads(done.stdout)["kernels"]} == {len(problems)}


@pytest.mark.parametrize(
    "options",
    [
        ("--list",),
        ("--problem", "matmul M=3"),
        ("--workload", "quickly"),
        ("--kernel", "padd"),
        ("--chip", "m99"),
        ("--chip", "h100", "--kernel", "qmm_nax"),
    ],
)
def test_wrong_use(options):
    done = run(*options)
    assert getattr(done.exception, "exit_code", None) == USAGE
    assert not done.stdout
