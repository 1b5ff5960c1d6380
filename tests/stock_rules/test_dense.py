"""``matmul`` and ``addmm`` on Metal: the order of decisions, and the gates of split-K at their edges."""

from __future__ import annotations

import pytest

from .calls import dense, stock


@pytest.mark.parametrize(
    ("m", "n", "name"),
    [(1, 1, "dot_product"), (1, 2, "gemv"), (2, 1, "gemv"), (2, 2, "gemv_wide"), (15, 2, "gemv_wide")],
)
def test_few_rows(m, n, name):
    assert stock(dense(m, n, 4096, "nt"), "g16s").name == name


def test_only_one_plain_matmul_is_a_dot_product():
    assert stock(dense(1, 1, 64, batch=2), "g16s").name == "gemv"
    assert stock("addmm M=1 N=1 K=64 f16 nt row", "g16s").name == "gemv"


def test_addmm_routes_as_matmul():
    for m, name in ((1, "gemv"), (2, "gemv_wide"), (16, "steel_splitk"), (4097, "steel_fused")):
        assert stock(f"addmm M={m} N=4096 K=4096 f16 nt full", "g16s").name == name
        assert stock(dense(m, 4096, 4096, "nt"), "g16s").name == name
    assert stock("addmm M=1 N=4096 K=4096 f16 nt row", "g16s").symbol.endswith("_axpby1")


@pytest.mark.parametrize(
    ("device", "m", "n", "name"),
    [
        ("g16s", 512, 1024, "steel_splitk"),  # 32 x 64 tiles of 16x16 are 2048
        ("g16s", 513, 1024, "steel_fused"),
        ("g15d", 512, 1024, "steel_splitk"),
        ("g15d", 512, 1025, "steel_fused"),
        ("g16g", 512, 512, "steel_splitk"),  # 1024
        ("g16g", 513, 512, "steel_fused"),
        ("g16c", 512, 512, "steel_splitk"),
        ("g16s", 48, 10928, "steel_fused"),  # 3 x 683 tiles are one too many
        ("g16g", 80, 3280, "steel_fused"),  # 5 x 205
        ("g16c", 512, 513, "steel_fused"),
    ],
)
def test_how_large_a_result_may_be_for_split_k(device, m, n, name):
    assert stock(dense(m, n, 16384), device).name == name


@pytest.mark.parametrize(
    ("m", "n", "k", "name"),
    [
        (64, 64, 127, "steel_fused"),  # 7 whole steps of 16
        (64, 64, 128, "steel_splitk"),
        (64, 300, 299, "steel_fused"),
        (64, 300, 300, "steel_splitk"),
        (300, 64, 299, "steel_fused"),
        (300, 64, 300, "steel_splitk"),
    ],
)
def test_how_long_k_has_to_be_for_split_k(m, n, k, name):
    assert stock(dense(m, n, k), "g16s").name == name


def test_a_batch_is_never_split():
    assert stock(dense(64, 64, 4096, batch=2), "g16s").name == "steel_fused"
    assert stock(dense(64, 64, 4096, batch=2), "g17s").name == "nax_fused"


@pytest.mark.parametrize(
    ("m", "n", "k", "name"),
    [
        (64, 2048, 6143, "nax_fused"),
        (64, 2048, 6144, "nax_splitk"),  # three times the longest side
        (64, 1024, 2048, "nax_fused"),
        (64, 1024, 2049, "nax_splitk"),  # more than twice, up to 1024
        (64, 1025, 2051, "nax_fused"),
        (1025, 64, 3074, "nax_fused"),
        (1025, 64, 3075, "nax_splitk"),
    ],
)
def test_how_long_k_has_to_be_on_nax(m, n, k, name):
    assert stock(dense(m, n, k), "g17s").name == name


@pytest.mark.parametrize(
    ("dtype", "nax", "tf32", "name"),
    [
        ("f16", True, False, "nax_fused"),
        ("f32", True, True, "nax_fused"),
        ("f32", True, False, "steel_fused"),
        ("f16", False, True, "steel_fused"),
    ],
)
def test_what_takes_nax(dtype, nax, tf32, name):
    assert stock(dense(4096, 4096, 4096, dtype=dtype), "g17s", nax=nax, tf32=tf32).name == name
