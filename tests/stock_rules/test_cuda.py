"""``quantized_matmul`` on CUDA."""

from __future__ import annotations

import pytest

from autotune.errors import UsageError
from autotune.problem import Problem
from autotune.stock_rules import StockDevice, StockKernel, stock_kernel
from autotune.stock_rules.cuda import compute_capability

from .calls import NEWEST, quantized


def cuda(call: str, architecture: str = "sm_90") -> StockKernel:
    return stock_kernel(Problem.parse(call), StockDevice("cuda", architecture), NEWEST)


@pytest.mark.parametrize(
    ("architecture", "major"), [("sm_75", 7), ("sm_90", 9), ("sm_90a", 9), ("sm_120", 12), ("", 0)]
)
def test_compute_capability(architecture, major):
    assert compute_capability(architecture) == major


@pytest.mark.parametrize(("m", "name"), [(1, "qmv"), (7, "qmv"), (8, "qmm_sm80"), (9, "qmm_sm80")])
def test_eight_rows(m, name):
    assert cuda(quantized(m, 13824, 5120)).name == name


@pytest.mark.parametrize(("m", "name"), [(3, "qmv"), (4, "qmm_sm80")])
def test_rows_of_a_batch_count_together(m, name):
    assert cuda(quantized(m, 13824, 5120) + " B=2").name == name


def test_every_row_reads_all_weights():
    kernel = cuda(quantized(6, 13824, 5120))
    assert (kernel.rows, kernel.grid, kernel.threads, kernel.lanes) == (1, (1728, 6, 1), 256, 32)


@pytest.mark.parametrize(
    ("call", "architecture", "name", "tile"),
    [
        (quantized(8, 13824, 5120), "sm_80", "qmm_sm80", (16, 128, 64)),
        (quantized(17, 13824, 5120), "sm_80", "qmm_sm80", (32, 128, 64)),
        (quantized(200, 13824, 5120, "affine-b4-g128"), "sm_80", "qmm_sm80", (64, 128, 128)),
        (quantized(8, 13824, 5120), "sm_75", "qmm_naive", (16, 64, 64)),
        (quantized(8, 13825, 5120), "sm_80", "qmm_naive", (16, 128, 64)),
        (quantized(8, 13824, 5120, "affine-b6-g64"), "sm_80", "qmm_naive", (16, 128, 64)),
        (quantized(8, 13824, 5120, dtype="f32"), "sm_80", "qmm_naive", (16, 64, 64)),
        (quantized(1, 13824, 5120, layout="nn"), "sm_80", "qmm_naive", (16, 128, 64)),
    ],
)
def test_tiles(call, architecture, name, tile):
    kernel = cuda(call, architecture)
    assert (kernel.name, (kernel.bm, kernel.bn, kernel.bk)) == (name, tile)


def test_k_that_no_tile_takes_stays_with_the_vector_kernel():
    assert cuda(quantized(4096, 5120, 96, "mxfp4-b4-g32")).name == "qmv"
    assert cuda(quantized(4096, 5120, 80, "nvfp4-b4-g16")).name == "qmv"


@pytest.mark.parametrize(
    ("m", "architecture", "name"), [(8, "sm_100", "qmm_sm80"), (7, "sm_100", "fp_qmv"), (7, "sm_90", "qmv")]
)
def test_modes_other_than_affine_have_a_vector_kernel_of_their_own(m, architecture, name):
    assert cuda(quantized(m, 13824, 5120, "mxfp4-b4-g32"), architecture).name == name


@pytest.mark.parametrize(
    ("m", "n", "name"), [(1, 4096, "qmv"), (2, 4096, "qmm_sm90"), (1, 16384, "qmv"), (1, 16388, "qmm_sm90")]
)
def test_one_group_on_hopper(m, n, name):
    assert cuda(quantized(m, n, 64)).name == name


def test_hopper_is_told_from_its_neighbours():
    assert cuda(quantized(8, 4096, 64), "sm_80").name == "qmm_sm80"
    assert cuda(quantized(8, 4096, 64), "sm_100").name == "qmm_sm80"
    assert cuda(quantized(8, 4098, 64), "sm_90").name == "qmm_naive"


@pytest.mark.parametrize(("m", "name"), [(8, "fp_qmv"), (9, "qmv")])
def test_eight_rows_of_the_other_modes_where_no_tile_takes_k(m, name):
    assert cuda(quantized(m, 5120, 96, "mxfp4-b4-g32"), "sm_100").name == name


@pytest.mark.parametrize(
    ("quantization", "dtype", "step"),
    [("affine-b4-g64", "f16", 512), ("affine-b5-g64", "f16", 256), ("affine-b4-g64", "f32", 256)],
)
def test_a_warp_makes_an_output(quantization, dtype, step):
    kernel = cuda(quantized(3, 1004, 5120, quantization, dtype=dtype))
    assert (kernel.bm, kernel.bn, kernel.bk, kernel.wm, kernel.wn) == (1, 8, step, 1, 8)
    assert (kernel.grid, kernel.busy, kernel.launches, kernel.ragged) == ((126, 3, 1), 378, 1, "N")


@pytest.mark.parametrize(
    ("architecture", "dtype", "unit"),
    [
        ("sm_75", "f16", "lanes"),
        ("sm_80", "f16", "tensor_cores"),
        ("sm_80", "f32", "lanes"),
        ("sm_90", "bf16", "tensor_cores"),
    ],
)
def test_what_multiplies_in_tiles(architecture, dtype, unit):
    kernel = cuda(quantized(40, 1000, 5120, dtype=dtype), architecture)
    assert (kernel.name, kernel.unit, kernel.lanes, kernel.launches, kernel.ragged) == ("qmm_naive", unit, 1, 1, "MN")


@pytest.mark.parametrize(
    ("n", "rows"),
    [(16, 16), (20, 32), (32, 32), (36, 64), (64, 64), (68, 128), (128, 128), (132, 256), (5000, 256)],
)
def test_tiles_of_one_group_on_hopper(n, rows):
    kernel = cuda(quantized(300, n, 64))
    assert (kernel.name, kernel.bm, kernel.bn, kernel.bk) == ("qmm_sm90", rows, 128, 64)
    assert kernel.grid == (-(-n // 128), -(-300 // rows), 1)
    assert (kernel.launches, kernel.ragged) == (3, "M" if n == 128 else "MN")


def test_dense_products():
    with pytest.raises(UsageError, match="cuBLAS"):
        cuda("matmul M=8 N=64 K=64 f16 nt")
