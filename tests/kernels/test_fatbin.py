"""Machine code made smaller; where the library is not there, a fake stands for it."""

from __future__ import annotations

import ctypes

import pytest

from autotune.kernels import fatbin, toolkit
from autotune.kernels.fatbin import Packer


class FakeLibrary:
    """Packs everything into ``small``; the call named ``fails`` returns an error. ``open`` counts handles."""

    def __init__(self, fails="", small=b"small"):
        self.fails, self.small, self.open, self.given = fails, small, 0, []

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.fails:
                return 1
            if name == "nvFatbinCreate":
                self.open += 1
            elif name == "nvFatbinDestroy":
                self.open -= 1
            elif name == "nvFatbinAddCubin":
                self.given.append((arguments[1], arguments[2].value, arguments[3]))
            elif name == "nvFatbinSize":
                arguments[1]._obj.value = len(self.small)
            elif name == "nvFatbinGet":
                ctypes.memmove(arguments[1], self.small, len(self.small))
            return 0

        return call


CODE = b"machine code, long enough"


def test_code_is_packed_for_its_architecture():
    library = FakeLibrary()
    assert Packer(library).packed(CODE, "sm_90a") == b"small"
    assert library.given == [(CODE, len(CODE), b"90a")]
    assert library.open == 0


@pytest.mark.parametrize("fails", ["nvFatbinCreate", "nvFatbinAddCubin", "nvFatbinSize", "nvFatbinGet"])
def test_what_the_library_refuses_stays_as_it_is(fails):
    library = FakeLibrary(fails)
    assert Packer(library).packed(CODE, "sm_90a") is CODE
    assert library.open == 0


def test_what_would_grow_stays_as_it_is():
    assert Packer(FakeLibrary(small=CODE + CODE)).packed(CODE, "sm_90a") is CODE


@pytest.mark.parametrize(("majors", "asked"), [((13, 12), [13]), ((12,), [])])
def test_only_cuda_13_packs(majors, asked, monkeypatch):
    """Drivers of CUDA before 12.4 do not know this compression."""
    seen = []
    monkeypatch.setattr(toolkit, "majors", lambda: majors)
    monkeypatch.setattr(toolkit, "library", lambda name, major: seen.append(major))
    assert fatbin.packer.__wrapped__() is None
    assert seen == asked


@pytest.mark.skipif(fatbin.packer() is None, reason="there is no nvFatbin here")
def test_the_real_library_makes_machine_code_a_third():
    from autotune.kernels import nvrtc

    tool = nvrtc.compiler()
    assert tool is not None
    body = "\n".join(f"y[{i}] = x[{i}] * x[{i + 1}];" for i in range(2000))
    code, _ = tool.compile(f'extern "C" __global__ void some(const float* x, float* y) {{ {body} }}', "sm_90a")
    packer = fatbin.packer()
    assert packer is not None
    packed = packer.packed(code, "sm_90a")
    assert len(packed) < len(code) / 2
    assert packer.packed(b"no machine code", "sm_90a") == b"no machine code"
