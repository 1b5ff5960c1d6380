"""What changed in which version of MLX, seen from outside: one call before and after each change."""

from __future__ import annotations

import pytest

from autotune.errors import UsageError
from autotune.stock_rules import standing_in, versions
from autotune.stock_rules.versions import parse, said

from .calls import dense, quantized, stock, tile


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.31.1", (0, 31, 1)),
        ("0.32", (0, 32, 0)),
        ("0.32.2.dev20260822+846d176", (0, 32, 2)),
        ("1.0.0rc1", (1, 0, 0)),
        ("0.32.1.post2", (0, 32, 1)),
        ("0.29.0", (0, 29, 0)),
    ],
)
def test_parse(text, version):
    assert parse(text) == version


@pytest.mark.parametrize("text", ["", "main", "32", "v0.31.1", "0.32.1banana", "0.32.", "0.32.1.4", "0.32.1 "])
def test_what_is_no_version(text):
    with pytest.raises(UsageError, match="is no version of MLX"):
        parse(text)


@pytest.mark.parametrize("text", ["0.28.9", "0.9.0"])
def test_versions_before_the_oldest(text):
    with pytest.raises(UsageError, match="not known"):
        parse(text)


@pytest.mark.parametrize(("asked", "answers"), [("0.31.1", "0.31.1"), ("0.32.2", "0.32.2"), ("0.33.0", "0.32.2")])
def test_standing_in(asked, answers):
    assert standing_in(asked) == answers


def test_what_is_known_of_versions_whose_routing_was_not_read():
    assert said("0.32.2") == "0.32.2"
    assert said("0.32.3") == "0.32.3, by the rules of 0.32.2"
    for version in ("0.32.4", "9.9"):
        assert said(version) == (
            f"{version}, by the rules of 0.32.2 with 0.32.4's float32 partial sums of qmm_splitk and one-bit weights"
        )


def test_what_is_said_to_be_known_is_all_that_differs_from_the_newest_rules():
    after = {name for name, since in vars(versions).items() if isinstance(since, tuple) and since > versions.NEWEST}
    assert after == {"SPLITK_FLOAT32", "ONE_BIT"}
    assert set(versions.BEYOND.values()) == {getattr(versions, name) for name in after}
    assert len(versions.BEYOND) == len(after)


def names(call: str, device: str, *versions: str) -> list[str]:
    return [stock(call, device, version).name for version in versions]


def test_neural_accelerators_since_0_30_0():
    assert names(dense(4096, 4096, 4096), "g17s", "0.29.4", "0.30.0") == ["steel_fused", "nax_fused"]
    assert names(quantized(64, 4096, 4096), "g17s", "0.29.4", "0.30.0") == ["qmm", "qmm_nax"]


def test_phones_need_generation_18_since_0_30_5():
    call = dense(4096, 4096, 4096)
    assert names(call, "g17p", "0.30.4", "0.30.5", "0.32.2") == ["nax_fused", "steel_fused", "steel_fused"]
    assert names(call, "g18p", "0.30.4", "0.30.5", "0.32.2") == ["nax_fused", "nax_fused", "nax_fused"]


def test_gemv_tiles_for_short_and_long_k_since_0_29_2():
    short, long = dense(1, 4096, 64, "nt"), dense(1, 64, 4096, "nt")
    before = [stock(call, "g16s", "0.29.1").symbol for call in (short, long)]
    after = [stock(call, "g16s", "0.29.2").symbol for call in (short, long)]
    assert before == [
        "gemv_float16_bm8_bn1_sm1_sn32_tm4_tn4_nc0_axpby0",
        "gemv_float16_bm4_bn1_sm1_sn32_tm4_tn4_nc0_axpby0",
    ]
    assert after == [
        "gemv_float16_bm1_bn1_sm8_sn4_tm4_tn4_nc0_axpby0",
        "gemv_float16_bm1_bn8_sm1_sn32_tm4_tn4_nc0_axpby0",
    ]


