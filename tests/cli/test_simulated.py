"""Simulated chips through the command line: a whole sweep of a chip that is not here, and explanations by the model."""

import json
import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from typer.testing import CliRunner

from autotune.cli import app as cli
from autotune.errors import USAGE, UsageError
from autotune.routing import table
from autotune.search import results

PROBLEM = "quantized_matmul M=3 N=1024 K=1024 f16 affine-b4-g64 nt"
SWEEP = ("sweep", "--chip", "m5max", "--simulate", "--problem", PROBLEM, "--problem", PROBLEM.replace("M=3", "M=9"))


def run(*args):
    return CliRunner().invoke(cli.app, list(map(str, args)))


def exit_code(*args):
    error = run(*args).exception
    return getattr(error, "exit_code", getattr(error, "code", 0))


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "m5max-simulated.csv"
    done = run(*SWEEP, "--out", path, "--mlx", "0.31.1")
    assert done.exit_code == 0, done.exception
    return path


class TestSweep:
    def test_writes_rows_that_say_simulated(self, csv):
        rows = results.read(csv)
        assert {row.source for row in rows} == {"simulated"}
        assert {(row.chip, row.device_name, row.cores, row.mlx, row.os) for row in rows} == {
            ("m5max", "Apple M5 Max", 40, "0.31.1", "simulated")
        }
        kernels = {row.route.split()[0] for row in rows}
        assert {"stock", "pad", "qmv", "qmm", "qmm_nax"} <= kernels

    def test_says_so_on_both_streams(self, tmp_path):
        done = run(*SWEEP, "--out", tmp_path / "x.csv")
        assert "times come from a model, nothing is measured" in done.stderr
        assert "(simulated: a model of m5max, nothing was measured)" in done.stdout
        assert f"next: autotune export --from-csv {tmp_path / 'x.csv'}" in done.stderr

    def test_closes_with_how_far_the_model_is_off(self, tmp_path):
        done = run(*SWEEP, "--out", tmp_path / "x.csv")
        assert "simulated evaluations alone; the model itself was off by 8 % in the median and 42 %" in done.stdout

    def test_the_same_seed_gives_the_same_rows(self, csv, tmp_path):
        again = tmp_path / "again.csv"
        run(*SWEEP, "--out", again, "--mlx", "0.31.1")
        assert again.read_text() == csv.read_text()

    def test_without_noise_intervals_are_points_whatever_the_seed(self, tmp_path):
        found = []
        for seed in (1, 2):
            path = tmp_path / f"{seed}.csv"
            assert run(*SWEEP, "--out", path, "--noise", "0", "--seed", seed).exit_code == 0
            found.append({(row.problem, row.route): row for row in results.read(path)})
        one, two = found
        assert all(row.low == row.high == row.speedup for row in one.values() if row.status == "ok")
        for key in set(one) & set(two):
            assert one[key].time_us == two[key].time_us

    def test_json(self, tmp_path):
        document = json.loads(run(*SWEEP, "--out", tmp_path / "x.csv", "--json").stdout)
        assert document["source"] == "simulated"
        assert document["model_off"] == {"median": 0.08, "p90": 0.42}
        assert len(document["problems"]) == 2

    def test_record_writes_whole_spaces(self, tmp_path):
        dense = "matmul M=2 N=64 K=64 f16 nt"
        folder = tmp_path / "spaces"
        run(
            "sweep",
            "--chip",
            "m4max",
            "--simulate",
            "--problem",
            dense,
            "--out",
            tmp_path / "x.csv",
            "--record",
            folder,
        )
        assert list(folder.iterdir())

    def test_a_dry_run_counts_the_chips_own_routes(self):
        with_nax, without = (
            json.loads(run("sweep", "--chip", chip, "--simulate", "--problem", PROBLEM, "--dry-run", "--json").stdout)
            for chip in ("m5max", "m4max")
        )
        assert with_nax["routes"] >= without["routes"] > 20

    def test_a_dry_run_tells_the_models_time_and_not_the_chips(self):
        args = ("sweep", "--chip", "m5max", "--simulate", "--workload", "small-batch", "--dry-run")
        document = json.loads(run(*args, "--json").stdout)
        assert document["evaluations"] == document["routes"]
        assert 1 < document["seconds_about"] < 120
        told = run(*args)
        assert "one evaluation of the model of Apple M5 Max each" in told.stdout
        assert "min" not in told.stdout
        assert told.stderr.endswith("next: the same command without --dry-run\n")

    @pytest.mark.parametrize(
        "args",
        [
            ("--simulate",),
            ("--simulate", "--chip", "h100"),
            ("--simulate", "--chip", "m5max", "--cores", "7"),
            ("--simulate", "--chip", "m5max", "--mlx", "0.1.0"),
            ("--simulate", "--chip", "m5max", "--storage", "sqlite:///x.db"),
            ("--simulate", "--chip", "m5max", "--mlx", "0.32.1banana"),
            ("--simulate", "--chip", "m5max", "--noise", "-1"),
            ("--mlx", "0.31.1"),
            ("--noise", "0"),
        ],
    )
    def test_wrong_use(self, args):
        assert exit_code("sweep", *args) == USAGE


