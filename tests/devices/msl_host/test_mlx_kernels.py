"""The host's own proof: MLX's Metal kernels, from the installed wheel's headers, agree with float64 on it.

Bounds are on the largest difference over the largest expected magnitude: a float32 sum of K products errs by far less
than K 2^-24 of it, and the result is rounded once to 2^-11 (float16) or 2^-8 (bfloat16) of itself.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native
from autotune.devices.msl_host.host import MslHost

from .calls import SCHEDULES, Call, apart, float64

BOUNDS = {mx.float32: 2e-6, mx.float16: 2**-11, mx.bfloat16: 2**-8}
DTYPES = pytest.mark.parametrize("dtype", BOUNDS, ids=["f32", "f16", "bf16"])


def include(*names: str) -> str:
    return "".join(f'#include "mlx/backend/metal/kernels/{name}"\n' for name in names)


def agrees(call: Call, expected: np.ndarray, bound: float) -> None:
    """Under every schedule and in check mode, all with the same bits."""
    results = [call.run(MslHost(options, includes=True))[0] for options in SCHEDULES]
    for result in results:
        assert apart(result, expected) < bound
        np.testing.assert_array_equal(result, results[0])


def random(seed: int, *shape: int, dtype: mx.Dtype) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


QUANTIZED = include("steel/gemm/gemm.h", "quantized_utils.h", "quantized.h")


def quantized(dtype: mx.Dtype, m: int, n: int, k: int, bits: int, group: int) -> tuple[dict[str, mx.array], np.ndarray]:
    """Inputs, and x times the transpose of the weights that the packed ones stand for."""
    x = random(1, m, k, dtype=dtype)
    w, scales, biases = mx.quantize(random(2, n, k, dtype=dtype), group_size=group, bits=bits)
    wide = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)
    return {"w": w, "scales": scales, "biases": biases, "x": x}, float64(x) @ float64(wide).T


@DTYPES
def test_qmv_fast(dtype: mx.Dtype) -> None:
    m, n, k = 3, 32, 1024
    inputs, expected = quantized(dtype, m, n, k, bits=4, group=64)
    body = """qmv_fast_impl<T, 64, 4, false>(w, scales, biases, x, y, x_shape[1], w_shape[0],
        threadgroup_position_in_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);"""
    call = Call(
        body,
        inputs,
        {"y": ((m, n), dtype)},
        QUANTIZED,
        (("T", dtype),),
        grid=(m * 32, n // 8 * 2, 1),
        threadgroup=(32, 2, 1),
    )
    agrees(call, expected, BOUNDS[dtype])


@pytest.mark.parametrize(
    ("dtype", "bits", "group", "m", "n"),
    [
        (mx.float32, 4, 64, 32, 32),
        (mx.float16, 3, 32, 33, 40),
        (mx.bfloat16, 8, 64, 20, 32),
        (mx.float16, 6, 128, 7, 64),
    ],
)
def test_qmm_t(dtype: mx.Dtype, bits: int, group: int, m: int, n: int) -> None:
    k = 256
    inputs, expected = quantized(dtype, m, n, k, bits, group)
    body = """
      constexpr int padded = 32 + 16 / sizeof(T);
      threadgroup T Xs[32 * padded];
      threadgroup T Ws[32 * padded];
      qmm_t_impl<T, GROUP, BITS, ALIGNED>(w, scales, biases, x, y, Xs, Ws, x_shape[1], w_shape[0], x_shape[0],
          x_shape[1], threadgroup_position_in_grid, thread_index_in_threadgroup, simdgroup_index_in_threadgroup,
          thread_index_in_simdgroup);
    """
    call = Call(
        body,
        inputs,
        {"y": ((m, n), dtype)},
        QUANTIZED,
        (("T", dtype), ("GROUP", group), ("BITS", bits), ("ALIGNED", n % 32 == 0)),
        grid=(-(-n // 32) * 32, -(-m // 32) * 2, 2),
        threadgroup=(32, 2, 2),
    )
    agrees(call, expected, BOUNDS[dtype])


GEMM = """
using namespace mlx::steel;
using gemm = GEMMKernel<T, T, 64, 64, 16, 2, 2, false, TB, MN, KA>;
threadgroup T As[gemm::tgp_mem_size_a];
threadgroup T Bs[gemm::tgp_mem_size_b];
gemm::run(A, B, D, reinterpret_cast<const constant GEMMParams*>(ulong(P)), As, Bs, thread_index_in_simdgroup,
    simdgroup_index_in_threadgroup, threadgroup_position_in_grid, thread_position_in_threadgroup);
