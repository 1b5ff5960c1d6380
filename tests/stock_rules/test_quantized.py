"""``quantized_matmul`` on Metal, at the edges of each rule."""

from __future__ import annotations

import pytest

from .calls import dense, quantized, stock

FAST, WIDE = "qmv_fast", "qmv_wide"


@pytest.mark.parametrize(
    ("device", "size", "limit"),
    [
        *(("g17s", size, limit) for size, limit in ((2048, 33), (4096, 25), (4352, 13))),
        *(("g18g", size, limit) for size, limit in ((2048, 33), (4096, 25), (4352, 13))),
        *(("g16g", size, limit) for size, limit in ((2048, 13), (4096, 15), (4352, 13))),
        *(("g15s", size, limit) for size, limit in ((2048, 13), (4096, 15), (4352, 13))),
        *(("g14s", size, limit) for size, limit in ((2048, 14), (4096, 10), (4352, 6))),
        *(("g13g", size, limit) for size, limit in ((2048, 14), (4096, 10), (4352, 6))),
        *(("g12p", size, limit) for size, limit in ((2048, 18), (4096, 12), (4352, 10))),
        *(("g15d", size, limit) for size, limit in ((2048, 32), (4096, 18), (4352, 12))),
    ],
)
def test_around_vector_limit(device, size, limit):
    below, at, above = (stock(quantized(m, size, size), device).name for m in (limit - 1, limit, limit + 1))
    assert below in (WIDE, FAST, "qmv")
    assert at.startswith("qmm")
    assert above.startswith("qmm")


@pytest.mark.parametrize("k", [512, 1023 // 64 * 64, 1024, 8192])
def test_around_the_limit_of_weights_that_are_not_transposed(k):
    below, at = (stock(quantized(m, 4096, k, layout="nn"), "g17s").name for m in (3, 4))
    assert below == ("qvm" if k < 1024 else "qvm_split_k")
    assert at == "qmm"


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


@pytest.mark.parametrize(("k", "parts"), [(1024, 8), (8192, 8), (8224, 32), (16384, 32)])
def test_parts_of_qvm(k, parts):
    kernel = stock(quantized(2, 4096, k, layout="nn"), "g16s")
    assert (kernel.split_k, kernel.grid, kernel.launches) == (parts, (2, 64, parts), 2)
    assert kernel.partial_bytes == parts * 2 * 4096 * 2
    assert kernel.extra_bytes == 2 * kernel.partial_bytes


def test_columns_of_qvm_follow_the_group():
    assert stock(quantized(1, 4096, 512, layout="nn"), "g16s").grid == (1, 64, 1)
    assert stock(quantized(1, 4096, 512, "nvfp4-b4-g16", "nn"), "g16s").grid == (1, 128, 1)


@pytest.mark.parametrize(
    ("m", "n", "k", "parts"),
    [
        (32, 8192, 4096, 2),  # 256 threadgroups
        (32, 8224, 4096, 1),  # 257
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


def test_ragged_axes():
    assert stock(quantized(64, 13824, 5120), "g16s").ragged == ""
    assert stock(quantized(65, 13825, 5120), "g16s").ragged == "MN"
    assert stock(quantized(65, 13824, 5136, "nvfp4-b4-g16"), "g16s").ragged == "MK"


def test_dense_products_have_no_quantization():
    assert stock(dense(32, 32, 64), "g16s").name == "steel_fused"
