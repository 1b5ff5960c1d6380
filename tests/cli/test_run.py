"""Programs run with routing on: what they get, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from autotune.cli import program
from autotune.search import workloads

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


THE_SAME = """
import sys
main = sys.modules["__main__"]
told = {key: vars(main)[key] for key in ("__name__", "__doc__", "__package__", "__file__", "__cached__")}
print(told, type(__builtins__), type(__loader__), __spec__ and __spec__.name, sys.argv[0], sys.path[0])
print(main.__dict__ is globals(), sorted(set(globals()) - {"__annotations__"}))
x: not_evaluated_if_postponed = 1 if sys.argv[1:] else 2
"""


@pytest.mark.parametrize(("name", "plain"), [("folder/program.py", ()), ("folder.program", ("-m",))])
def test_its_main_module_and_its_errors_are_what_python_makes_of_it(name, plain, run, tmp_path):
    """Nothing of this package's own source is left in it either: annotations are evaluated."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "program.py").write_text('"""What it is."""\n' + THE_SAME)
    ended = run("--quiet", name)
    python = subprocess.run([sys.executable, *plain, name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == (python.stdout, python.returncode) != ("", 0)
    assert "NameError: name 'not_evaluated_if_postponed'" in ended.stderr
    assert ended.stderr.splitlines()[-3:] == python.stderr.splitlines()[-3:]


@pytest.mark.parametrize("name", ["program.py", "program"])
def test_its_main_module_is_there_to_the_end(name, run, tmp_path):
    """For threads that outlive it, their children and functions of ``atexit``."""
    (tmp_path / "program.py").write_text(
        "import atexit, multiprocessing, pickle, sys, threading\n"
        "class Mine:\n    pass\n"
        "def told(queue, it):\n    queue.put(type(it).__qualname__)\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    queue = spawn.SimpleQueue()\n"
        "    child = spawn.Process(target=told, args=(queue, pickle.loads(pickle.dumps(Mine()))))\n"
        "    child.start()\n"
        "    child.join()\n"
        "    print(child.exitcode, child.exitcode or queue.get())\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=late).start()\n"
        "    atexit.register(lambda: print(sys.modules['__main__'].Mine is Mine))\n"
    )
    ended = run("--quiet", name)
    assert (ended.returncode, ended.stdout) == (0, "0 Mine\nTrue\n"), ended.stderr


def test_a_module_that_a_package_has_not_is_one_line(run):
    ended = run("--quiet", "email.nobody")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(": No module named email.nobody")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 has it")
def test_a_safe_path_keeps_its_first_entry(run, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helper.py").write_text("")
    (tmp_path / "program.py").write_text("import helper, sys\nprint(sys.path[0])")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "mine"), os.environ.get("PYTHONPATH", ".")]))
    ended = run("program.py")
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path / 'mine'}\n"), ended.stderr


def test_a_table_comes_first(run, tmp_path, write_table):
    (tmp_path / "program.py").write_text(
        "import mlx.core as mx\nfrom autotune.problem import Problem\nfrom autotune.routing.router import ROUTERS\n"
        "print(ROUTERS.of('cpu').find(Problem.parse('matmul M=3 N=64 K=256 f32 nt')).route)\n"
    )
    table = write_table({"matmul N=64 K=256 f32 nt": [(1, 7, "pad multiple=8 fill=zeros")]})
    ended = run("--quiet", "--table", str(table), "program.py")
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
        (("--record-shapes", "shapes.txt", "p.py"), "shapes.txt is not named as a workload's file: end it in .yaml"),
        (("--record-shapes", "nowhere/shapes.yaml", "p.py"), "nowhere/shapes.yaml cannot be written there"),
        (("--record-shapes", "other.yaml", "p.py"), "other.yaml is no workload that could be added to"),
        (("--record-shapes", "broken.yaml", "p.py"), "broken.yaml is no workload that could be added to"),
    ],
)
def test_what_is_not_there_is_one_line(args, said, run, tmp_path):
    if "--record-shapes" in args:
        (tmp_path / "p.py").write_text("print('ran')")
        (tmp_path / "other.yaml").write_text("name: a\n")
        (tmp_path / "broken.yaml").write_text("name: [\n")
    ended = run(*args)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"autotune: {said}")
    assert ended.stderr.count("\n") == 1


PRODUCTS = """
import sys
import mlx.core as mx
mx.set_default_device(mx.cpu)
b = mx.zeros((256, 64))
for m in (1, 3, 3, 9):
    mx.matmul(mx.zeros((m, 256)), b)
mx.zeros((2, 256)) @ b
mx.zeros((256,)) @ b
"""
FAMILY = "matmul N=64 K=256 f32 nt"


def texts(path):
    """The problems of a workload's file."""
    return [str(problem) for problem in workloads.load(str(path)).problems]


def at(*ms):
    return [f"matmul M={m} N=64 K=256 f32 nt" for m in ms]


