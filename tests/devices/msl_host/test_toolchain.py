"""Which compiler is taken, what is kept, and that compiling costs little."""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path

import pytest

from autotune.devices.msl_host import mlx_headers, toolchain
from autotune.devices.msl_host.errors import HostError
from autotune.errors import AutotuneError

TEXT = 'extern "C" void __msl_entry(device ulong* buffers) { *(device float*)buffers[0] = 1.0; }\n'


def unit(text: str = TEXT) -> toolchain.Unit:
    return toolchain.Unit(mlx_headers.PRELUDE, text, (mlx_headers.folder(),))


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AUTOTUNE_CACHE", str(tmp_path / "cache"))
    mlx_headers.folder.cache_clear()
    yield tmp_path / "cache" / "msl_host"
    mlx_headers.folder.cache_clear()


@pytest.fixture
def fresh_search():
    toolchain._compiler.cache_clear()
    yield
    toolchain._compiler.cache_clear()


def stand_in(folder: Path, name: str, version: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_objects_are_made_once_and_whole(own_cache: Path) -> None:
    library = toolchain.kernel_library(unit(), check=False)
    assert library.parent == own_cache
    made = library.stat().st_mtime_ns
    assert toolchain.kernel_library(unit(), check=False) == library
    assert library.stat().st_mtime_ns == made
    assert not [path for path in own_cache.iterdir() if path.name.startswith("making-")]


def test_text_and_check_mode_make_different_objects(own_cache: Path) -> None:
    libraries = {
        toolchain.kernel_library(unit(), check=False),
        toolchain.kernel_library(unit(), check=True),
        toolchain.kernel_library(unit(TEXT + "//"), check=False),
    }
    assert len(libraries) == 3


def test_check_mode_instruments(own_cache: Path) -> None:
    plain, checked = (toolchain.kernel_library(unit(), check).read_bytes() for check in (False, True))
    assert (b"__tsan_write4" in plain, b"__tsan_write4" in checked) == (False, True)


def test_an_object_does_not_depend_on_where_it_is_made(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = toolchain.kernel_library(unit(), check=True)
    first = library.read_bytes()
    library.unlink()
    monkeypatch.chdir(tmp_path)
    assert toolchain.kernel_library(unit(), check=True).read_bytes() == first


def test_a_failed_compile_leaves_nothing(own_cache: Path) -> None:
    before = toolchain.kernel_library(unit(), check=False)
    with pytest.raises(HostError, match="undeclared"):
        toolchain.kernel_library(unit("float f() { return g; }"), check=False)
    assert list(own_cache.glob("*.so")) == [before]


def test_a_clang_on_the_path_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_search) -> None:
    old = stand_in(tmp_path, "clang++", "Debian clang version 14.0.6")
    new = stand_in(tmp_path, "clang++-20", "Debian clang version 20.1.2")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    assert toolchain.compiler() == [new]
    assert old not in toolchain.compiler()


def test_apples_clang_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_search) -> None:
    stand_in(tmp_path, "clang++", "Apple clang version 21.0.0 (clang-2100)")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(toolchain.NoCompilerError):
        toolchain.compiler()


def test_no_compiler_is_one_line_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_search) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AutotuneError) as error:
        toolchain.compiler()
    assert "pip install '.[cpu,host]'" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_systems_are_told_so(monkeypatch: pytest.MonkeyPatch, fresh_search) -> None:
    monkeypatch.setattr(toolchain.platform, "system", lambda: "Darwin")
    with pytest.raises(toolchain.NoCompilerError, match="Linux only"):
        toolchain.compiler()


def test_mlx_headers_are_translated_once(own_cache: Path) -> None:
    folder = mlx_headers.folder()
    gemm = (folder / "mlx/backend/metal/kernels/steel/gemm/gemm.h").read_text()
    assert folder.parent == own_cache
    assert "struct GEMMKernel" in gemm
    mlx_headers.folder.cache_clear()
    assert mlx_headers.folder() == folder
