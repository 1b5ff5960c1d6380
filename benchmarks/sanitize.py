"""Runs every kernel of our own on small products, for a tool that watches the GPU.

    compute-sanitizer --tool memcheck python benchmarks/sanitize.py
    compute-sanitizer --tool racecheck python benchmarks/sanitize.py

A few configs of each family, in this process, each on a small case of those that ``autotune verify`` has: dtypes,
quantizations, layouts, offsets and numbers of rows take turns. Each result is held against float64 too. The tool says
what it found and, with ``--error-exitcode 9``, by its exit code; this program ends with 1 where a result is wrong, and
with 2 where there is nothing to run.
"""

from __future__ import annotations

import argparse
import sys

from autotune import kernels, machine
from autotune.devices import proof
from autotune.kernels import ahead
from autotune.kernels.family import Family
from autotune.search import trials

SMALL = 1 << 19
"""Operations of a case that is small enough: tools make kernels hundreds of times slower."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--configs", type=int, default=6, help="configs of each family and op")
    parser.add_argument("--kernel", action="append", help="only this family (repeatable)")
    asked = parser.parse_args()
    here = machine.local(machine.default_kind())
    target = trials.Target(here.backend, here.backend, here.nax)
    families = [
        name
        for name, kernel in kernels.KERNELS.items()
        if isinstance(kernel, Family) and kernel.runs_on(here.backend, here.nax) and name in (asked.kernel or [name])
    ]
    if not families:
        print(f"none of these kernels runs on {here.backend}: run this where MLX has a GPU", file=sys.stderr)
        return 2
    wrong = runs = 0
    for name in families:
        works = trials.plan(target, [name], False)
        step = max(1, len(works) // asked.configs)
        picked = []
        for turn, work in enumerate(works[::step]):
            small = [case for case in work.cases if case.problem.flops <= SMALL]
            if small:
                picked.append((work, small[turn % len(small)]))
        ahead.compile_ahead(kernels.KERNELS, [(case.problem, work.route) for work, case in picked])
        for work, case in picked:
            found = proof.prove(work.route, case, 1)
            runs += 1
            if found.finding or found.share > 1:
                wrong += 1
                print(f"wrong: {work.route} on {case}: {found.finding or found.share}")
        print(f"{name}: {len(picked)} runs", flush=True)
    print(f"{runs} runs, {wrong} wrong, on {here.device_name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
