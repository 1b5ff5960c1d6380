"""Metal's texts as CUDA: each rule alone, our texts, and what NVIDIA's compiler makes of them, which needs no GPU."""

from __future__ import annotations

import re
from typing import Any

import pytest

from autotune import kernels
from autotune.kernels import ahead, cuda, launch, nvrtc, program
from autotune.kernels.base import Route
from autotune.kernels.family import LANES, Family
from autotune.kernels.program import Program
from autotune.kernels.qmv_mma import registers
from autotune.problem import DTYPES, Problem
from autotune.search import space

from .nvrtc import compiled

TEXTS = sorted(path.stem for path in program.MSL.glob("*.metal") if "nax" not in path.stem)


class TestHeader:
    def test_ours_comes_first_and_metals_includes_go(self):
        made = cuda.header("#include <metal_stdlib>\n#include <metal_atomic>\nint f();\n")
        assert made.startswith("#define device\n")
        assert made.endswith("int f();\n")
        assert "include" not in made
        assert "simdgroup_matrix" not in made

    def test_a_header_that_has_a_counterpart_gives_way_to_it(self):
        made = cuda.header("#include <metal_simdgroup_matrix>\nint f();\n")
        assert made.index("METAL_FUNC") < made.index("struct simdgroup_matrix") < made.index("int f();")
        assert "metal_simdgroup_matrix" not in made

    def test_threadgroup_of_pointers_goes(self):
        made = cuda.header("void f(threadgroup float* to, const threadgroup T* from);\n")
        assert made.endswith("void f(float* to, const T* from);\n")

    def test_ours_are_without_comments(self):
        assert "//" not in cuda.header("#include <metal_simdgroup_matrix>\n")

    def test_each_of_ours_is_a_file(self):
        assert [path.name for path in cuda.headers()] == ["cuda.h", "cuda_simdgroup_matrix.h"]
        assert all(path.is_file() for path in cuda.headers())


class TestBody:
    @pytest.mark.parametrize(
        ("metal", "made"),
        [
            ("threadgroup float tile[8];", "__shared__ float tile[8];"),
            ("threadgroup float4 memory[N * 2 / 16];", "__shared__ float4 memory[N * 2 / 16];"),
            ("threadgroup T parts[A][B][32];", "__shared__ T parts[A][B][32];"),
            ("threadgroup unsigned int words[4];", "__shared__ unsigned int words[4];"),
            ("threadgroup T* at = (threadgroup T*)memory;", "T* at = (T*)memory;"),
            ("const threadgroup T* last = at + i[0];", "const T* last = at + i[0];"),
            ("threadgroup_barrier(mem_flags::mem_threadgroup);", "threadgroup_barrier(mem_flags::mem_threadgroup);"),
            ("int3(threadgroup_position_in_grid)", "int3(threadgroup_position_in_grid)"),
        ],
    )
    def test_threadgroup(self, metal, made):
        assert cuda.body(metal, ("x",)) == made

    @pytest.mark.parametrize(
        ("metal", "made"),
        [
            ("x_shape[0] + w_strides[1]", "x_shape.data()[0] + w_strides.data()[1]"),
            ("f(x_shape, x_strides);", "f(x_shape.data(), x_strides.data());"),
            ("x_ndim", "x_ndim"),
            ("y_shape[0]", "y_shape[0]"),
            ("ax_shape[0]", "ax_shape[0]"),
            ("x_shapes[0]", "x_shapes[0]"),
            ("n_stride", "n_stride"),
        ],
    )
    def test_shapes_and_strides_of_inputs(self, metal, made):
        assert cuda.body(metal, ("x", "w")) == made


@pytest.mark.parametrize("name", TEXTS)
def test_no_word_of_metal_is_left_in_ours(name):
    """But those that the header defines."""
    header, body = program.text(name)
    made = cuda.header(header) + cuda.body(body, ("sizes", "x", "w", "scales", "biases", "a", "b", "c"))
    assert not re.search(r"\bthreadgroup\b", made)
    assert "#include <metal" not in made
    assert made.count("__shared__") == len(re.findall(r"^threadgroup [^*]*\[", body, re.MULTILINE))


class TestName:
    def test_differs_where_any_source_does(self):
        names = {cuda.name("p", *sources) for sources in (("a", "b"), ("a", "c"), ("b", "b"), ("a",))}
        assert len(names) == 4

    def test_stays_the_same_otherwise(self):
        assert cuda.name("p", "a", "b") == cuda.name("p", "a", "b")

    def test_is_short_enough_for_a_file(self):
        """Names of files end at 255 bytes on most file systems; CUDA's cache adds a suffix."""
        assert len(cuda.name("p" * 1000, "a")) < 200
        assert cuda.name("p", "a").startswith("p_")

    def test_a_programs_name_has_the_architecture_and_the_source_in_it(self, monkeypatch):
        def named(body, architecture):
            monkeypatch.setattr(nvrtc, "architecture", lambda: architecture)
            return launch.cuda_name(Program("p", ("x",), ("y",), "", body))

        names = [named("y[0] = 1;", "sm_90a"), named("y[0] = 2;", "sm_90a"), named("y[0] = 1;", "sm_80")]
        assert len(set(names)) == 3
        assert named("y[0] = 1;", "sm_90a") == names[0]


