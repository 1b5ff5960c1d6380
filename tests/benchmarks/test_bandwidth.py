"""``benchmarks/bandwidth.py``: bytes over times, from files, without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "bandwidth.py"
SHAPES = ((1024, 1024), (2048, 1024), (4096, 1024), (4096, 4096))

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the tests lie outside a checkout")


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def problem(n, k):
    return f"quantized_matmul M=1 N={n} K={k} f16 affine-b4-g64 nt"


def took(n, k):
    """5 us and 1 TB/s; 4 bits and a scale and a bias of 16 bits for 64 weights are 0.5625 bytes a weight."""
    return 5 + n * k * 0.5625 * 1e-6


@pytest.fixture
def bench(tmp_path):
    lines = [
        {"label": problem(*shape), "routed": True, "before_us": 100.0, "after_us": took(*shape)} for shape in SHAPES
    ]
    lines.append({"label": "matmul M=1 N=64 K=64 f16 nt", "routed": True, "before_us": 1.0, "after_us": 1.0})
    head = {"machine": "a GPU (8 cores)", "mlx": "0.32.4", "date": "2026-11-21", "load": "chained", "clock": "gated"}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({**head, "lines": lines}), "utf-8")
    return path


def test_shares_of_a_copy_with_the_link_and_without(bench):
    done = run(bench, "--copy", 1000, "--link", 4)
    first, *_, last, _, _ = done.stdout.splitlines()[1:]
    assert first == f"{problem(1024, 1024)}, 0.6 MB, link 4.0 us: stock 1% (1%), routed 11% (37%)"
    assert last == f"{problem(4096, 4096)}, 9.4 MB, link 4.0 us: stock 9% (10%), routed 65% (90%)"


def test_what_a_call_takes_whatever_its_size(bench):
    last = run(bench, "--copy", 1000, "--link", 4).stdout.splitlines()[-1]
    assert "M=1: 5.0 us and the bytes at 1.00 TB/s, within 0% for 4 products of 0.6 to 9.4 MB" in last


def test_fits_alone_need_no_copy(bench):
    head, fit = run(bench, "--fits").stdout.splitlines()
    assert head == "a GPU (8 cores), MLX 0.32.4, 2026-11-21"
    assert "5.0 us and the bytes at 1.00 TB/s" in fit


def test_a_tables_times(tmp_path):
    chip = {"device_name": "a GPU"}
    cells = [
        {"problem": problem(*shape), "route": route, "stock_us": 100.0, "routed_us": took(*shape), "mlx": "0.32.4",
         "date": "2026-11-21", "clock": clock}
        for route, clock in (("qmv v=1", "gated"), ("stock", "gated"), ("qmv v=2", "plain"))
        for shape in (SHAPES if route != "qmv v=2" else SHAPES[:3])
    ]  # fmt: skip
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"tables": [{"chip": chip, "load": "queued", "times": cells}]}), "utf-8")
    done = run(path, "--copy", 1000)
    assert done.stdout.startswith("a GPU, MLX 0.32.4, 2026-11-21; copy 1000 GB/s\n")
    (fit,) = [line for line in done.stdout.splitlines() if "whatever" in line or "the bytes at" in line]
    assert "for 4 products" in fit


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"tables": []}'])
def test_a_file_that_is_none_is_one_line(tmp_path, text):
    path = tmp_path / "none.json"
    path.write_text(text, "utf-8")
    done = run(path, "--copy", 1000, "--link", 1)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_another_machine_measures_nothing(bench):
    done = run(bench, "--copy", 1000)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--copy and --link" in done.stderr
