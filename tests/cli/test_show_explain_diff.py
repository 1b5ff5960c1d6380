"""The commands that read tables, through the command line: streams, exit codes, JSON."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from report.builders import DENSE, H100, PAD, REPEAT, STOCK, WIDE, header, problem, row, saved, timed
from typer.testing import CliRunner

from autotune import machine, paths
from autotune.cli import app as cli
from autotune.errors import FAILED, REGRESSION, USAGE
from autotune.routing import table
from autotune.routing.router import ROUTERS
from autotune.routing.table import ChipKey
from autotune.search import results

ROWS = {WIDE: [row(1, 2), row(3, 7, PAD, 2.91), row(8, 64)]}
PROBLEM = WIDE.replace(" N", " M=3 N", 1)


def run(*args: str):
    return CliRunner().invoke(cli.app, list(args))


def exit_code(*args: str) -> int:
    """The exit code that the error of a command stands for."""
    error = run(*args).exception
    return getattr(error, "exit_code", getattr(error, "code", 0))


@pytest.fixture
def file(tmp_path):
    (tmp_path / "h100.csv").write_text(results.dumps([timed(WIDE, 3, STOCK, 130, 130), timed(WIDE, 3, PAD, 44, 130)]))
    return str(saved(tmp_path, ROWS))


@pytest.fixture
def own(shipped_tables):
    """A table of this machine's CPU where the user's tables are."""
    cpu = machine.local("cpu")
    chip = ChipKey("cpu", cpu.backend, cpu.device_name, cpu.architecture, cpu.cores, cpu.nax)
    paths.user_tables().mkdir(parents=True)
    return str(saved(paths.user_tables(), {DENSE: [row(3, 8, "chunk rows=2", 1.4)]}, header(chip), "cpu.json"))


def test_show_a_file(file):
    done = run("show", "--table", file)
    assert done.exit_code == 0
    assert f"{WIDE}  vector_limit 1..3 (MLX: 8)\nM=3  2.95x [" in done.stdout
    assert "next: autotune explain" in done.stderr
    assert "next:" not in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


class TestShowTimes:
    def test_a_grid(self, file):
        done = run("show", file, "--times", "--m", "3")
        assert done.exit_code == 0
        assert "\n3  130 to 44.0, 2.95x    2.95x\n" in done.stdout
        assert done.stderr == f"next: autotune explain '{PROBLEM}' --table {file}\n"
        assert not any(line.endswith(" ") for line in done.stdout.splitlines())

    def test_markdown_of_a_workload(self, file):
        done = run("show", file, "--times", "--workload", "small-batch", "--format", "markdown")
        assert "| M | N=13824 K=5120 | geomean |\n" in done.stdout
        assert "| 3 | 130 to 44.0, **2.95x** | 2.95x |\n" in done.stdout

    def test_json(self, file):
        (found,) = json.loads(run("show", file, "--times", "--json").stdout)["tables"]
        assert [(each["problem"], each["route"]) for each in found["times"]] == [(PROBLEM, PAD)]

    @pytest.mark.parametrize(
        "options",
        [
            ("--m", "3"),
            ("--workload", "small-batch"),
            ("--format", "text"),
            ("--times", "--format", "html"),
            ("--times", "--format", "markdown", "--json"),
            ("--times", "--workload", "none"),
        ],
    )
    def test_options_that_do_not_fit(self, file, options):
        assert exit_code("show", file, *options) == USAGE

    def test_without_measurements_beside_it(self, tmp_path):
        assert exit_code("show", str(saved(tmp_path, ROWS)), "--times") == FAILED

    def test_of_several_tables_those_that_have_it(self, file, own):
        """The user's table has no CSV beside it, and says so; another one is shown all the same."""
        with open(file) as text:
            raw = json.load(text)
        with open(own) as text:
            raw["chip"] = json.load(text)["chip"]
        paths.tuned_tables().joinpath("h100.json").write_text(json.dumps(raw))
        csv = Path(file).with_suffix(".csv")
        paths.tuned_tables().joinpath("h100.csv").write_bytes(csv.read_bytes())
        done = run("show", "--times")
        assert done.exit_code == 0
        assert "130 to 44.0, 2.95x" in done.stdout
        assert "cpu.json has no times (there are no measurements beside the table (cpu.csv)" in done.stderr

    def test_without_a_table(self, shipped_tables):
        assert exit_code("show", "--times") == FAILED


