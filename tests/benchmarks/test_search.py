"""The benchmark of search strategies, on a recorded space made for the test."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report.builders import problem, refused, timed

FOLDER = Path(__file__).parents[2] / "benchmarks" / "search"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmark as its command does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("run", "score", "strategies", "plot", "replay", "families", "spaces"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path):
    """A folder with one space of 96 configs, of which every seventh fails."""
    names, cache = ["x", "y", "z"], {}
    for x in (1, 2, 4, 8, 16, 32):
        for y in (1, 2, 3, 4):
            for z in (0, 1, 2, 3):
                time = 1 + abs(x - 8) / 8 + abs(y - 3) / 4 + z / 10
                failed = len(cache) % 7 == 0
                key = f"{x},{y},{z}"
                cache[key] = {"x": x, "y": y, "z": z, "time": "CompilationFailedConfig" if failed else time}
    content = {"tune_params_keys": names, "objective": "time", "cache": cache}
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "made_up.json").write_text(json.dumps(content), "utf-8")
    return tmp_path / "spaces"


class TestScore:
    def test_a_curve_is_the_best_so_far_and_failures_count(self, module):
        score = module("score")
        assert score.curve([np.inf, 4.0, 8.0, 2.0], 2.0, 6).tolist() == [0, 0.5, 0.5, 1, 1, 1]
        assert score.curve([], 2.0, 2).tolist() == [0, 0]

    def test_hits_are_within_five_per_cent(self, module):
        score = module("score")
        curves = np.array([[0.94, 0.96], [0.5, 1 / 1.05]])
        assert score.hit_at(curves, 1).tolist() == [0, 0]
        assert score.hit_at(curves, 2).tolist() == [1, 1]

    def test_the_interval_holds_the_mean_and_narrows_with_seeds(self, module):
        score = module("score")
        values = np.random.default_rng(1).normal(size=(3, 400))
        few, many = score.interval(values[:, :10]), score.interval(values)
        assert few[0] < values[:, :10].mean() < few[1]
        assert many[1] - many[0] < (few[1] - few[0]) / 3


class TestStrategies:
    @pytest.mark.parametrize("name", ["autotune", "random", "optuna_tpe"])
    def test_measure_each_config_once_and_the_same_under_the_same_seed(self, module, folder, name):
        from autotune.search import recorded

        space = recorded.read(folder / "made_up.json")
        strategy = module("strategies").STRATEGIES[name]
        one, two = (strategy(space, 3, 20).costs for _ in range(2))
        assert one == two
        whole = strategy(space, 3, 1000).costs
        assert sorted(whole) == sorted(space.costs.tolist())

    def test_kernel_tuner_is_asked_in_its_own_simulation_mode(self, module, folder):
        pytest.importorskip("kernel_tuner")
        from autotune.search import recorded

        space = recorded.read(folder / "made_up.json")
        run = module("strategies").STRATEGIES["genetic_algorithm"](space, 1, 30)
        assert len(run.costs) == 30
        assert set(run.costs) <= set(space.costs.tolist())


def test_the_command_prints_both_tables_and_does_not_repeat_what_it_has(folder, tmp_path):
    command = [sys.executable, str(FOLDER / "run.py"), str(folder), "--seeds", "2", "--budget", "30"]
    command += ["--strategy", "autotune", "--strategy", "random", "--json", str(tmp_path / "kept.json")]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| strategy | f@25 | ms a proposal |" in first.stdout
    assert "| made_up |" in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout


class TestKeptRuns:
    """What ``--json`` keeps, and what the command says of what it cannot use."""

    def run(self, folder, *rest, code=0):
        command = [sys.executable, str(FOLDER / "run.py"), str(folder), "--seeds", "1", "--strategy", "autotune", *rest]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    def fails(self, folder, *rest):
        said = self.run(folder, *rest, code=1).stderr
        assert said.startswith("run.py: ")
        assert said.count("\n") == 1
        return said

    def test_another_file_of_the_same_name_is_run_again(self, folder, tmp_path):
        kept = ("--json", str(tmp_path / "kept.json"), "--budget", "30")
        first = self.run(folder, *kept)
        path = folder / "made_up.json"
        path.write_text(path.read_text("utf-8").replace('"time": 1.', '"time": 7.'), "utf-8")
        fresh = self.run(folder, "--budget", "30").stdout
        assert fresh.splitlines()[-3] != first.stdout.splitlines()[-3]
        assert self.run(folder, *kept).stdout.splitlines()[-3] == fresh.splitlines()[-3]

    def test_another_budget_is_run_again(self, folder, tmp_path):
        kept = ("--json", str(tmp_path / "kept.json"))
        self.run(folder, *kept, "--budget", "30")
        assert "f@50" in self.run(folder, *kept, "--budget", "60").stdout
        (space, other) = json.loads((tmp_path / "kept.json").read_text("utf-8"))["runs"]
        assert (space.split()[-1], other.split()[-1]) == ("30", "60")

    def test_the_key_follows_costs_and_code(self, module, folder, monkeypatch, tmp_path):
        from autotune.search import recorded

        run = module("run")
        space = recorded.read(folder / "made_up.json")
        own = run.key("autotune", space, 30)
        assert own == run.key("autotune", space, 30)
        for name in run.SEARCH:
            (tmp_path / f"{name}.py").write_text("another search", "utf-8")
        monkeypatch.setattr(run.portfolio, "__file__", str(tmp_path / "portfolio.py"))
        assert own != run.key("autotune", space, 30)

    def test_fewer_measurements_than_any_column(self, folder):
        assert "| f@20 | ms a proposal |" in self.run(folder, "--budget", "20").stdout

    def test_an_empty_folder_and_none(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "empty", tmp_path / "none"):
            assert "has no recorded spaces" in self.fails(folder)

    def test_files_that_cannot_be_read(self, folder, tmp_path):
        (tmp_path / "kept.json").write_text('{"runs": {"random"', "utf-8")
        assert "has no runs of this benchmark" in self.fails(folder, "--json", str(tmp_path / "kept.json"))
        (folder / "odd.json").write_text("{", "utf-8")
        assert "odd.json is no recorded space" in self.fails(folder)


class TestReplay:
    """A sweep replayed on results where padding wins everywhere, at two M of two shapes."""

    @pytest.fixture
    def csv(self, tmp_path):
        from autotune.search import results, space

        rows = []
        for n in (64, 128):
            for m in (3, 5):
                family = f"quantized_matmul N={n} K=512 f16 affine-b4-g64 nt"
                for route in map(str, space.legal_routes(problem(family, m), "cuda")):
                    us = 100 if route == "stock" else 40 if route.startswith("pad multiple=8") else 120
                    wrong = route.startswith("dequantize")
                    made = refused(family, m, route, results.INACCURATE, "wrong") if wrong else None
                    rows.append(made or timed(family, m, route, us, 100))
        path = tmp_path / "h100.csv"
        path.write_text(results.dumps(rows), "utf-8")
        return path

    @pytest.fixture
    def replay(self, module, monkeypatch):
        from autotune.kernels import KERNELS

        for kernel in KERNELS.values():
            monkeypatch.setattr(kernel, "searched", kernel.name != "stock")
        return module("replay")

    def test_with_every_route_it_is_exhaustive(self, replay, csv):
        recorded = replay.read(csv)
        assert len(recorded) == 4
        for run in (replay.swept, replay.drawn):
            assert run(recorded, 100, 1) == pytest.approx([1.0] * 4)

    def test_with_few_it_is_what_those_gave(self, replay, csv):
        recorded = replay.read(csv)
        for run in (replay.swept, replay.drawn):
            assert all(
                each == pytest.approx(0.4, rel=0.01) or each == pytest.approx(1.0) for each in run(recorded, 2, 1)
            )

    def test_a_kernel_that_was_measured_in_part_takes_no_part(self, replay, csv):
        from autotune.search import results

        rows = results.read(csv)
        whole = replay.read(csv)
        csv.write_text(results.dumps(rows[:-1]), "utf-8")
        missing = rows[-1].route.split()[0]
        recorded = replay.read(csv)
        assert replay.names(recorded) == tuple(name for name in replay.names(whole) if name != missing)
        assert len(recorded) == 4
        for run in (replay.swept, replay.drawn):
            assert all(0 < each <= 1 for each in run(recorded, 100, 1))

    def test_shapes_are_compared_pair_by_pair(self, csv):
        done = subprocess.run(
            [sys.executable, str(FOLDER / "neighbours.py"), str(csv)], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("quantized_matmul f16 affine-b4-g64 nt: stock; too few")
        assert "| N=64 K=512 | N=128 K=512 | 2.00 | 2 | 0.0% | 0.0% | 0 | 0 |" in done.stdout

    def test_with_the_others_known_it_starts_from_their_winners(self, replay, csv):
        recorded = replay.read(csv)
        for run in (replay.with_neighbours, replay.with_seeds):
            assert run(recorded, 2, 1) == pytest.approx([1.0] * 4, rel=0.01)
        assert min(replay.with_nothing(recorded, 2, 1)) < 0.9

    def test_the_command_prints_a_table(self, csv):
        command = [sys.executable, str(FOLDER / "replay.py"), str(csv), "--seeds", "2", "--share", "20"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("4 problems, ")
        assert done.stdout.count("| autotune |") == done.stdout.count("| random |") == 1


class TestBetween:
    """Two smooth routes at M = 8, 12 and 16: each wins at one end, and in the middle one of them is the better one."""

    @pytest.fixture
    def csv(self, tmp_path):
        from autotune.search import results

        family = "quantized_matmul N=64 K=512 f16 affine-b4-g64 nt"
        took = {"upcast": (25, 50, 80), "dequantize compute=native": (50, 40, 40), "stock": (100, 100, 100)}
        rows = [timed(family, m, route, us[at], 100) for route, us in took.items() for at, m in enumerate((8, 12, 16))]
        path = tmp_path / "h100.csv"
        path.write_text(results.dumps(rows), "utf-8")
        return path

    @pytest.mark.parametrize("keep", [(), ("--keep", "8", "16")])
    def test_an_m_that_is_left_out(self, csv, keep):
        """At 16 dequantize gains 2.5x, at 8 twice, so that it is taken at 12; ends have no other M beside them."""
        command = [sys.executable, str(FOLDER / "between.py"), str(csv), *keep]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        last = "| quantized_matmul f16 affine-b4-g64 nt | 1 | 2.50x | 100% | 1.00x | 0 | 0 |"
        assert done.stdout.splitlines()[2:] == [last]

    def test_a_model_is_asked_for_every_m_between(self, csv):
        """Between 8 and 12, 12 and 16, and 8 and 16: 3, 3 and 7. With stock as short at 16 as the routes are, none is
        left but the first ones. These routes are slower than stock on a Mac."""
        from autotune.search import results

        rows = [replace(row, source="simulated", chip="m4pro") for row in results.read(csv)]
        rows = [replace(row, stock_us=40) if row.route == "stock" and "M=16" in row.problem else row for row in rows]
        csv.write_text(results.dumps(rows), "utf-8")
        command = [sys.executable, str(FOLDER / "between.py"), str(csv), "--model"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shipped, without = (line.split(" | ") for line in done.stdout.splitlines()[2:])
        assert (shipped[0], shipped[1]) == ("| shipped", "3")
        assert without[1] == "13"
        assert float(without[3].removesuffix("x")) < 1

    def test_a_model_of_nothing_simulated(self, csv):
        command = [sys.executable, str(FOLDER / "between.py"), str(csv), "--model"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


class TestFamilies:
    """Whole spaces of a searched kernel, at two M, that were recorded as a sweep records them."""

    FAMILY = "quantized_matmul N=64 K=512 f16 affine-b4-g64 nt"

    @pytest.fixture
    def rows(self):
        from autotune.search import space

        found = []
        for m in (8, 16):
            for place, route in enumerate(map(str, space.legal_routes(problem(self.FAMILY, m), "cuda", ["qmv_mma"]))):
                found.append(timed(self.FAMILY, m, route, 100 if route == "stock" else 50 + 97 * place % 61, 100))
        return found

    @pytest.fixture
    def spaces(self, rows, tmp_path):
        from autotune.search import record

        record.write(rows, tmp_path / "spaces")
        return tmp_path / "spaces"

    def test_are_read_with_stock_and_in_the_order_of_m(self, module, spaces, rows):
        ((key, found),) = module("families").read(spaces).items()
        assert key == ("qmv_mma", rows[0].chip)
        assert [each.problem.m for each in found] == [8, 16]
        assert sum(len(each.rows()) for each in found) == len(rows)
        assert [each.stock for each in found] == pytest.approx([0.1] * 2)

    @pytest.mark.parametrize("name", ["sweep", "portfolio", "random"])
    def test_each_strategy_measures_its_share_and_each_config_once(self, module, spaces, name):
        families = module("families")
        (found,) = families.read(spaces).values()
        budgets = [7, len(found[1].recorded.points)]
        few, every = families.RUNS[name](found, budgets, 1)
        assert len(few) == 7
        assert sorted(every) == pytest.approx(sorted(found[1].recorded.costs))

    def test_a_space_in_part_is_told_from_a_whole_one(self, module, rows, tmp_path):
        from autotune.errors import UsageError
        from autotune.search import record

        record.write(rows[:-1], tmp_path / "part")
        with pytest.raises(UsageError, match="the space of qmv_mma has changed"):
            module("families").read(tmp_path / "part")
        record.write([row for row in rows if row.route != "stock"], tmp_path / "alone")
        with pytest.raises(UsageError, match="stock's times are missing"):
            module("families").read(tmp_path / "alone")

    def test_the_comparison_of_strategies_refuses_a_space_in_part(self, rows, tmp_path):
        from autotune.search import record

        record.write(rows[:-1], tmp_path / "part")
        command = [sys.executable, str(FOLDER / "run.py"), str(tmp_path / "part"), "--seeds", "1"]
        done = subprocess.run([*command, "--strategy", "random"], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("run.py: ")
        assert "the space of qmv_mma has changed since, or is not whole" in done.stderr

    def test_what_a_model_gave_says_so(self, module, tmp_path, monkeypatch):
        families = module("families")
        monkeypatch.setattr(families, "PROBLEMS", {"qmv_mma": (families.QUANTIZED, (8,)), "qmm_nax": ("", ())})
        monkeypatch.setattr(families, "SHAPES", ("N=512 K=512",))
        families.simulate("m4pro", tmp_path)
        written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        families.simulate("m4pro", tmp_path)
        assert written == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        text = families.table(families.read(tmp_path), 20, 2, ["random"])
        assert "| qmv_mma | m4pro, simulated | 1 |" in text
        assert "measured |" in text.splitlines()[0]

    def test_the_comparison_of_strategies_reads_them_too(self, spaces):
        command = [sys.executable, str(FOLDER / "run.py"), str(spaces), "--seeds", "1", "--budget", "25"]
        done = subprocess.run([*command, "--strategy", "random"], capture_output=True, text=True, check=True)
        assert "2 spaces, 1 seeds" in done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_two_sweeps_of_one_chip_agree(module, seed):
    """The goal: of the routes of a second sweep, with other noise and another order, 98 % are those of the first one's
    table, or such as it had not found and are faster in truth: effort quick sees 24 configs of thousands, of which many
    are about as fast."""
    agreement = module("agreement")

    from autotune.devices.simulated import chip
    from autotune.search.measure import EFFORTS

    target, problems = chip.get("m4pro"), agreement.PROBLEMS[::2]
    first = agreement.swept(target, problems, EFFORTS["quick"], seed)
    second = agreement.swept(target, problems, EFFORTS["quick"], seed + 1, first)
    found = agreement.agreement(target, problems, first, second)
    assert found.same + found.gained >= 0.98 * len(problems)
    assert any(not str(agreement.route(first, problem)).startswith("stock") for problem in problems)
