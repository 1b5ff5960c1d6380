import os
import threading
from pathlib import Path

import mlx.core as mx
import pytest
from fakes import recorded_warnings, table_row

import autotune
from autotune import machine, paths
from autotune.errors import TableError
from autotune.kernels import KERNELS, STOCK, Route
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem
from autotune.routing import freshness, router, switch, table
from autotune.routing.decision import Reason
from autotune.routing.neighbours import Bound
from autotune.routing.router import ROUTERS, Router, Routers

pytestmark = pytest.mark.usefixtures("shipped_tables")

FAMILY = "matmul N=64 K=256 bf16 nt"
PAD, CHUNK, SPLIT = "pad multiple=8 fill=zeros", "chunk rows=8", "upcast"


def problem(m: int, family: str = FAMILY) -> Problem:
    return table.problem_at(family, m)


def route(of: Router, m: int, family: str = FAMILY) -> str:
    return str(of.find(problem(m, family)).route)


def found(m: int = 3, family: str = FAMILY) -> tuple[str, list[str]]:
    """The route that a new router finds, and the texts of the warnings that it gives on the way."""
    with recorded_warnings() as texts:
        name = route(Router("cpu"), m, family)
    return name, texts


def other_mlx(patch: bool) -> str:
    major, minor, last = mx.__version__.split(".")[:3]
    return f"{major}.{minor}.{int(last) + 1}" if patch else f"{major}.{int(minor) + 1}.{last}"


class TestIntervals:
    @pytest.fixture
    def tuned(self, write_table, isolated):
        rows = [(2, 3, PAD), (5, 7, "pad multiple=8 fill=repeat"), (9, 12, CHUNK), (13, 13, "stock"), (20, 24, SPLIT)]
        write_table({FAMILY: rows}, isolated / "tables" / "t.json")
        return Router("cpu")

    @pytest.mark.parametrize(
        ("m", "expected"),
        [
            (1, "stock"),
            (2, PAD),
            (3, PAD),
            (4, "stock"),
            (5, "pad multiple=8 fill=repeat"),
            (7, "pad multiple=8 fill=repeat"),
            (8, "stock"),
            (9, CHUNK),
            (11, CHUNK),
            (12, CHUNK),
            (13, "stock"),
            (14, "stock"),
            (19, "stock"),
            (20, SPLIT),
            (24, SPLIT),
            (25, "stock"),
            (100_000, "stock"),
        ],
    )
    def test_a_route_holds_in_its_interval_and_nowhere_else(self, tuned, m, expected):
        assert route(tuned, m) == expected

    def test_what_was_found_says_where_it_stands(self, tuned, isolated):
        hit, stock, miss = (tuned.find(problem(m)) for m in (3, 13, 14))
        assert (hit.row.first, hit.row.last, hit.path) == (2, 3, str(isolated / "tables" / "t.json"))
        assert stock.row is not None
        assert miss.row is None
        assert stock.route == miss.route == STOCK

    @pytest.mark.parametrize(
        "family",
        [
            "matmul N=65 K=256 bf16 nt",
            "matmul N=64 K=512 bf16 nt",
            "matmul N=64 K=256 f16 nt",
            "matmul N=64 K=256 bf16 nn",
            "matmul N=64 K=256 B=2 bf16 nt",
            "addmm N=64 K=256 bf16 nt row",
        ],
    )
    def test_other_families_are_stock(self, tuned, family):
        assert route(tuned, 3, family) == "stock"

    def test_a_route_that_is_illegal_inside_its_interval_is_not_taken_there(self, write_table, isolated):
        """The ends of an interval are checked when the table is read, what lies between when it is asked for."""
        write_table({FAMILY: [(3, 5, "pad multiple=4 fill=zeros")]}, isolated / "tables" / "t.json")
        tuned = Router("cpu")
        assert [route(tuned, m) for m in (3, 4, 5)] == [
            "pad multiple=4 fill=zeros",
            "stock",
            "pad multiple=4 fill=zeros",
        ]

    def test_the_gpu_has_a_router_of_its_own(self, tuned, monkeypatch):
        monkeypatch.setattr("autotune.machine.backend", lambda kind: "metal" if kind == "gpu" else "cpu")
        with recorded_warnings():
            assert route(Router("gpu"), 3) == "stock"
        assert route(Router("cpu"), 3) == PAD


