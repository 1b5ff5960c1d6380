"""Programs are made once, of texts that are short."""

from __future__ import annotations

import re

import pytest

from autotune.kernels import KERNELS, launch, program
from autotune.kernels.family import Family

TEXTS = sorted(path.stem for path in program.MSL.glob("*.metal"))
FAMILIES = [kernel for kernel in KERNELS.values() if isinstance(kernel, Family)]
CONSTANTS = (("T", "half"), ("V", 2))
MOST_BYTES = 12_000
"""Of a program's text. MLX joins and hashes it at each call: ten kilobytes take about two microseconds."""


@pytest.fixture
def texts(monkeypatch, tmp_path):
    """Writes texts into a folder that stands for ``msl/``."""
    monkeypatch.setattr(program, "MSL", tmp_path)
    for cached in (program.text, program.program):
        cached.cache_clear()

    def write(name, source):
        (tmp_path / (name + ".metal")).write_text(source, "utf-8")

    yield write
    for cached in (program.text, program.program):
        cached.cache_clear()


class TestText:
    def test_comments_indentation_and_empty_lines_go(self):
        source = "// a\nint a; // b\n\n  /* c\n d */ int b;\n#pragma unroll\n"
        assert program.short(source) == "int a;\nint b;\n#pragma unroll"

    def test_the_marker_splits_declarations_from_the_body(self, texts):
        texts("one", "inline int f() { return 1; }\n//! body\n  y[0] = f();\n")
        assert program.text("one") == ("inline int f() { return 1; }", "y[0] = f();")

    @pytest.mark.parametrize("name", TEXTS)
    def test_ours_are_plain(self, name):
        source = (program.MSL / (name + ".metal")).read_text("utf-8")
        assert source.isascii()
        header, body = program.text(name)
        # A string would not survive the removal of comments; utils of MLX's own are not there for custom kernels.
        assert '"' not in header + body
        assert "mlx/" not in header + body

    @pytest.mark.parametrize("kernel", FAMILIES, ids=lambda kernel: kernel.name)
    def test_ours_stay_short(self, kernel):
        # All declarations and the last text's body: what a program is made of, short of a few constants.
        length = sum(len(program.text(name)[0]) for name in kernel.texts) + len(program.text(kernel.texts[-1])[1])
        assert length < MOST_BYTES

    @pytest.mark.parametrize("kernel", FAMILIES, ids=lambda kernel: kernel.name)
    def test_every_file_counts_in_the_fingerprint(self, kernel):
        assert all(path.is_file() for path in kernel.files())
        assert [path.stem for path in kernel.files()][: len(kernel.texts)] == list(kernel.texts)


class TestProgram:
    def test_numbers_are_macros_and_types_typedefs(self, texts):
        texts("one", "T f();\n//! body\ny[0] = V;\n")
        made = program.program(("one",), CONSTANTS, ("x",), ("y",))
        assert made.header == "using namespace metal;\ntypedef half T;\n#define V 2\nT f();\n"
        assert made.body == "y[0] = V;"

    def test_includes_come_before_macros(self, texts):
        texts("base", "#include <some>\nint g();\n")
        texts("one", "#include <other>\n//! body\ny[0] = 1;\n")
        lines = program.program(("base", "one"), CONSTANTS, ("x",), ("y",)).header.split("\n")
        assert lines.index("#include <other>") < lines.index("#define V 2") < lines.index("int g();")

    def test_the_last_text_has_the_body(self, texts):
        texts("base", "int g();\n//! body\nnot this\n")
        texts("one", "//! body\nthis\n")
        assert program.program(("base", "one"), (), ("x",), ("y",)).body == "this"

    def test_equal_constants_give_one_program_and_one_kernel(self, texts):
        texts("one", "//! body\ny[0] = V;\n")
        first, again, other = (
            program.program(("one",), constants, ("x",), ("y",)) for constants in (CONSTANTS, CONSTANTS, (("V", 3),))
        )
        assert first is again
        assert first is not other
        assert launch.kernel(first) is launch.kernel(again)

    def test_the_name_is_an_identifier_that_tells_the_constants(self, texts):
        texts("one", "//! body\ny[0] = V;\n")
        name = program.program(("one",), CONSTANTS, ("x",), ("y",)).name
        assert re.fullmatch(r"[a-z_0-9]+", name)
        assert {"one", "v2", "thalf"} <= set(name.split("_"))