class TestTheLineAtTheEnd:
    def test_without_a_table_it_says_what_to_do(self, run, tmp_path):
        (tmp_path / "program.py").write_text(PRODUCTS)
        assert run("program.py", "an argument").stderr.splitlines()[-1] == (
            "autotune: 4 different products: 0 routed, 0 on stock as the table says, 4 not tuned; not tunable: 1 of "
            "vectors; to tune them: autotune run --record-shapes shapes.yaml program.py 'an argument' && "
            "autotune sweep --workload shapes.yaml --budget 20m && autotune export"
        )

    def test_without_a_product_it_says_so(self, run, tmp_path):
        (tmp_path / "program.py").write_text("import mlx.core as mx\n")
        assert run("program.py").stderr.splitlines()[-1].startswith("autotune: no product of MLX was computed")

    def test_with_a_table_each_product_counts_once(self, run, tmp_path, write_table):
        (tmp_path / "program.py").write_text(PRODUCTS)
        table = write_table({FAMILY: [(1, 2, "stock"), (3, 9, "pad multiple=16 fill=zeros")]})
        ended = run("--table", str(table), "program.py")
        assert ended.stderr == (
            "autotune: 4 different products: 2 routed, 2 on stock as the table says, 0 not tuned; not tunable: 1 of "
            "vectors\n"
        )

    def test_quiet_leaves_it_out(self, run, tmp_path, write_table):
        (tmp_path / "program.py").write_text(PRODUCTS)
        table = write_table({FAMILY: [(1, 2, "stock")]})
        assert run("--quiet", "--record-shapes", "s.yaml", "--table", str(table), "program.py").stderr == ""
        assert texts(tmp_path / "s.yaml") == at(1, 2, 3, 9)

    def test_it_comes_after_what_the_program_leaves_behind(self, run, tmp_path):
        """Threads and functions of ``atexit``, after a traceback too."""
        (tmp_path / "program.py").write_text(
            PRODUCTS + "import atexit, threading\n"
            "atexit.register(lambda: mx.matmul(mx.zeros((20, 256)), b))\n"
            "threading.Thread(target=lambda: mx.matmul(mx.zeros((21, 256)), b)).start()\n"
            "raise KeyError('gone')\n"
        )
        ended = run("program.py")
        assert ended.returncode == 1
        assert "KeyError: 'gone'\nautotune: 6 different products" in ended.stderr

    def test_where_routing_is_off(self, run, tmp_path, monkeypatch):
        (tmp_path / "program.py").write_text(PRODUCTS)
        monkeypatch.setenv("AUTOTUNE_DISABLE", "1")
        assert run("program.py").stderr == "autotune: nothing was routed, since AUTOTUNE_DISABLE is set\n"
        ended = run("--record-shapes", "s.yaml", "program.py")
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert ended.stderr.startswith("autotune: AUTOTUNE_DISABLE is set")

    @pytest.mark.parametrize("stderr", [None, "closed", "full"])
    def test_where_nobody_can_be_told(self, stderr, monkeypatch, capsys, tmp_path):
        file = None if stderr is None else (tmp_path / "stderr").open("w")
        if stderr == "closed":
            file.close()
        elif stderr == "full":
            monkeypatch.setattr("builtins.print", full)
        monkeypatch.setattr(sys, "stderr", file)
        program._say("nothing")
        assert capsys.readouterr().out == ""


def full(*args, **options):
    raise OSError(28, "No space left on device")