class TestNeighbours:
    """Families that no table has: one between tuned ones, under a bound that holds."""

    CLASS = "matmul bf16 nt"
    TUNED = ("matmul N=64 K=512 bf16 nt", "matmul N=128 K=512 bf16 nt", "matmul N=256 K=512 bf16 nt")
    ASKED = "matmul N=192 K=512 bf16 nt"
    HOLDS = (Bound(CLASS, 0.03, 2.0, 20, 40, 0, 0),)

    @pytest.fixture
    def tuned(self, write_table, isolated):
        rows = {self.TUNED[0]: [(2, 8, "chunk rows=1")], self.TUNED[1]: [(2, 3, SPLIT)], self.TUNED[2]: [(2, 7, PAD)]}

        def write(neighbours=self.HOLDS, path="t.json", **more):
            return write_table({**rows, **more}, isolated / "tables" / path, neighbours=neighbours)

        return write

    def test_the_nearest_one_speaks(self, tuned, isolated):
        tuned()
        hit = Router("cpu").find(problem(3, self.ASKED))
        assert (str(hit.route), str(hit.neighbour.family), hit.tuned) == (PAD, self.TUNED[2], False)
        assert hit.neighbour.factor == 256 / 192
        assert hit.path == str(isolated / "tables" / "t.json")

    def test_for_its_own_m_alone(self, tuned):
        tuned()
        assert [route(Router("cpu"), m, self.ASKED) for m in (1, 2, 7, 8, 9)] == ["stock", PAD, PAD, "stock", "stock"]

    def test_a_route_that_writes_larger_weights_does_not_pass(self, tuned):
        """It is not tried out beforehand at the new shape, and might not fit."""
        upcast = [(2, 3, "upcast"), (5, 5, PAD)]
        tuned(**{self.TUNED[2]: upcast, "matmul N=448 K=512 bf16 nt": upcast})
        smaller, larger = self.ASKED, "matmul N=320 K=512 bf16 nt"
        asked = Router("cpu")
        assert str(asked.find(problem(5, larger)).neighbour.family) == self.TUNED[2]
        assert [route(asked, m, smaller) for m in (3, 5)] == ["upcast", PAD]
        assert [route(asked, m, larger) for m in (3, 5)] == ["stock", PAD]

    def test_the_own_family_comes_first(self, tuned):
        """Also where it has no route for the M, and where it is stock."""
        tuned(**{self.ASKED: [(2, 3, "stock"), (5, 5, SPLIT)]})
        asked = Router("cpu")
        assert [route(asked, m, self.ASKED) for m in (3, 4, 5)] == ["stock", "stock", SPLIT]
        assert asked.find(problem(3, self.ASKED)).tuned

    def test_the_own_family_of_a_later_table_comes_before_a_neighbour(self, tuned, write_table, shipped_tables):
        tuned()
        write_table({self.ASKED: [(3, 3, SPLIT)]}, shipped_tables / "here.json")
        assert route(Router("cpu"), 3, self.ASKED) == SPLIT
        assert route(Router("cpu"), 4, self.ASKED) == "stock"

    @pytest.mark.parametrize(
        "neighbours",
        [None, (), (Bound(CLASS, 0.051, 2.0, 20, 40, 0, 0),), (Bound(CLASS, None, 2.0, 4, 40, 0, 0),),
         (Bound("matmul f16 nt", 0.0, 2.0, 20, 40, 0, 0),)],
    )  # fmt: skip
    def test_without_a_bound_that_holds_it_is_stock(self, tuned, neighbours):
        tuned(neighbours)
        hit = Router("cpu").find(problem(3, self.ASKED))
        assert (hit.route, hit.neighbour, hit.path) == (STOCK, None, "")

    def test_an_own_family_that_is_torn_has_no_neighbour(self, tuned):
        path = tuned(**{self.ASKED: [(2, 3, SPLIT)]})
        path.write_text(path.read_text().replace(SPLIT, "upcast rows=1"))
        name, texts = found(3, self.ASKED)
        assert name == "stock"
        assert len(texts) == 1

    @pytest.mark.parametrize("asked", ["matmul N=32 K=512 bf16 nt", "matmul N=512 K=512 bf16 nt",
                                       "matmul N=200 K=512 bf16 nt", "matmul N=192 K=1024 bf16 nt"])  # fmt: skip
    def test_outside_or_of_another_alignment_it_is_stock(self, tuned, asked):
        tuned()
        assert route(Router("cpu"), 3, asked) == "stock"

    def test_a_route_that_is_illegal_for_the_new_shape_is_stock(self, write_table, isolated):
        """The nearest shape's K is split in five, which 1792 is no multiple of."""
        rows = {f"matmul N={n} K={k} f32 nt": [(3, 3, f"split_k parts={parts}")]
                for n, k, parts in ((64, 256, 2), (128, 1280, 5), (256, 2304, 2))}  # fmt: skip
        bound = (Bound("matmul f32 nt", 0.03, 2.0, 20, 40, 0, 0),)
        write_table(rows, isolated / "tables" / "t.json", neighbours=bound)
        hit = Router("cpu").find(problem(3, "matmul N=128 K=1792 f32 nt"))
        assert str(hit.neighbour.family) == "matmul N=128 K=1280 f32 nt"
        assert (hit.route, hit.reason) == (STOCK, Reason.ILLEGAL)

    def test_stale_routes_of_a_neighbour_are_not_used(self, write_table, isolated):
        rows = {text: [(3, 3, PAD, {"kernel": "f" * 12})] for text in self.TUNED}
        write_table(rows, isolated / "tables" / "t.json", neighbours=self.HOLDS)
        name, texts = found(3, self.ASKED)
        assert name == "stock"
        assert any("stale routes are not used" in text for text in texts)

    def test_a_torn_neighbour_is_stock_with_a_warning(self, tuned, isolated):
        path = tuned()
        path.write_text(path.read_text().replace(PAD, "pad multiple=1 fill=zeros"))
        name, texts = found(3, self.ASKED)
        assert name == "stock"
        assert any("outside its kernel's space" in text for text in texts)

    def test_is_worked_out_once(self, tuned, monkeypatch):
        tuned()
        asked, calls = Router("cpu"), []
        real = table.Table.neighbour
        monkeypatch.setattr(table.Table, "neighbour", lambda *args: calls.append(1) or real(*args))
        for m in (1, 3, 3, 9):
            asked.find(problem(m, self.ASKED))
        asked.find(problem(3, self.TUNED[0]))
        assert calls == [1]

    def test_a_look_up_in_a_large_class_reads_no_other_family(self, write_table, isolated, monkeypatch):
        """Ten thousand of them took 80 ms; their sizes are read when the table is."""
        texts = [f"matmul N={64 * n} K={64 * k} bf16 nt" for n in range(1, 31) for k in range(1, 31)]
        missing = texts.pop(15 * 30 + 15)
        write_table({text: [(2, 7, PAD)] for text in texts}, isolated / "tables" / "t.json", neighbours=self.HOLDS)
        asked = Router("cpu")
        asked.find(problem(3, texts[0]))
        read, real = [], table.Problem.parse
        monkeypatch.setattr(table.Problem, "parse", lambda text: read.append(text) or real(text))
        table._at_one.cache_clear()
        wanted = problem(3, missing)
        assert asked.find(wanted).neighbour.factor == 17 / 16
        assert len(read) == 2

    def test_the_first_table_that_allows_one_decides(self, tuned, write_table, shipped_tables):
        tuned(())
        write_table({text: [(2, 9, SPLIT)] for text in self.TUNED}, shipped_tables / "a.json", neighbours=self.HOLDS)
        assert route(Router("cpu"), 3, self.ASKED) == SPLIT

    def test_a_neighbours_route_that_fails_is_retired_for_that_shape_alone(self, tuned, monkeypatch):
        tuned()
        with recorded_warnings() as texts:
            monkeypatch.setattr(KERNELS["pad"].__class__, "build", lambda *args: 1 / 0)
            assert Routers().op(problem(3, self.ASKED), "cpu", ORIGINAL["matmul"]) is ORIGINAL["matmul"]
        assert any(self.ASKED in text for text in texts)


