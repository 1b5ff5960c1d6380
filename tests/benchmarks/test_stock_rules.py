"""The comparison of the stock rules with MLX's routing code, without MLX's sources."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.problem import Problem
from autotune.stock_rules import StockDevice, stock_kernel

FOLDER = Path(__file__).parents[2] / "benchmarks" / "stock_rules"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("compare")
    sys.modules.pop("compare", None)


@pytest.fixture
def kernel():
    problem = Problem.parse("quantized_matmul M=16 N=4096 K=4096 f16 affine-b4-g64 nt")
    return stock_kernel(problem, StockDevice("metal", "applegpu_g15s"), "0.32.2")


AGREES = "affine_qmm_t_splitk_float16_t_gs_64_b_4_alN_true 128 1 4 128 | reduce 524288 0 0 0 0"


def test_an_answer_that_agrees(module, kernel):
    assert module.differences(AGREES, kernel) == []


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (AGREES.replace("alN_true", "alN_false"), "kernel"),
        (AGREES.replace("128 1 4", "128 2 4"), "grid"),
        (AGREES.replace("4 128 |", "4 256 |"), "threads"),
        (AGREES.replace("524288", "1048576"), "bytes"),
        (AGREES + " | copy 0 0 0 0", "launches"),
    ],
)
def test_an_answer_that_differs(module, kernel, answer, word):
    found = module.differences(answer, kernel)
    assert len(found) == 1
    assert word in found[0]


def test_calls_are_the_same_for_a_seed_and_cover_all_ops(module):
    calls = module.random_calls(300, seed=1)
    assert calls == module.random_calls(300, seed=1)
    assert calls != module.random_calls(300, seed=2)
    assert {problem.op for problem, _, _ in calls} == {"matmul", "addmm", "quantized_matmul"}
    assert {len(module.line(call).split()) for call in calls} == {13}


def test_functions_are_cut_out_whole(module, tmp_path):
    function = "int one(int n) {\n  if (n) { return 1; }\n  return 0;\n}"
    text = f'#pragma once\n#include "mlx/array.h"\nint other();\n{function}\nint two();\n'
    (tmp_path / "a.h").write_text(text, "utf-8")
    for command in (["init", "-q"], ["add", "a.h"], ["commit", "-q", "-m", "x"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)
    source = module.Source(tmp_path, "HEAD")
    assert source.function("a.h", "int one(") == function
    assert source.function("a.h", "int three(") == ""
    assert source.file("b.h") == ""
    assert "#" not in source.file("a.h")