def test_simdgroup_split_k_opened_in_0_30_5():
    """Before: up to 32 tiles of 16x16, counted without the ragged ones, and up to 16 partitions."""
    square = dense(512, 512, 1024)
    assert names(square, "g16s", "0.30.4", "0.30.5") == ["steel_fused", "steel_splitk"]
    long = dense(64, 64, 8192)
    assert [stock(long, "g16s", version).split_k for version in ("0.30.4", "0.30.5")] == [16, 32]
    assert names(dense(64, 143, 128), "g16s", "0.30.4", "0.30.5") == ["steel_splitk", "steel_fused"]  # 4 x 8 tiles
    assert names(dense(48, 191, 4096), "g16s", "0.30.4") == ["steel_fused"]  # 3 x 11
    assert names(dense(191, 48, 4096), "g16s", "0.30.4") == ["steel_fused"]
    wide = dense(64, 128, 128)  # K is not shorter than either side
    assert names(wide, "g16s", "0.30.4", "0.30.5") == ["steel_splitk", "steel_splitk"]
    flat = dense(17, 500, 400)  # K is shorter than N
    assert names(flat, "g16s", "0.30.4", "0.30.5") == ["steel_splitk", "steel_fused"]


@pytest.mark.parametrize(("k", "parts"), [(128, 2), (240, 2), (256, 4), (496, 4), (512, 8), (1008, 8), (1024, 16)])
def test_partitions_before_0_30_5(k, parts):
    assert stock(dense(32, 32, k), "g16s", "0.30.4").split_k == parts


def test_nax_comes_before_split_k_since_0_31_2():
    """ml-explore/mlx #3422: small products with a long K went to the kernel without NAX."""
    call = dense(128, 128, 8192)
    assert names(call, "g17s", "0.31.1", "0.31.2") == ["steel_splitk", "nax_splitk"]
    assert names(call, "g16s", "0.31.1", "0.31.2") == ["steel_splitk", "steel_splitk"]
    assert names(dense(512, 512, 1024), "g17s", "0.31.1", "0.31.2") == ["steel_splitk", "nax_fused"]


def test_nax_split_k():
    """0.30.4 brought it for M*N from 2048*2048 and K from 10240; 0.31.2 has it for all long K."""
    large = dense(2048, 2048, 10240)
    assert names(large, "g17g", "0.30.3", "0.30.4", "0.31.1", "0.31.2") == ["nax_fused"] + ["nax_splitk"] * 3
    before, after = stock(large, "g17g", "0.31.1"), stock(large, "g17g", "0.31.2")
    assert (tile(before), before.partition, before.split_k) == ((128, 128, 512, 4, 4), 3072, 4)
    assert (tile(after), after.partition, after.split_k) == ((128, 128, 512, 4, 4), 4096, 3)
    assert names(dense(2048, 2048, 10239), "g17g", "0.31.1", "0.31.2") == ["nax_fused", "nax_splitk"]
    assert names(dense(2047, 2048, 10240), "g17g", "0.31.1") == ["nax_fused"]
    assert names(dense(4096, 2048, 12287), "g17g", "0.31.1") == ["nax_fused"]
    assert names(dense(4096, 2048, 12288), "g17g", "0.31.1") == ["nax_splitk"]


def test_tiles_of_large_gpus_on_nax_since_0_31_1():
    call = dense(4096, 4096, 4096)
    assert [tile(stock(call, "g17s", version)) for version in ("0.31.0", "0.31.1")] == [
        (128, 128, 512, 4, 4),
        (64, 128, 256, 2, 4),
    ]
    assert [stock(call, "g17s", version).swizzle for version in ("0.31.0", "0.31.1")] == [1, 2]
    assert tile(stock(call, "g17g", "0.31.1")) == (128, 128, 512, 4, 4)


def test_qmm_split_k_since_0_31_2():
    assert names(quantized(16, 4096, 4096), "g16s", "0.31.1", "0.31.2") == ["qmm", "qmm_splitk"]


def test_partitions_of_qmm_split_k_are_whole_steps_since_0_32_1():
    """Groups of 16 before: partitions of 16 or 48 elements could not be taken in steps of 32."""
    call = quantized(32, 32, 96, "nvfp4-b4-g16")
    assert [stock(call, "g13s", version).split_k for version in ("0.32.0", "0.32.1")] == [6, 3]


def test_qmv_wide_since_0_32_0():
    assert names(quantized(4, 4096, 4096), "g16s", "0.31.2", "0.32.0") == ["qmv_fast", "qmv_wide"]
    assert names(quantized(4, 4096, 4096), "g14s", "0.31.2", "0.32.0") == ["qmv_fast", "qmv_fast"]
    assert names(quantized(4, 4096, 4096, "mxfp4-b4-g32"), "g14s", "0.31.2", "0.32.0") == ["qmv_fast", "qmv_wide"]