class TestPrecedence:
    def test_environment_then_user_then_shipped(self, write_table, isolated, shipped_tables, tmp_path, monkeypatch):
        assert paths.tuned_tables() == shipped_tables
        write_table({FAMILY: [(1, 9, SPLIT)]}, shipped_tables / "here.json")
        assert found() == (SPLIT, [])
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        assert found() == (PAD, [])
        named = write_table({FAMILY: [(2, 8, "chunk rows=1")]}, tmp_path / "named.json")
        write_table({FAMILY: [(2, 8, "chunk rows=1")]}, tmp_path / "folder" / "here.json")
        for value in (named, tmp_path / "folder", f"{tmp_path / 'absent.d'}{os.pathsep}{named}"):
            monkeypatch.setenv("AUTOTUNE_TABLES", str(value))
            router._WARNED.clear()
            assert found(2)[0] == "chunk rows=1", value

    def test_use_table_comes_before_all(self, write_table, isolated, tmp_path, monkeypatch):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        monkeypatch.setenv("AUTOTUNE_TABLES", str(write_table({FAMILY: [(2, 8, "chunk rows=1")]})))
        assert route(ROUTERS.of("cpu"), 3) == "chunk rows=1"
        switch.use_table(write_table({FAMILY: [(1, 9, SPLIT)]}, tmp_path / "mine.json"))
        assert route(ROUTERS.of("cpu"), 3) == SPLIT
        switch.use_table(None)
        assert route(ROUTERS.of("cpu"), 3) == "chunk rows=1"

    def test_a_table_without_the_family_leaves_it_to_the_next(self, write_table, isolated, shipped_tables):
        write_table({FAMILY: [(1, 9, SPLIT)]}, shipped_tables / "here.json")
        write_table({"matmul N=8 K=256 bf16 nt": [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        assert found() == (SPLIT, [])
        assert found(3, "matmul N=8 K=256 bf16 nt") == (PAD, [])

    def test_a_family_is_one_tables_business(self, write_table, isolated, shipped_tables):
        """An M that the first table's family leaves out is stock, not whatever another table says."""
        write_table({FAMILY: [(1, 9, SPLIT)]}, shipped_tables / "here.json")
        write_table({FAMILY: [(1, 2, PAD)]}, isolated / "tables" / "here.json")
        assert [found(m)[0] for m in (2, 3)] == [PAD, "stock"]

    def test_verdicts_come_in_this_order(self, write_table, isolated, shipped_tables, tmp_path, monkeypatch):
        rows = {FAMILY: [(1, 7, PAD)]}
        shipped = write_table(rows, shipped_tables / "a.json", cores=0)
        user = write_table(rows, isolated / "tables" / "b.json")
        named = write_table(rows, tmp_path / "c.json", source="simulated")
        mine = write_table(rows, tmp_path / "d.json")
        monkeypatch.setenv("AUTOTUNE_TABLES", str(named))
        verdicts = Router("cpu", (mine,)).verdicts()
        assert [verdict.path for verdict in verdicts] == [str(path) for path in (mine, named, user, shipped)]
        assert [verdict.used for verdict in verdicts] == [True, False, True, False]


class TestForeign:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("device_name", "Apple M5 Max"),
            ("architecture", "applegpu_g17s"),
            ("cores", (os.cpu_count() or 0) + 8),
            ("nax", True),
        ],
    )
    def test_another_device_is_stock_with_one_warning(self, write_table, isolated, field, value):
        path = write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json", **{field: value})
        name, texts = found()
        assert name == "stock"
        assert len(texts) == 1
        assert str(path) in texts[0]
        assert str(value) in texts[0] or field == "nax"
        assert found() == ("stock", [])

    @pytest.mark.parametrize("backend", ["metal", "cuda"])
    def test_a_table_for_the_other_kind_of_device_is_passed_over_in_silence(self, write_table, isolated, backend):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "gpu.json", backend=backend)
        assert found() == ("stock", [])

    def test_shipped_tables_of_other_chips_are_passed_over_in_silence(self, write_table, shipped_tables):
        for cores in (1000, 1001):
            write_table({FAMILY: [(1, 7, PAD)]}, shipped_tables / f"{cores}.json", cores=cores)
        assert found() == ("stock", [])

    def test_another_id_is_the_same_device(self, write_table, isolated):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json", id="somebody-elses-word")
        assert found() == (PAD, [])

    def test_the_files_name_means_nothing(self, write_table, isolated):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "m5max.json")
        assert found() == (PAD, [])

    def test_use_table_refuses_and_changes_nothing(self, write_table, tmp_path):
        switch.use_table(write_table({FAMILY: [(1, 7, PAD)]}))
        foreign = write_table({FAMILY: [(1, 9, SPLIT)]}, cores=1000)
        torn = tmp_path / "torn.json"
        torn.write_text("{")
        for bad in (foreign, torn, tmp_path / "absent.json"):
            with pytest.raises(TableError):
                switch.use_table(bad)
            assert route(ROUTERS.of("cpu"), 3) == PAD


