"""The door to ``metal_kernel``: programs are made once, texts are short, launches can be sent elsewhere."""

from __future__ import annotations

import re

import mlx.core as mx
import pytest

from autotune.kernels import KERNELS, launch
from autotune.kernels.family import Family

TEXTS = sorted(path.stem for path in launch.MSL.glob("*.metal"))
FAMILIES = [kernel for kernel in KERNELS.values() if isinstance(kernel, Family)]
CONSTANTS = (("T", "half"), ("V", 2))
MOST_BYTES = 12_000
"""Of a program's text. MLX joins and hashes it at each call: ten kilobytes take about two microseconds."""


@pytest.fixture
def texts(monkeypatch, tmp_path):
    """Writes texts into a folder that stands for ``msl/``."""
    monkeypatch.setattr(launch, "MSL", tmp_path)
    for cached in (launch.text, launch.program):
        cached.cache_clear()

    def write(name, source):
        (tmp_path / (name + ".metal")).write_text(source, "utf-8")

    yield write
    for cached in (launch.text, launch.program):
        cached.cache_clear()


class TestText:
    def test_comments_indentation_and_empty_lines_go(self):
        source = "// a\nint a; // b\n\n  /* c\n d */ int b;\n#pragma unroll\n"
        assert launch.short(source) == "int a;\nint b;\n#pragma unroll"

    def test_the_marker_splits_declarations_from_the_body(self, texts):
        texts("one", "inline int f() { return 1; }\n//! body\n  y[0] = f();\n")
        assert launch.text("one") == ("inline int f() { return 1; }", "y[0] = f();")

    @pytest.mark.parametrize("name", TEXTS)
    def test_ours_are_plain(self, name):
        source = (launch.MSL / (name + ".metal")).read_text("utf-8")
        assert source.isascii()
        header, body = launch.text(name)
        # A string would not survive the removal of comments; utils of MLX's own are not there for custom kernels.
        assert '"' not in header + body
        assert "mlx/" not in header + body

    @pytest.mark.parametrize("kernel", FAMILIES, ids=lambda kernel: kernel.name)
    def test_ours_stay_short(self, kernel):
        # All declarations and the last text's body: what a program is made of, short of a few constants.
        length = sum(len(launch.text(name)[0]) for name in kernel.texts) + len(launch.text(kernel.texts[-1])[1])
        assert length < MOST_BYTES

    @pytest.mark.parametrize("kernel", FAMILIES, ids=lambda kernel: kernel.name)
    def test_every_file_counts_in_the_fingerprint(self, kernel):
        assert all(path.is_file() for path in kernel.files())
        assert [path.stem for path in kernel.files()][: len(kernel.texts)] == list(kernel.texts)


class TestProgram:
    def test_numbers_are_macros_and_types_typedefs(self, texts):
        texts("one", "T f();\n//! body\ny[0] = V;\n")
        made = launch.program(("one",), CONSTANTS, ("x",), ("y",))
        assert made.header == "using namespace metal;\ntypedef half T;\n#define V 2\nT f();\n"
        assert made.body == "y[0] = V;"

    def test_includes_come_before_macros(self, texts):
        texts("base", "#include <some>\nint g();\n")
        texts("one", "#include <other>\n//! body\ny[0] = 1;\n")
        lines = launch.program(("base", "one"), CONSTANTS, ("x",), ("y",)).header.split("\n")
        assert lines.index("#include <other>") < lines.index("#define V 2") < lines.index("int g();")

    def test_the_last_text_has_the_body(self, texts):
        texts("base", "int g();\n//! body\nnot this\n")
        texts("one", "//! body\nthis\n")
        assert launch.program(("base", "one"), (), ("x",), ("y",)).body == "this"

    def test_equal_constants_give_one_program_and_one_kernel(self, texts):
        texts("one", "//! body\ny[0] = V;\n")
        first, again, other = (
            launch.program(("one",), constants, ("x",), ("y",)) for constants in (CONSTANTS, CONSTANTS, (("V", 3),))
        )
        assert first is again
        assert first is not other
        assert launch.kernel(first) is launch.kernel(again)

    def test_the_name_is_an_identifier_that_tells_the_constants(self, texts):
        texts("one", "//! body\ny[0] = V;\n")
        name = launch.program(("one",), CONSTANTS, ("x",), ("y",)).name
        assert re.fullmatch(r"[a-z_0-9]+", name)
        assert {"one", "v2", "thalf"} <= set(name.split("_"))


class TestScalars:
    def test_are_made_once(self):
        assert launch.sizes(3, 5, 7) is launch.sizes(3, 5, 7)
        assert launch.scalars(0.5, 2.0) is launch.scalars(0.5, 2.0)

    def test_hold_what_they_say(self):
        assert launch.sizes(3, 5, 7).tolist() == [3, 5, 7]
        assert launch.sizes(3).dtype == mx.int32
        assert launch.scalars(0.5, 2.0).tolist() == [0.5, 2.0]
        assert launch.scalars(0.5).dtype == mx.float32


class TestRunner:
    def run(self):
        program = launch.Program("p", ("x",), ("y",), "", "y[thread_position_in_grid.x] = x[0];")
        x = mx.ones((4,))
        return launch.run(program, (x,), (4, 1, 1), (4, 1, 1), ((4,),), (mx.float32,), mx.cpu)

    def test_gets_the_launch_and_gives_the_result(self):
        seen = []
        with launch.through(lambda each: seen.append(each) or [mx.zeros(each.shapes[0])]):
            (out,) = self.run()
        assert out.shape == (4,)
        assert (seen[0].grid, seen[0].threadgroup, seen[0].shapes) == ((4, 1, 1), (4, 1, 1), ((4,),))
        assert (seen[0].dtypes, seen[0].stream) == ((mx.float32,), mx.cpu)

    def test_contexts_nest_and_end_with_an_error_too(self):
        def first(each):
            return ["first"]

        def inner():
            with launch.through(lambda each: ["second"]):
                assert self.run() == ["second"]
                raise KeyError

        with launch.through(first):
            with pytest.raises(KeyError):
                inner()
            assert self.run() == ["first"]
        assert launch._runner is None

    @pytest.mark.skipif(mx.metal.is_available(), reason="there is Metal")
    def test_without_metal_mlx_says_so(self):
        program = launch.Program("p", ("x",), ("y",), "", "y[0] = x[0];")
        with pytest.raises(RuntimeError, match="Metal"):
            launch.run(program, (mx.ones(4),), (4, 1, 1), (4, 1, 1), ((4,),), (mx.float32,))
