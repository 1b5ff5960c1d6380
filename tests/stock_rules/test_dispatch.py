"""Whole calls: cases that are known from public threads or from MLX's sources, and what the entry refuses."""

from __future__ import annotations

import pytest

from autotune.errors import UsageError
from autotune.problem import Problem
from autotune.stock_rules import StockDevice, stock_kernel

from .calls import dense, quantized, stock, tile


@pytest.mark.parametrize(("m", "split"), [(64, 4), (96, 2), (128, 2)])
def test_m5_max_splits_k_of_a_long_product(m, split):
    """ml-explore/mlx #3584."""
    kernel = stock(quantized(m, 2048, 8192), "g17s")
    assert (kernel.name, kernel.split_k, kernel.partition) == ("qmm_splitk", split, 8192 // split)


def test_m5_max_leaves_split_k_for_nax_at_160_rows():
    """ml-explore/mlx #3584."""
    kernel = stock(quantized(160, 2048, 8192), "g17s")
    assert (kernel.name, kernel.bm, kernel.split_k) == ("qmm_nax", 64, 1)


@pytest.mark.parametrize(("m", "name", "bm"), [(24, "qmm_splitk", 32), (32, "qmm_splitk", 32), (33, "qmm_nax", 64)])
def test_m5_max_is_faster_at_33_rows_than_at_32(m, name, bm):
    """ml-explore/mlx #4198: the split kernel up to 32 rows, NAX from 33."""
    kernel = stock(quantized(m, 6656, 6656), "g17s")
    assert (kernel.name, kernel.bm, kernel.split_k) == (name, bm, 2 if name == "qmm_splitk" else 1)


@pytest.mark.parametrize(
    ("m", "name", "rows"),
    [(8, "qmv_wide", 4), (10, "qmv_wide", 5), (12, "qmv_wide", 4), *((m, "qmm", 32) for m in range(13, 33))],
)
def test_m3_max_hands_over_at_13_rows(m, name, rows):
    """ml-explore/mlx #3863."""
    kernel = stock(quantized(m, 17408, 5120, "affine-b4-g128"), "g15s")
    assert (kernel.name, kernel.rows) == (name, rows)


@pytest.mark.parametrize(("m", "name"), [(9, "qmv_wide"), (10, "qmm")])
def test_m3_max_handed_over_at_10_rows_in_0_32_0(m, name):
    """ml-explore/mlx #3863."""
    assert stock(quantized(m, 17408, 5120, "affine-b4-g128"), "g15s", "0.32.0").name == name


@pytest.mark.parametrize(
    ("m", "name", "rows"),
    [(1, "qmv_fast", 1), (2, "qmv_wide", 2), (3, "qmv_wide", 3), (4, "qmv_wide", 4), (16, "qmm", 32)],
)
def test_m4_pro_on_a_wide_layer(m, name, rows):
    kernel = stock(quantized(m, 13824, 5120), "g16s")
    assert (kernel.name, kernel.rows) == (name, rows)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6, 9])
def test_m4_pro_on_a_wide_layer_before_qmv_wide(m):
    """ml-explore/mlx #3553: one kernel for all of these M, which reads the weights once for each row."""
    kernel = stock(quantized(m, 13824, 5120), "g16s", "0.31.1")
    assert (kernel.name, kernel.rows, kernel.grid, kernel.threads) == ("qmv_fast", 1, (m, 1728, 1), 64)


@pytest.mark.parametrize(("m", "bm"), [(14, 32), (48, 64)])
def test_m5_takes_a_short_nax_tile_where_it_holds_all_rows(m, bm):
    """ml-explore/mlx #4171."""
    kernel = stock(quantized(m, 13824, 5120), "g17g")
    assert (kernel.name, tile(kernel)) == ("qmm_nax", (bm, 64, 64, 2, 2))


def test_m3_max_splits_k_of_a_square_layer():
    kernel = stock(quantized(16, 4096, 4096), "g15s")
    assert (kernel.name, kernel.split_k) == ("qmm_splitk", 4)


