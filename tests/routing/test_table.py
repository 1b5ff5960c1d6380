from __future__ import annotations

import copy
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import table_header, table_row

from autotune.errors import AutotuneError, TableError, UsageError
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.routing import table
from autotune.routing.neighbours import Bound

DENSE = "matmul N=64 K=256 bf16 nt"
QUANTIZED = "quantized_matmul N=64 K=256 f16 affine-b4-g64 nt"
FAMILIES = {
    QUANTIZED: [
        table_row(2, 7, "pad multiple=8 fill=zeros"),
        table_row(8, 8, "stock"),
        table_row(9, 12, "chunk rows=8", {"speedup": [1.25, 1.125, 1.375], "at": 11}),
    ],
    DENSE: [table_row(1, 4, "upcast")],
    "addmm N=64 K=256 B=3 bf16 nn full": [table_row(3, 3, "upcast")],
}


BOUNDS = (
    Bound("matmul bf16 nt", 0.021, 1.8, 22, 60, 1, 0),
    Bound("quantized_matmul f16 affine-b4-g64 nt", None, 1.0, 0, 0, 0, 0),
)


def made(families=FAMILIES, **header) -> table.Table:
    return table.Table(table_header(**header), copy.deepcopy(dict(families)))


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "here.json"
    table.save(made(neighbours=BOUNDS), path)
    return path


def all_rows(path: Path) -> dict[str, tuple[table.Row, ...]]:
    return dict(table.load(path))


class TestRoundTrip:
    def test_text_is_the_same_after_loading(self, path):
        text = path.read_bytes()
        loaded = table.load(path)
        assert table.dumps(loaded).encode() == text
        table.save(loaded, path)
        assert path.read_bytes() == text

    def test_text_does_not_depend_on_the_order_of_families(self):
        backwards = dict(reversed(FAMILIES.items()))
        assert list(backwards) != list(FAMILIES)
        assert table.dumps(made(backwards)) == table.dumps(made())

    def test_text_without_families(self, tmp_path):
        table.save(made({}), tmp_path / "empty.json")
        assert all_rows(tmp_path / "empty.json") == {}
        assert table.load(tmp_path / "empty.json").count == 0

    def test_one_route_a_line(self, path):
        routes = [line for line in path.read_text().splitlines() if '"route"' in line]
        assert len(routes) == table.load(path).count == 5
        assert all(json.loads(line.rstrip(","))["m"] for line in routes)

    def test_header_and_rows_are_read_as_written(self, path):
        loaded = table.load(path)
        assert loaded.header == table_header(neighbours=BOUNDS)
        assert loaded.path == str(path)
        last = loaded.rows(QUANTIZED)[-1]
        assert (last.first, last.last, last.at, str(last.route)) == (9, 12, 11, "chunk rows=8")
        assert (last.speedup, last.low, last.high) == (1.25, 1.125, 1.375)
        assert last.as_json() == FAMILIES[QUANTIZED][2]

    def test_one_bound_a_line(self, path):
        bounds = [line for line in path.read_text().splitlines() if '"class"' in line]
        assert [json.loads(line.rstrip(","))["regret"] for line in bounds] == [0.021, None]

    def test_a_table_from_before_there_were_bounds(self, tmp_path):
        """It loads, is written as it was, and routes nothing beyond its shapes."""
        table.save(made(), tmp_path / "old.json")
        assert "neighbours" not in (tmp_path / "old.json").read_text()
        old = table.load(tmp_path / "old.json")
        assert old.header.neighbours is None
        assert old.neighbour(table.parse_family(DENSE.replace("64", "128"))) is None
        assert table.dumps(old) == (tmp_path / "old.json").read_text()

    def test_none_fitted_is_not_the_same_as_none_asked(self, tmp_path):
        table.save(made(neighbours=()), tmp_path / "new.json")
        assert table.load(tmp_path / "new.json").header.neighbours == ()

    def test_the_route_at_an_m_is_that_of_the_row_that_covers_it(self, path):
        rows = table.load(path).rows(DENSE)
        covered = {m: row.route for row in rows for m in (row.first, row.last)}
        assert covered
        assert {m: table.route_at(rows, m) for m in covered} == covered
        assert table.route_at(rows, rows[-1].last + 1) is None
        assert table.route_at((), 1) is None

    def test_a_family_that_the_table_lacks_has_no_rows(self, path):
        assert table.load(path).rows("matmul N=65 K=256 f16 nt") == ()


