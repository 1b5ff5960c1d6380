"""Every barrier of every Metal kernel of ours is needed: with any one of them taken out, check mode objects.

That proves two things at once: no barrier is there for nothing, and the checker sees what a missing one does. Barriers
that only some configs have are looked for in the cases of their family in turn.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import mlx.core as mx
import pytest

from autotune import kernels
from autotune.devices import operands
from autotune.devices.msl_host.errors import HostError
from autotune.kernels import Route, launch, program
from autotune.kernels.family import Family
from autotune.kernels.program import Launch
from autotune.problem import Problem

from .conftest import Host, runner

BARRIER = re.compile(r"(?:threadgroup|simdgroup)_barrier\((?!mem_flags::mem_none)[^;]*\);")
"""Barriers that order memory. One with ``mem_none`` only keeps threads together for the cache's sake."""
RACES = {"race", "uninitialised"}

Case = tuple[str, str]
"""A problem and a route."""

QMM = "quantized_matmul M=16 N=32 K=128 f16 affine-b4-g32 nt"
GEMM = "matmul M=20 N=40 K=128 f32 nn"
QMV = "quantized_matmul M=3 N=9 K=1024 f16 affine-b4-g32 nt"
CASES: dict[str, tuple[Case, ...]] = {
    "qmv": (
        (QMV, "qmv v=2 rows=2 simdgroups=4 split=2 values=8 stage=1 wide=0 math=safe"),
        (QMV, "qmv v=2 rows=2 simdgroups=4 split=2 values=8 stage=0 wide=1 math=safe"),
    ),
    # The table's layout is nn and the operands' nt, so that a threadgroup goes over several groups of columns.
    "qmm": (
        (QMM, "qmm bm=16 bn=32 bk=32 wm=1 wn=2 wk=1 split_k=1 swizzle=1 stages=1"),
        (QMM, "qmm bm=16 bn=32 bk=32 wm=1 wn=1 wk=2 split_k=2 swizzle=1 stages=2"),
    ),
    "gemm": (
        (GEMM, "gemm bm=16 bn=32 bk=16 wm=1 wn=2 wk=1 split_k=1 swizzle=1 stages=1"),
        (GEMM, "gemm bm=16 bn=32 bk=16 wm=1 wn=2 wk=1 split_k=1 swizzle=1 stages=2"),
        (GEMM, "gemm bm=16 bn=32 bk=32 wm=2 wn=1 wk=2 split_k=2 swizzle=1 stages=2"),
    ),
    "qmm_nax": tuple(
        (
            "quantized_matmul M=17 N=65 K=256 f16 affine-b4-g64 nt",
            "qmm_nax bm=32 bn=64 bk=64 wm=2 wn=2 fm=16 fn=32 fk=16 run=4 relaxed=0 split_k=1 swizzle=1 stages="
            + stages,
        )
        for stages in "12"
    ),
    "gemm_nax": (
        (
            "matmul M=33 N=65 K=256 f16 nt",
            "gemm_nax bm=32 bn=64 bk=64 wm=2 wn=2 fm=16 fn=32 fk=16 run=4 relaxed=0 split_k=1 swizzle=1",
        ),
    ),
    "qmv_mma": ((QMV, "qmv_mma v=8 rows=8 simdgroups=4 split=2 flight=2"),),
    "gemv": (("matmul M=2 N=300 K=64 f32 nn", "gemv v=2 outputs=1 simdgroups=4 split=2 values=2 lanes=32 math=safe"),),
}


Place = tuple[str, int, int]
"""Where a barrier is: the text, 0 for its declarations or 1 for its body, and its number there."""


@cache
def parts(text: str) -> tuple[str, str]:
    """Declarations and body as they stand in a program, which has its includes elsewhere."""
    header, body = program.text(text)
    return "\n".join(line for line in header.split("\n") if not line.startswith("#include")), body


def barriers(name: str) -> list[Place]:
    """Each barrier of a family's texts."""
    texts = kernels.kernel(name).texts  # type: ignore[attr-defined]
    return [
        (text, part, number)
        for text in texts
        for part in (0, 1)
        for number, _ in enumerate(BARRIER.findall(parts(text)[part]))
    ]


FAMILIES = [kernel.name for kernel in kernels.KERNELS.values() if isinstance(kernel, Family)]
MUTATIONS = [(name, *place) for name in FAMILIES for place in barriers(name)]


def run(case: Case) -> None:
    """The product of the case, with B transposed in memory whatever the problem's layout says."""
    problem, route = Problem.parse(case[0]), Route.parse(case[1])
    assert kernels.accepts(route, problem), case
    drawn = operands.draw(problem, mx.random.key(5))
    weights = drawn.weights
    if problem.quantization is None and route.kernel == "gemv":
        weights = (mx.swapaxes(mx.contiguous(mx.swapaxes(weights[0], -1, -2)), -1, -2),)
    mx.eval(kernels.build(route, problem)(*operands.arguments(problem, drawn.a, weights, drawn.c), stream=None))


class Without:
    """A runner in check mode that takes one barrier out of every program that has it. ``hit`` says whether any had."""

    def __init__(self, place: Place) -> None:
        text, self._part, number = place
        self._run = runner("check")
        self._source = parts(text)[self._part]
        start, end = [match.span() for match in BARRIER.finditer(self._source)][number]
        self._mutant = self._source[:start] + ";" + self._source[end:]
        self.hit = False

    def __call__(self, asked: Launch) -> list[mx.array]:
        name = ("header", "body")[self._part]
        whole: str = getattr(asked.program, name)
        if self._source in whole:
            self.hit = True
            asked = replace(asked, program=replace(asked.program, **{name: whole.replace(self._source, self._mutant)}))
        return list(self._run(asked))


@pytest.mark.parametrize("name", FAMILIES)
def test_cases_pass_as_they_are(name: str, host: Host) -> None:
    with host("check"):
        for case in CASES[name]:
            run(case)


@pytest.mark.parametrize(("name", "text", "part", "number"), MUTATIONS)
def test_a_missing_barrier_is_caught(name: str, text: str, part: int, number: int, host: Host) -> None:
    kinds, hit = set(), False
    for case in CASES[name]:
        mutant = Without((text, part, number))
        try:
            with launch.through(mutant):
                run(case)
        except HostError as error:
            kinds.add(error.kind)
        hit |= mutant.hit
    assert hit
    assert kinds & RACES, f"nothing objected to the absence of a barrier ({kinds or 'no error'})"
