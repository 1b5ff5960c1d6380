"""Programs of many routes, known before any is launched."""

from __future__ import annotations

import mlx.core as mx
import pytest

from autotune import kernels
from autotune.errors import UsageError
from autotune.kernels import ahead, launch, nvrtc
from autotune.kernels.base import Route
from autotune.kernels.family import Family
from autotune.kernels.program import Launch
from autotune.problem import Problem

from .packed import Recorder

QMV = "quantized_matmul M=4 N=256 K=512 f16 affine-b4-g64 nt"
MMA = "quantized_matmul M=16 N=256 K=512 bf16 mxfp4-b4-g32 nt"
TILES = "bm=32 bn=32 bk=32 wm=2 wn=2 wk=1"
QMV_ROUTE = "qmv v=4 rows=4 simdgroups=4 split=1 values=16 stage=0 wide=1 math=safe"
QMM = MMA.replace("M=16", "M=32")
MMA_ROUTE = "qmv_mma v=8 rows=16 simdgroups=4 split=2 flight=2"


def launches(text, route):
    problem, parsed = Problem.parse(text), Route.parse(route)
    assert kernels.accepts(parsed, problem)
    kernel = kernels.kernel(parsed.kernel)
    assert isinstance(kernel, Family)
    return ahead.launches(kernel, problem, parsed)


class TestLaunches:
    def test_qmv(self):
        (each,) = launches(QMV, QMV_ROUTE)
        assert each.program.inputs == ("sizes", "x", "w", "scales", "biases")
        assert [array.dtype for array in each.inputs] == [mx.int32, mx.float16, mx.uint32, mx.float16, mx.float16]
        assert [array.shape for array in each.inputs[1:]] == [(4, 512), (256, 64), (256, 8), (256, 8)]
        assert (each.shapes, each.dtypes) == (((4, 256),), (mx.float16,))

    def test_qmv_mma(self):
        """Scales of a minifloat are bytes, and there are no biases."""
        (each,) = launches(MMA, MMA_ROUTE)
        assert each.program.inputs == ("sizes", "x", "w", "scales")
        assert [array.dtype for array in each.inputs] == [mx.int32, mx.bfloat16, mx.uint32, mx.uint8]
        assert (each.grid, each.threadgroup) == ((32 * 8, 4, 2), (32, 4, 1))

    def test_qmm_that_splits_k_has_two(self):
        first, second = launches(QMM, f"qmm {TILES} split_k=2 swizzle=1 stages=1")
        assert (first.shapes, first.dtypes) == (((2, 32, 256),), (mx.float32,))
        assert (second.shapes, second.dtypes) == (((32, 256),), (mx.bfloat16,))
        assert second.program.inputs == ("sizes", "partials")

    def test_qmm_of_weights_along_n(self):
        text = "quantized_matmul M=32 N=256 K=512 f16 affine-b4-g64 nn"
        (each,) = launches(text, f"qmm {TILES} split_k=1 swizzle=1 stages=1")
        assert [array.shape for array in each.inputs[1:]] == [(32, 512), (512, 32), (512, 4), (512, 4)]
        assert each.shapes == ((32, 256),)

    @pytest.mark.parametrize(("epilogue", "shape"), [("row", (256,)), ("full", (64, 256))])
    def test_gemm_addmm(self, epilogue, shape):
        text = f"addmm M=64 N=256 K=512 f32 nn {epilogue}"
        (each,) = launches(text, f"gemm {TILES} split_k=1 swizzle=1 stages=1")
        assert each.program.inputs == ("sizes", "a", "b", "factors", "c")
        assert each.inputs[-1].shape == shape

    def test_gemm_of_a_batch(self):
        text = "matmul M=64 N=256 K=512 B=3 f16 nn"
        (each,) = launches(text, f"gemm {TILES} split_k=1 swizzle=1 stages=1")
        assert [array.shape for array in each.inputs[1:]] == [(3, 64, 512), (3, 512, 256)]
        assert each.shapes == ((3, 64, 256),)

    def test_is_the_program_of_a_real_call(self):
        """Otherwise what was compiled ahead would be for nothing."""
        problem, route = Problem.parse(MMA), Route.parse(MMA_ROUTE)
        x, *rest = ahead._arguments(problem)
        assert isinstance(x, mx.array)
        seen = Recorder()
        with launch.through(seen):
            kernels.build(route, problem)(x[:3], *rest)
        assert seen.launches[0].program is launches(MMA, MMA_ROUTE)[0].program

    def test_leaves_the_door_as_it_was(self):
        launches(QMV, QMV_ROUTE)
        assert launch._runner() is None


