"""Dense products in tiles without the neural accelerators."""

from __future__ import annotations

import pytest

from .calls import dense, stock, tile

SQUARE, SQUARE_HALF, TALL, FLAT = (64, 64, 16, 2, 2), (64, 64, 16, 1, 2), (64, 32, 32, 2, 2), (32, 64, 16, 1, 2)


@pytest.mark.parametrize("device", ["g13g", "g16g", "g17p"])
@pytest.mark.parametrize(
    ("layout", "dtype", "expected"),
    [
        ("nt", "f16", TALL),
        ("nt", "f32", TALL),
        ("nn", "bf16", SQUARE_HALF),
        ("tn", "f16", SQUARE_HALF),
        ("tt", "f16", SQUARE_HALF),
        ("nn", "f32", SQUARE),
    ],
)
def test_tiles_of_small_gpus(device, layout, dtype, expected):
    assert tile(stock(dense(2000, 2000, 200, layout, dtype), device)) == expected


@pytest.mark.parametrize("device", ["g13s", "g16s", "g16c"])
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_one_tile_for_pro_and_max(device, layout, dtype):
    assert tile(stock(dense(2000, 2000, 200, layout, dtype), device)) == SQUARE


@pytest.mark.parametrize(
    ("m", "n", "k", "layout", "dtype", "expected"),
    [
        (1024, 1024, 2047, "nt", "f16", SQUARE_HALF),  # 2^20 results, twice the longest side exceeds K
        (1024, 1024, 2048, "nt", "f16", TALL),
        (1024, 1024, 2048, "nn", "f16", FLAT),
        (1024, 1024, 2048, "tn", "f16", FLAT),
        (1024, 1024, 4096, "nt", "f32", SQUARE),
        (1024, 1023, 512, "nt", "f16", TALL),
        (1024, 1023, 512, "nn", "f16", SQUARE_HALF),
        (1024, 1023, 512, "nt", "f32", FLAT),
        (1024, 1023, 512, "nn", "f32", TALL),
    ],
)
def test_tiles_of_ultras(m, n, k, layout, dtype, expected):
    assert tile(stock(dense(m, n, k, layout, dtype), "g15d")) == expected


def test_a_batch_counts_as_results():
    assert tile(stock(dense(512, 512, 64, "nt", batch=4), "g13d")) == SQUARE_HALF
    assert tile(stock(dense(512, 512, 64, "nt", batch=3), "g13d")) == TALL


def test_the_grid_of_the_fused_kernel():
    kernel = stock(dense(129, 65, 100, "nn", batch=3), "g16s")
    assert (kernel.grid, kernel.threadgroups, kernel.busy, kernel.threads) == ((2, 3, 3), 18, 18, 128)
    assert (kernel.launches, kernel.partial_bytes, kernel.swizzle, kernel.ragged) == (1, 0, 0, "MNK")
    assert kernel.symbol == "steel_gemm_fused_nn_float16_float16_bm64_bn64_bk16_wm2_wn2"


@pytest.mark.parametrize(
    ("m", "n", "bm", "bn"), [(39, 40, 16, 32), (40, 39, 32, 16), (40, 40, 32, 32), (39, 39, 16, 16)]
)
def test_tiles_of_split_k(m, n, bm, bn):
    kernel = stock(dense(m, n, 4096), "g16s")
    assert (kernel.name, tile(kernel)) == ("steel_splitk", (bm, bn, 16, 2, 2))


@pytest.mark.parametrize(
    ("m", "n", "k", "parts", "partition"),
    [
        (32, 32, 128, 8, 16),
        (32, 32, 512, 32, 16),
        (32, 32, 65536, 32, 2048),
        (33, 32, 512, 16, 32),  # 32 steps over two tiles
        (32, 33, 512, 16, 32),
        (64, 64, 4096, 32, 128),  # 256 steps over 4 tiles are 64: no more than 32
        (128, 128, 4096, 16, 256),
        (128, 128, 4112, 16, 256),  # 257 steps; 16 tiles
        (128, 128, 4368, 32, 128),  # 273 steps over 16 tiles are 17: the next power of two; K / 16 / 32 = 8 steps each
        (512, 512, 1024, 2, 512),  # fewer steps than tiles
    ],
)
def test_partitions(m, n, k, parts, partition):
    kernel = stock(dense(m, n, k), "g16s")
    assert (kernel.name, kernel.split_k, kernel.partition) == ("steel_splitk", parts, partition)
    assert kernel.partial_bytes == parts * m * n * 4
    assert kernel.launches == 2


def test_names_of_split_k_say_what_is_aligned():
    name = "steel_gemm_splitk_nt_bfloat16_float32_bm16_bn32_bk16_wm2_wn2"
    assert stock(dense(16, 64, 4096, "nt", "bf16"), "g16s").symbol == f"{name}_MN_taligned_K_taligned"
    assert stock(dense(17, 64, 4097, "nt", "bf16"), "g16s").symbol == f"{name}_MN_naligned_K_naligned"


@pytest.mark.parametrize(
    ("layout", "dtype", "elements"),
    [
        ("nn", "f16", 64 * (16 + 8) + 16 * (64 + 8)),
        ("nt", "f16", 64 * (16 + 8) + 64 * (16 + 8)),
        ("tn", "f32", 16 * (64 + 4) + 16 * (64 + 4)),
    ],
)
def test_threadgroup_memory(layout, dtype, elements):
    size = 4 if dtype == "f32" else 2
    assert stock(dense(2000, 2000, 200, layout, dtype), "g16s").threadgroup_bytes == size * elements