"""


def gemm_params(m: int, n: int, k: int, b_rows: int) -> mx.array:
    """The bytes of ``GEMMParams`` (mlx/backend/metal/kernels/steel/gemm/params.h) for tiles of 64x64x16."""
    head = np.array([m, n, k, k, b_rows, n, -(-n // 64), -(-m // 64)], np.int32)
    tail = np.array([0, k // 16, 1, 0], np.int32)
    return mx.array(np.frombuffer(head.tobytes() + bytes(24) + tail.tobytes(), np.uint8))


@DTYPES
@pytest.mark.parametrize(("m", "n", "k", "transposed"), [(64, 64, 64, False), (70, 77, 50, False), (70, 77, 50, True)])
def test_steel_gemm(dtype: mx.Dtype, m: int, n: int, k: int, transposed: bool) -> None:
    a = random(3, m, k, dtype=dtype)
    b = random(4, *((n, k) if transposed else (k, n)), dtype=dtype)
    expected = float64(a) @ (float64(b).T if transposed else float64(b))
    aligned = m % 64 == 0 and n % 64 == 0
    call = Call(
        GEMM,
        {"A": a, "B": b, "P": gemm_params(m, n, k, k if transposed else n)},
        {"D": ((m, n), dtype)},
        include("steel/gemm/gemm.h"),
        (("T", dtype), ("TB", transposed), ("MN", aligned), ("KA", k % 16 == 0)),
        grid=(-(-n // 64) * 32, -(-m // 64) * 2, 2),
        threadgroup=(32, 2, 2),
    )
    agrees(call, expected, BOUNDS[dtype])


NAX = """
using namespace mlx::steel;
NAXTile<T, 2, 2> ta;
NAXTile<T, 2, 2> tb;
NAXTile<float, 2, 2> tc;
tc.clear();
for (int k = 0; k < 64; k += 32) {
  ta.load(TA ? A + k * 32 : A + k, TA ? 32 : 64);
  tb.load(TB ? B + k : B + k * 32, TB ? 64 : 32);
  tile_matmad_nax(tc, ta, metal::bool_constant<TA>{}, tb, metal::bool_constant<TB>{});
}
tc.store(D, 32);
"""


@pytest.mark.parametrize(
    ("dtype", "ta", "tb"),
    [
        (mx.float32, False, False),
        (mx.float16, False, True),
        (mx.bfloat16, True, False),
        (mx.float16, True, True),
    ],
)
def test_nax_tiles(dtype: mx.Dtype, ta: bool, tb: bool) -> None:
    a = random(5, *((64, 32) if ta else (32, 64)), dtype=dtype)
    b = random(6, *((32, 64) if tb else (64, 32)), dtype=dtype)
    expected = (float64(a).T if ta else float64(a)) @ (float64(b).T if tb else float64(b))
    call = Call(
        NAX,
        {"A": a, "B": b},
        {"D": ((32, 32), mx.float32)},
        include("steel/gemm/nax.h"),
        (("T", dtype), ("TA", ta), ("TB", tb)),
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
    )
    agrees(call, expected, BOUNDS[mx.float32])


def test_another_layout_of_cooperative_tensors_breaks_mlxs_tiles() -> None:
    """MLX's kernels rely on one layout; that the others are different is what makes them worth having."""
    a, b = random(5, 32, 64, dtype=mx.float32), random(6, 64, 32, dtype=mx.float32)
    call = Call(
        NAX,
        {"A": a, "B": b},
        {"D": ((32, 32), mx.float32)},
        include("steel/gemm/nax.h"),
        (("T", mx.float32), ("TA", False), ("TB", False)),
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
    )
    for layout in (1, 2):
        host = MslHost(native.Options(), includes=True, defines=(("MSL_TENSOR_LAYOUT", layout),))
        assert apart(call.run(host)[0], float64(a) @ float64(b)) > 0.1
