"""``benchmarks/products.py``: a step's products, and what they take by a table."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "products.py"

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the tests lie outside a checkout")


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    yield importlib.import_module("products")
    for name in ("products", "decode"):
        sys.modules.pop(name, None)


def test_a_steps_products_are_the_models(module):
    step = module.products(module.MODELS["qwen-3-8b"][1], 3)
    assert {(p.n, p.k): times for p, times in step.items()} == {
        (4096, 4096): 72,
        (1024, 4096): 72,
        (12288, 4096): 72,
        (4096, 12288): 36,
        (151936, 4096): 1,
    }
    assert {p.m for p in step} == {3}


def test_the_shipped_table_has_those_of_the_documents():
    done = run("tuned_tables/h100.json", "--model", "llama-3-70b", "--rows", 4, 5)
    stock, unmeasured = done.stdout.splitlines()
    assert stock.startswith("llama-3-70b, 4 rows: 561 products, stock 1")
    assert unmeasured == "llama-3-70b, 5 rows: not all of its products were measured"


def test_a_table_that_is_none_is_one_line():
    done = run("pyproject.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
