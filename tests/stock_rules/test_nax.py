"""Dense products on the neural accelerators."""

from __future__ import annotations

import pytest

from .calls import dense, stock, tile


@pytest.mark.parametrize(
    ("m", "n", "k", "bk"),
    [
        (4096, 4096, 8192, 256),  # K does not exceed M + N
        (4096, 4096, 8193, 64),
        (2048, 5120, 8191, 256),
        (2048, 5120, 8192, 64),
    ],
)
def test_large_gpus_shorten_the_step_for_a_long_k(m, n, k, bk):
    for device in ("g17s", "g17c", "g17d"):
        kernel = stock(dense(m, n, k), device)
        assert (kernel.name, tile(kernel), kernel.swizzle) == ("nax_fused", (64, 128, bk, 2, 4), 2)


@pytest.mark.parametrize(("m", "swizzle", "grid"), [(384, 0, (32, 3, 1)), (385, 1, (64, 2, 1))])
def test_base_gpus_swizzle_from_four_rows_of_tiles(m, swizzle, grid):
    kernel = stock(dense(m, 4096, 4096), "g17g")
    assert (tile(kernel), kernel.swizzle, kernel.grid) == ((128, 128, 512, 4, 4), swizzle, grid)
    assert kernel.busy == 32 * -(-m // 128)


def test_a_swizzled_grid_has_idle_threadgroups():
    """One row of 32 tiles in a grid that walks four rows together."""
    kernel = stock(dense(16, 4096, 4096), "g17s")
    assert (kernel.grid, kernel.threadgroups, kernel.busy, kernel.threads) == ((128, 1, 1), 128, 32, 256)


@pytest.mark.parametrize(
    ("k", "length", "parts"),
    [
        (600, 300, 2),
        (601, 300, 3),
        (1024, 512, 2),
        (1025, 1024, 2),
        (2048, 1024, 2),
        (2049, 2048, 2),
        (4096, 2048, 2),
        (4097, 4096, 2),
        (8192, 4096, 2),
        (8193, 4096, 3),
        (1000000, 4096, 245),
    ],
)
def test_partitions(k, length, parts):
    kernel = stock(dense(64, 64, k), "g17g")
    assert (kernel.name, kernel.partition, kernel.split_k) == ("nax_splitk", length, parts)
    assert kernel.partial_bytes == parts * 64 * 64 * 4
    assert (kernel.launches, kernel.grid) == (2, (parts, 1, 1))


@pytest.mark.parametrize(
    ("m", "n", "k", "expected"),
    [
        (511, 512, 4097, (64, 64, 256, 2, 2)),  # half of M + N is 511
        (512, 512, 4096, (64, 64, 256, 2, 2)),
        (512, 512, 4097, (128, 128, 512, 4, 4)),
    ],
)
def test_tiles_of_split_k(m, n, k, expected):
    assert tile(stock(dense(m, n, k), "g17s")) == expected


def test_the_grid_of_split_k_has_one_axis():
    kernel = stock(dense(640, 128, 8192), "g17s")  # 10 tiles of 64 rows; half of M + N is 384
    assert (tile(kernel), kernel.swizzle, kernel.split_k) == ((64, 64, 256, 2, 2), 1, 2)
    assert (kernel.grid, kernel.busy) == ((2 * 2 * 5 * 2, 1, 1), 40)
    odd = stock(dense(704, 128, 8192), "g17s")  # 11 rows of tiles are walked in six pairs
    assert (odd.grid, odd.busy) == ((2 * 2 * 6 * 2, 1, 1), 44)


def test_nothing_goes_through_threadgroup_memory():
    for call in (dense(4096, 4096, 4096), dense(128, 128, 8192)):
        assert stock(call, "g17s").threadgroup_bytes == 0


def test_names():
    assert stock(dense(64, 4096, 4096, "nt", "bf16"), "g17s").symbol == (
        "steel_gemm_fused_nax_nt_bfloat16_bfloat16_bm64_bn128_bk256_wm2_wn4"
    )
    assert stock(dense(128, 128, 8192, "tn"), "g17s").symbol == (
        "steel_gemm_splitk_nax_tn_float16_float32_bm64_bn64_bk256_wm2_wn2"
    )
