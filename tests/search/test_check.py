import json
import random
from dataclasses import replace

import pytest
from report.builders import PAD, STOCK, WIDE, timed

from autotune import kernels
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.routing import table
from autotune.search import export, results, space
from autotune.search.check import BROKEN, INCOMPLETE, RECHECK, SLOWER, STALE, check

DENSE = "matmul N=4096 K=4096 bf16 nt"


def row(m, route, speedup, family=WIDE, **fields):
    kernel = kernels.kernel(route.split()[0])
    bounds = {"speedup": speedup, "low": speedup - 0.02, "high": speedup + 0.02, "rounds": 8}
    stamp = {"kernel": kernels.fingerprint.of(kernel), "space": space.fingerprint(kernel)}
    return replace(timed(family, m, route, 50, 100), **{**bounds, **stamp, **fields})


ROWS = [
    *(row(m, STOCK, 1.0) for m in (1, 2, 3, 4)),
    row(1, PAD, 0.5), row(2, PAD, 0.9), row(3, PAD, 2.0), row(4, PAD, 2.5),
    row(8, STOCK, 1.0, DENSE), row(8, "upcast", 1.5, DENSE),
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A clean table and its CSV."""
    path = tmp_path / "h100.json"
    table.save(export.derive(ROWS), path)
    path.with_suffix(".csv").write_text(results.dumps(ROWS), "utf-8")
    return path


@pytest.fixture
def workload(tmp_path):
    """Writes a workload over ``WIDE`` at these M and returns its name."""

    def write(*ms):
        path = tmp_path / "mine.yaml"
        group = {"op": "quantized_matmul", "dtype": "f16", "quantization": "affine-b4-g64", "m": list(ms)}
        path.write_text(json.dumps({"name": "mine", "groups": [{**group, "shapes": [{"n": 13824, "k": 5120}]}]}))
        return str(path)

    return write


def line_of(path, text):
    """The number of the only line with that text."""
    (number,) = (number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)
    return number


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def kinds(findings):
    return [(finding.kind, finding.line) for finding in findings]


class TestClean:
    def test_has_no_findings(self, path):
        assert check(path) == []

    def test_also_where_ties_were_broken_for_an_older_table(self, path):
        rows = [row(3, STOCK, 1.0), row(3, PAD, 1.99), row(3, PAD.replace("zeros", "repeat"), 2.0)]
        derived = export.derive(rows, export.derive(rows[:2]))
        assert table.dumps(derived) != table.dumps(export.derive(rows))
        table.save(derived, path)
        path.with_suffix(".csv").write_text(results.dumps(rows), "utf-8")
        assert check(path) == []

    def test_also_where_it_was_made_for_programs_that_wait_for_the_gpu(self, path):
        rows = [replace(row, host_us=1e6) for row in ROWS]
        path.with_suffix(".csv").write_text(results.dumps(rows), "utf-8")
        table.save(export.derive(rows, gpu_bound=True), path)
        assert check(path) == []
        assert table.dumps(export.derive(rows)) != path.read_text("utf-8")

    def test_also_a_table_from_before_there_were_bounds(self, path):
        old = table.load(path)
        table.save(replace(old, header=replace(old.header, neighbours=None)), path)
        assert check(path) == []

    def test_the_order_of_lines_in_the_csv_does_not_matter(self, path):
        csv = path.with_suffix(".csv")
        head, *lines = csv.read_text().splitlines()
        random.Random(1).shuffle(lines)
        csv.write_text("\n".join([head, *lines]) + "\n")
        assert check(path) == []

    def test_another_mlx_or_os_is_advice_at_most(self, path):
        assert check(path, mlx=ROWS[0].mlx) == []
        found = check(path, mlx="9.9.9")
        assert {finding.kind for finding in found} == {RECHECK}
        assert not any(finding.fails for finding in found)
        assert [finding.line for finding in found] == [
            line_of(path, '"m": [8, 8]'),
            line_of(path, '"m": [1, 2]'),
            line_of(path, '"m": [3, 4]'),
        ]
        assert "measured with MLX" in found[0].text
        assert "not 9.9.9" in found[0].text


class TestBounds:
    def test_one_that_the_results_do_not_give(self, path):
        head = '"class": "quantized_matmul f16 affine-b4-g64 nt", "regret": '
        edit(path, f"{head}null", f"{head}0.01")
        (finding,) = check(path)
        assert (finding.kind, finding.fails) == (STALE, True)


class TestBroken:
    @pytest.mark.parametrize("part", [0, 0.3, 0.6, 0.99])
    def test_a_truncated_table(self, path, part):
        text = path.read_text()
        path.write_text(text[: int(part * (len(text) - 2))])
        (finding,) = check(path)
        assert (finding.kind, finding.path, finding.line, finding.fails) == (BROKEN, str(path), 1, True)

    def test_wherever_it_was_cut(self, path):
        text = path.read_text()
        for end in range(0, len(text) - 2, 7):
            path.write_text(text[:end])
            assert kinds(check(path)) == [(BROKEN, 1)]

    def test_a_missing_table(self, tmp_path):
        (finding,) = check(tmp_path / "none.json")
        assert (finding.kind, finding.line) == (BROKEN, 1)
        assert "No such file" in finding.text

    def test_bytes(self, path):
        path.write_bytes(b"\xff\xfe")
        assert kinds(check(path)) == [(BROKEN, 1)]

    def test_a_newer_schema(self, path):
        edit(path, '"schema": 1', '"schema": 2')
        (finding,) = check(path)
        assert finding.kind == BROKEN
        assert "newer" in finding.text

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"m": [3, 4], "route": "pad multiple=8', '"m": [3, 4], "route": "pad multiple=1'),
            ('"m": [3, 4], "route": "pad multiple=8', '"m": [3, 4], "route": "padd multiple=8'),
            ('"m": [3, 4]', '"m": [2, 4]'),
            ('"m": [3, 4]', '"m": [3, 8]'),
            ('"m": [3, 4]', '"m": [4, 3]'),
            ('"m": [3, 4]', '"m": 3'),
        ],
        ids=["outside the space", "unknown kernel", "overlap", "illegal at the end", "backwards", "one number"],
    )
    def test_a_route_that_cannot_be(self, path, old, new):
        edit(path, old, new)
        (finding,) = check(path)
        assert (finding.kind, finding.path) == (BROKEN, str(path))

    def test_a_missing_csv(self, path):
        csv = path.with_suffix(".csv")
        csv.unlink()
        (finding,) = check(path)
        assert (finding.kind, finding.path, finding.line) == (BROKEN, str(csv), 1)
        assert "cannot be read (No such file or directory)" in finding.text

    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe"], ids=["empty", "another", "bytes"])
    def test_a_csv_that_is_none(self, path, content):
        csv = path.with_suffix(".csv")
        csv.write_bytes(content)
        (finding,) = check(path)
        assert (finding.kind, finding.path) == (BROKEN, str(csv))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt,stock,", "something,stock,"),
            (
                "M=3 N=13824 K=5120 f16 affine-b4-g64 nt,pad multiple=8 fill=zeros,",
                "M=3 N=13824 K=5120 f16 affine-b4-g64 nt,,",
            ),
            (
                "M=3 N=13824 K=5120 f16 affine-b4-g64 nt,pad multiple=8 fill=zeros,",
                "M=3 N=13824 K=5120 f16 affine-b4-g64 nt,pad 8,",
            ),
            ("M=8 N=4096 K=4096 bf16 nt,upcast,ok,,8,", "M=8 N=4096 K=4096 bf16 nt,upcast,ok,,eight,"),
            ("M=8 N=4096 K=4096 bf16 nt,upcast,ok,,8,", 'M=8 N=4096 K=4096 bf16 nt,"upcast,ok,,8,'),
        ],
        ids=["a problem", "no route", "a route", "a number", "a quote"],
    )
    def test_a_csv_with_a_bad_line(self, path, old, new):
        csv = path.with_suffix(".csv")
        edit(csv, old, new)
        (finding,) = check(path)
        assert (finding.kind, finding.path) == (BROKEN, str(csv))

    def test_a_csv_of_two_machines(self, path):
        csv = path.with_suffix(".csv")
        csv.write_text(results.dumps([*ROWS[:-1], replace(ROWS[-1], cores=114)]))
        (finding,) = check(path)
        assert (finding.kind, finding.path) == (BROKEN, str(csv))


class TestEdited:
    def test_a_speedup(self, path):
        edit(path, '"speedup": [2.0, 1.98, 2.02]', '"speedup": [3.0, 2.98, 3.02]')
        (finding,) = check(path)
        assert (finding.kind, finding.path, finding.line) == (STALE, str(path), 1)
        assert finding.text == "h100.json is not what h100.csv gives"
        assert finding.remedy == f"run: autotune export --from-csv {path.with_suffix('.csv')}"

    def test_a_route(self, path):
        edit(
            path,
            '"m": [3, 4], "route": "pad multiple=8 fill=zeros"',
            '"m": [3, 4], "route": "pad multiple=16 fill=zeros"',
        )
        (finding,) = check(path)
        assert (finding.kind, finding.text) == (STALE, "h100.json is not what h100.csv gives")

    def test_stock_made_a_gain(self, path):
        edit(path, '"m": [1, 2], "route": "stock"', '"m": [1, 2], "route": "upcast"')
        assert STALE in [finding.kind for finding in check(path)]

    def test_a_route_that_is_slower_by_its_own_evidence(self, path):
        edit(path, '"speedup": [2.0, 1.98, 2.02]', '"speedup": [1.04, 1.02, 1.06]')
        stale, slower = check(path)
        assert (stale.kind, stale.line) == (STALE, 1)
        assert (slower.kind, slower.path, slower.line) == (SLOWER, str(path), line_of(path, '"m": [3, 4]'))
        assert slower.text == (
            f"{WIDE}, M=3..4, {PAD}: its own evidence puts the speedup as low as 1.02, below the margin"
        )
        assert slower.remedy == "run on h100: autotune sweep && autotune export"

    def test_the_csv(self, path):
        edit(path.with_suffix(".csv"), ",2.5,2.48,2.52,", ",1.9,1.88,1.92,")
        assert kinds(check(path)) == [(STALE, 1)]

    def test_the_csv_so_that_bounds_make_no_sense(self, path):
        edit(path.with_suffix(".csv"), ",2.5,2.48,2.52,", ",2.5,2.48,0.52,")
        (finding,) = check(path)
        assert finding.kind in (BROKEN, STALE)

    def test_a_line_less_in_the_csv(self, path):
        csv = path.with_suffix(".csv")
        csv.write_text("".join(line for line in csv.read_text().splitlines(True) if ",upcast," not in line))
        assert kinds(check(path)) == [(STALE, 1)]

    def test_a_family_less_in_the_table(self, path):
        table.save(replace(table.load(path), families={WIDE: table.load(path).families[WIDE]}), path)
        assert kinds(check(path)) == [(STALE, 1)]

    def test_another_chip_in_the_header(self, path):
        edit(path, '"cores": 132', '"cores": 114')
        assert kinds(check(path)) == [(STALE, 1)]

    def test_layout(self, path):
        path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
        assert (STALE, 1) in kinds(check(path))

    def test_any_character_of_a_route(self, path):
        """Whatever is changed in the routes is found, and nothing makes the check itself fail."""
        text = path.read_text()
        first, rng = text.index('"families"'), random.Random(4)
        for _ in range(300):
            at = rng.randrange(first, len(text) - 1)
            new = rng.choice(["", "0", "9", "x", '"', ",", "]", "é"])
            if text[at] != new and not (text[at].isspace() and new == ""):
                path.write_text(text[:at] + new + text[at + 1 :], "utf-8")
                assert any(finding.fails for finding in check(path)), (at, new)

    def test_any_character_of_the_csv(self, path):
        csv = path.with_suffix(".csv")
        text, rng = csv.read_text(), random.Random(4)
        for _ in range(300):
            at = rng.randrange(len(text))
            csv.write_text(text[:at] + rng.choice(["", "0", "9", "x", '"', ",", "\n", "é"]) + text[at + 1 :], "utf-8")
            for finding in check(path):
                assert finding.kind in (BROKEN, STALE)


class TestFingerprints:
    def test_a_kernel_that_changed(self, path, monkeypatch):
        of = kernels.fingerprint.of
        monkeypatch.setattr(kernels.fingerprint, "of", lambda kernel: "new" if kernel.name == "pad" else of(kernel))
        (finding,) = check(path)
        assert (finding.kind, finding.path, finding.line) == (STALE, str(path), line_of(path, '"m": [3, 4]'))
        assert finding.text == f"{WIDE}, M=3..4, {PAD}: kernel pad changed since it was measured"
        assert finding.remedy == "run on h100: autotune sweep && autotune export"

    def test_a_space_that_changed(self, path, monkeypatch):
        of = space.fingerprint
        monkeypatch.setattr(space, "fingerprint", lambda kernel: "new" if kernel.name == "upcast" else of(kernel))
        (finding,) = check(path)
        assert (finding.kind, finding.line) == (STALE, line_of(path, '"m": [8, 8]'))
        assert "M=8..8, upcast: the space of upcast changed since it was searched" in finding.text

    def test_stock_routes_count_too(self, path, monkeypatch):
        of = kernels.fingerprint.of
        monkeypatch.setattr(kernels.fingerprint, "of", lambda kernel: "new" if kernel.name == "stock" else of(kernel))
        assert kinds(check(path)) == [(STALE, line_of(path, '"m": [1, 2]'))]


class TestCoverage:
    @pytest.fixture(autouse=True)
    def few_routes(self, monkeypatch):
        """A problem is covered as soon as stock was timed, unless a test says what else is legal."""
        monkeypatch.setattr(space, "legal_routes", lambda *_: [Route.parse("stock")])

    def test_a_legal_route_without_a_row_is_not_covered(self, path, workload, monkeypatch):
        legal = [Route.parse("stock"), Route.parse(str(PAD)), Route.parse("chunk rows=1")]
        monkeypatch.setattr(space, "legal_routes", lambda *_: legal)
        assert kinds(check(path, [workload(3)])) == [(INCOMPLETE, 1)]

    def test_a_workload_that_was_measured(self, path, workload):
        assert check(path, [workload(1, 2, 3, 4)]) == []

    def test_one_that_was_not(self, path, workload):
        name = workload(2, 5, 3, 6)
        (finding,) = check(path, [name])
        assert (finding.kind, finding.path, finding.line) == (INCOMPLETE, str(path), 1)
        missing = Problem.parse(WIDE.replace(" N", " M=5 N", 1))
        assert finding.text == f"2 problems of workload {name} were not measured in full, such as {missing}"
        assert finding.remedy == f"run on h100: autotune sweep --workload {name} && autotune export"

    def test_a_problem_without_stock_was_not_measured(self, path, workload):
        rows = [*ROWS, row(5, PAD, 2.0)]
        table.save(export.derive(rows), path)
        path.with_suffix(".csv").write_text(results.dumps(rows), "utf-8")
        assert kinds(check(path, [workload(1, 5)])) == [(INCOMPLETE, 1)]

    def test_the_header_binds(self, path):
        table.save(export.derive(ROWS, workloads=("quick",)), path)
        assert kinds(check(path)) == [(INCOMPLETE, 1)]

    def test_named_twice_is_found_once(self, path):
        table.save(export.derive(ROWS, workloads=("quick",)), path)
        assert len(check(path, ["quick"])) == 1

    def test_a_workload_that_is_gone(self, path):
        table.save(export.derive(ROWS, workloads=("quickk",)), path)
        (finding,) = check(path)
        assert (finding.kind, finding.path) == (BROKEN, str(path))
        assert "unknown workload 'quickk'" in finding.text

    def test_a_workload_that_is_no_name(self, path):
        edit(path, '"workloads": []', '"workloads": [1]')
        assert [finding.kind for finding in check(path)] == [BROKEN]
