"""Compiled programs on disk, and what is handed to the compiler; the compiler itself is a fake."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import pytest

from autotune.kernels import cuda, launch, nvrtc
from autotune.kernels.program import Launch, Program

PROGRAM = Program("p", ("sizes", "x"), ("y",), "#include <metal_stdlib>\nint f();\n", "y[0] = x[sizes[0]];")


def asked(program=PROGRAM, inputs=None, dtypes=(mx.float16,)):
    inputs = inputs or (mx.zeros((3,), mx.int32), mx.zeros((2, 4), mx.bfloat16))
    return Launch(program, inputs, (64, 4, 1), (32, 4, 1), ((2, 4),), dtypes)


class FakeCompiler:
    """Keeps what it is given; refuses sources with ``bad`` in them."""

    version = (13, 0)

    def __init__(self):
        self.given = []

    def compile(self, source, architecture, options=()):
        self.given.append((source, architecture))
        if "bad" in source:
            raise nvrtc.CompileError("bad is not defined")
        return b"code", "log"


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A compiler that is always there, an empty cache, and a GPU to compile for."""
    fake = FakeCompiler()
    monkeypatch.setenv("AUTOTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nvrtc, "compiler", lambda: fake)
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_90a")
    return fake


class TestCode:
    def test_is_kept(self, compiler, tmp_path):
        code = nvrtc.code(asked(), "some")
        (kept,) = (tmp_path / "cache" / "cuda").iterdir()
        assert code == nvrtc.Code("some", b"code", kept)
        assert re.fullmatch(r"some_[0-9a-f]{16}\.cubin", kept.name)
        assert kept.read_bytes().startswith(b"code")

    def test_is_compiled_for_the_gpu_under_its_name(self, compiler):
        nvrtc.code(asked(), "some")
        assert compiler.given == [(cuda.source(asked(), "some"), "sm_90a")]

    def test_is_read_the_next_time(self, compiler):
        assert nvrtc.code(asked(), "some") == nvrtc.code(asked(), "some")
        assert len(compiler.given) == 1

    @pytest.mark.parametrize("content", [b"", b"cod", b"x" * 100])
    def test_that_was_damaged_is_compiled_again(self, content, compiler, tmp_path):
        nvrtc.code(asked(), "some")
        (kept,) = (tmp_path / "cache" / "cuda").iterdir()
        whole = kept.read_bytes()
        kept.write_bytes(content)
        assert nvrtc.code(asked(), "some") == nvrtc.Code("some", b"code", kept)
        assert kept.read_bytes() == whole

    def test_of_another_name_type_or_compiler_is_compiled(self, compiler, monkeypatch):
        nvrtc.code(asked(), "some")
        nvrtc.code(asked(), "other")
        nvrtc.code(asked(dtypes=(mx.float32,)), "some")
        monkeypatch.setattr(compiler, "version", (13, 1), raising=False)
        nvrtc.code(asked(), "some")
        assert len(compiler.given) == 4

    def test_comes_back_though_it_cannot_be_kept(self, compiler, tmp_path):
        """Where the cache's folder would be, there is a file."""
        (tmp_path / "cache").write_text("in the way")
        assert nvrtc.code(asked(), "some") == nvrtc.Code("some", b"code", None)
        assert (tmp_path / "cache").read_text() == "in the way"

    def test_comes_back_though_the_disk_is_full(self, compiler, monkeypatch, tmp_path):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(nvrtc.os, "replace", full)
        assert nvrtc.code(asked(), "some") == nvrtc.Code("some", b"code", None)
        assert list((tmp_path / "cache" / "cuda").iterdir()) == []

    def test_of_a_refused_program_is_an_error_and_not_kept(self, compiler, tmp_path):
        with pytest.raises(nvrtc.CompileError, match="bad is not defined"):
            nvrtc.code(asked(replace(PROGRAM, body="bad;")), "some")
        assert not (tmp_path / "cache").exists()

    def test_is_none_without_a_compiler(self, compiler, monkeypatch, tmp_path):
        monkeypatch.setattr(nvrtc, "compiler", lambda: None)
        assert nvrtc.code(asked(), "some") is None
        assert not (tmp_path / "cache").exists()


class TestCompileAll:
    def test_one_that_is_refused_keeps_no_other_from_it(self, compiler, tmp_path):
        bad = replace(PROGRAM, body="bad;")
        nvrtc.compile_all([(asked(), "one"), (asked(bad), "two"), (asked(), "three")], workers=2)
        names = {path.name.split("_")[0] for path in (tmp_path / "cache" / "cuda").iterdir()}
        assert names == {"one", "three"}
        assert len(compiler.given) == 3

    def test_nothing_to_do(self, compiler):
        nvrtc.compile_all([])
        assert compiler.given == []


class TestArchitecture:
    @pytest.mark.parametrize(
        ("reported", "compiled_for"),
        [("sm_90", "sm_90a"), ("sm_120", "sm_120a"), ("sm_89", "sm_89"), ("sm_90a", "sm_90a"), ("", "")],
    )
    def test_hopper_and_later_have_more_under_an_a(self, reported, compiled_for, monkeypatch):
        monkeypatch.setattr(mx, "device_info", lambda _: {"architecture": reported} if reported else {})
        assert nvrtc.architecture.__wrapped__() == compiled_for


class TestRoutesToCode:
    """What the door to MLX does with it."""

    def test_a_program_that_reads_strides_is_mlxs_to_compile(self, compiler, monkeypatch):
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", object(), raising=False)
        assert launch.code(asked(replace(PROGRAM, contiguous=False))) is None
        code = launch.code(asked(PROGRAM))
        assert code is not None
        assert code.content == b"code"

    def test_a_refused_one_too(self, compiler, monkeypatch):
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", object(), raising=False)
        assert launch.code(asked(replace(PROGRAM, body="bad;"))) is None

    def test_an_mlx_that_takes_no_compiled_code_compiles_itself(self, compiler, monkeypatch):
        monkeypatch.setattr(launch.mx, "fast", SimpleNamespace())
        assert launch.code(asked()) is None


@pytest.mark.skipif(nvrtc.compiler() is None, reason="there is no NVRTC with CUDA's headers here")
class TestCompiler:
    def test_makes_machine_code_under_the_name(self):
        tool = nvrtc.compiler()
        assert tool is not None
        program = Program("p", ("x",), ("y",), "", "y[thread_position_in_grid.x] = x[0];")
        source = cuda.source(asked(program, (mx.zeros((8,)),), (mx.float32,)), "some_name")
        made, _ = tool.compile(source, "sm_90a")
        assert made.startswith(b"\x7fELF")
        assert b"some_name" in made

    def test_says_what_it_refuses(self):
        tool = nvrtc.compiler()
        assert tool is not None
        with pytest.raises(nvrtc.CompileError, match="nobody"):
            tool.compile("__global__ void f() { nobody(); }", "sm_90a")

    def test_refuses_an_architecture_that_there_is_not(self):
        tool = nvrtc.compiler()
        assert tool is not None
        with pytest.raises(nvrtc.CompileError):
            tool.compile("__global__ void f() {}", "sm_1")
