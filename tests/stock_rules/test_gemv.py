"""Dense products with one row or column, or a few rows."""

from __future__ import annotations

import pytest

from .calls import dense, stock


@pytest.mark.parametrize(("k", "blocks"), [(1, 1), (16384, 1), (16385, 2), (1 << 20, 64)])
def test_blocks_of_a_dot_product(k, blocks):
    kernel = stock(dense(1, 1, k, "nt"), "g16s")
    assert (kernel.grid, kernel.threads, kernel.launches) == ((blocks, 1, 1), 512, 3)
    assert kernel.partial_bytes == 4 * blocks


@pytest.mark.parametrize(
    ("m", "rows", "lanes", "passes"),
    [(2, 2, 32, 1), (5, 5, 32, 1), (6, 3, 16, 2), (7, 4, 16, 2), (10, 5, 16, 2), (11, 4, 16, 3), (15, 5, 16, 3)],
)
def test_rows_and_passes_of_gemv_wide(m, rows, lanes, passes):
    kernel = stock(dense(m, 4096, 4096, "nt"), "g16s")
    assert (kernel.name, kernel.rows, kernel.bm, kernel.lanes) == ("gemv_wide", rows, rows, lanes)
    assert (kernel.grid, kernel.threads, kernel.wn) == ((passes, 1024, 1), lanes * 4, lanes // 8)
    assert kernel.symbol == f"gemv_wide_float16_nv{rows}_kl{lanes}"
    assert "N" not in kernel.ragged


@pytest.mark.parametrize(("n", "lanes"), [(64, 32), (65, 16)])
def test_narrow_results_get_all_lanes(n, lanes):
    assert stock(dense(6, n, 4096, "nt"), "g16s").lanes == lanes


@pytest.mark.parametrize(("n", "columns", "made"), [(65535, 3, 5), (65536, 1, 15)])
def test_a_vocabulary_is_read_in_passes_of_one_threadgroup(n, columns, made):
    kernel = stock(dense(15, n, 4096, "nt"), "g16s")
    assert (kernel.grid, kernel.bm, kernel.rows) == ((columns, 16384, 1), made, 5)


@pytest.mark.parametrize(
    ("call", "device"),
    [
        (dense(1, 4096, 4096, "nt"), "g16s"),
        (dense(16, 4096, 4096, "nt"), "g16s"),
        (dense(4, 1, 4096, "nt"), "g16s"),
        (dense(4, 4096, 4098, "nt"), "g16s"),
        (dense(4, 4096, 4096, "nt", "f32"), "g16s"),
        (dense(4, 4096, 4096, "nn"), "g16s"),
        (dense(4, 4096, 4096, "tt"), "g16s"),
        (dense(4, 4096, 4096, "nt"), "g14s"),
    ],
)
def test_what_gemv_wide_does_not_take(call, device):
    assert stock(call, device).name != "gemv_wide"


def test_gemv_wide_takes_a_batch_and_the_ultras():
    kernel = stock(dense(4, 4096, 4096, "nt", batch=3), "g15d")
    assert (kernel.name, kernel.grid) == ("gemv_wide", (1, 1024, 3))


@pytest.mark.parametrize(
    ("n", "k", "symbol", "grid"),
    [
        (4095, 4096, "bm4_bn1_sm1_sn32_tm4_tn4", (256, 1, 1)),
        (4096, 4096, "bm8_bn1_sm1_sn32_tm4_tn4", (128, 1, 1)),
        (4096, 64, "bm1_bn1_sm8_sn4_tm4_tn4", (128, 1, 1)),
        (4096, 65, "bm8_bn1_sm1_sn32_tm4_tn4", (128, 1, 1)),
        (256, 4095, "bm4_bn1_sm1_sn32_tm4_tn4", (16, 1, 1)),
        (256, 4096, "bm1_bn8_sm1_sn32_tm4_tn4", (64, 1, 1)),
        (3, 4096, "bm1_bn8_sm1_sn32_tm1_tn4", (3, 1, 1)),
        (4, 4096, "bm1_bn8_sm1_sn32_tm4_tn4", (1, 1, 1)),
    ],
)
def test_tiles_of_gemv(n, k, symbol, grid):
    kernel = stock(dense(1, n, k, "nt"), "g16s")
    assert kernel.symbol == f"gemv_float16_{symbol}_nc0_axpby0"
    assert kernel.grid == grid


@pytest.mark.parametrize(
    ("n", "k", "symbol", "grid"),
    [
        (3, 4096, "bm1_bn2_sm8_sn4_tm4_tn1", (1, 1, 1)),
        (4, 4096, "bm1_bn2_sm8_sn4_tm4_tn4", (1, 1, 1)),
        (511, 4096, "bm1_bn2_sm8_sn4_tm4_tn4", (16, 1, 1)),
        (512, 4096, "bm1_bn4_sm8_sn4_tm4_tn4", (8, 1, 1)),
        (2047, 8192, "bm1_bn4_sm8_sn4_tm4_tn4", (32, 1, 1)),
        (2048, 8191, "bm1_bn16_sm8_sn4_tm4_tn4", (8, 1, 1)),
        (2048, 8192, "bm1_bn16_sm4_sn8_tm4_tn4", (4, 1, 1)),
    ],
)
def test_tiles_of_gemv_t(n, k, symbol, grid):
    kernel = stock(dense(1, n, k, "nn"), "g16s")
    assert kernel.symbol == f"gemv_t_float16_{symbol}_nc0_axpby0"
    assert kernel.grid == grid


def test_one_column_reads_a_as_the_matrix():
    kernel = stock(dense(4096, 1, 4096, "nt"), "g16s")
    assert (kernel.name, kernel.bm, kernel.bn, kernel.rows, kernel.grid) == ("gemv", 32, 1, 32, (128, 1, 1))
    assert stock(dense(4096, 1, 4096, "tn"), "g16s").name == "gemv_t"


def test_lanes_and_memory():
    """gemv: 32 lanes a sum, or 8 simdgroups of them for a long K; gemv_t: 8 lanes, or 4."""
    plain, long = stock(dense(1, 4096, 4096, "nt"), "g16s"), stock(dense(1, 256, 4096, "nt"), "g16s")
    assert (plain.lanes, plain.threads, plain.bk, plain.threadgroup_bytes) == (32, 256, 128, 0)
    assert (long.lanes, long.threads, long.bk, long.threadgroup_bytes) == (256, 256, 1024, 4 * 8 * 8)
    by_rows = stock(dense(1, 4096, 4096, "nn"), "g16s")
    assert (by_rows.lanes, by_rows.threads, by_rows.bn, by_rows.bk) == (8, 512, 256, 32)
