"""Where CUDA's libraries are looked for; folders made here stand for PyPI's packages."""

from __future__ import annotations

import pytest

from autotune.kernels import toolkit


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A folder that stands for ``nvidia``, and no CUDA on the system."""
    monkeypatch.setattr(toolkit, "_packages", lambda: [tmp_path / "nvidia"])
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "nvidia"


@pytest.fixture
def opened(monkeypatch):
    """Paths that were tried; none can be opened."""
    seen = []

    def refuse(name, *args, **kwargs):
        seen.append(str(name))
        raise OSError

    monkeypatch.setattr(toolkit.ctypes, "CDLL", refuse)
    return seen


@pytest.mark.parametrize(
    ("installed", "majors"), [(("mlx-cuda-12",), (12,)), (("mlx-cuda-13",), (13, 12)), ((), (13, 12))]
)
def test_the_cuda_of_mlx_comes_first(installed, majors, monkeypatch):
    monkeypatch.setattr(toolkit, "_installed", lambda name: name in installed)
    assert toolkit.majors() == majors


@pytest.mark.parametrize(
    ("name", "major", "folders"),
    [("nvrtc", 13, ["cu13"]), ("nvrtc", 12, ["nvrtc", "cuda_nvrtc"])],
)
def test_packages_come_before_the_system(name, major, folders, packages, opened):
    assert toolkit.library(name, major) is None
    file = f"lib{name}.so.{major}"
    assert opened[: len(folders)] == [str(packages / folder / "lib" / file) for folder in folders]
    assert opened[-1] == file


def test_a_cuda_that_is_named_is_tried(packages, opened, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "mine"))
    toolkit.library("nvrtc", 13)
    assert str(tmp_path / "mine" / "lib64" / "libnvrtc.so.13") in opened


def test_headers_are_of_the_first_place_that_has_them(packages, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "mine"))
    assert toolkit.headers(13, "some_header_of_nobody.h") == ()
    for root in (tmp_path / "mine", packages / "cu13"):
        (root / "include").mkdir(parents=True)
        (root / "include" / "some_header_of_nobody.h").touch()
        assert toolkit.headers(13, "some_header_of_nobody.h")[0] == str(root / "include")