class TestPeek:
    def test_is_the_header_that_load_reads(self, path):
        assert table.peek(path) == table.load(path).header

    def test_does_not_read_the_routes(self, path):
        head, families, _ = path.read_text().partition('"families"')
        path.write_text(f"{head}{families}: [ this is torn")
        assert table.peek(path) == table_header(neighbours=BOUNDS)
        with pytest.raises(TableError, match="truncated or no JSON"):
            table.load(path)

    def test_reads_a_table_that_something_else_formatted(self, path):
        path.write_text(json.dumps(json.loads(path.read_text()), indent=8))
        assert table.peek(path) == table_header(neighbours=BOUNDS)
        path.write_text(json.dumps(json.loads(path.read_text())))
        assert table.peek(path) == table_header(neighbours=BOUNDS)

    @pytest.mark.parametrize(
        ("field", "value", "part"),
        [
            ("schema", table.SCHEMA + 1, "newer than this autotune"),
            ("schema", None, "no schema"),
            ("schema", "1", "no schema"),
            ("source", "guessed", "source 'guessed' is none of measured, simulated"),
            ("margin", "much", "malformed header"),
            ("chip", None, "malformed header"),
            ("chip", {"id": "x"}, "malformed header"),
            ("neighbours", None, "malformed header"),
            ("neighbours", "abc", "malformed header"),
            ("neighbours", [{"class": "matmul bf16 nt"}], "malformed header"),
            ("neighbours", [{**BOUNDS[0].as_json(), "regret": "0"}], "malformed header"),
            ("neighbours", [{**BOUNDS[0].as_json(), "regret": 10**400}], "malformed header"),
            ("margin", 10**400, "malformed header"),
        ],
    )
    def test_a_bad_header_is_refused_by_peek_and_load(self, path, field, value, part):
        raw = json.loads(path.read_text())
        raw[field] = value
        path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in raw.items()) + "\n}\n")
        for read in (table.peek, table.load):
            with pytest.raises(TableError, match=part):
                read(path)

    @pytest.mark.parametrize("field", ["schema", "chip", "source", "autotune", "load", "margin", "noise"])
    def test_a_header_without_a_field_is_refused(self, path, field):
        raw = json.loads(path.read_text())
        del raw[field]
        path.write_text(json.dumps(raw))
        for read in (table.peek, table.load):
            with pytest.raises(TableError):
                read(path)


class TestTorn:
    def test_truncated_anywhere(self, path):
        whole = path.read_bytes()
        assert whole.endswith(b"\n]\n}\n")
        for length in range(len(whole) - 2):
            path.write_bytes(whole[:length])
            with pytest.raises(TableError) as caught:
                table.load(path)
            assert str(path) in str(caught.value)
            try:
                header = table.peek(path)
            except TableError:
                continue
            assert header == table_header(neighbours=BOUNDS)

    @pytest.mark.parametrize("seed", range(3))
    def test_with_other_bytes_in_places(self, path, seed):
        whole, rng = path.read_bytes(), random.Random(seed)
        for _ in range(150):
            torn = bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 8))):
                torn[rng.randrange(len(torn))] = rng.randrange(256)
            path.write_bytes(torn)
            read_all_or_table_error(path, bytes(torn))

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"7",
            b'"families"',
            b"\x00\x01",
            b"\xff\xfe{}",
            b"[" * 100_000,
            b'{"schema": 1' + b"0" * 5000 + b"}",
            b'{"schema": 1}',
            b'{"schema": 1, "families": []}',
            b'"families": []\n',
        ],
        ids=lambda text: repr(text[:16]),
    )
    def test_something_else_altogether(self, tmp_path, text):
        path = tmp_path / "other.json"
        path.write_bytes(text)
        for read in (table.peek, table.load):
            with pytest.raises(TableError):
                read(path)

    def test_no_file_and_a_folder(self, tmp_path):
        for path in (tmp_path, tmp_path / "absent.json"):
            for read in (table.peek, table.load):
                with pytest.raises(TableError, match="cannot be read"):
                    read(path)

    @pytest.mark.parametrize(
        "junk", [None, True, -1, 0, 1.5, float("inf"), float("nan"), "", "x", "1 2", [], [1], {}, {"m": 1}], ids=repr
    )
    def test_any_value_replaced_by_junk(self, path, junk):
        whole = json.loads(path.read_text())
        for place in places(whole):
            raw = copy.deepcopy(whole)
            holder = raw
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = junk
            path.write_text(json.dumps(raw))
            read_all_or_table_error(path, place)


