"""Lists in the documentation that repeat what code says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autotune import kernels
from autotune.cli import app as cli

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("page", "begins"), [("tables.md", "smooth in M ("), ("measuring.md", "its time varies smoothly with M (")]
)
def test_kernels_that_are_smooth(page, begins):
    (listed,) = re.findall(re.escape(begins) + "([^;)]*)[;)]", " ".join(read(page).split()))
    assert set(re.findall("`(\\w+)`", listed)) == {name for name, kernel in kernels.KERNELS.items() if kernel.smooth}


def test_environment_variables():
    sources = (path.read_text("utf-8") for path in (ROOT / "autotune").rglob("*.py"))
    used = {name for text in sources for name in re.findall("AUTOTUNE_[A-Z_]+", text)}
    section = read("tables.md").partition("## Environment variables")[2].partition("\n## ")[0]
    assert set(re.findall("^\\| `(\\w+)`", section, re.MULTILINE)) == used
    assert "docs/tables.md#environment-variables" in (ROOT / "README.md").read_text("utf-8")


class TestTimes:
    """Tables of times on pages are what the command above them prints of the shipped table."""

    @staticmethod
    def commands():
        return re.findall("^autotune (show tuned_tables/.*--times.*--format markdown)$", read("h100.md"), re.MULTILINE)

    def printed(self, command, monkeypatch):
        monkeypatch.chdir(ROOT)
        done = CliRunner().invoke(cli.app, shlex.split(command))
        assert done.exit_code == 0
        return done.stdout

    def rows(self, text):
        return [line for line in text.splitlines() if re.match("\\| (M|[0-9]+) \\| ", line)]

    def test_the_h100s_page_has_three(self):
        assert len(self.commands()) == 3

    @pytest.mark.parametrize("number", range(3))
    def test_of_the_h100(self, number, monkeypatch):
        command = self.commands()[number]
        after = read("h100.md").partition(f"{command}\n")[2].partition("\n## ")[0].partition("\n```sh")[0]
        printed = self.printed(command, monkeypatch)
        assert self.rows(after) == self.rows(printed)
        (summary,) = re.findall("^[0-9]+ products, .*$", printed, re.MULTILINE)
        assert summary in " ".join(after.split())

    def test_of_the_readme(self, monkeypatch):
        printed = self.printed(self.commands()[0], monkeypatch)
        first = (ROOT / "README.md").read_text("utf-8").partition("\n\n| M |")[2].partition("\n\n")[0]
        shown = self.rows("| M |" + first)
        assert len(shown) > 3
        assert set(shown) <= set(self.rows(printed))


def test_the_vector_limit_of_a_page(monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli.app, ["show", "tuned_tables/h100.json", "--family", "N=1024 K=5120"])
    (example,) = re.findall("\n```\n(quantized_matmul .*?)```", read("vector-limit.md"), re.DOTALL)
    assert example in done.stdout
