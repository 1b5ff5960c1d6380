"""Quantized products in tiles."""

from __future__ import annotations

import pytest

from .calls import quantized, stock


@pytest.mark.parametrize(
    ("m", "n", "k", "parts"),
    [
        (32, 8192, 4096, 2),  # 256 threadgroups
        (32, 8224, 4096, 1),  # 257
        (32, 5472, 12288, 2),  # 171, of which three are one more than 512
        (16, 4096, 4096, 4),
        (16, 4096, 4160, 1),  # 65 groups: 4, 3 and 2 do not divide them
        (16, 4096, 4224, 3),  # 66 groups
        (32, 32, 4096, 64),  # no more partitions than groups
        (32, 32, 65536, 512),
    ],
)
def test_partitions_of_qmm_split_k(m, n, k, parts):
    kernel = stock(quantized(m, n, k), "g12p")
    assert (kernel.name, kernel.split_k) == ("qmm_splitk" if parts > 1 else "qmm", parts)
    assert kernel.partial_bytes == (parts * m * n * 2 if parts > 1 else 0)
    assert kernel.partition == k // parts


@pytest.mark.parametrize(("k", "launches"), [(16384, 2), (32768, 3)])
def test_many_partitions_are_added_up_in_two_steps(k, launches):
    """256 and 512 partitions of a small result."""
    kernel = stock(quantized(32, 32, k), "g12p")
    assert (kernel.split_k, kernel.launches) == (k // 64, launches)


def test_nothing_is_split_in_a_batch():
    kernel = stock(quantized(32, 512, 4096) + " B=2", "g16s")
    assert (kernel.name, kernel.grid, kernel.symbol[-8:]) == ("qmm", (16, 1, 2), "_batch_1")


@pytest.mark.parametrize(
    ("m", "bm", "grid"), [(31, 32, (216, 1, 1)), (32, 32, (216, 1, 1)), (33, 64, (216, 1, 1)), (65, 64, (216, 2, 1))]
)
def test_tiles_on_nax(m, bm, grid):
    kernel = stock(quantized(m, 13824, 5120), "g17g")
    assert (kernel.name, kernel.unit, kernel.bm, kernel.grid, kernel.threads) == ("qmm_nax", "nax", bm, grid, 128)
    assert kernel.threadgroup_bytes == 64 * (64 + 8) * 2


@pytest.mark.parametrize(
    ("call", "device", "nax", "tf32"),
    [
        (quantized(64, 13824, 5120), "g17g", False, True),  # an OS or a build without the kernels
        (quantized(64, 13824, 5120), "g16s", True, True),
        (quantized(64, 13824, 5120), "g17p", True, True),
        (quantized(64, 13824, 5120, dtype="f32"), "g17g", True, False),
        (quantized(64, 13824, 5152, "mxfp4-b4-g32"), "g17g", True, True),  # K is no multiple of 64
        (quantized(64, 13824, 5120, layout="nn"), "g17g", True, True),
    ],
)
def test_what_keeps_a_product_from_nax(call, device, nax, tf32):
    kernel = stock(call, device, nax=nax, tf32=tf32)
    assert (kernel.name, kernel.unit, kernel.bm, kernel.bn, kernel.bk) == ("qmm", "simdgroup_matrix", 32, 32, 32)


def test_float32_takes_nax_at_reduced_precision_by_default():
    assert stock(quantized(64, 13824, 5120, dtype="f32"), "g17g").name == "qmm_nax"


def test_threadgroup_memory_of_tiles():
    """Rows of 32 elements of x and of weights, each with 16 bytes of padding."""
    assert stock(quantized(64, 13824, 5120), "g16s").threadgroup_bytes == 2 * 32 * (64 + 16)
    assert stock(quantized(64, 13824, 5120, dtype="f32"), "g16s").threadgroup_bytes == 2 * 32 * (128 + 16)
    assert stock(quantized(64, 13824, 5120, "mxfp8-b8-g32", dtype="f32"), "g17s").threadgroup_bytes == 64 * 72 * 2


@pytest.mark.parametrize(("n", "by_32", "by_64"), [(64, "true", "true"), (96, "true", "false"), (65, "false", "false")])
def test_names_say_whether_n_is_aligned(n, by_32, by_64):
    split = stock(quantized(64, n, 4096), "g16s").symbol
    assert split == f"affine_qmm_t_splitk_float16_t_gs_64_b_4_alN_{by_32}"
    plain = stock(quantized(64, n, 64), "g16s").symbol
    assert plain == f"affine_qmm_t_float16_t_gs_64_b_4_alN_{by_32}_batch_0"
    nax = stock(quantized(64, n, 64), "g17s").symbol
    assert nax == f"affine_qmm_t_nax_float16_t_gs_64_b_4_bm64_bn64_bk64_wm2_wn2_alN_{by_64}_batch_0"


def test_ragged_axes():
    assert stock(quantized(64, 13824, 5120), "g16s").ragged == ""
    assert stock(quantized(65, 13825, 5120), "g16s").ragged == "MN"
    assert stock(quantized(65, 13824, 5136, "nvfp4-b4-g16"), "g16s").ragged == "MK"