def test_show_takes_a_file_by_itself(file):
    assert run("show", file).stdout == run("show", "--table", file).stdout != ""
    assert exit_code("show", file, "--table", file) == 2


def test_show_a_file_whose_measurements_are_torn_or_gone(file):
    csv = Path(file).with_suffix(".csv")
    csv.write_text("problem,route\n")
    torn = run("show", "--table", file)
    assert f"{WIDE}  vector_limit 3 (MLX: 8)\nM " in torn.stdout
    assert "the measurements beside the table are left out: " in torn.stderr
    csv.unlink()
    gone = run("show", "--table", file)
    assert gone.stdout == torn.stdout
    assert "measurements" not in gone.stderr


def test_show_what_is_in_use(own):
    document = json.loads(run("show", "--json").stdout)
    assert document["schema"] == 1
    assert [table["path"] for table in document["tables"]] == [own]
    assert {"path": own, "kinds": ["cpu"], "reason": "measured on this device"} in document["files"]


def test_show_hides_what_comes_second(own, tmp_path, monkeypatch):
    second = tmp_path / "second.json"
    second.write_bytes(Path(own).read_bytes())
    monkeypatch.setenv("AUTOTUNE_TABLES", str(second))
    done = run("show")
    assert f"not used: {second} comes first" in done.stdout
    assert done.stdout.count("chunk rows=2") == 1


def test_show_without_tables(shipped_tables):
    done = run("show")
    assert done.exit_code == 0
    assert not done.stdout
    assert "no table is in use on this machine: every call takes stock" in done.stderr
    assert "next: autotune sweep" in done.stderr


def test_show_a_chip(shipped_tables):
    saved(shipped_tables, ROWS, header(H100), "any-name.json")
    assert "132 multiprocessors" in run("show", "--chip", "H100").stdout
    assert exit_code("show", "--chip", "h10") == USAGE
    assert "did you mean h100" in str(run("show", "--chip", "h10").exception)
    assert exit_code("show", "--chip", "m4pro") == FAILED
    assert "there is no table for m4pro" in str(run("show", "--chip", "m4pro").exception)


def test_show_refuses_what_it_cannot_mean(file, tmp_path):
    assert exit_code("show", "--chip", "h100", "--table", file) == USAGE
    assert exit_code("show", "--table", file, "--family", "nothing like it") == USAGE
    assert exit_code("show", "--table", str(tmp_path / "missing.json")) == USAGE