@pytest.fixture
def compiled(monkeypatch):
    """On CUDA, what is handed to the compiler."""
    seen: list[Launch] = []
    monkeypatch.setattr(launch, "_on_cuda", lambda: True)
    monkeypatch.setattr(launch, "_codes", {})
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_90a")
    monkeypatch.setattr(nvrtc, "compile_all", lambda asked: seen.extend(each for each, _ in asked))
    launch.cuda_name.cache_clear()
    yield seen
    launch.cuda_name.cache_clear()


def wanted(*pairs):
    return [(Problem.parse(text), Route.parse(route)) for text, route in pairs]


class TestCompileAhead:
    def test_hands_on_each_program(self, compiled):
        ahead.compile_ahead(kernels.KERNELS, wanted((QMV, QMV_ROUTE), (MMA, MMA_ROUTE)))
        assert [each.program.name.split("_t")[0] for each in compiled] == ["autotune_qmv", "autotune_qmv_mma"]

    def test_does_nothing_but_on_cuda(self, compiled, monkeypatch):
        monkeypatch.setattr(launch, "_on_cuda", lambda: False)
        ahead.compile_ahead(kernels.KERNELS, wanted((QMV, QMV_ROUTE)))
        assert compiled == []

    def test_leaves_compositions_out(self, compiled):
        ahead.compile_ahead(kernels.KERNELS, wanted((QMV, "stock"), (QMV, "pad multiple=8 fill=zeros")))
        assert compiled == []

    def test_asks_each_route_and_kind_of_problem_once(self, compiled, monkeypatch):
        asked = []
        real = ahead.launches

        def counted(kernel, problem, route):
            asked.append(str(problem))
            return real(kernel, problem, route)

        monkeypatch.setattr(ahead, "launches", counted)
        other_size, other_dtype = QMV.replace("M=4 N=256", "M=7 N=512"), QMV.replace("f16", "bf16")
        ahead.compile_ahead(
            kernels.KERNELS,
            wanted((QMV, QMV_ROUTE), (QMV, QMV_ROUTE), (other_size, QMV_ROUTE), (other_dtype, QMV_ROUTE)),
        )
        assert asked == [QMV, other_dtype]
        assert len({each.program for each in compiled}) == len(compiled) == 2

    def test_a_program_that_two_routes_share_is_compiled_once(self, compiled):
        split = f"qmm {TILES} split_k={{}} swizzle=1 stages=1"
        ahead.compile_ahead(kernels.KERNELS, wanted((QMM, split.format(2)), (QMM, split.format(4))))
        assert len(compiled) == 1  # the sum of the parts reads strides, which is MLX's to compile

    def test_what_was_launched_before_is_not_compiled_again(self, compiled, monkeypatch):
        (each,) = launches(QMV, QMV_ROUTE)
        monkeypatch.setattr(launch, "_codes", {launch._key(each): None})
        ahead.compile_ahead(kernels.KERNELS, wanted((QMV, QMV_ROUTE)))
        assert compiled == []

    @pytest.mark.parametrize("error", [ValueError("v"), RuntimeError("v"), UsageError("v")])
    def test_a_route_that_cannot_be_built_costs_nothing(self, error, compiled, monkeypatch):
        real = ahead.launches

        def failing(kernel, problem, route):
            if kernel.name == "qmv":
                raise error
            return real(kernel, problem, route)

        monkeypatch.setattr(ahead, "launches", failing)
        ahead.compile_ahead(kernels.KERNELS, wanted((QMV, QMV_ROUTE), (MMA, MMA_ROUTE)))
        assert len(compiled) == 1
