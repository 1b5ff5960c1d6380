"""The clocks of ``autotune/devices/clock.py`` against each other: `python benchmarks/clocks.py [--device gpu|cpu]`.

For a quarter, a half and all of a number of calls of the stock op, linked to a chain over cold weights, microseconds a
call behind gates and plain, each the median of nine evaluations with the least and the most. What an evaluation costs
besides its calls is spread over them, so a clock that counts none of it shows the same at all three; ``slope`` is what
a further call takes, from a quarter of the calls to all of them, and has nothing of it under either clock. On CUDA it
also compares the GPU's own clock with the host's over half a second of waiting. Ends with exit code 1 where a stamped
time is not within a tenth of its slope, and with 2 where there are plain times alone, as on Metal and on a CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from statistics import median

import mlx.core as mx

from autotune.chips import cache_bytes
from autotune.devices import clock
from autotune.devices.mlx import MlxDevice
from autotune.kernels import STOCK
from autotune.machine import backend, default_kind
from autotune.problem import Problem

PROBLEMS = (("M=1 N=1024", 400), ("M=1 N=5120", 240), ("M=1 N=13824", 100), ("M=4 N=13824", 32))
TIMES, WAIT, NEAR = 9, 0.5, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default=default_kind())
    options = parser.parse_args()
    if clock.name(backend(options.device)) == clock.PLAIN:
        parser.exit(2, "here times are plain, and there is no other clock to compare them with\n")
    device = MlxDevice(options.device, cache_bytes(options.device))
    print(f"{device.machine.device_name}, MLX {mx.__version__}")
    print(seconds_of_both())
    wrong = False
    for text, most in PROBLEMS:
        problem = Problem.parse(f"quantized_matmul {text} K=5120 f16 affine-b4-g64 nt")
        for name in (clock.STAMPED, clock.PLAIN):
            found = times(device, problem, name, most)
            few, all_ = (median(found[calls]) * calls for calls in (most // 4, most))
            slope = (all_ - few) / (most - most // 4)
            print(f"{text} K=5120 {name:7} {'; '.join(map(cell, found, found.values()))}; slope {slope * 1e6:.2f}")
            wrong |= name == clock.STAMPED and abs(all_ / most / slope - 1) > NEAR
    sys.exit(1 if wrong else 0)


def seconds_of_both() -> str:
    """How far the GPU's clock and the host's go while nothing is computed."""
    stamp = clock.stamps()
    start = time.perf_counter()
    first = stamp()
    mx.eval(first)
    time.sleep(WAIT)
    last = stamp()
    mx.eval(last)
    host = time.perf_counter() - start
    gpu = (last.item() - first.item()) * 1e-9
    return f"{WAIT} s of waiting: {gpu:.4f} s by the GPU's clock, {host:.4f} s by the host's"


def times(device: MlxDevice, problem: Problem, name: str, most: int) -> dict[int, list[float]]:
    """Seconds a call for a quarter, a half and all of the calls."""
    os.environ[clock.OFF] = "0" if name == clock.PLAIN else "1"
    session = device.open(problem, 0, "chained")
    session.time(STOCK, most)
    return {n: [session.time(STOCK, n) / n for _ in range(TIMES)] for n in (most // 4, most // 2, most)}


def cell(calls: int, found: list[float]) -> str:
    least, middle, greatest = (each * 1e6 for each in (min(found), median(found), max(found)))
    return f"{calls} calls {middle:.2f} ({least:.2f} to {greatest:.2f})"


if __name__ == "__main__":
    main()
