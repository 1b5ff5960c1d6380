"""The commands through :func:`autotune.cli.app.main`: streams, exit codes, JSON; errors are one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx
import pytest
from broken import Ours
from fakes import FakeDevice
from report.builders import PAD, STOCK, WIDE, timed

from autotune import __version__, chips, kernels, machine
from autotune.cli import app as cli
from autotune.cli.check import _github
from autotune.errors import FAILED, INTERRUPTED, OK, STALE, UNFIT, USAGE, WRONG
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.report.kernels import HEAD
from autotune.search import lock, results, space, workloads
from autotune.search.check import Finding
from autotune.search.results import INACCURATE

COMMANDS = (
    "devices",
    "sweep",
    "export",
    "check",
    "verify",
    "show",
    "explain",
    "spaces",
    "diff",
    "bench",
    "limits",
    "run",
)
SMALL = "quantized_matmul M=2 N=64 K=64 f16 affine-b4-g64 nt"
MEASURE = (
    ("sweep", "--device", "cpu", "--problem", SMALL),
    ("bench", "--device", "cpu", "--problem", SMALL),
    ("limits", SMALL, "--device", "cpu", "--first", "stock", "--second", "dequantize"),
)
"""Commands that measure."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs ``autotune`` with these arguments in this process, as the shell's command would."""

    def call(*args: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["autotune", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def fails(call):
    """Runs a command that ends with this code and one line on stderr, which is returned."""

    def fails(code: int, *args: str) -> str:
        ended = call(*args)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err.startswith("autotune: ")
        assert ended.err.count("\n") == 1
        assert "Traceback" not in ended.err
        return ended.err.strip()

    return fails


@pytest.fixture
def blocked(monkeypatch, tmp_path):
    """A data folder that nobody can write to, root included: it lies below a regular file."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "below"
    monkeypatch.setenv("AUTOTUNE_DATA", str(folder))
    return folder


def row(m, route, us, family=WIDE):
    kernel = kernels.kernel(route.split()[0])
    stamp = {"kernel": kernels.fingerprint.of(kernel), "space": space.fingerprint(kernel)}
    return timed(family, m, route, us, 100, **stamp)


@pytest.fixture
def measured(tmp_path):
    """A CSV of results."""
    path = tmp_path / "results" / "h100.csv"
    path.parent.mkdir()
    rows = [row(2, STOCK, 100), row(2, PAD, 120), row(3, STOCK, 100), row(3, PAD, 40)]
    path.write_text(results.dumps(rows), "utf-8")
    return path


@pytest.fixture
def exported(call, measured):
    """The table that the CSV gives, beside it."""
    assert call("export", "--from-csv", str(measured)).code == OK
    return measured.with_suffix(".json")


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("option", ["--help", "-h"])
    def test_of_every_command(self, call, command, option):
        ended = call(command, option)
        assert ended.code == OK
        assert f"autotune {command}" in ended.out
        assert not ended.err

    def test_names_the_commands_and_exit_codes(self, call):
        ended = call("--help")
        assert ended.code == OK
        for command in COMMANDS:
            assert re.search(rf"^  {command} +\w", ended.out, re.MULTILINE)
        text = " ".join(ended.out.split())
        for meaning in ("3 tables are stale or incomplete", "130 interrupted"):
            assert meaning in text

    def test_version(self, call):
        assert call("--version") == (OK, f"autotune {__version__}\n", "")

    def test_without_a_command(self, call):
        ended = call()
        assert "Usage: " in ended.out + ended.err
        assert "Commands:" in ended.out + ended.err
        assert ended.code in (OK, USAGE)

    @pytest.mark.slow
    @pytest.mark.parametrize("args", [["--help"], ["sweep", "--help"], ["--version"]])
    def test_answers_before_anything_heavy_is_imported(self, args):
        script = (
            f"import sys; sys.argv = {['autotune', *args]!r}\n"
            "from autotune.cli import app\n"
            "try:\n    app.main()\n"
            "finally:\n"
            "    heavy = {'mlx', 'numpy', 'optuna', 'pandas', 'rich', 'yaml', 'sqlalchemy'} & set(sys.modules)\n"
            "    print('imported:', *sorted(heavy), file=sys.stderr)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (OK, "imported:\n")


class TestWrongUse:
    """What the user got wrong ends with 2 and one line that says what to do."""

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--chip", "m5mx"], r"unknown chip 'm5mx': did you mean m5max"),
            (["--chip", "quantum"], r"unknown chip 'quantum': known: a10, "),
            (["--op", "matmull"], r"unknown op 'matmull': did you mean matmul"),
            (["--workload", "quik"], r"unknown workload 'quik': did you mean quick"),
            (["--workload", "none.yaml"], r"none\.yaml cannot be read \(No such file or directory\)"),
            (["--kernel", "padd"], r"unknown kernel 'padd': did you mean pad"),
            (["--device", "cpu", "--kernel", "qmv"], r"qmv does not run on cpu: it needs metal or cuda; see --chip"),
            (["--chip", "m1", "--kernel", "gemm_nax"], r"gemm_nax does not run on m1: it needs metal, with NAX"),
            (["--problem", "matmul M=4"], r"problem 'matmul M=4' lacks N, K, dtype"),
            (["--problem", "matmull M=4 N=4 K=4 f16"], r"unknown op 'matmull'"),
            (["--problem", "matmul M=4 N=4 K=4 f16 nx"], r"'nx' is not understood in problem"),
            (["--problem", "matmul M=0 N=4 K=4 f16"], r"empty dimension"),
            (["--problem", ""], r"empty problem"),
            (["--effort", "quik"], r"unknown effort 'quik': did you mean quick"),
            (["--budget", "soon"], r"budget 'soon' is no length of time: such as 90s, 20m or 2h"),
            (["--budget", "-5m"], r"budget '-5m' is no length of time"),
            (["--budget", "0s"], r"budget '0s' leaves no time: such as 90s, 20m or 2h"),
            (["--device", "tpu"], r"unknown device 'tpu': did you mean"),
            (["--load", "chain"], r"unknown load 'chain': did you mean chained"),
            (["--device", "gpu", "--chip", "cpu"], r"--chip cpu is no gpu"),
            (["--device", "cpu", "--workload", "split-k", "--op", "addmm"], r"no problem is left with --op addmm"),
            (["--device", "cpu", "--workload", "quick", "--m", "999"], r"no problem is left with --m 999"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_of_sweep(self, fails, args, said):
        assert re.search(said, fails(USAGE, "sweep", "--dry-run", *args))

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["export", "--workload", "quik", "--from-csv", "{csv}"], "unknown workload 'quik': did you mean quick"),
            (["export", "--from-csv", "none.csv"], "none.csv cannot be read (No such file or directory)"),
            (["export", "--from-csv", "{csv}", "--chip", "h200"], "is of h100, not h200"),
            (["export", "--storage", "nonsense"], "storage 'nonsense' is not understood"),
            (["check", "nowhere"], "nowhere does not exist"),
            (["check", "--format", "texts"], "unknown format 'texts': did you mean text"),
            (["bench", "--effort", "quik"], "unknown effort 'quik': did you mean quick"),
            (["bench", "--device", "tpu"], "unknown device 'tpu'"),
            (["explain", "matmul M=4"], "problem 'matmul M=4' lacks N, K, dtype"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_of_others(self, fails, measured, args, said):
        assert said in fails(USAGE, *(arg.replace("{csv}", str(measured)) for arg in args))

    @pytest.mark.parametrize("args", [["sweep", "--trials", "-1"], ["sweep", "--nonsense"], ["nonsense"]])
    def test_of_options(self, call, args):
        ended = call(*args)
        assert ended.code == USAGE
        assert not ended.out
        assert "Traceback" not in ended.err

    def test_a_users_workload_with_a_slip(self, fails, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("name: mine\ngroup: []\n", "utf-8")
        said = fails(USAGE, "sweep", "--dry-run", "--workload", str(path))
        assert "unknown key in mine.yaml: 'group': did you mean groups?" in said


class TestUnfit:
    def test_another_chip(self, fails):
        kind = machine.default_kind()
        other = next(name for name in ("m5max", "m1") if name != chips.here(kind))
        said = fails(UNFIT, "sweep", "--chip", other)
        device = machine.local(kind).device_name
        assert said.startswith(f"autotune: this machine has no {other}, its {kind} is {device}: measure on a machine")

    def test_a_device_that_this_build_does_not_have(self, fails, monkeypatch):
        monkeypatch.setattr(machine, "has", lambda kind: kind == "cpu")
        assert "this MLX build has no gpu" in fails(UNFIT, "sweep", "--device", "gpu")

    def test_a_crippled_build(self, fails, monkeypatch):
        monkeypatch.setattr("autotune.devices.preflight.objections", lambda machine: ["this MLX build limps"])
        for args in MEASURE:
            assert fails(UNFIT, *args) == "autotune: this MLX build limps: or measure all the same with --force"

    @pytest.mark.parametrize("args", MEASURE, ids=lambda args: args[0])
    def test_a_machine_that_measures_already(self, fails, args, monkeypatch, tmp_path):
        with lock.exclusive():
            monkeypatch.setenv("AUTOTUNE_DATA", str(tmp_path / "another"))
            said = fails(FAILED, *args)
        assert said.startswith(
            f"autotune: another autotune of yours measures on this machine (process {os.getpid()}): "
        )

    def test_mlx_without_a_backend(self, fails, monkeypatch):
        def broken(**_):
            raise ImportError("libmlx.so: cannot open shared object file")

        monkeypatch.setattr(cli, "app", broken)
        assert "pip install '.[cpu]'" in fails(UNFIT, "devices")

    def test_another_missing_module_is_a_bug_and_shows_its_traceback(self, call, monkeypatch):
        def broken(**_):
            raise ImportError("No module named 'something'")

        monkeypatch.setattr(cli, "app", broken)
        with pytest.raises(ImportError, match="something"):
            call("devices")


class TestDevices:
    def test_json(self, call, shipped_tables):
        ended = call("devices", "--json")
        assert (ended.code, ended.err) == (OK, "")
        document = json.loads(ended.out)
        assert document["schema"] == 1
        cpu = next(each for each in document["devices"] if each["kind"] == "cpu")
        here = machine.local("cpu")
        assert (cpu["chip"], cpu["backend"], cpu["device_name"], cpu["cores"]) == (
            "cpu",
            "cpu",
            here.device_name,
            here.cores,
        )
        assert (cpu["mlx"], cpu["os"], cpu["known"], cpu["tables"], cpu["unfit"]) == (here.mlx, here.os, True, [], [])
        assert [each["default"] for each in document["devices"]].count(True) == 1

    def test_text(self, call, shipped_tables):
        ended = call("devices")
        assert ended.code == OK
        assert "cpu: cpu" in ended.out
        assert "tables       none found: every call goes to stock" in ended.out
        assert ended.err == "next: autotune sweep\n"

    def test_says_which_table_is_used(self, call, write_table, monkeypatch):
        path = write_table({"matmul N=64 K=64 f32 nt": [(3, 3, "chunk rows=2")]})
        monkeypatch.setenv("AUTOTUNE_TABLES", str(path))
        ended = call("devices")
        assert f"table        used: {path}" in ended.out

    def test_a_file_that_is_not_there_is_named_once(self, call, monkeypatch):
        monkeypatch.setenv("AUTOTUNE_TABLES", "/nonexistent")
        line = next(line for line in call("devices").out.splitlines() if "/nonexistent" in line)
        assert line.count("/nonexistent") == 1

    def test_needs_no_data_folder(self, call, blocked):
        assert call("devices").code == OK


class TestDryRun:
    def test_json(self, call):
        ended = call("sweep", "--dry-run", "--json", "--device", "cpu", "--workload", "quick", "--effort", "quick")
        assert (ended.code, ended.err) == (OK, "")
        document = json.loads(ended.out)
        problems = workloads.load("quick").problems
        routes = sum(len(space.legal_routes(problem, "cpu")) for problem in problems)
        assert (document["schema"], document["problems"], document["routes"]) == (1, len(problems), routes)
        assert document["minutes_at_least"] >= 0

    def test_text(self, call, isolated):
        ended = call("sweep", "--dry-run", "--device", "cpu", "--problem", SMALL)
        legal = len(space.legal_routes(Problem.parse(SMALL), "cpu"))
        assert re.fullmatch(rf"1 problem, {legal} routes, at least \d+ s at effort standard\n", ended.out)
        assert ended.err.endswith("next: the same command without --dry-run\n")
        assert not isolated.exists()

    @pytest.mark.parametrize(
        ("args", "problems", "routes"),
        [
            (["--problem", SMALL, "--problem", SMALL], 1, None),
            (["--problem", SMALL, "--kernel", "upcast"], 1, 2),
            (["--problem", SMALL, "--trials", "3"], 1, 3),
            (["--workload", "quick", "--op", "matmul"], 1, None),
            (["--workload", "quick", "--problem", SMALL], 7, None),
            (["--quick"], 6, None),
            ([], 6, None),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_counts_what_would_be_measured(self, call, args, problems, routes):
        document = json.loads(call("sweep", "--dry-run", "--json", "--device", "cpu", *args).out)
        assert document["problems"] == problems
        assert routes is None or document["routes"] == routes

    def test_another_chip_is_counted_and_its_own_kernels_with_it(self, call):
        args = ["sweep", "--dry-run", "--device", "cpu", "--chip", "m5max", "--problem", SMALL, "--effort", "quick"]
        legal = space.legal_routes(Problem.parse(SMALL), "metal", nax=True)
        own = sum(kernels.kernel(route.kernel).searched for route in legal)
        assert own > 24  # of which the quick effort has as many
        ended = call(*args, "--json")
        assert (ended.code, json.loads(ended.out)["routes"]) == (OK, len(legal) - own + 24)
        said = call(*args).err
        assert "counted for Apple M5 Max, timed on none: begin with --quick" in said
        assert said.endswith("next: the same command without --dry-run on a machine with Apple M5 Max\n")

    def test_calls_that_the_watchdog_would_end_are_told(self, call, monkeypatch):
        monkeypatch.setattr("autotune.cli.dry_run._speeds", lambda problems: lambda problem: 121.0 * (problem.m > 2))
        slow = SMALL.replace("M=2", "M=3")
        ended = call("sweep", "--dry-run", "--device", "cpu", "--problem", SMALL, "--problem", slow)
        assert "1 problem would take stock more than the 120 s of --timeout for a call" in ended.err
        assert "--timeout" not in call("sweep", "--dry-run", "--device", "cpu", "--problem", SMALL).err

    def test_more_effort_takes_longer(self, call):
        args = ["sweep", "--dry-run", "--json", "--device", "cpu", "--workload", "small-batch", "--effort"]
        minutes = [json.loads(call(*args, effort).out)["minutes_at_least"] for effort in ("quick", "standard", "full")]
        assert minutes == sorted(set(minutes))

    def test_the_environment_speaks_where_options_do_not(self, call, fails, monkeypatch):
        monkeypatch.setenv("AUTOTUNE_DEVICE", "cpu")
        monkeypatch.setenv("AUTOTUNE_CHIP", "m5mx")
        assert "unknown chip 'm5mx'" in fails(USAGE, "sweep", "--dry-run")
        assert call("sweep", "--dry-run", "--chip", "cpu").code == OK


class TestLimits:
    """On a fake device: dequantizing costs the same for any M, stock a row at a time."""

    FAMILY = "quantized_matmul N=64 K=64 f16 affine-b4-g64 nt"
    ARGS = ("limits", FAMILY, "--device", "cpu", "--first", "stock", "--second", "dequantize")

    @pytest.fixture
    def device(self, monkeypatch):
        fake = FakeDevice(lambda problem, route: 1e-6 * (10 * problem.m if route.kernel == "stock" else 55))
        monkeypatch.setattr("autotune.search.isolated.IsolatedDevice", lambda *_: fake)
        return fake

    def test_text(self, call, device):
        ended = call(*self.ARGS)
        assert ended.code == OK
        assert ended.out.splitlines()[:2] == [f"{self.FAMILY}, M=1..64", "dequantize overtakes stock at M=6"]
        assert "M=1: stock is ahead\n" in ended.err
        assert ended.err.splitlines()[-1].startswith("next: autotune sweep")
        assert device.closed

    def test_json(self, call, device):
        document = json.loads(call(*self.ARGS, "--along", "M=1..32", "--checks", "0", "--json").out)
        assert document["limit"] == {"at": 6, "low": 5, "high": 6, "second": True}
        assert document["sides"] == ["stock", "dequantize"]
        assert len(document["duels"]) <= 7

    def test_what_the_problem_says_of_the_axis_is_of_no_account(self, call, device):
        with_m = (self.ARGS[0], self.FAMILY.replace(" N", " M=3 N"), *self.ARGS[2:])
        assert call(*with_m).out.splitlines()[0] == f"{self.FAMILY}, M=1..64"

    def test_a_cpu_has_no_sides(self, fails, device):
        said = fails(USAGE, "limits", self.FAMILY, "--device", "cpu")
        assert "there is no vector and no matrix side" in said
        assert not device.opened

    @pytest.mark.parametrize(
        ("option", "part"),
        [
            (("--along", "M=9..1"), "is empty"),
            (("--along", "M=0..5"), "begins at 0"),
            (("M=3", "--along", "K=64..512:8"), "such as --along K=64..512:64"),
            (("M=3", "--along", "K=1..512:64"), "such as --along K=64..512:64"),
            (("--second", "stock"), "stock is on both sides"),
            (("--second", "split_k", "--second", "gemv"), "gemv"),
            (("--effort", "none"), "unknown effort"),
            (("--load", "none"), "unknown load"),
            (("--second", "pa"), "unknown kernel"),
        ],
    )
    def test_usage(self, fails, device, option, part):
        assert part in fails(USAGE, *self.ARGS, *option)

    def test_stock_that_fails(self, fails, device):
        device.failures["stock"] = "crashed"
        assert "cannot be measured" in fails(FAILED, *self.ARGS)


class TestBench:
    """On this machine's CPU, with a kernel that is right or wrong as its config says."""

    DENSE = "matmul M=3 N=64 K=64 f32 nt"

    @pytest.fixture
    def bench(self, call, monkeypatch, write_table):
        """Benches a problem that a table routes to the kernel."""
        before = mx.default_device()
        monkeypatch.setitem(kernels.KERNELS, "ours", Ours())
        monkeypatch.setattr(chips, "cache_bytes", lambda kind: 0)

        def bench(how, *args):
            path = write_table({"matmul N=64 K=64 f32 nt": [(3, 3, f"ours how={how} size=1")]})
            given = ("--device", "cpu", "--effort", "quick", "--table", str(path), "--problem", self.DENSE)
            return call("bench", *given, *args)

        yield bench
        mx.set_default_device(before)

    def test_a_right_kernel(self, bench):
        ended = bench("right", "--json")
        assert ended.code == OK
        (line,) = json.loads(ended.out)["lines"]
        assert (line["label"], line["route"], line["routed"]) == (self.DENSE, "ours how=right size=1", True)
        assert line["apart"] < 1e-5
        assert "wrong" not in ended.err

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("forgets_row", r"is 0\.\d+ from stock's result, relative to its norm, and \d\.\d in an element"),
            ("wrong_shape", "is not finite, or of another shape or dtype than stock's"),
        ],
    )
    def test_a_wrong_kernel(self, bench, how, said):
        ended = bench(how)
        assert ended.code == WRONG
        (line,) = [line for line in ended.err.splitlines() if line.startswith("wrong: ")]
        route, remedy = f"ours how={how} size=1", "run: autotune verify --device cpu --kernel ours"
        assert re.fullmatch(f"wrong: {self.DENSE} by {route} {said}: {remedy}", line)
        assert "next: " not in ended.err

    def test_of_an_op_alone(self, bench, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text(f"name: mine\ngroups: []\nchains: [{{label: pair, products: [{self.DENSE}, {self.DENSE}]}}]\n")
        add = "addmm M=3 N=64 K=64 f32 nt row"
        ended = bench("right", "--json", "--workload", str(path), "--problem", add, "--op", "addmm")
        assert [line["label"] for line in json.loads(ended.out)["lines"]] == [add]

    def test_an_unfit_machine_can_be_forced(self, bench, monkeypatch):
        monkeypatch.setattr("autotune.devices.preflight.objections", lambda machine: ["this MLX build limps"])
        assert bench("right").code == UNFIT
        ended = bench("right", "--force")
        assert ended.code == OK
        assert ended.err.startswith("warning: this MLX build limps\n")


class TestExport:
    def test_without_results(self, fails):
        assert "run: autotune sweep" in fails(FAILED, "export")

    def test_without_results_of_another_chip(self, fails):
        said = fails(FAILED, "export", "--chip", "m5max")
        assert said.endswith("run on a machine with Apple M5 Max, and export there: autotune sweep")

    def test_from_csv(self, call, measured):
        ended = call("export", "--from-csv", str(measured))
        path = measured.with_suffix(".json")
        assert ended.code == OK
        assert ended.out.splitlines()[:2] == [
            f"{path}: 2 routes for 1 family (2 problems), 1 not stock; one may serve several M",
            f"{measured}: 4 results",
        ]
        head, gain, beyond, bound = ended.out.splitlines()[2:]
        assert head == HEAD
        assert gain == "  pad           1.58x over 2 problems, fastest on 1"
        assert beyond == "shapes that are not tuned:"
        assert bound.startswith("  quantized_matmul f16 affine-b4-g64 nt: stock; too few of its shapes")
        assert ended.err.startswith(f"next: autotune show --table {path}")
        assert path.is_file()

    def test_json(self, call, measured):
        ended = call("export", "--json", "--from-csv", str(measured))
        document = json.loads(ended.out)
        assert document["table"] == str(measured.with_suffix(".json"))
        assert (document["schema"], document["chip"], document["results"]) == (1, "h100", 4)
        assert (document["families"], document["routes"], document["routes_not_stock"]) == (1, 2, 1)
        assert [(each["class"], each["regret"]) for each in document["neighbours"]] == [
            ("quantized_matmul f16 affine-b4-g64 nt", None)
        ]

    def test_twice_gives_the_same_bytes(self, call, measured):
        both = []
        for _ in range(2):
            call("export", "--from-csv", str(measured))
            both.append((measured.read_bytes(), measured.with_suffix(".json").read_bytes()))
        assert both[0] == both[1]

    def test_elsewhere(self, call, measured, tmp_path):
        assert call("export", "--from-csv", str(measured), "--out", str(tmp_path / "there")).code == OK
        assert {path.name for path in (tmp_path / "there").iterdir()} == {"h100.json", "h100.csv"}
        assert not measured.with_suffix(".json").exists()

    def test_of_some_m_alone(self, call, fails, measured, tmp_path):
        m = Problem.parse(results.read(measured)[0].problem).m
        assert call("export", "--from-csv", str(measured), "--m", str(m), "--out", str(tmp_path / "there")).code == OK
        assert {Problem.parse(row.problem).m for row in results.read(tmp_path / "there" / "h100.csv")} == {m}
        assert "no results to export" in fails(FAILED, "export", "--from-csv", str(measured), "--m", "999")

    def test_without_some_m(self, call, fails, measured, tmp_path):
        every = {Problem.parse(row.problem).m for row in results.read(measured)}
        one = min(every)
        there = ("--from-csv", str(measured), "--out", str(tmp_path / "there"))
        assert call("export", *there, "--without-m", str(one)).code == OK
        left = {Problem.parse(row.problem).m for row in results.read(tmp_path / "there" / "h100.csv")}
        assert left == every - {one} != set()
        assert "no results to export" in fails(FAILED, "export", *there, "--m", str(one), "--without-m", str(one))

    def test_a_part_of_a_csv_does_not_take_its_place(self, fails, measured):
        before = measured.read_bytes()
        m = Problem.parse(results.read(measured)[0].problem).m
        said = fails(USAGE, "export", "--from-csv", str(measured), "--m", str(m))
        assert "would be left with 2 of its 4 results: name a folder" in said
        assert measured.read_bytes() == before

    def test_routes_that_a_new_table_has_not_are_counted(self, call, measured, tmp_path):
        there = ("--from-csv", str(measured), "--out", str(tmp_path / "there"))
        assert "was replaced" not in call("export", *there).err
        assert "was replaced" not in call("export", *there).err
        routed = next(row for row in results.read(measured) if row.route != "stock" and row.speedup > 1.1)
        others = {Problem.parse(row.problem).m for row in results.read(measured)} - {Problem.parse(routed.problem).m}
        ended = call("export", *there, "--m", str(*others))
        assert "h100.json was replaced: 1 of its 2 routes are for products that are not in it any more" in ended.err

    def test_of_a_workload_alone(self, fails, measured):
        assert "no results to export" in fails(FAILED, "export", "--from-csv", str(measured), "--workload", "quick")

    def test_a_broken_table_in_the_place_is_no_hindrance(self, call, exported, measured):
        whole = exported.read_bytes()
        exported.write_bytes(whole[:100])
        ended = call("export", "--from-csv", str(measured))
        assert ended.code == OK
        assert "warning: the table that is there is not used to break ties" in ended.err
        assert exported.read_bytes() == whole

    def test_what_was_measured_again_by_another_clock_counts_alone(self, call, fails, measured, tmp_path):
        """As where two sweeps were put together: times of two clocks cannot be compared. The file keeps all."""
        rows = results.read(measured)
        again = [replace(row, clock="stamped", time_us=row.time_us / 2) for row in rows if row.route == "stock"]
        measured.write_text("".join([results.dumps(rows), *results.dumps(again).splitlines(True)[1:]]), "utf-8")
        before = measured.read_bytes()
        assert "would be left with 2 of its 6 results" in fails(USAGE, "export", "--from-csv", str(measured))
        ended = call("export", "--from-csv", str(measured), "--out", str(tmp_path / "there"))
        assert "4 results were left out: of an older MLX or of another clock" in ended.err
        written = results.read(tmp_path / "there" / "h100.csv")
        assert {(row.route, row.clock) for row in written} == {("stock", "stamped")}
        assert measured.read_bytes() == before

    def test_where_stock_failed_the_rows_stay(self, call, measured):
        rows = results.read(measured)
        failed = rows[0].problem
        rows = [replace(row, status=INACCURATE) if row.problem == failed else row for row in rows]
        measured.write_text(results.dumps(rows), "utf-8")
        assert call("export", "--from-csv", str(measured)).code == OK
        assert results.read(measured) == rows

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("fields", [{"source": "simulated"}, {"load": "queued"}, {"cores": 114}])
    def test_of_two_machines_loads_or_sources(self, fails, measured, tmp_path, fields, first):
        """Also where every row of the one has a newer one of the other."""
        rows = results.read(measured)
        both = [rows, [replace(row, **fields) for row in rows]]
        measured.write_text(
            "".join([results.dumps(both[first]), *results.dumps(both[1 - first]).splitlines(True)[1:]]), "utf-8"
        )
        before = measured.read_bytes()
        said = fails(FAILED, "export", "--from-csv", str(measured), "--out", str(tmp_path / "there"))
        assert ("no table has both" if "source" in fields else "two machines or loads") in said
        assert measured.read_bytes() == before
        assert not (tmp_path / "there").exists()

    def test_a_database_that_is_none(self, fails, isolated):
        isolated.mkdir()
        (isolated / "studies.db").write_bytes(b"no database, but long enough to be looked at" * 100)
        assert "file is not a database" in fails(FAILED, "export")

    def test_a_folder_that_cannot_be_written(self, fails, measured, tmp_path):
        (tmp_path / "file").write_text("")
        said = fails(FAILED, "export", "--from-csv", str(measured), "--out", str(tmp_path / "file" / "below"))
        assert "cannot write" in said


class TestBlockedFolder:
    def test_export(self, fails, blocked):
        assert str(blocked) in fails(FAILED, "export")

    def test_sweep(self, fails, blocked):
        said = fails(FAILED, "sweep", "--device", "cpu", "--problem", SMALL)
        assert f"the studies at sqlite:///{blocked}/" in said
        assert said.endswith("free the place or name another with --storage or AUTOTUNE_DATA")

    @pytest.mark.parametrize("args", MEASURE, ids=lambda args: args[0])
    def test_a_temporary_folder_without_room_for_the_lock(self, fails, monkeypatch, tmp_path, args):
        monkeypatch.setattr(lock, "gettempdir", lambda: str(tmp_path / "none"))
        assert fails(FAILED, *args).startswith(f"autotune: cannot lock {lock.path()} (No such file or directory): ")

    def test_a_storage_that_cannot_be_written(self, fails, tmp_path):
        (tmp_path / "file").write_text("")
        url = f"sqlite:///{tmp_path}/file/below/studies.db"
        said = fails(FAILED, "sweep", "--device", "cpu", "--problem", SMALL, "--storage", url)
        assert f"the studies at {url} cannot be used (Not a directory)" in said


class TestCheck:
    def test_a_clean_table(self, call, exported):
        ended = call("check", str(exported))
        assert ended == (OK, "checked h100.json: current\n", "")

    @pytest.mark.parametrize("name", ["folder", "csv"])
    def test_by_its_folder_or_its_csv(self, call, exported, name):
        path = exported.parent if name == "folder" else exported.with_suffix(".csv")
        assert call("check", str(path)).out == "checked h100.json: current\n"

    def test_the_tables_of_this_folder_by_default(self, call, exported, monkeypatch):
        exported.parent.rename(exported.parent.parent / "tuned_tables")
        monkeypatch.chdir(exported.parent.parent)
        assert call("check").out == "checked h100.json: current\n"

    def test_no_tables(self, call, tmp_path):
        (tmp_path / "none").mkdir()
        ended = call("check", str(tmp_path / "none"))
        assert (ended.code, ended.out) == (OK, "checked no tables: current\n")
        assert "no tables in" in ended.err

    def test_another_mlx_is_advice(self, call, exported):
        ended = call("check", str(exported), "--mlx", "9.9.9")
        assert ended.code == OK
        assert f"{exported}:" in ended.out
        assert ": recheck: " in ended.out
        assert ended.out.endswith("checked h100.json: current\n")

    @pytest.fixture
    def edited(self, exported):
        text = exported.read_text()
        exported.write_text(text.replace('"speedup": [2.5', '"speedup": [3.5'))
        assert exported.read_text() != text
        return exported

    def test_text(self, call, edited):
        ended = call("check", str(edited))
        assert ended.code == STALE
        assert ended.out.splitlines() == [
            f"{edited}:1: stale: h100.json is not what h100.csv gives "
            f"(run: autotune export --from-csv {edited.with_suffix('.csv')})",
            "checked h100.json: 1 to mend",
        ]
        assert ended.err == f"next: autotune export --from-csv {edited.with_suffix('.csv')}\n"

    @pytest.mark.parametrize("args", [["--json"], ["--format", "json"]])
    def test_json(self, call, edited, args):
        ended = call("check", str(edited), *args)
        assert ended.code == STALE
        document = json.loads(ended.out)
        assert (document["schema"], document["tables"]) == (1, [str(edited)])
        (finding,) = document["findings"]
        assert (finding["kind"], finding["path"], finding["line"]) == ("stale", str(edited), 1)

    def test_json_of_a_clean_table(self, call, exported):
        ended = call("check", str(exported), "--json")
        assert (ended.code, json.loads(ended.out)["findings"], ended.err) == (OK, [], "")

    def test_github(self, call, edited):
        ended = call("check", str(edited), "--format", "github")
        assert ended.code == STALE
        first = ended.out.splitlines()[0]
        assert first.startswith(
            f"::error file={edited},line=1,title=autotune stale::h100.json is not what h100.csv gives. "
        )

    def test_github_warns_of_what_does_not_fail(self, call, exported):
        ended = call("check", str(exported), "--format", "github", "--mlx", "9.9.9")
        assert ended.code == OK
        assert ended.out.startswith(f"::warning file={exported},line=")

    def test_github_escapes(self, call, tmp_path):
        path = tmp_path / "100%.json"
        path.write_text("{")
        (line, *_) = call("check", str(path), "--format", "github").out.splitlines()
        assert "100%25.json,line=1" in line.split("::", 2)[1]
        finding = Finding("broken", "a.json", 1, "100% of it", "line\nby line")
        assert _github(finding).endswith("::100%25 of it. line%0Aby line")

    def test_a_path_is_named_once(self, call, tmp_path):
        path = tmp_path / "torn.json"
        path.write_text("{")
        ended = call("check", str(path))
        assert ended.code == STALE
        assert ended.out.splitlines()[0].count(str(path)) == 1

    def test_coverage(self, call, exported):
        ended = call("check", str(exported), "--workload", "small-batch")
        assert ended.code == STALE
        assert "problems of workload small-batch were not measured in full" in ended.out

    def test_what_export_wrote_of_a_workload_is_held_to_it(self, call, tmp_path, monkeypatch):
        monkeypatch.setattr(space, "legal_routes", lambda *_: [Route.parse("stock")])
        problems = workloads.load("quick").problems
        rows = [row(problem.m, STOCK, 100, family=str(problem.family)) for problem in problems]
        csv = tmp_path / "h100.csv"
        csv.write_text(results.dumps(rows), "utf-8")
        assert call("export", "--from-csv", str(csv)).code == OK
        assert '"workloads": ["quick"]' in (tmp_path / "h100.json").read_text()
        assert call("check", str(tmp_path)).code == OK
        csv.write_text(results.dumps(rows[:-1]), "utf-8")
        assert call("check", str(tmp_path)).code == STALE


class TestStreams:
    @pytest.mark.slow
    def test_a_reader_that_leaves_is_no_error(self):
        """``autotune devices --json | true``: nothing is wrong, and there is nobody to tell."""
        script = "import sys; sys.argv = ['autotune', 'devices', '--json']\nfrom autotune.cli import app\napp.main()\n"
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        said = process.stderr.read().decode()
        process.stderr.close()
        assert (process.wait(), said) == (OK, "")

    def test_an_interrupted_command(self, fails, monkeypatch):
        def interrupted(**_):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "app", interrupted)
        assert fails(INTERRUPTED, "devices") == "autotune: interrupted"

    def test_a_ctrl_c_within_a_command(self, call, monkeypatch):
        def interrupted(kind):
            raise KeyboardInterrupt

        monkeypatch.setattr(machine, "has", interrupted)
        ended = call("devices")
        assert (ended.code, ended.out) == (INTERRUPTED, "")
        assert "Traceback" not in ended.err