@pytest.mark.parametrize(
    ("device", "layout", "dtype", "expected"),
    [
        ("g16g", "nn", "f16", (64, 64, 16, 1, 2)),
        ("g16g", "nt", "f16", (64, 32, 32, 2, 2)),
        *(("g16s", layout, dtype, (64, 64, 16, 2, 2)) for layout in ("nn", "nt", "tn") for dtype in ("f16", "f32")),
    ],
)
def test_square_dense_products_of_m4(device, layout, dtype, expected):
    kernel = stock(dense(4096, 4096, 4096, layout, dtype), device)
    assert kernel.name == "steel_fused"
    assert tile(kernel) == expected


def test_square_dense_products_of_m5():
    large = stock(dense(4096, 4096, 4096), "g17s")
    assert (large.name, tile(large), large.swizzle) == ("nax_fused", (64, 128, 256, 2, 4), 2)
    base = stock(dense(4096, 4096, 4096), "g17g")
    assert (base.name, tile(base), base.swizzle) == ("nax_fused", (128, 128, 512, 4, 4), 1)


def test_long_dense_products_of_m5():
    long = stock(dense(4096, 4096, 14336), "g17s")
    assert (long.name, tile(long), long.swizzle) == ("nax_splitk", (128, 128, 512, 4, 4), 1)
    assert (long.partition, long.split_k) == (4096, 4)
    for device in ("g17s", "g17g"):
        small = stock(dense(128, 128, 8192), device)
        assert (small.name, tile(small)) == ("nax_splitk", (64, 64, 256, 2, 2))
        assert (small.partition, small.split_k) == (4096, 2)
        assert stock(dense(512, 512, 1024), device).name == "nax_fused"  # K is twice the longest side, not more


@pytest.mark.parametrize("device", ["g16g", "g16s"])
def test_long_dense_products_of_m4(device):
    small = stock(dense(128, 128, 8192), device)
    assert (small.name, tile(small)) == ("steel_splitk", (32, 32, 16, 2, 2))
    assert (small.partition, small.split_k) == (256, 32)
    square = stock(dense(512, 512, 1024), device)
    assert (square.name, square.partition, square.split_k) == ("steel_splitk", 512, 2)


@pytest.mark.parametrize("device", ["g15s", "g16g", "g17s"])
def test_two_rows_over_a_vocabulary(device):
    kernel = stock(dense(2, 248320, 2048, "nt", "bf16"), device)
    assert (kernel.name, kernel.rows, kernel.lanes, kernel.grid) == ("gemv_wide", 2, 32, (1, 62080, 1))


def test_sixteen_rows():
    m4 = stock(dense(16, 4096, 4096, "nt", "bf16"), "g16s")
    assert (m4.name, m4.bm, m4.bn, m4.split_k) == ("steel_splitk", 16, 32, 2)
    m5 = stock(dense(16, 4096, 4096, "nt", "bf16"), "g17s")
    assert (m5.name, m5.busy, m5.threadgroups) == ("nax_fused", 32, 128)


@pytest.mark.parametrize("device", ["g13g", "g14s", "g15d", "g16s", "g17g"])
def test_one_row(device):
    plain = stock(dense(1, 4096, 4096, "nt", "bf16"), device)
    assert plain.symbol == "gemv_bfloat16_bm8_bn1_sm1_sn32_tm4_tn4_nc0_axpby0"
    by_rows = stock(dense(1, 4096, 4096, "nn", "bf16"), device)
    assert by_rows.symbol == "gemv_t_bfloat16_bm1_bn16_sm8_sn4_tm4_tn4_nc0_axpby0"


def test_a_newer_version_routes_as_the_newest_known_one():
    call = quantized(14, 13824, 5120)
    assert stock(call, "g17g", "0.40.0") == stock(call, "g17g", "0.32.2")


def test_an_older_version_is_refused_with_a_remedy():
    with pytest.raises(UsageError, match=r"0\.28\.0 are not known: 0\.29\.0 is the oldest") as raised:
        stock(quantized(1, 4096, 4096), "g16s", "0.28.0")
    assert raised.value.remedy


def test_cuda_is_asked_for_quantized_products_only():
    device = StockDevice("cuda", "sm_90")
    with pytest.raises(UsageError, match="cuBLAS"):
        stock_kernel(Problem.parse(dense(4, 64, 64)), device, "0.32.2")
    assert stock_kernel(Problem.parse(quantized(4, 128, 512)), device, "0.32.2").name == "qmv"
