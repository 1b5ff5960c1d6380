"""The wheel that users install: what is inside, what is not, and that it finds its own data."""

import configparser
import importlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from autotune import __version__

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the tests lie outside a checkout"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout as ``pip install .`` builds it, and open."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    if importlib.util.find_spec("hatchling"):
        command.insert(-1, "--no-build-isolation")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "requirement hatchling" in done.stderr:
        pytest.skip("pip cannot get hatchling, which builds the wheel")
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel):
    return message_from_string(wheel.read(f"mlx_autotune-{__version__}.dist-info/METADATA").decode())


def files(folder):
    """The folder's files by their path in it, hidden ones left out."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not Path(name).name.startswith(".")}


class TestWhatIsInside:
    @pytest.mark.parametrize("folder", ["configs", "tuned_tables"])
    def test_the_projects_data(self, wheel, folder):
        shipped = files(ROOT / folder)
        assert shipped
        for name, path in shipped.items():
            assert wheel.read(f"autotune/_data/{folder}/{name}") == path.read_bytes()

    def test_every_module(self, wheel):
        modules = {f"autotune/{path.relative_to(ROOT / 'autotune')}" for path in (ROOT / "autotune").rglob("*.py")}
        assert modules <= set(wheel.namelist())

    def test_the_licence(self, wheel):
        licence = wheel.read(f"mlx_autotune-{__version__}.dist-info/licenses/LICENSE")
        assert licence == (ROOT / "LICENSE").read_bytes()


class TestWhatIsNot:
    def test_nothing_beside_the_package(self, wheel):
        tops = {name.split("/", 1)[0] for name in wheel.namelist()}
        assert tops == {"autotune", f"mlx_autotune-{__version__}.dist-info"}

    def test_no_tests_no_benchmarks_no_compiled_files(self, wheel):
        for name in wheel.namelist():
            assert not {"tests", "benchmarks", "docs", "__pycache__"} & set(name.split("/"))
            assert not Path(name).name.startswith(("test_", "conftest"))


class TestMetadata:
    def test_the_version(self, metadata):
        assert metadata["Name"] == "mlx-autotune"
        assert metadata["Version"] == __version__

    def test_the_extras(self, metadata):
        assert set(metadata.get_all("Provides-Extra")) == {
            "bench",
            "cpu",
            "cuda12",
            "cuda13",
            "host",
            "nvrtc",
            "plot",
            "test",
        }

    def test_the_command(self, wheel):
        entries = configparser.ConfigParser()
        entries.read_string(wheel.read(f"mlx_autotune-{__version__}.dist-info/entry_points.txt").decode())
        assert dict(entries["console_scripts"]) == {"autotune": "autotune.cli.app:main"}
        module, name = entries["console_scripts"]["autotune"].split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_what_is_unpacked_finds_its_data(wheel, tmp_path):
    """Away from the checkout, with nothing of it in reach."""
    wheel.extractall(tmp_path / "site")
    code = """
import autotune
from autotune import chips, paths
from autotune.search import space, workloads
print(autotune.__file__, paths.configs(), paths.tuned_tables(), sep="\\n")
assert chips.catalogue() and space.spaces() and workloads.load("quick").problems
"""
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    inside = tmp_path / "site" / "autotune"
    wanted = [inside / "__init__.py", inside / "_data" / "configs", inside / "_data" / "tuned_tables"]
    assert done.stdout.splitlines() == [str(path) for path in wanted]