def test_gemv_wide_since_0_32_1():
    assert names(dense(4, 4096, 4096, "nt"), "g16s", "0.32.0", "0.32.1") == ["steel_splitk", "gemv_wide"]


def test_dot_product_since_0_32_1():
    assert names(dense(1, 1, 4096), "g16s", "0.32.0", "0.32.1") == ["gemv", "dot_product"]


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [("g16s", 18, 13), ("g17s", 18, 33), ("g14s", 14, 14), ("g17d", 32, 32), ("g12p", 18, 18)],
)
def test_limits_by_generation_since_0_32_1(device, before, after):
    """The M from which a layer of 2048x2048 is served in tiles."""
    for version, limit in (("0.32.0", before), ("0.32.1", after)):
        served = [stock(quantized(m, 2048, 2048), device, version, nax=False).name for m in (limit - 1, limit)]
        assert served[0].startswith("qmv")
        assert served[1].startswith("qmm")


@pytest.mark.parametrize(
    ("device", "size", "before"), [("g14s", 4096, 10), ("g13g", 8192, 6), ("g16s", 4096, 12), ("g17s", 8192, 10)]
)
def test_limits_of_larger_weights_before_0_32_1(device, size, before):
    served = [stock(quantized(m, size, size), device, "0.31.1", nax=False).name for m in (before - 1, before)]
    assert served == ["qmv_fast", "qmm"]


def test_qmv_fast_asks_for_less_since_0_32_1():
    for call, before, after in (
        (quantized(1, 4096, 768, "affine-b8-g64"), "qmv", "qmv_fast"),
        (quantized(1, 4096, 768, "affine-b6-g64"), "qmv", "qmv_fast"),
        (quantized(1, 4096, 768, "affine-b4-g64"), "qmv", "qmv"),
        (quantized(1, 4096, 1024, "affine-b2-g64"), "qmv_fast", "qmv_fast"),
    ):
        assert names(call, "g16s", "0.32.0", "0.32.1") == [before, after]


def test_narrow_qmv_for_nvfp4_since_0_32_1():
    call = quantized(1, 4096, 4096, "nvfp4-b4-g16")
    assert [stock(call, "g17s", version).bn for version in ("0.32.0", "0.32.1")] == [8, 4]


def test_columns_of_qvm():
    """They follow the group since 0.30.3, and all of them are made since 0.32.1."""
    for version, grid in (("0.30.1", (1, 1, 8)), ("0.30.3", (1, 1, 8)), ("0.32.1", (1, 2, 8))):
        assert stock(quantized(1, 96, 2048, "affine-b4-g32", "nn"), "g16s", version).grid == grid
    assert stock(quantized(1, 96, 512, "nvfp4-b4-g16", "nn"), "g16s", "0.30.3").bn == 32
    assert stock(quantized(1, 96, 512, "mxfp4-b4-g32", "nn"), "g16s", "0.30.1").bn == 64


def test_short_tiles_of_qmm_nax_since_0_32_2():
    call = quantized(32, 13824, 5120)
    assert [stock(call, "g17g", version).bm for version in ("0.32.1", "0.32.2")] == [64, 32]


def test_partials_of_qmm_split_k_are_float32_in_0_32_4():
    call = quantized(16, 4096, 4096)
    sizes = [stock(call, "g15s", version).partial_bytes for version in ("0.32.2", "0.32.4")]
    assert sizes == [4 * 16 * 4096 * 2, 4 * 16 * 4096 * 4]


@pytest.mark.parametrize(
    ("quantization", "before", "since"),
    [("mxfp8-b8-g32", "0.30.1", "0.30.3"), ("nvfp4-b4-g16", "0.29.4", "0.30.3"), ("affine-b1-g64", "0.32.2", "0.32.4")],
)
def test_quantizations_that_a_version_lacks(quantization, before, since):
    call = quantized(1, 4096, 4096, quantization)
    with pytest.raises(UsageError, match=f"has no kernels for {quantization}: they came with {since}"):
        stock(call, "g16s", before)
    assert stock(call, "g16s", since).name == "qmv_fast"
