"""What the rules know of a device."""

from __future__ import annotations

import pytest

from autotune.errors import UsageError
from autotune.stock_rules import StockDevice


@pytest.mark.parametrize(
    ("architecture", "generation", "letter", "large"),
    [
        ("applegpu_g17s", 17, "s", True),
        ("applegpu_g16g", 16, "g", False),
        ("applegpu_g13d", 13, "d", True),
        ("applegpu_g14c", 14, "c", True),
        ("applegpu_g9p", 9, "p", False),
        ("applegpu_gxxs", 0, "s", True),
        ("g", 0, "g", False),
        ("17s", 17, "s", True),
    ],
)
def test_architecture(architecture, generation, letter, large):
    device = StockDevice("metal", architecture)
    assert (device.generation, device.letter, device.large) == (generation, letter, large)


@pytest.mark.parametrize(
    ("architecture", "version", "has"),
    [
        ("applegpu_g17s", (0, 29, 4), False),
        ("applegpu_g17s", (0, 30, 0), True),
        ("applegpu_g16s", (0, 32, 2), False),
        ("applegpu_g17p", (0, 30, 4), True),
        ("applegpu_g17p", (0, 30, 5), False),
        ("applegpu_g18p", (0, 30, 5), True),
    ],
)
def test_who_has_nax(architecture, version, has):
    assert StockDevice("metal", architecture, nax=True).has_nax(version) is has
    assert StockDevice("metal", architecture, nax=False).has_nax(version) is False


def test_float32_and_tf32():
    device = StockDevice("metal", "applegpu_g17s", nax=True)
    assert device.uses_nax((0, 32, 2), "f32")
    exact = StockDevice("metal", "applegpu_g17s", nax=True, tf32=False)
    assert not exact.uses_nax((0, 32, 2), "f32")
    assert exact.uses_nax((0, 32, 2), "bf16")


def test_cores_count_for_nothing():
    assert StockDevice("metal", "applegpu_g16s", 20).generation == StockDevice("metal", "applegpu_g16s", 40).generation


@pytest.mark.parametrize(("backend", "architecture"), [("cpu", "arm64"), ("metal", "")])
def test_what_is_no_device(backend, architecture):
    with pytest.raises(UsageError):
        StockDevice(backend, architecture)