needs_compiler = pytest.mark.skipif(nvrtc.compiler() is None, reason="there is no NVRTC with CUDA's headers here")
QMV_PROBLEMS = tuple(
    f"quantized_matmul M=4 N=4096 K=4096 {kind} nt"
    for kind in ("f16 affine-b4-g64", "bf16 affine-b3-g32", "f16 mxfp4-b4-g32", "bf16 nvfp4-b4-g16", "f32 mxfp8-b8-g32")
)
MMA_PROBLEMS = tuple(
    f"quantized_matmul M=32 N=4096 K=4096 {kind} nt"
    for kind in ("f16 affine-b4-g64", "bf16 affine-b5-g32", "f16 mxfp8-b8-g32", "bf16 nvfp4-b4-g16")
)
TILES = "bm=32 bn=32 bk=32 wm=2 wn=2 wk=1"
LAUNCHES = (
    *((problem, "qmv v=4 rows=4 simdgroups=4 split=2 values=16 stage=0 wide=1 math=safe") for problem in QMV_PROBLEMS),
    (QMV_PROBLEMS[0], "qmv v=3 rows=2 simdgroups=4 split=4 values=8 stage=1 wide=0 math=safe"),
    *((problem, "qmv_mma v=16 rows=16 simdgroups=8 split=4 flight=1") for problem in MMA_PROBLEMS),
    (MMA_PROBLEMS[0], "qmv_mma v=8 rows=8 simdgroups=4 split=1 flight=4"),
    (MMA_PROBLEMS[0], f"qmm {TILES} split_k=1 swizzle=1 stages=2"),
    ("quantized_matmul M=32 N=256 K=512 bf16 mxfp4-b4-g32 nn", f"qmm {TILES} split_k=2 swizzle=1 stages=1"),
    ("matmul M=4 N=256 K=512 f32 nn", "gemv v=2 outputs=2 simdgroups=4 split=2 values=4 lanes=16 math=safe"),
    ("matmul M=64 N=256 K=512 f16 nn", f"gemm {TILES} split_k=1 swizzle=1 stages=2"),
    ("matmul M=64 N=256 K=512 f32 nn", f"gemm {TILES} split_k=1 swizzle=1 stages=1"),
    ("addmm M=64 N=256 K=512 bf16 nn row", f"gemm {TILES} split_k=2 swizzle=1 stages=1"),
)


def launched(text, route):
    """The launches of a route, which has to be legal for the problem."""
    problem, parsed = Problem.parse(text), Route.parse(route)
    assert kernels.accepts(parsed, problem), route
    kernel = kernels.kernel(parsed.kernel)
    assert isinstance(kernel, Family)
    return ahead.launches(kernel, problem, parsed)


@needs_compiler
@pytest.mark.parametrize(("text", "route"), LAUNCHES)
def test_every_family_compiles(text, route):
    found = launched(text, route)
    assert found
    for each in found:
        assert compiled(each)["registers"] > 0


WARP_REGISTERS, BLOCK_REGISTERS = 255, 65536
"""Registers that a thread may have, and that all of a block share (CUDA's table of compute capabilities)."""


def has_room(problem, route):
    """Whether the registers that ``qmv_mma`` counts leave a third of a thread's to what it does not count: with 16
    simdgroups a thread has 128, and what is legal beyond 85 of them may spill."""
    q, config = problem.quantization, route.config
    if route.kernel != "qmv_mma":
        return True
    each = min(WARP_REGISTERS, BLOCK_REGISTERS // (LANES * config["simdgroups"]))
    return registers(config, q.group_size, q.bits) * 3 <= each * 2


def some(name, text, count):
    """So many legal routes of the spaces for CUDA, from all over the set."""
    problem = Problem.parse(text)
    legal = space.legal_set(kernels.kernel(name), problem, "cuda")
    routes = [route for route in legal if has_room(problem, route)]
    assert 2 * len(routes) > len(legal)
    return [routes[at * (len(routes) - 1) // (count - 1)] for at in range(count)]


SPACES = (
    *(("qmv", problem.replace("M=4", "M=8"), 3) for problem in QMV_PROBLEMS),
    *(("qmv_mma", problem, 4) for problem in MMA_PROBLEMS),
)


@needs_compiler
@pytest.mark.parametrize(("name", "text", "count"), SPACES)
def test_what_a_sweep_tries_on_cuda_keeps_to_registers(name, text, count):
    spilled = {}
    for route in some(name, text, count):
        for each in launched(text, str(route)):
            spilled[str(route)] = compiled(each)["spilled"]
    assert not any(spilled.values()), spilled


@needs_compiler
@pytest.mark.parametrize(
    ("text", "route"), [each for each in LAUNCHES if each[1].startswith(("qmv ", "qmv_mma ", "gemv "))]
)
def test_shared_memory_is_what_legality_counts(text, route):
    (each,) = launched(text, route)
    parsed = Route.parse(route)
    kernel: Any = kernels.kernel(parsed.kernel)
    assert compiled(each)["shared"] == kernel.threadgroup_bytes(parsed.config)


@needs_compiler
@pytest.mark.parametrize(("text", "route"), [each for each in LAUNCHES if each[1].startswith(("qmm ", "gemm "))])
def test_shared_memory_of_tiles_is_no_more_than_legality_counts(text, route):
    """A tile may lie either way in it."""
    problem, parsed = Problem.parse(text), Route.parse(route)
    first, *_ = launched(text, route)
    kernel: Any = kernels.kernel(parsed.kernel)
    most = kernel.threadgroup_bytes(parsed.config, DTYPES[problem.dtype])
    assert 0 < compiled(first)["shared"] <= most