class TestSimulated:
    def test_is_not_used_unless_asked_for(self, write_table, isolated):
        path = write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json", source="simulated")
        name, texts = found()
        assert name == "stock"
        assert len(texts) == 1
        assert "simulated" in texts[0]
        with pytest.raises(TableError, match="simulated"):
            switch.use_table(path)
        assert route(ROUTERS.of("cpu"), 3) == "stock"

    def test_is_used_when_asked_for(self, write_table):
        switch.use_table(write_table({FAMILY: [(1, 7, PAD)]}, source="simulated"), simulated=True)
        assert route(ROUTERS.of("cpu"), 3) == PAD
        switch.use_table(None)
        assert route(ROUTERS.of("cpu"), 3) == "stock"

    def test_asking_for_one_allows_no_other(self, write_table, isolated):
        write_table({FAMILY: [(1, 9, SPLIT)]}, isolated / "tables" / "here.json", source="simulated")
        other = FAMILY.replace("N=64", "N=128")
        switch.use_table(write_table({other: [(1, 7, PAD)]}, source="simulated"), simulated=True)
        with recorded_warnings():
            assert route(ROUTERS.of("cpu"), 3) == "stock"
            assert route(ROUTERS.of("cpu"), 3, other) == PAD

    def test_a_simulated_table_of_another_chip_stays_foreign(self, write_table):
        with pytest.raises(TableError, match="this device is"):
            switch.use_table(write_table({FAMILY: [(1, 7, PAD)]}, source="simulated", cores=1000), simulated=True)


