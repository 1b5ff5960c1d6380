"""Sweeps of this machine's CPU from the shell: to the end, interrupted, killed, and two at once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotune.errors import FAILED, INTERRUPTED, OK
from autotune.problem import Problem
from autotune.routing import table
from autotune.search import recorded, results, space

pytestmark = pytest.mark.slow

PROBLEM = "quantized_matmul M=2 N=64 K=64 f16 affine-b4-g64 nt"
ROUTES = space.legal_routes(Problem.parse(PROBLEM), "cpu")
SWEEP = ("sweep", "--device", "cpu", "--problem", PROBLEM, "--effort", "quick")
LARGER = "quantized_matmul M=2 N=256 K=256 f16 affine-b4-g64 nt"
"""Its weights fill the cache with fewer copies, so a session opens sooner."""
KERNELS = ("chunk", "dequantize", "upcast")
SHORT = (
    "sweep",
    "--device",
    "cpu",
    "--problem",
    LARGER,
    "--effort",
    "quick",
    *(f"--kernel={name}" for name in KERNELS),
)
LONG = ("sweep", "--device", "cpu", "--problem", LARGER, "--effort", "full")
"""A sweep that is still at it when it is interrupted, on any machine."""

ROUTED = """
import json
import sys

import mlx.core as mx

import autotune
from autotune.routing.router import ROUTERS
from autotune.problem import Problem

mx.set_default_device(mx.cpu)
hit = ROUTERS.of("cpu").find(Problem.parse(sys.argv[1]))
x = mx.random.normal((2, 64), key=mx.random.key(1)).astype(mx.float16)
w, scales, biases = mx.quantize(mx.random.normal((64, 64), key=mx.random.key(2)).astype(mx.float16), 64, 4)
stock = mx.quantized_matmul(x, w, scales, biases)
routed = autotune.quantized_matmul(x, w, scales, biases)
print(json.dumps({
    "route": str(hit.route),
    "apart": mx.abs(routed.astype(mx.float32) - stock.astype(mx.float32)).max().item(),
    "size": mx.abs(stock.astype(mx.float32)).max().item(),
    "dtype": str(routed.dtype),
}))
"""


def start(*args):
    return subprocess.Popen(
        [sys.executable, "-m", "autotune.cli.app", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*args, code=OK, timeout=60):
    process = start(*args)
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def wait_for(process, text):
    """Reads the process's stderr until a line has that text."""
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return "".join(said)
    raise AssertionError(f"it ended without {text!r}: {''.join(said)}")


def kill(process):
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def own_data(isolated, monkeypatch, tmp_path):
    """Child processes take the data folder and that of the lock from the environment, which are the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert os.environ["AUTOTUNE_DATA"] == str(isolated)


def test_from_a_sweep_to_a_routed_call(isolated):
    out, err = run(*SWEEP)
    assert re.search(rf"^{re.escape(PROBLEM)}  \w", out, re.MULTILINE)
    assert "[1/1]" in err
    assert err.endswith("next: autotune export --chip cpu\n")

    out, err = run("export", "--chip", "cpu", "--json")
    exported = json.loads(out)
    path, csv = Path(exported["table"]), Path(exported["csv"])
    assert path == isolated / "tables" / "cpu.json"
    assert (exported["results"], exported["routes"]) == (len(ROUTES), 1)
    rows = results.read(csv)
    assert {row.route for row in rows} == {str(route) for route in ROUTES}
    assert not [row for row in rows if row.status == results.FAILED]
    run("check", str(path))

    ((family, (row,)),) = table.load(path)
    assert family == PROBLEM.replace(" M=2", "")
    routed = subprocess.run([sys.executable, "-c", ROUTED, PROBLEM], capture_output=True, text=True, check=True)
    seen = json.loads(routed.stdout)
    assert seen["route"] == str(row.route)
    assert seen["dtype"].endswith("float16")
    assert seen["apart"] <= 0.01 * seen["size"]

    # What is known is not measured again, and gives the same table.
    before = path.read_bytes()
    out, err = run(*SWEEP, "--json")
    (known,) = json.loads(out)["problems"]
    assert (known["problem"], known["resumed"], known["routes"]) == (PROBLEM, True, len(ROUTES))
    run("export", "--chip", "cpu")
    assert path.read_bytes() == before


def test_ctrl_c_saves_and_says_how_to_go_on():
    process = start(*LONG)
    try:
        wait_for(process, "[1/1]")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        kill(process)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err
    assert re.search(r": the best so far, of \d+ routes?; not finished\n$", out)
    assert "finishing the running measurement; Ctrl-C again ends at once" in err
    assert "interrupted; everything measured is saved, 1 problem is left: run the same command to go on" in err
    saved = json.loads(run("export", "--chip", "cpu", "--json")[0])
    assert 1 <= saved["results"] < len(ROUTES)


def test_ctrl_c_twice_ends_at_once():
    process = start(*LONG)
    try:
        wait_for(process, "[1/1]")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        wait_for(process, "Ctrl-C again ends at once")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    finally:
        kill(process)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err


def test_killed_three_times_it_still_reaches_the_end(isolated):
    routes = space.legal_routes(Problem.parse(LARGER), "cpu", KERNELS)
    rng = random.Random(os.getpid())
    pauses = [round(rng.uniform(0.0, 1.5), 3) for _ in range(3)]
    for pause in pauses:
        process = start(*SHORT)
        try:
            wait_for(process, "[1/1]")
            time.sleep(pause)
        finally:
            kill(process)
    out, _ = run(*SHORT, "--json")
    (done,) = json.loads(out)["problems"]
    assert (done["routes"], json.loads(out)["stopped"]) == (len(routes), ""), pauses
    exported = json.loads(run("export", "--chip", "cpu", "--json")[0])
    assert (exported["results"], exported["routes"]) == (len(routes), 1), pauses
    run("check", str(isolated / "tables"))


def test_a_second_sweep_is_refused(isolated):
    first = start(*LONG)
    try:
        wait_for(first, "[1/1]")
        out, err = run(*SHORT, code=FAILED)
        assert out == ""
        assert err == (
            f"autotune: another autotune of yours measures on this machine (process {first.pid}): "
            "wait for it or end it; what a sweep has measured is kept\n"
        )
    finally:
        kill(first)


def test_record_writes_whole_spaces_that_the_benchmark_reads(tmp_path):
    folder = tmp_path / "spaces"
    run(*SHORT, "--record", str(folder))
    routes = space.legal_routes(Problem.parse(LARGER), "cpu", KERNELS)
    read = [recorded.read(path) for path in sorted(folder.iterdir())]
    assert sum(len(each.points) for each in read) == len(routes)
    assert {each.about["kernel_name"] for each in read} == {route.kernel for route in routes}