def test_show_says_when_routing_is_off(file, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_DISABLE", "1")
    assert "AUTOTUNE_DISABLE is set" in run("show", "--table", file).stderr


def test_explain_takes_a_problem_as_one_word_or_many(file):
    one, many = run("explain", PROBLEM, "--table", file), run("explain", *PROBLEM.split(), "--table", file)
    assert one.exit_code == many.exit_code == 0
    assert one.stdout == many.stdout
    assert "Stock, timed beside it: 130 us, 2.95 times the route's 44.0 us." in one.stdout
    assert "not used on this machine: it is for cuda" in one.stdout or machine.has("gpu")


def test_explain_what_is_in_use(own, monkeypatch):
    monkeypatch.setattr(machine, "default_kind", lambda: "cpu")
    document = json.loads(run("explain", DENSE.replace(" N", " M=4 N", 1), "--json").stdout)
    assert (document["route"], document["table"]["path"]) == ("chunk rows=2", own)
    assert document["files"] == [{"path": own, "kinds": ["cpu"], "reason": "measured on this device"}]


def test_explain_says_what_a_call_takes_where_its_layouts_stand_in_two_tables(own, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "default_kind", lambda: "cpu")
    nn = {DENSE.replace("nt", "nn"): [row(3, 8, "chunk rows=1", 1.4)]}
    named = saved(tmp_path, nn, table.peek(Path(own)), "named.json")
    monkeypatch.setenv("AUTOTUNE_TABLES", str(named))
    document = json.loads(run("explain", DENSE.replace(" N", " M=4 N", 1), "--json").stdout)
    assert (document["route"], document["table"]["path"]) == ("stock", own)
    assert document["why"].endswith("a call cannot tell nt from nn, whose route is chunk rows=1: it takes stock")
    called = ROUTERS.of("cpu").call(problem(DENSE, 4))
    assert str(called.route) == document["route"]


def test_explain_without_tables(shipped_tables):
    done = run("explain", PROBLEM)
    assert done.exit_code == 0
    assert "there is no table to look in" in done.stdout
    assert f"next: autotune sweep --problem '{PROBLEM}'" in done.stderr


def test_the_next_step_after_a_shape_that_the_table_lacks_can_be_taken(file):
    """Whatever explain suggests is a command that works."""
    for asked in (PROBLEM, PROBLEM.replace("13824", "6144")):
        (_, _, step) = run("explain", asked, "--table", file).stderr.strip().rpartition("next: autotune ")
        assert run(*shlex.split(step)).exit_code == 0
        assert ("--family" in step) == (asked == PROBLEM)


def test_explain_a_malformed_problem():
    assert exit_code("explain", "quantized_matmul M=3") == USAGE
    assert exit_code("explain", "matmull M=3 N=4 K=5 f16") == USAGE


@pytest.fixture
def newer(tmp_path):
    return str(saved(tmp_path, {WIDE: [row(1, 2), row(3, 7, REPEAT, 1.5), row(8, 64)]}, name="newer.json"))


def test_diff_is_text_markdown_or_json(file, newer):
    text, markdown, json_ = (run("diff", file, newer, "--format", how) for how in ("text", "markdown", "json"))
    assert "1 slower, 0 faster" in text.stdout.splitlines()[0]
    assert f"| slower | `{WIDE}` | 3..7 |" in markdown.stdout
    assert json.loads(json_.stdout)["counts"]["slower"] == 1
    assert run("diff", file, newer, "--json").stdout == json_.stdout
    assert {done.exit_code for done in (text, markdown, json_)} == {0}


def test_diff_fails_on_a_loss_where_asked_to(file, newer):
    assert run("diff", file, newer, "--fail-on", "slower").exit_code == REGRESSION
    assert "1 slower" in run("diff", file, newer, "--fail-on", "slower").stdout
    assert run("diff", newer, file, "--fail-on", "slower").exit_code == 0


def test_diff_refuses_bad_words_and_files(file, tmp_path):
    assert exit_code("diff", file, file, "--format", "yaml") == USAGE
    assert exit_code("diff", file, file, "--fail-on", "faster") == USAGE
    (tmp_path / "torn.json").write_text('{\n"schema": 1,')
    assert exit_code("diff", file, str(tmp_path / "torn.json")) == USAGE


def test_an_error_is_one_line_and_an_exit_code(file, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["autotune", "show", "--table", file, "--family", "zzz"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == USAGE
    assert capsys.readouterr().err.splitlines() == [
        "autotune: no family has 'zzz' in it: run autotune show without --family to see them all"
    ]


@pytest.mark.slow
def test_on_a_terminal_nothing_is_cut_at_80_columns(file):
    command = [sys.executable, "-m", "autotune.cli.app", "explain", PROBLEM, "--table", file]
    main, terminal = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    child = subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL, env=env)
    os.close(terminal)
    read = b""
    try:
        while chunk := os.read(main, 65536):
            read += chunk
    except OSError:  # Linux says so when the other end is closed.
        pass
    finally:
        os.close(main)
    assert child.wait(60) == 0
    lines = read.decode().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in read.decode()