class TestFreshness:
    @pytest.mark.parametrize(
        ("overrides", "part"),
        [({"kernel": "0123456789ab"}, "kernel pad changed"), ({"mlx": other_mlx(patch=False)}, "measured with MLX")],
        ids=["kernel", "mlx-minor"],
    )
    def test_a_stale_route_is_stock_with_one_warning(self, write_table, isolated, overrides, part):
        rows = [(1, 3, PAD, overrides), (5, 7, PAD, overrides)]
        path = write_table({FAMILY: rows}, isolated / "tables" / "here.json")
        with recorded_warnings() as texts:
            tuned = Router("cpu")
            assert [route(tuned, m) for m in (1, 2, 3, 6, 6)] == ["stock"] * 5
            assert route(Router("cpu"), 3) == "stock"
        assert len(texts) == 1
        assert all(each in texts[0] for each in (part, str(path), "autotune sweep"))

    def test_a_stale_route_does_not_take_the_others_with_it(self, write_table, isolated):
        rows = [(1, 3, PAD, {"kernel": "0123456789ab"}), (5, 7, PAD)]
        write_table({FAMILY: rows, "matmul N=8 K=256 bf16 nt": [(1, 9, SPLIT)]}, isolated / "tables" / "here.json")
        tuned = Router("cpu")
        with recorded_warnings() as texts:
            assert [route(tuned, m) for m in (3, 4, 5)] == ["stock", "stock", PAD]
        assert len(texts) == 1
        assert route(tuned, 3, "matmul N=8 K=256 bf16 nt") == SPLIT

    def test_another_patch_of_mlx_is_used(self, write_table, isolated):
        write_table({FAMILY: [(1, 7, PAD, {"mlx": other_mlx(patch=True)})]}, isolated / "tables" / "here.json")
        assert found() == (PAD, [])

    def test_another_system_space_or_version_of_autotune_is_used(self, write_table, isolated):
        rows = [(1, 7, PAD, {"os": "macOS 13.0", "space": "f" * 12})]
        write_table({FAMILY: rows}, isolated / "tables" / "here.json", autotune="99.0", load="queued")
        assert found() == (PAD, [])

    @pytest.mark.parametrize(
        ("mlx", "level"),
        [
            ("0.32.4", "valid"),
            ("0.32.5", "recheck"),
            ("0.32.4.dev20260101+abc", "recheck"),
            ("0.33.4", "stale"),
            ("1.32.4", "stale"),
            ("0.3.24", "stale"),
        ],
    )
    def test_grades_by_mlx(self, mlx, level):
        graded = freshness.grade(row(mlx="0.32.4"), mlx)
        assert graded.level == level
        assert graded.usable == (level != "stale")
        assert bool(graded.reason) == (level != "valid")

    def test_a_kernel_that_is_gone_is_stale(self):
        gone = table.Row.from_json(table_row(1, 7, "tile rows=8"))
        assert freshness.grade(gone) == freshness.Grade("stale", "kernel tile is gone")


