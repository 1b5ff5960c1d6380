"""Lists in the documentation that repeat what code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autotune import kernels

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("page", "begins"), [("tables.md", "smooth in M ("), ("measuring.md", "its gain varies smoothly with M (")]
)
def test_kernels_that_are_smooth(page, begins):
    (listed,) = re.findall(re.escape(begins) + "([^;)]*)[;)]", " ".join(read(page).split()))
    assert set(re.findall("`(\\w+)`", listed)) == {name for name, kernel in kernels.KERNELS.items() if kernel.smooth}


def test_environment_variables():
    sources = (path.read_text("utf-8") for path in (ROOT / "autotune").rglob("*.py"))
    used = {name for text in sources for name in re.findall("AUTOTUNE_[A-Z_]+", text)}
    section = read("tables.md").partition("## Environment variables")[2].partition("\n## ")[0]
    assert set(re.findall("^\\| `(\\w+)`", section, re.MULTILINE)) == used
    assert "docs/tables.md#environment-variables" in (ROOT / "README.md").read_text("utf-8")
