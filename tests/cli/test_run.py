"""Programs run with routing on: what they get, and how they end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import mlx.core as mx
import autotune
from autotune.routing import ops
from autotune.routing.router import ROUTERS

print(__name__, sys.argv[1:], mx.matmul is ops.matmul, ROUTERS._bare)
"""


@pytest.fixture
def run(tmp_path):
    """Runs the command in a process and a folder of its own."""

    def run(*args):
        return subprocess.run(
            [sys.executable, "-m", "autotune.cli.app", "run", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize("name", ["program.py", "program"])
def test_a_file_or_a_module_is_the_main_program_with_its_own_arguments(name, run, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    ended = run(name, "--table", "x", "-h")
    assert (ended.returncode, ended.stdout) == (0, "__main__ ['--table', 'x', '-h'] True True\n")


def test_a_table_comes_first(run, tmp_path, write_table):
    (tmp_path / "program.py").write_text(
        "import mlx.core as mx\nfrom autotune.problem import Problem\nfrom autotune.routing.router import ROUTERS\n"
        "print(ROUTERS.of('cpu').find(Problem.parse('matmul M=3 N=64 K=256 f32 nt')).route)\n"
    )
    table = write_table({"matmul N=64 K=256 f32 nt": [(1, 7, "pad multiple=8 fill=zeros")]})
    ended = run("--table", str(table), "program.py")
    assert (ended.stdout, ended.stderr) == ("pad multiple=8 fill=zeros\n", "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import mlx_nobody", 1, "ModuleNotFoundError"),
        ("raise BrokenPipeError(32, 'gone')", 1, "BrokenPipeError"),
        ("raise EOFError", 1, "EOFError"),
        ("from autotune import UsageError\nraise UsageError('a', 'b')", 1, "UsageError"),
    ],
)
def test_it_ends_as_the_program_does(body, code, said, run, tmp_path):
    (tmp_path / "program.py").write_text(body)
    ended = run("program.py")
    assert ended.returncode == code
    assert ("Traceback" in ended.stderr) == bool(said)
    assert said in ended.stderr


def test_routing_is_on_before_a_package_is_imported(run, tmp_path):
    """What it takes out of MLX is the routed one, and what it does to the search path stays."""
    (tmp_path / "pk" / "vendored").mkdir(parents=True)
    (tmp_path / "pk" / "__init__.py").write_text(
        "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'vendored'))\n"
        "from mlx.core import grad, matmul\n"
    )
    (tmp_path / "pk" / "vendored" / "vend.py").write_text("")
    (tmp_path / "pk" / "server.py").write_text(
        "import vend\nimport pk\nfrom autotune.routing import ops, transforms\n"
        "print(pk.matmul is ops.matmul, pk.grad is not transforms.TRANSFORMS['grad'])\n"
    )
    ended = run("pk.server")
    assert (ended.returncode, ended.stdout) == (0, "True True\n"), ended.stderr


def test_a_table_that_is_not_for_this_device_is_one_line(run, tmp_path, write_table):
    (tmp_path / "program.py").write_text("print('ran')")
    foreign = write_table({"matmul N=64 K=256 f32 nt": [(1, 7, "pad multiple=8 fill=zeros")]}, device_name="another")
    for table, said in ((str(foreign), "is not used here"), ("none.json", "cannot be read")):
        ended = run("--table", table, "program.py")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("autotune: ")
        assert said in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_package_that_cannot_be_imported_says_why(run, tmp_path):
    (tmp_path / "need").mkdir()
    (tmp_path / "need" / "__init__.py").write_text("import not_there_dep")
    (tmp_path / "need" / "server.py").write_text("")
    ended = run("need.server")
    assert ended.returncode == 1
    assert "No module named 'not_there_dep'" in ended.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none.py",), "there is no file none.py"),
        (("nobody.home",), "there is no module nobody"),
        (("--tabel", "x.json", "p.py"), "there is no option --tabel"),
        (("--table", "none.json", "none.py"), "there is no file none.py"),
    ],
)
def test_what_is_not_there_is_one_line(args, said, run):
    ended = run(*args)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"autotune: {said}")
    assert ended.stderr.count("\n") == 1