class TestRecording:
    @pytest.mark.parametrize(
        ("last", "code"),
        [
            ("", 0),
            ("raise SystemExit(7)", 7),
            ("1 / 0", 1),
            ("import os, signal; os.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**8): pass", -2),
            ("import os; os.chdir('/')", 0),
        ],
        ids=["ends", "exits", "raises", "interrupted", "goes-elsewhere"],
    )
    def test_however_the_program_ends(self, last, code, run, tmp_path):
        (tmp_path / "program.py").write_text(PRODUCTS + last)
        ended = run("--record-shapes", "shapes.yaml", "program.py")
        assert ended.returncode == code, ended.stderr
        assert texts(tmp_path / "shapes.yaml") == at(1, 2, 3, 9)
        assert "# calls: 1 at M=1, 1 at M=2, 2 at M=3, 1 at M=9\n" in (tmp_path / "shapes.yaml").read_text()
        assert ended.stderr.endswith(
            "autotune: shapes.yaml: 4 products recorded, 4 new in the file; 1 call cannot be in a workload "
            "(1 of vectors)\n"
            "autotune: 4 different products: 0 routed, 0 on stock as the table says, 4 not tuned; to tune them: "
            "autotune sweep --workload shapes.yaml --budget 20m && autotune export\n"
        )

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_a_signal_in_the_midst_of_a_look_up(self, name, run, tmp_path):
        """The file is saved, and nobody waits for the router's lock, which the look-up holds."""
        (tmp_path / "program.py").write_text(
            PRODUCTS + "import os, signal\nfrom autotune.routing.router import ROUTERS\nrouter = ROUTERS.of('cpu')\n"
            "router._answer.cache_clear()\n"
            f"with router._lock:\n    os.kill(os.getpid(), signal.{name})\n    for _ in range(10**8): pass\n"
        )
        ended = run("--record-shapes", "shapes.yaml", "program.py")
        assert ended.returncode == -getattr(signal, name), ended.stderr
        assert texts(tmp_path / "shapes.yaml") == at(1, 2, 3, 9)
        assert ended.stderr.endswith(
            "autotune: shapes.yaml: 4 products recorded, 4 new in the file; 1 call cannot be in a workload "
            "(1 of vectors)\n"
        )

    def test_a_signal_in_the_midst_of_saving_waits_for_it(self, run, tmp_path):
        (tmp_path / "program.py").write_text(
            PRODUCTS + "import os, signal\nfrom autotune.search import workload_file\nput = workload_file._put\n"
            "def terminated(path, text):\n    os.kill(os.getpid(), signal.SIGTERM)\n    put(path, text)\n"
            "workload_file._put, workload_file._PATIENCE = terminated, 0\n"
        )
        ended = run("--record-shapes", "shapes.yaml", "program.py")
        assert ended.returncode == -signal.SIGTERM, ended.stderr
        assert texts(tmp_path / "shapes.yaml") == at(1, 2, 3, 9)
        assert [each.name for each in tmp_path.glob("*.yaml")] == ["shapes.yaml"]

    def test_a_signal_that_is_ignored_stays_so(self, run, tmp_path):
        (tmp_path / "program.py").write_text(PRODUCTS + "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\n")
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            ended = run("--record-shapes", "shapes.yaml", "program.py")
        finally:
            signal.signal(signal.SIGHUP, before)
        assert ended.returncode == 0

    def test_nothing_to_record(self, run, tmp_path):
        (tmp_path / "program.py").write_text("")
        ended = run("--record-shapes", "my shapes.yaml", "program.py")
        assert "autotune: my shapes.yaml: there was no product to record\n" in ended.stderr
        assert not list(tmp_path.glob("*.yaml"))
        (tmp_path / "program.py").write_text(PRODUCTS)
        ended = run("--record-shapes", "my shapes.yaml", "program.py")
        assert "autotune sweep --workload 'my shapes.yaml' --budget 20m &&" in ended.stderr

    def test_a_file_that_is_there_gets_more(self, run, tmp_path):
        (tmp_path / "program.py").write_text(PRODUCTS)
        file = tmp_path / "shapes.yaml"
        mine = "name: mine\ngroups:\n- {op: matmul, dtype: f32, m: [3, 5], shapes: [{n: 64, k: 256}]} # mine\n"
        file.write_text(mine)
        ended = run("--record-shapes", "shapes.yaml", "program.py")
        assert file.read_text().startswith(mine)
        assert texts(file) == at(3, 5, 1, 2, 9)
        assert "4 products recorded, 3 new" in ended.stderr

    def test_a_file_that_is_a_workload_no_longer_is_left_alone(self, run, tmp_path):
        (tmp_path / "program.py").write_text(PRODUCTS + "open('shapes.yaml', 'w').write('my notes')")
        ended = run("--record-shapes", "shapes.yaml", "program.py")
        assert (ended.returncode, (tmp_path / "shapes.yaml").read_text()) == (0, "my notes")
        (beside,) = tmp_path.glob("shapes-*.yaml")
        assert texts(beside) == at(1, 2, 3, 9)
        assert f"what was recorded is in {beside}" in ended.stderr

    def test_forked_processes_leave_the_file_to_their_parent(self, run, tmp_path):
        (tmp_path / "program.py").write_text(
            "import os\nif not os.fork():\n    raise SystemExit\nos.wait()\n" + PRODUCTS
        )
        assert run("--record-shapes", "shapes.yaml", "program.py").stderr.count("products recorded") == 1

    def test_results_and_routes_are_the_same(self, run, tmp_path, write_table):
        table = write_table({FAMILY: [(1, 9, "pad multiple=16 fill=zeros")]})
        (tmp_path / "program.py").write_text(
            "import json, mlx.core as mx, autotune\nmx.set_default_device(mx.cpu)\n"
            "a, b = (mx.random.normal(shape, key=mx.random.key(1)) for shape in ((3, 256), (256, 64)))\n"
            "found = [f(a, b).tolist() for f in (mx.matmul, autotune.matmul, mx.array.__matmul__)]\n"
            "print(json.dumps([found, autotune.coverage().line, hasattr(mx.matmul, '__wrapped__')]))\n"
        )
        plain, recorded = (
            json.loads(run("--table", str(table), *options, "program.py").stdout)
            for options in ((), ("--record-shapes", "shapes.yaml"))
        )
        assert plain[:2] == recorded[:2]
        assert (plain[2], recorded[2]) == (False, True), "only a recording has functions around the ops"
        assert "# calls: 3 at M=3\n" in (tmp_path / "shapes.yaml").read_text()
