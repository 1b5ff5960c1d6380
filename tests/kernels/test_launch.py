"""The door to MLX's custom kernels: launches are bound once, and can be sent elsewhere."""

from __future__ import annotations

import mlx.core as mx
import pytest

from autotune.kernels import launch
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
        monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", precompiled, raising=False)
        return seen

    def test_sizes_go_by_value(self, called, monkeypatch):
        monkeypatch.setattr(launch, "code", lambda asked: b"code")
        start = launch.Start(
            Program("p", ("sizes", "x"), ("y",), "", ""), (3, 5), (4, 1, 1), (4, 1, 1), (4,), mx.float32
        )
        x = mx.ones(4)
        for _ in range(2):
            start(x)
        assert len(called) == 2
        for options in called:
            assert (options["scalars"], len(options["inputs"])) == ((3, 5), 1)
            assert options["inputs"][0] is x
            assert (options["name"], options["compiled_source"]) == ("named", b"code")

    def test_where_mlx_compiles_they_stay_an_array(self, called, monkeypatch):
        seen = []
        monkeypatch.setattr(launch, "code", lambda asked: None)
        monkeypatch.setattr(launch, "kernel", lambda program: lambda **options: seen.append(options) or [None])
        start = launch.Start(
            Program("p", ("sizes", "x"), ("y",), "", ""), (3, 5), (4, 1, 1), (4, 1, 1), (4,), mx.float32
        )
        for _ in range(2):
            start(mx.ones(4))
        assert [options["inputs"][0].tolist() for options in seen] == [[3, 5]] * 2
        assert called == []