class TestVersions:
    """Versions whose rules were not read are answered by the newest that were, and everything says so."""

    @pytest.mark.parametrize("version", ["9.9", "0.32.4"])
    def test_the_one_that_stands_in_is_named(self, version, tmp_path):
        said = f"MLX {version}, by the rules of 0.32.2"
        asked = ("explain", PROBLEM, "--chip", "m4pro", "--mlx", version)
        assert said in run(*asked).stdout
        model = json.loads(run(*asked, "--json").stdout)["model"]
        assert (model["mlx"], model["mlx_rules"]) == (version, "0.32.2")
        assert "one-bit weights" in model["mlx_rules_beyond"]
        assert said in run(*SWEEP, "--out", tmp_path / "x.csv", "--mlx", version).stderr

    def test_a_known_one_stands_for_itself(self):
        asked = ("explain", PROBLEM, "--chip", "m4pro", "--mlx", "0.31.1")
        assert "MLX 0.31.1)" in run(*asked).stdout
        assert json.loads(run(*asked, "--json").stdout)["model"]["mlx_rules"] == "0.31.1"


class TestNothingMeasuredIsLost:
    @pytest.fixture
    def measured(self, csv, tmp_path):
        """Rows as a sweep on the chip itself would leave them."""
        path = tmp_path / "kept" / "m5max.csv"
        path.parent.mkdir()
        path.write_text(csv.read_text().replace(",simulated,", ",measured,"))
        return path

    def refused(self, path, *args):
        before = path.read_text()
        done = run(*args)
        assert isinstance(done.exception, UsageError)
        assert str(path) in done.exception.cause
        assert path.read_text() == before

    def test_by_a_sweep(self, measured):
        self.refused(measured, *SWEEP, "--out", measured)

    def test_nor_is_another_file(self, tmp_path):
        other = tmp_path / "notes.txt"
        other.write_text("notes")
        self.refused(other, *SWEEP, "--out", other)

    def test_a_simulated_sweep_is_renewed(self, csv):
        assert run(*SWEEP, "--out", csv, "--mlx", "0.31.1").exit_code == 0

    def test_rows_by_an_export(self, csv, measured):
        named_alike = csv.rename(csv.with_name(measured.name))
        self.refused(measured, "export", "--from-csv", named_alike, "--out", measured.parent)

    def test_a_table_by_an_export(self, csv, measured):
        assert run("export", "--from-csv", measured).exit_code == 0
        measured.unlink()
        named_alike = csv.rename(csv.with_name(measured.name))
        self.refused(measured.with_suffix(".json"), "export", "--from-csv", named_alike, "--out", measured.parent)
        assert not measured.exists()

    def test_nor_are_simulated_rows_by_measured_ones(self, csv, measured):
        named_alike = measured.rename(measured.with_name(csv.name))
        self.refused(csv, "export", "--from-csv", named_alike, "--out", csv.parent)


class TestExport:
    def test_rows_of_both_sources_make_no_table(self, csv, tmp_path):
        both = tmp_path / "both.csv"
        lines = csv.read_text().splitlines(keepends=True)
        both.write_text("".join(lines[:-1]) + lines[-1].replace(",simulated,", ",measured,"))
        error = run("export", "--from-csv", both).exception
        assert "simulated and measured" in str(error)
        assert not both.with_suffix(".json").exists()

    def test_diff_with_a_measured_table_is_wrong_use_and_no_regression(self, csv, tmp_path):
        measured = tmp_path / "m5max.csv"
        measured.write_text(csv.read_text().replace(",simulated,", ",measured,"))
        for path in (csv, measured):
            assert run("export", "--from-csv", path).exit_code == 0
        one, two = csv.with_suffix(".json"), measured.with_suffix(".json")
        assert exit_code("diff", one, two, "--fail-on", "slower") == USAGE
        assert exit_code("diff", two, one, "--format", "markdown") == USAGE
        assert exit_code("diff", one, one, "--fail-on", "slower") == 0

    def test_the_table_says_simulated(self, csv):
        done = run("export", "--from-csv", csv)
        assert done.exit_code == 0, done.exception
        assert "not stock, simulated" in done.stdout
        assert "autotune.enable()" not in done.stderr
        header = table.peek(csv.with_suffix(".json"))
        assert (header.source, header.chip.id, header.chip.nax) == ("simulated", "m5max", True)

    def test_reports_say_so_too(self, csv):
        run("export", "--from-csv", csv)
        path = csv.with_suffix(".json")
        assert "simulated: a model of the chip gave these times" in run("show", "--table", path).stdout
        checked = run("check", path)
        assert f"{path} is simulated" in checked.stderr
        assert json.loads(run("check", path, "--json").stdout)["simulated"] == [str(path)]
        assert "Simulated at M=3" in run("explain", PROBLEM, "--table", path).stdout

    def test_no_error_is_made_up(self, csv):
        run("export", "--from-csv", csv)
        asked = ("explain", PROBLEM, "--table", csv.with_suffix(".json"))
        told = run(*asked).stdout
        assert "not computed" in told
        assert "float64" not in told
        document = json.loads(run(*asked, "--json").stdout)
        assert document["row"]["error"] is None
        assert {(each["error"], each["stock_error"]) for each in document["measured"]} == {(None, None)}
        assert {row.error for row in results.read(csv)} == {0.0}