def row(**overrides) -> table.Row:
    return table.Row.from_json(table_row(1, 7, PAD, overrides))


class TestCorrupt:
    @pytest.mark.parametrize("where", ["user", "environment"])
    @pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', "\x00", '{\n"schema": 99,\n"families": []}'], ids=repr)
    def test_is_stock_with_one_warning(self, isolated, tmp_path, monkeypatch, where, text):
        path = isolated / "tables" / "here.json" if where == "user" else tmp_path / "here.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if where == "environment":
            monkeypatch.setenv("AUTOTUNE_TABLES", str(path))
        name, texts = found()
        assert name == "stock"
        assert len(texts) == 1
        assert str(path) in texts[0]
        assert found() == ("stock", [])

    def test_a_table_torn_after_its_header(self, write_table, isolated):
        path = write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        path.write_text(path.read_text()[:-20])
        name, texts = found()
        assert (name, len(texts)) == ("stock", 1)
        assert "stock is used" in texts[0]

    def test_a_named_file_that_does_not_exist(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "absent.json"))
        name, texts = found()
        assert (name, len(texts)) == ("stock", 1)
        assert "absent.json" in texts[0]

    def test_the_next_table_is_used(self, write_table, isolated, shipped_tables):
        write_table({FAMILY: [(1, 9, SPLIT)]}, shipped_tables / "here.json")
        path = isolated / "tables" / "torn.json"
        path.parent.mkdir(parents=True)
        path.write_text("{")
        name, texts = found()
        assert (name, len(texts)) == (SPLIT, 1)

    @pytest.mark.parametrize("junk", [None, 7, ["pad"], float("inf"), "nosuch", "pad multiple=8 fill=ones"], ids=repr)
    def test_a_route_that_makes_no_sense_is_stock_with_one_warning(self, write_table, isolated, junk):
        write_table({FAMILY: [(1, 7, PAD, {"route": junk})]}, isolated / "tables" / "here.json")
        name, texts = found()
        assert (name, len(texts)) == ("stock", 1)
        assert FAMILY in texts[0]

    def test_an_interval_that_makes_no_sense_is_stock_with_one_warning(self, write_table, isolated):
        write_table({FAMILY: [(1, float("inf"), PAD)]}, isolated / "tables" / "here.json")
        name, texts = found()
        assert (name, len(texts)) == ("stock", 1)


