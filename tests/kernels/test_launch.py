"""The door to MLX's custom kernels: launches are bound once, and can be sent elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest

from autotune.kernels import launch, nvrtc
from autotune.kernels.program import Program

PROGRAM = Program("p", ("sizes", "x"), ("y",), "", "y[0] = x[0];")


class TestScalars:
    def test_are_made_once(self):
        assert launch._sizes(3, 5, 7) is launch._sizes(3, 5, 7)
        assert launch.scalars(0.5, 2.0) is launch.scalars(0.5, 2.0)

    def test_hold_what_they_say(self):
        assert launch._sizes(3, 5, 7).tolist() == [3, 5, 7]
        assert launch._sizes(3).dtype == mx.int32
        assert launch.scalars(0.5, 2.0).tolist() == [0.5, 2.0]
        assert launch.scalars(0.5).dtype == mx.float32


class TestRunner:
    def run(self):
        program = Program("p", ("sizes", "x"), ("y",), "", "y[thread_position_in_grid.x] = x[0];")
        x = mx.ones((4,))
        return launch.Start(program, (4,), (4, 1, 1), (4, 1, 1), (4,), mx.float32)(x, stream=mx.cpu)

    def test_gets_the_launch_and_gives_the_result(self):
        seen = []
        with launch.through(lambda each: seen.append(each) or [mx.zeros(each.shapes[0])]):
            out = self.run()
        assert out.shape == (4,)
        assert (seen[0].grid, seen[0].threadgroup, seen[0].shapes) == ((4, 1, 1), (4, 1, 1), ((4,),))
        assert (seen[0].dtypes, seen[0].stream) == ((mx.float32,), mx.cpu)

    def test_contexts_nest_and_end_with_an_error_too(self):
        def first(each):
            return ["first"]

        def inner():
            with launch.through(lambda each: ["second"]):
                assert self.run() == "second"
                raise KeyError

        with launch.through(first):
            with pytest.raises(KeyError):
                inner()
            assert self.run() == "first"
        assert launch._runner() is None

    @pytest.mark.skipif(mx.metal.is_available(), reason="there is Metal")
    def test_without_metal_mlx_says_so(self):
        program = Program("p", ("sizes", "x"), ("y",), "", "y[0] = x[0];")
        with pytest.raises(RuntimeError, match="Metal"):
            launch.Start(program, (4,), (4, 1, 1), (4, 1, 1), (4,), mx.float32)(mx.ones(4))


PRECOMPILED = Program("p", ("sizes", "x"), ("y",), "", "")


class TestPrecompiled:
    """On CUDA, where machine code is at hand."""

    @pytest.fixture
    def called(self, monkeypatch):
        seen = []

        def precompiled(**options):
            seen.append(options)
            return [mx.zeros(options["output_shapes"][0])]

        monkeypatch.setattr(launch, "_on_cuda", lambda: True)
        monkeypatch.setattr(launch, "_codes", {})
        monkeypatch.setattr(launch, "cuda_name", lambda program: "named")
        monkeypatch.setattr(launch, "_found_in", lambda: None)
        monkeypatch.setattr(launch, "code", lambda asked: nvrtc.Code("named", b"code", Path("kept_1.cubin")))
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", precompiled, raising=False)
        return seen

    def start(self):
        return launch.Start(PRECOMPILED, (3, 5), (4, 1, 1), (4, 1, 1), (4,), mx.float32)

    def test_sizes_go_by_value(self, called):
        start, x = self.start(), mx.ones(4)
        for _ in range(2):
            start(x)
        assert len(called) == 2
        for options in called:
            assert (options["scalars"], len(options["inputs"])) == ((3, 5), 1)
            assert options["inputs"][0] is x
            assert (options["name"], options["compiled_source"]) == ("named", b"code")
            assert options["ensure_row_contiguous"] is True

    def test_machine_code_is_kept_for_each_number_of_threads(self, called, monkeypatch):
        """It is compiled for so many and no more."""
        monkeypatch.undo()
        made = []
        monkeypatch.setattr(launch, "_codes", {})
        monkeypatch.setattr(launch, "cuda_name", lambda program: "named")
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", None, raising=False)
        monkeypatch.setattr(nvrtc, "code", lambda asked, name: made.append(asked.threadgroup))
        for threads in ((4, 1, 1), (8, 1, 1), (4, 1, 1)):
            launch.code(launch.Start(PRECOMPILED, (3,), (8, 1, 1), threads, (4,), mx.float32).launch((mx.ones(4),)))
        assert made == [(4, 1, 1), (8, 1, 1)]

    def test_where_mlx_finds_code_by_name_none_is_handed_over(self, called, monkeypatch):
        placed = []
        monkeypatch.setattr(launch, "_found_in", lambda: Path("ptx"))
        monkeypatch.setattr(launch.mlx_cache, "place", lambda *of: placed.append(of) or "kept_1")
        start = self.start()
        for _ in range(2):
            start(mx.ones(4))
        assert [(each["name"], each["compiled_source"]) for each in called] == [("kept_1", b"")] * 2
        assert placed == [(Path("kept_1.cubin"), "named", Path("ptx"))]

    def test_what_cannot_be_put_there_or_was_not_kept_is_handed_over(self, called, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(launch, "_found_in", lambda: Path("ptx"))
        monkeypatch.setattr(launch.mlx_cache, "place", full)
        self.start()(mx.ones(4))
        monkeypatch.setattr(launch, "code", lambda asked: nvrtc.Code("named", b"code", None))
        self.start()(mx.ones(4))
        assert [(each["name"], each["compiled_source"]) for each in called] == [("named", b"code")] * 2

    def test_where_mlx_compiles_they_stay_an_array(self, called, monkeypatch):
        seen = []
        monkeypatch.setattr(launch, "code", lambda asked: None)
        monkeypatch.setattr(launch, "kernel", lambda program: lambda **options: seen.append(options) or [None])
        start = self.start()
        for _ in range(2):
            start(mx.ones(4))
        assert [options["inputs"][0].tolist() for options in seen] == [[3, 5]] * 2
        assert called == []


class TestFoundIn:
    """The trial with a kernel of one line, against an MLX that finds code or does not."""

    @pytest.fixture
    def tried(self, monkeypatch):
        """How often MLX was asked; what it answers is the attribute ``answer``, an error or a number."""
        seen = SimpleNamespace(calls=[], answer=23)

        def precompiled(**options):
            seen.calls.append(options)
            if isinstance(seen.answer, Exception):
                raise seen.answer
            return [mx.array([seen.answer])]

        monkeypatch.setattr(launch, "code", lambda asked: nvrtc.Code("named", b"code", Path("kept_1.cubin")))
        monkeypatch.setattr(launch.mlx_cache, "place", lambda *of: "kept_1")
        monkeypatch.setenv("MLX_PTX_CACHE_DIR", "ptx")
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", precompiled, raising=False)
        launch._found_in.cache_clear()
        yield seen
        launch._found_in.cache_clear()

    def test_is_tried_once(self, tried):
        assert launch._found_in() == launch._found_in() == Path("ptx")
        ((call,)) = tried.calls
        assert (call["name"], call["compiled_source"], call["scalars"]) == ("kept_1", b"", (23,))

    @pytest.mark.parametrize("answer", [0, RuntimeError("Failed to load compiled kernel")])
    def test_whatever_goes_wrong_means_no(self, answer, tried):
        tried.answer = answer
        assert not launch._found_in()

    @pytest.mark.parametrize("code", [None, nvrtc.Code("named", b"code", None)])
    def test_without_a_file_there_is_nothing_to_try(self, code, tried, monkeypatch):
        monkeypatch.setattr(launch, "code", lambda asked: code)
        assert launch._found_in() is None
        assert tried.calls == []

    @pytest.mark.parametrize(("key", "value"), [("AUTOTUNE_BY_NAME", "0"), ("MLX_PTX_CACHE_DIR", "")])
    def test_the_environment_can_turn_it_off(self, key, value, tried, monkeypatch):
        monkeypatch.setenv(key, value)
        assert launch._found_in() is None
        assert tried.calls == []
