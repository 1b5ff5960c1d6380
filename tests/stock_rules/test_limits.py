"""MLX's compiled-in rules: the numbers in its sources, and calls whose kernels are known from public reports."""

from __future__ import annotations

import pytest

from autotune import stock_rules
from autotune.stock_rules import MATRIX, VECTOR

SIZES = ((2048, 2048), (4096, 4096), (4096, 4097))
"""N and K at the upper end of the first two buckets, and just past them."""


@pytest.mark.parametrize(
    ("architectures", "limits"),
    [
        (("applegpu_g17g", "applegpu_g17s", "applegpu_g17c", "applegpu_g18p"), (33, 25, 13)),
        (("applegpu_g15g", "applegpu_g15s", "applegpu_g16g", "applegpu_g16s", "applegpu_g16p"), (13, 15, 13)),
        (("applegpu_g13g", "applegpu_g13s", "applegpu_g14g", "applegpu_g14s", "applegpu_g14c"), (14, 10, 6)),
        (("applegpu_g12p", "applegpu_g11g"), (18, 12, 10)),
        (("applegpu_g13d", "applegpu_g14d", "applegpu_g15d", "applegpu_g17d", "applegpu_g12d"), (32, 18, 12)),
    ],
)
def test_metals_table(architectures, limits):
    for architecture in architectures:
        found = [stock_rules.vector_limit("metal", architecture, n, k) for n, k in SIZES]
        assert tuple(found) == limits, architecture
        assert found == [stock_rules.vector_limit("metal", architecture, n, k) for k, n in SIZES]


def test_one_long_side_is_enough_for_a_larger_bucket():
    assert stock_rules.vector_limit("metal", "applegpu_g17s", 64, 2049) == 25
    assert stock_rules.vector_limit("metal", "applegpu_g17s", 5120, 64) == 13


@pytest.mark.parametrize(
    ("architecture", "n", "k", "ms", "side"),
    [
        ("applegpu_g17s", 2048, 8192, (64, 96, 128, 160), MATRIX),
        ("applegpu_g17s", 6656, 6656, (24, 32, 33), MATRIX),
        ("applegpu_g15s", 17408, 5120, (8, 10, 12), VECTOR),
        ("applegpu_g15s", 17408, 5120, tuple(range(13, 33)), MATRIX),
        ("applegpu_g16s", 13824, 5120, (1, 2, 3, 4), VECTOR),
        ("applegpu_g16s", 13824, 5120, (16,), MATRIX),
        ("applegpu_g17g", 13824, 5120, (14, 48), MATRIX),
        ("applegpu_g15s", 4096, 4096, (16,), MATRIX),
    ],
)
def test_golden_cases(architecture, n, k, ms, side):
    """Cases from public threads (ml-explore/mlx #3863, #4198, #4171, #3553) and from reading the sources."""
    assert {stock_rules.quantized_side("metal", architecture, m, n, k) for m in ms} == {side}


def test_weights_that_are_not_transposed():
    assert stock_rules.vector_limit("metal", "applegpu_g17s", 64, 64, transposed=False) == 4
    assert stock_rules.vector_limit("cuda", "sm_90", 64, 64, transposed=False) == 1


def test_cuda_has_one_number_and_an_exception():
    assert {stock_rules.vector_limit("cuda", arch, 5120, 13824) for arch in ("sm_75", "sm_90", "sm_120")} == {8}
    assert stock_rules.vector_limit("cuda", "sm_90", 5120, 96) is None
    assert stock_rules.quantized_side("cuda", "sm_90", 4096, 5120, 96) == VECTOR
    assert [stock_rules.quantized_side("cuda", "sm_90", m, 5120, 5120) for m in (1, 7, 8)] == [VECTOR, VECTOR, MATRIX]


def test_where_there_is_no_limit():
    assert stock_rules.vector_limit("cpu", "arm64", 64, 64) is None
    assert stock_rules.vector_limit("metal", "", 64, 64) is None
    assert stock_rules.quantized_side("cpu", "arm64", 64, 64, 64) == ""
    assert stock_rules.quantized_side("metal", "", 64, 64, 64) == ""


@pytest.mark.parametrize(
    ("architecture", "generation"),
    [("applegpu_g17s", 17), ("applegpu_g9p", 9), ("applegpu_g13g", 13), ("applegpu_gxxs", 0), ("g", 0)],
)
def test_the_generation_is_two_digits_before_the_last_letter(architecture, generation):
    assert stock_rules.metal_generation(architecture) == generation
