"""Quantized products row by row, with weights stored as (N, K)."""

from __future__ import annotations

import pytest

from .calls import quantized, stock

FAST, WIDE = "qmv_fast", "qmv_wide"


@pytest.mark.parametrize(
    ("m", "rows", "passes"),
    [
        (2, 2, 1),
        (5, 5, 1),
        (6, 3, 2),
        (7, 4, 2),
        (10, 5, 2),
        (11, 4, 3),
        (12, 4, 3),
        (15, 5, 3),
        (16, 4, 4),
        (21, 5, 5),
    ],
)
def test_rows_and_passes_of_qmv_wide(m, rows, passes):
    """At most five rows share a read of the weights, and the passes are as even as they can be."""
    kernel = stock(quantized(m, 2048, 2048), "g17s")
    assert (kernel.name, kernel.rows, kernel.bm) == (WIDE, rows, rows)
    assert kernel.grid == (passes, 256, 1)
    assert kernel.symbol == f"affine_qmv_wide_float16_t_gs_64_b_4_nv_{rows}_kl_8_batch_0"


def test_modes_other_than_affine_share_a_row_among_more_lanes():
    kernel = stock(quantized(3, 4096, 4096, "mxfp4-b4-g32"), "g13s")
    assert (kernel.name, kernel.lanes, kernel.bn, kernel.grid) == (WIDE, 16, 4, (1, 1024, 1))
    assert kernel.symbol == "mxfp4_qmv_wide_float16_t_gs_32_b_4_nv_3_kl_16_batch_0"


def test_affine_weights_are_read_for_every_row_before_m3():
    kernel = stock(quantized(3, 4096, 4096), "g14s")
    assert (kernel.name, kernel.rows, kernel.grid, kernel.threads) == (FAST, 1, (3, 512, 1), 64)


@pytest.mark.parametrize(("bits", "step"), [(2, 512), (3, 512), (4, 512), (5, 512), (6, 256), (8, 256)])
def test_what_k_has_to_divide_for_qmv_fast(bits, step):
    q = f"affine-b{bits}-g64"
    assert [stock(quantized(1, 4096, k, q), "g16s").name for k in (step - 64, step, step + 64, 3 * step)] == [
        "qmv",
        FAST,
        "qmv",
        FAST,
    ]
    assert stock(quantized(1, 4096, step, q), "g16s").bk == step
    assert stock(quantized(1, 4096, step + 64, q), "g16s").bk == (512 if bits == 2 else step // 2)


@pytest.mark.parametrize(("n", "name"), [(4088, FAST), (4092, "qmv"), (4096, FAST), (4097, "qmv")])
def test_what_n_has_to_divide_for_qmv_fast(n, name):
    kernel = stock(quantized(1, n, 4096), "g16s")
    assert (kernel.name, kernel.ragged) == (name, "" if name == FAST else "N")


@pytest.mark.parametrize(
    ("device", "n", "quantization", "columns"),
    [
        ("g17s", 4096, "nvfp4-b4-g16", 4),
        ("g17s", 4088, "nvfp4-b4-g16", 8),
        ("g17g", 4096, "nvfp4-b4-g16", 8),
        ("g18s", 4096, "nvfp4-b4-g16", 8),
        ("g17s", 4096, "mxfp4-b4-g32", 8),
        ("g17s", 4096, "affine-b4-g64", 8),
    ],
)
def test_narrow_qmv_is_for_one_mode_on_one_architecture(device, n, quantization, columns):
    kernel = stock(quantized(1, n, 4096, quantization), device)
    assert kernel.bn == columns
    assert kernel.grid == (1, -(-n // columns), 1)
    assert ("_r_2" in kernel.symbol) == (columns == 4)


@pytest.mark.parametrize(
    ("k", "quantization", "name"),
    [
        (64, "affine-b4-g64", "qmv_quad"),
        (128, "affine-b4-g64", "qmv_quad"),
        (192, "affine-b4-g64", WIDE),
        (128, "affine-b8-g64", "qmv_quad"),
        (128, "affine-b6-g64", WIDE),
        (128, "affine-b3-g64", WIDE),
        (128, "mxfp4-b4-g32", "qmv_quad"),
        (256, "mxfp4-b4-g32", WIDE),
    ],
)
def test_short_k_goes_to_quads(k, quantization, name):
    kernel = stock(quantized(3, 4100, k, quantization), "g16s")
    assert kernel.name == name
    if name == "qmv_quad":
        assert (kernel.grid, kernel.threads, kernel.lanes, kernel.rows) == ((3, 65, 1), 32, 4, 1)


def test_one_bit_is_a_power_of_two():
    assert stock(quantized(1, 4096, 128, "affine-b1-g64"), "g16s", "0.32.4").name == "qmv_quad"
    assert stock(quantized(1, 4096, 1536, "affine-b1-g64"), "g16s", "0.32.4").name == "qmv_fast"