class TestSwitches:
    def test_disabled_by_the_environment(self, write_table, isolated, monkeypatch):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        stock = ORIGINAL["matmul"]
        assert Routers().op(problem(3), "cpu", stock) is not stock
        monkeypatch.setenv("AUTOTUNE_DISABLE", "1")
        off = Routers()
        assert not off.on
        assert off.op(problem(3), "cpu", stock) is stock

    def test_switched_off_and_on_again(self, write_table, isolated):
        write_table({FAMILY: [(1, 7, PAD)]}, isolated / "tables" / "here.json")
        routers, stock, told = Routers(), ORIGINAL["matmul"], []
        routers.on_change(lambda: told.append(1))
        routers.switch(False)
        assert routers.op(problem(3), "cpu", stock) is stock
        routers.switch(True)
        assert routers.op(problem(3), "cpu", stock) is not stock
        assert len(told) == 2

    def test_a_router_of_tables_that_were_put_aside_does_not_come_back(self, monkeypatch, tmp_path):
        """``use_table`` in another thread while a first call makes its router."""
        routers, real, threads = Routers(), router.Router, []

        def slow(*args):
            made = real(*args)
            if not threads:
                threads.append(threading.Thread(target=routers.use, args=(tmp_path / "new.json", False)))
                threads[0].start()
                threads[0].join(0.05)  # ends at once where nothing holds it up
            return made

        monkeypatch.setattr(router, "Router", slow)
        routers.of("cpu")
        threads[0].join()
        assert routers.of("cpu")._explicit == (tmp_path / "new.json",)

    def test_stock_is_handed_through_itself(self, write_table, isolated):
        write_table({FAMILY: [(1, 7, PAD), (8, 8, "stock")]}, isolated / "tables" / "here.json")
        stock = ORIGINAL["matmul"]
        assert all(Routers().op(problem(m), "cpu", stock) is stock for m in (8, 9))

    def test_tables_are_read_once(self, write_table, isolated, monkeypatch):
        write_table(
            {FAMILY: [(1, 7, PAD)], "matmul N=8 K=256 bf16 nt": [(1, 7, PAD)]}, isolated / "tables" / "here.json"
        )
        loads, load = [], table.load
        monkeypatch.setattr(table, "load", lambda path: loads.append(path) or load(path))
        tuned = Router("cpu")
        for m in (1, 2, 3, 9):
            for family in (FAMILY, "matmul N=8 K=256 bf16 nt", "matmul N=9 K=256 bf16 nt"):
                tuned.find(problem(m, family))
        assert len(loads) == 1

    def test_a_cause_is_warned_of_once(self):
        with recorded_warnings() as texts:
            for text in ("one", "two", "one", "two"):
                router.warn_once(text)
        assert texts == ["autotune: one", "autotune: two"]

    def test_a_cause_may_have_several_texts(self):
        with recorded_warnings() as texts:
            for text in ("for one family", "for another"):
                router.warn_once(text, key="the route")
        assert texts == ["autotune: for one family"]


def test_the_machine_of_these_tables_is_this_one(write_table):
    header = table.peek(write_table({}))
    assert header.chip.identity == machine.local("cpu").identity
    assert isinstance(write_table({}), Path)
    assert Route.parse(PAD).kernel in KERNELS


class TestManyFamilies:
    """A process that meets ever more shapes."""

    def test_those_asked_for_last_are_kept(self, write_table, isolated, monkeypatch):
        write_table({FAMILY: [(2, 3, PAD)]}, isolated / "tables" / "t.json")
        monkeypatch.setattr(router, "FAMILIES", 3)
        asked, compiled = Router("cpu"), []
        real = Router._look_up
        monkeypatch.setattr(Router, "_look_up", lambda *args: compiled.append(str(args[1])) or real(*args))
        others = [f"matmul N={n} K=512 bf16 nt" for n in (8, 16, 24, 32)]
        for text in (others[0], FAMILY, others[1], FAMILY, others[2], FAMILY, others[3]):
            asked.find(problem(3, text))
        assert compiled == [others[0], FAMILY, others[1], others[2], others[3]]
        assert route(asked, 3) == PAD
        assert len(compiled) == 5
        asked.find(problem(3, others[0]))
        assert len(compiled) == 6

    def test_a_table_keeps_nothing_of_families_that_it_lacks(self, write_table, isolated):
        loaded = table.load(write_table({FAMILY: [(2, 3, PAD)]}, isolated / "tables" / "t.json"))
        for n in (8, 16, 24):
            assert loaded.rows(f"matmul N={n} K=512 bf16 nt") == ()
        assert not loaded._parsed


def test_a_warning_names_the_programs_own_line(isolated, monkeypatch):
    """However deep in the package it is given."""
    with pytest.warns(router.RoutingWarning, match="no table is for this device") as found:
        autotune.enable()
    assert {Path(each.filename).name for each in found} == {Path(__file__).name}