class TestExplain:
    def test_without_a_table_the_model_explains(self):
        done = run("explain", PROBLEM.replace("1024", "5120"), "--chip", "m4pro", "--mlx", "0.31.1")
        assert done.exit_code == 0, done.exception
        assert "Model of the Apple M4 Pro" in done.stdout
        assert "next: autotune sweep --chip m4pro --simulate" in done.stderr

    def test_json_has_the_model(self):
        document = json.loads(run("explain", PROBLEM, "--chip", "m4pro", "--json").stdout)
        assert document["model"]["simulated"] is True
        assert document["route"] == "stock"

    def test_measured_times_stand_beside_the_model(self, csv, tmp_path):
        """Rows as a sweep on the chip itself would leave them."""
        measured = tmp_path / "m5max.csv"
        measured.write_text(csv.read_text().replace(",simulated,", ",measured,"))
        assert {row.source for row in results.read(measured)} == {"measured"}
        assert run("export", "--from-csv", measured).exit_code == 0
        done = run("explain", PROBLEM, "--table", measured.with_suffix(".json"), "--mlx", "0.31.1")
        assert "measured us" in done.stdout
        assert "Model of the Apple M5 Max (40 GPU cores" in done.stdout
        document = json.loads(run("explain", PROBLEM, "--table", measured.with_suffix(".json"), "--json").stdout)
        beside = [each for each in document["model"]["by_m"] if each["measured_us"]]
        assert [each["m"] for each in beside] == [3, 9]

    def test_the_models_own_times_relabelled_as_measured_are_met(self, csv, tmp_path):
        """What is left is the noise of a simulated evaluation, 1 %."""
        measured = tmp_path / "m5max.csv"
        measured.write_text(csv.read_text().replace(",simulated,", ",measured,"))
        run("export", "--from-csv", measured)
        asked = ("explain", PROBLEM, "--table", measured.with_suffix(".json"), "--mlx", "0.31.1", "--json")
        beside = [each for each in json.loads(run(*asked).stdout)["model"]["by_m"] if each["measured_us"]]
        assert len(beside) == 2
        for each in beside:
            assert each["expected_us"] == pytest.approx(each["measured_us"], rel=0.02)
            assert each["predicted_us"] < 0.9 * each["measured_us"]

    def test_other_chips_have_no_model(self):
        assert json.loads(run("explain", PROBLEM, "--chip", "h100", "--json").stdout)["model"] is None

    @pytest.mark.parametrize("args", [("--mlx", "0.31.1"), ("--plot", "x.png")])
    def test_wrong_use(self, args):
        assert exit_code("explain", PROBLEM, "--chip", "h100", *args) == USAGE


class Pyplot:
    """A stand-in for matplotlib.pyplot, whose figures fail to be saved with ``error``."""

    def __init__(self, error):
        self.figure, self.axes = MagicMock(), MagicMock()
        self.figure.savefig.side_effect = error

    def subplots(self, **_):
        return self.figure, self.axes

    def close(self, figure):
        assert figure is self.figure


class TestPlot:
    ASKED = ("explain", PROBLEM, "--chip", "m4pro", "--mlx", "0.31.1", "--plot")

    @staticmethod
    def give(monkeypatch, pyplot):
        package = ModuleType("matplotlib")
        package.pyplot = pyplot
        monkeypatch.setitem(sys.modules, "matplotlib", package)

    @pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file or directory"), ValueError("Format 'xyz'")])
    def test_a_picture_that_cannot_be_saved_is_wrong_use_after_the_text(self, monkeypatch, error, tmp_path):
        self.give(monkeypatch, Pyplot(error))
        done = run(*self.ASKED, tmp_path / "away" / "bounds.xyz")
        assert isinstance(done.exception, UsageError)
        assert "Model of the Apple M4 Pro" in done.stdout
        assert "wrote" not in done.stderr

    def test_without_matplotlib_the_text_is_there(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        done = run(*self.ASKED, tmp_path / "bounds.png")
        assert done.exception.remedy == "pip install '.[plot]'"
        assert "Model of the Apple M4 Pro" in done.stdout

    def test_a_folder_is_refused_at_once(self, tmp_path):
        done = run(*self.ASKED, tmp_path)
        assert isinstance(done.exception, UsageError)
        assert "is a folder" in done.exception.cause
        assert not done.stdout

    def test_says_what_it_wrote(self, monkeypatch, tmp_path):
        pyplot = Pyplot(None)
        self.give(monkeypatch, pyplot)
        assert f"wrote {tmp_path / 'bounds.png'}" in run(*self.ASKED, tmp_path / "bounds.png").stderr
        pyplot.figure.savefig.assert_called_once()
