import ast
import importlib
import inspect
import textwrap

import pytest

from autotune.kernels import KERNELS, fingerprint
from autotune.kernels.fingerprint import normalized

SOURCE = textwrap.dedent(
    '''\
    """What the module is for."""

    import math

    LEAST = 64


    class Kernel:
        """What the class is for."""

        name = "kernel"

        def build(self, problem, config):
            """What the method is for."""
            parts = int(config["parts"])
            if parts > LEAST:
                parts = LEAST
                return parts
            return min(parts, 2 * problem + 1)
    '''
)


def edited(old: str, new: str) -> str:
    assert SOURCE.count(old) == 1
    source = SOURCE.replace(old, new)
    ast.parse(source)
    return source


class TestDeafTo:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("import math\n", "import math  # for gcd\n"),
            ("LEAST = 64\n", "# The least.\nLEAST = 64\n"),
            ("        parts = int(", "            # Deeper.\n        parts = int("),
            ("            return parts\n", "            return parts\n    # Shallower than the block.\n"),
            ('"""What the module is for."""\n', '"""Another text.\n\nOf more lines: with = code + in it.\n"""\n'),
            ('"""What the module is for."""\n', ""),
            ('    """What the class is for."""\n', "    'Other quotes.'\n"),
            ('        """What the method is for."""\n', ""),
            ("LEAST = 64\n", 'LEAST = 64\n"""The smallest part."""\n'),
            ("LEAST = 64\n", "LEAST = 64\n\n\n\n"),
            ("LEAST = 64\n", "LEAST  =  64\n"),
            ("min(parts, 2 * problem + 1)", "min(\n    parts,\n\n    2 * problem  # twice\n    + 1\n)"),
            ("2 * problem + 1", "2 * problem \\\n        + 1"),
            ("        return min(parts, 2 * problem + 1)\n", "        return min(parts, 2 * problem + 1)"),
        ],
    )
    def test_layout_and_explanations(self, old, new):
        assert normalized(edited(old, new)) == normalized(SOURCE)

    def test_the_width_of_indentation(self):
        assert normalized(SOURCE.replace("    ", "  ")) == normalized(SOURCE)
        assert normalized(SOURCE.replace("    ", "\t")) == normalized(SOURCE)

    def test_line_endings(self):
        assert normalized(SOURCE.replace("\n", "\r\n")) == normalized(SOURCE)


class TestHears:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("LEAST = 64\n", "LEAST = 65\n"),
            ("LEAST = 64\n", "LEAST = 6.4\n"),
            ("parts > LEAST", "parts >= LEAST"),
            ("2 * problem + 1", "2 * problem - 1"),
            ("2 * problem + 1", "2 * (problem + 1)"),
            ('name = "kernel"', 'name = "kernels"'),
            ('config["parts"]', "config['part']"),
            ("import math\n", "import math as m\n"),
            ("min(parts", "max(parts"),
            ("def build(self, problem, config)", "def build(self, config, problem)"),
        ],
    )
    def test_what_is_computed(self, old, new):
        assert normalized(edited(old, new)) != normalized(SOURCE)

    def test_a_statement_that_leaves_its_block(self):
        moved = edited("            return parts\n", "        return parts\n")
        assert normalized(moved) != normalized(SOURCE)

    def test_a_statement_that_enters_a_block(self):
        moved = edited("        return min(", "            return min(")
        assert normalized(moved) != normalized(SOURCE)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("def f(x):\n    return\n    -x\n", "def f(x):\n    return -x\n"),
            ("y = f\n(x)\n", "y = f(x)\n"),
            ("y = a\n-b\n", "y = a - b\n"),
            ("y = x\n[0]\n", "y = x[0]\n"),
        ],
    )
    def test_where_a_statement_ends(self, one, other):
        """A line break outside brackets separates statements, and is no layout."""
        assert ast.dump(ast.parse(one)) != ast.dump(ast.parse(other))
        assert normalized(one) != normalized(other)

    def test_where_a_word_ends(self):
        assert normalized("y = not x\n") != normalized("y = notx\n")

    def test_a_string_that_is_used_at_the_start_of_a_line(self):
        source = 'names = [\n    "one",\n    "two",\n]\n'
        assert normalized(source) != normalized(source.replace('"two"', '"three"'))


class TestOfKernels:
    def test_is_twelve_hexadecimal_digits_and_differs_between_kernels(self):
        seen = {name: fingerprint.of(kernel) for name, kernel in KERNELS.items()}
        assert all(len(text) == 12 and int(text, 16) >= 0 for text in seen.values())
        assert len(set(seen.values())) == len(seen)

    def test_covers_every_module_that_the_kernel_names(self, monkeypatch):
        whole = fingerprint.of(KERNELS["pad"])
        monkeypatch.setattr(type(KERNELS["pad"]), "sources", lambda self: (type(self).__module__,))
        assert fingerprint.of(KERNELS["pad"]) != whole

    @pytest.mark.parametrize("name", ["pad", "chunk"])
    def test_row_compositions_depend_on_what_they_share(self, name):
        assert "autotune.kernels.rows" in KERNELS[name].sources()

    @pytest.mark.parametrize("name", sorted(KERNELS))
    def test_sources_are_importable_and_readable(self, name):
        kernel = KERNELS[name]
        assert type(kernel).__module__ in kernel.sources()
        assert normalized(inspect.getsource(inspect.getmodule(type(kernel))))

    @pytest.mark.parametrize("name", sorted(KERNELS))
    def test_sources_have_no_f_strings(self, name):
        """Python 3.12 splits them into tokens, 3.11 does not: the fingerprint would depend on the version."""
        for module in KERNELS[name].sources():
            tree = ast.parse(inspect.getsource(importlib.import_module(module)))
            assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)], module