def places(value, at=()):
    """The paths of all values in a JSON document, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def read_all_or_table_error(path: Path, what: object) -> None:
    """Everything that a router or a report does with a file raises TableError or nothing."""
    for read in (table.peek, all_rows, lambda path: table.load(path).rows(QUANTIZED)):
        error = raised_by(read, path)
        assert error is None or isinstance(error, TableError), (what, repr(error))


def raised_by(read, path: Path) -> Exception | None:
    try:
        read(path)
    except Exception as error:
        return error
    return None


class TestRows:
    def rows(self, tmp_path, rows, family=QUANTIZED):
        path = tmp_path / "rows.json"
        table.save(made({family: rows}), path)
        return table.load(path).rows(family)

    @pytest.mark.parametrize(
        ("rows", "part"),
        [
            ([(2, 7, "pad multiple=8 fill=ones")], "outside its kernel's space at M=2"),
            ([(2, 7, "pad multiple=8")], "outside its kernel's space"),
            ([(2, 7, "pad fill=zeros multiple=8")], "outside its kernel's space"),
            ([(2, 7, "pad multiple=4097 fill=zeros")], "outside its kernel's space"),
            ([(2, 8, "pad multiple=8 fill=zeros")], "at M=8"),
            ([(2, 7, "split_k parts=2")], "outside its kernel's space"),
            ([(2, 7, "stock rows=2")], "outside its kernel's space"),
            ([(2, 7, "padd multiple=8 fill=zeros")], "unknown kernel 'padd': did you mean pad"),
            ([(2, 7, "pad multiple")], "a route is KERNEL NAME=VALUE"),
            ([(2, 7, "")], "empty route"),
            ([(2, 7, "stock"), (7, 9, "stock")], "overlap at 7"),
            ([(2, 7, "stock"), (3, 4, "stock")], "overlap at 3"),
            ([(5, 7, "stock"), (2, 3, "stock")], "overlap at 2"),
            ([(7, 2, "stock")], "overlap at 7"),
            ([(0, 2, "stock")], "empty dimension"),
        ],
    )
    def test_bad_rows_are_refused(self, tmp_path, rows, part):
        with pytest.raises(TableError, match=part):
            self.rows(tmp_path, [table_row(*row) for row in rows])

    @pytest.mark.parametrize(
        "field", ["m", "route", "speedup", "at", "samples", "error", "kernel", "mlx", "os", "date"]
    )
    def test_a_row_without_a_field_is_malformed(self, tmp_path, field):
        row = table_row(2, 7, "stock")
        del row[field]
        with pytest.raises(TableError, match="malformed route"):
            self.rows(tmp_path, [row])

    def test_a_bad_family_does_not_take_the_others_with_it(self, path):
        raw = json.loads(path.read_text())
        raw["families"][0]["routes"][0]["route"] = "nosuch"
        bad, *good = (block["family"] for block in raw["families"])
        path.write_text(json.dumps(raw))
        loaded = table.load(path)
        with pytest.raises(TableError):
            loaded.rows(bad)
        assert all(loaded.rows(family) for family in good)

    def test_a_family_may_not_stand_twice(self, path):
        raw = json.loads(path.read_text())
        raw["families"].append(raw["families"][0])
        path.write_text(json.dumps(raw))
        with pytest.raises(TableError, match="stands twice"):
            table.load(path)

    def test_adjacent_intervals_and_gaps_are_fine(self, tmp_path):
        rows = self.rows(tmp_path, [table_row(1, 1, "stock"), table_row(2, 7, "stock"), table_row(11, 11, "stock")])
        assert [(row.first, row.last) for row in rows] == [(1, 1), (2, 7), (11, 11)]


class TestSave:
    def test_makes_the_folder(self, tmp_path):
        path = tmp_path / "a" / "b" / "here.json"
        table.save(made(), path)
        assert table.peek(path) == table_header()

    def test_leaves_nothing_but_the_table(self, path):
        table.save(made({}), path)
        assert os.listdir(path.parent) == ["here.json"]
        assert table.load(path).count == 0

    def test_a_parent_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(AutotuneError, match="cannot write"):
            table.save(made(), tmp_path / "file" / "here.json")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
    def test_a_folder_that_is_read_only(self, path):
        old = path.read_text()
        path.parent.chmod(0o500)
        try:
            with pytest.raises(AutotuneError, match="the old file is untouched"):
                table.save(made({}), path)
        finally:
            path.parent.chmod(0o700)
        assert path.read_text() == old
        assert os.listdir(path.parent) == ["here.json"]

    @pytest.mark.parametrize("step", ["os.replace", "pathlib.Path.write_text"])
    def test_a_disk_that_fails_on_the_way(self, path, monkeypatch, step):
        old = path.read_text()

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(step, full)
            with pytest.raises(AutotuneError, match="No space left on device"):
                table.save(made({}), path)
        assert path.read_text() == old
        assert os.listdir(path.parent) == ["here.json"]

    def test_a_folder_in_the_files_place(self, tmp_path):
        (tmp_path / "here.json").mkdir()
        with pytest.raises(AutotuneError, match="cannot write"):
            table.save(made(), tmp_path / "here.json")
        assert os.listdir(tmp_path) == ["here.json"]


class TestOfChip:
    def test_the_first_folder_wins_and_torn_files_are_passed_over(self, tmp_path):
        one, two = tmp_path / "one", tmp_path / "two"
        table.save(made(id="m4pro"), two / "a.json")
        table.save(made(id="m5max"), two / "b.json")
        table.save(made(id="m4pro"), one / "z.json")
        (one / "a.json").write_text("{")
        assert table.of_chip("m4pro", [one, two]) == one / "z.json"
        assert table.of_chip("m4pro", [two, one]) == two / "a.json"
        assert table.of_chip("m5max", [one, two]) == two / "b.json"
        assert table.of_chip("h100", [one, two, tmp_path / "absent"]) is None

    def test_a_measured_one_goes_before_a_simulated_one(self, tmp_path):
        simulated = made(id="m5max")
        simulated = replace(simulated, header=replace(simulated.header, source="simulated"))
        table.save(simulated, tmp_path / "a.json")
        assert table.of_chip("m5max", [tmp_path]) == tmp_path / "a.json"
        table.save(made(id="m5max"), tmp_path / "b.json")
        assert table.of_chip("m5max", [tmp_path]) == tmp_path / "b.json"


class TestTexts:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_families_round_trip(self, family):
        assert str(table.parse_family(family)) == family
        assert table.problem_at(family, 9) == Problem.parse(family.replace(" N=", " M=9 N=", 1))

    @pytest.mark.parametrize("text", ["", "matmul", "matmul N=64", "conv N=64 K=64 f16 nt"])
    def test_texts_that_are_no_family(self, text):
        with pytest.raises(UsageError):
            table.parse_family(text)

    def test_routes_are_written_as_text(self):
        row = table.Row.from_json(table_row(2, 7, "pad multiple=8 fill=zeros"))
        assert row.route == Route.of("pad", {"multiple": 8, "fill": "zeros"})


class TestNeighbour:
    """A class with a bound that holds, and one without."""

    SHAPES = ((64, 512), (128, 512), (128, 1024), (256, 1024))

    @pytest.fixture
    def tuned(self, tmp_path):
        families = {f"matmul N={n} K={k} bf16 nt": [table_row(1, 4, "upcast")] for n, k in self.SHAPES}
        families |= {f"matmul N={n} K={k} f16 nt": [table_row(1, 4, "upcast")] for n, k in self.SHAPES}
        bounds = (BOUNDS[0], Bound("matmul f16 nt", 0.06, 2.0, 30, 60, 0, 0))
        return made(families, neighbours=bounds)

    def of(self, tuned, text):
        found = tuned.neighbour(table.parse_family(text))
        return found and str(found.family)

    def test_the_nearest_of_the_class(self, tuned):
        assert self.of(tuned, "matmul N=192 K=1024 bf16 nt") == "matmul N=256 K=1024 bf16 nt"
        found = tuned.neighbour(table.parse_family("matmul N=192 K=1024 bf16 nt"))
        assert (found.factor, found.bound) == (256 / 192, BOUNDS[0])

    @pytest.mark.parametrize("of", ["f16 nt", "f32 nt", "bf16 nn"])
    def test_a_class_whose_bound_is_too_large_or_missing(self, tuned, of):
        assert self.of(tuned, f"matmul N=192 K=1024 {of}") is None

    def test_no_farther_than_was_measured(self, tuned):
        """The bound's reach is 1.8 and the nearest shape twice as small."""
        assert self.of(tuned, "matmul N=128 K=512 bf16 nt") is None

    def test_a_family_that_cannot_be_read_is_passed_over(self, tuned):
        tuned.families["matmul N=x K=1024 bf16 nt"] = []
        assert self.of(tuned, "matmul N=192 K=1024 bf16 nt") == "matmul N=256 K=1024 bf16 nt"
