"""What ``show --times`` makes of a table and the measurements beside it."""

from __future__ import annotations

import math
import re

import pytest
from rich.console import Console

from autotune.errors import AutotuneError
from autotune.problem import Family
from autotune.report import times
from autotune.report.times import Group
from report.builders import DENSE, PAD, STOCK, WIDE, header, make, problem, refused, row, timed

NARROW = WIDE.replace("N=13824", "N=1024")
BRAIN = WIDE.replace("f16", "bf16")
ROWS = {
    WIDE: [row(1, 2), row(3, 7, PAD, 2.0)],
    NARROW: [row(1, 7, PAD, 3.0)],
    BRAIN: [row(3, 3, PAD, 1.5)],
}
TABLE = make(ROWS)
RESULTS = [
    timed(WIDE, 1, STOCK, 40, 40), timed(WIDE, 1, PAD, 80, 40),
    timed(WIDE, 3, STOCK, 100, 100), timed(WIDE, 3, PAD, 50, 104),
    timed(NARROW, 3, STOCK, 30, 30), timed(NARROW, 3, PAD, 10, 30),
    timed(BRAIN, 3, STOCK, 60, 60), timed(BRAIN, 3, PAD, 40, 60),
]  # fmt: skip


def shown(found, width=200):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        for part in times.text([found], width):
            console.print(part)
    return [re.sub("  +", " | ", line.strip()) for line in captured.get().splitlines()]


def family(text):
    return problem(text, 1).family


def cells(found):
    return {(str(cell.problem.family), cell.problem.m): cell for cell in found.all}


def test_a_cell_has_the_times_of_both_sides_of_a_round():
    """A route's stock is the one that it was timed in turns with."""
    cell = cells(times.times(TABLE, RESULTS))[WIDE, 3]
    assert (cell.stock_us, cell.routed_us, cell.routed) == (104, 50, True)
    assert cell.speedup.value == pytest.approx(2.08, abs=0.01)


def test_on_stock_both_sides_are_one():
    cell = cells(times.times(TABLE, RESULTS))[WIDE, 1]
    assert (cell.stock_us, cell.routed_us, cell.speedup.value, cell.routed) == (40, 40, 1.0, False)


def test_lines_of_m_and_columns_of_shapes_by_class():
    assert shown(times.times(TABLE, RESULTS))[:9] == [
        "quantized_matmul f16 affine-b4-g64 nt",
        "M | N=1024 K=5120 | N=13824 K=5120 | geomean",
        "1 | 40.0, stock | 1.00x of 1",
        "3 | 30.0 to 10.0, 3.00x | 104 to 50.0, 2.08x | 2.50x",
        "",
        "quantized_matmul bf16 affine-b4-g64 nt",
        "M | N=13824 K=5120 | geomean",
        "3 | 60.0 to 40.0, 1.50x | 1.50x",
        "",
    ]


def test_the_end_says_what_was_gained_where():
    last = " ".join(shown(times.times(TABLE, RESULTS))[9:])
    assert "4 products, 3 off stock; geometric mean 1.75x; off stock 2.11x" in last
    assert "from 1.50x (M=3 N=13824 K=5120) to 3.00x (M=3 N=1024 K=5120)" in last
    assert times.geometric(times.times(TABLE, RESULTS).all) == pytest.approx(math.prod((1, 2.08, 3, 1.5)) ** 0.25, 1e-4)


def test_all_on_stock_has_no_least_and_no_most():
    found = times.times(TABLE, RESULTS, ms=[1])
    assert times.summary(found) == "1 product, 0 off stock; geometric mean 1.00x"


def test_some_m_and_some_families():
    assert set(cells(times.times(TABLE, RESULTS, ms=[3]))) == {(WIDE, 3), (NARROW, 3), (BRAIN, 3)}
    assert set(cells(times.times(TABLE, RESULTS, "n=13824 F16 ", ms=[3]))) == {(WIDE, 3)}
    assert set(cells(times.times(TABLE, RESULTS, "n=13824 bf16", ms=[3]))) == {(BRAIN, 3)}
    assert set(cells(times.times(TABLE, RESULTS, "N=1024"))) == {(NARROW, 3)}


def test_a_workload_gives_the_shapes_and_their_order():
    found = times.times(TABLE, RESULTS, order=[family(WIDE), family(NARROW), family(WIDE)])
    assert shown(found)[1] == "M | N=13824 K=5120 | N=1024 K=5120 | geomean"
    assert found.groups == (Group("quantized_matmul f16 affine-b4-g64 nt", (family(WIDE), family(NARROW))),)


def shape(number) -> Family:
    return family(WIDE.replace("N=13824", f"N={64 * number}"))


def test_five_shapes_stand_beside_each_other_also_where_some_were_not_measured():
    """So that models of five shapes, of which a workload has one after the other, stay apart."""
    order = [shape(number) for number in range(1, 12)]
    measured = [order[at] for at in (0, 4, 5, 10)]
    table = make({str(each): [row(3, 3, PAD, 2.0)] for each in measured})
    rows = [timed(str(each), 3, route, us, 100) for each in measured for route, us in ((STOCK, 100), (PAD, 50))]
    found = times.times(table, rows, order=order)
    assert [group.families for group in found.groups] == [(order[0], order[4]), (order[5],), (order[10],)]
    assert [title for title, _, _ in times.grids(found)] == ["quantized_matmul f16 affine-b4-g64 nt"] * 3


class TestWidth:
    """Seven shapes without a workload, and M = 5 of the first alone."""

    @pytest.fixture
    def found(self):
        families = [shape(number) for number in range(1, 8)]
        table = make({str(each): [row(3, 5, PAD, 2.0)] for each in families})
        at = [(each, 3) for each in families] + [(families[0], 5)]
        rows = [timed(str(each), m, route, us, 100) for each, m in at for route, us in ((STOCK, 100), (PAD, 50))]
        return times.times(table, rows)

    @pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 132, 10_000])
    def test_nothing_is_cut_and_nothing_is_twice(self, found, width):
        lines = shown(found, width)
        heads = [line for line in lines if line.startswith("M | ")]
        assert " | ".join(heads).count("N=") == 7
        assert [line for line in lines if line.startswith("3 | ")] == [
            "3" + " | 100 to 50.0, 2.00x" * head.count("N=") + " | 2.00x" * ("geomean" in head) for head in heads
        ]

    def test_as_many_shapes_as_fit_and_no_more_than_five(self, found):
        def numbers(width):
            return [len(head) - 1 - ("geomean" in head) for _, head, _ in times.grids(found, width)]

        assert numbers(10_000) == [5, 2]
        assert numbers(1 + 3 * (2 + 18)) == [3, 3, 1]
        assert numbers(3 * (2 + 18)) == [2, 2, 2, 1]
        assert numbers(1) == [*[1] * 7, 0]

    def test_the_means_go_where_they_fit(self, found):
        """They are 10 wide: 2.00x of 1."""
        wide, narrow = (list(times.grids(found, 1 + 20 + 2 + number)) for number in (10, 9))
        assert [head[1:] for _, head, _ in wide][-1] == ["N=448 K=5120", "geomean"]
        assert [head[1:] for _, head, _ in narrow][-2:] == [["N=448 K=5120"], ["geomean"]]
        assert narrow[-1][2] == [["3", "2.00x"], ["5", "2.00x of 1"]]

    def test_pieces_say_which_they_are_and_the_last_has_the_means(self, found):
        (one, first, _), (two, second, lines) = times.grids(found, 10_000)
        assert (one[-8:], two[-8:]) == ("(1 of 2)", "(2 of 2)")
        assert (first[-1], second[-1]) == ("N=320 K=5120", "geomean")
        assert [line[-1] for line in lines] == ["2.00x", "2.00x of 1"]

    def test_an_m_of_other_pieces_alone_has_no_line(self, found):
        first, second = times.grids(found)
        assert [line[0] for line in first[2]] == ["3", "5"]
        assert second[2][1:] == [["5", "", "", "2.00x of 1"]]
        middle = list(times.grids(found, 30))[3]
        assert [line[0] for line in middle[2]] == ["3"]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [timed(WIDE, 3, STOCK, 100, 100)],
        [timed(WIDE, 3, PAD, 50, 100)],
        [timed(WIDE, 9, STOCK, 100, 100), timed(WIDE, 9, PAD, 50, 100)],
        [timed(WIDE, 3, STOCK, 100, 100), refused(WIDE, 3, PAD, "failed", "no")],
        [timed(WIDE, 3, STOCK, 100, 100, load="queued"), timed(WIDE, 3, PAD, 50, 100, load="queued")],
    ],
    ids=["nothing", "no route", "no stock", "no row", "no time", "another load"],
)
def test_what_was_not_measured_for_the_table_is_no_cell(results):
    with pytest.raises(AutotuneError, match="nothing of that was measured"):
        times.times(TABLE, results)
    assert len(times.times(TABLE, [*RESULTS[4:6], *results]).all) == 1


def test_marks_for_what_was_timed_otherwise_and_for_a_busy_machine():
    rows = [
        timed(WIDE, 3, STOCK, 100, 100, low=0.85, high=1.1), timed(WIDE, 3, PAD, 50, 100),
        timed(NARROW, 3, STOCK, 30, 30, clock="gated"), timed(NARROW, 3, PAD, 10, 30, clock="gated"),
    ]  # fmt: skip
    text = "\n".join(shown(times.times(TABLE, rows)))
    assert "30.0 to 10.0, 3.00x | 100 to 50.0, 2.00x°*" in text
    assert "* stock was more than 15% from itself." in text
    assert "° plain times" in text
    alone = "\n".join(shown(times.times(TABLE, rows[2:])))
    assert "°" not in alone + "\n".join(shown(times.times(TABLE, rows[:2])))
    assert "the GPU's time alone" in alone
    assert "the GPU's time alone" not in text


def test_where_numbers_come_from_is_said():
    said = times.notes(times.times(TABLE, RESULTS))[0]
    assert "on NVIDIA H100 80GB HBM3, MLX 0." in said
    assert "2025-11-20; calls linked in a chain" in said
    simulated = make(ROWS, header(source="simulated", load="queued"))
    rows = [timed(WIDE, 3, route, us, 100, load="queued") for route, us in ((STOCK, 100), (PAD, 50))]
    said = times.notes(times.times(simulated, rows))[0]
    assert "by a model of NVIDIA" in said
    assert "independent of each other" in said


def test_markdown():
    text = times.markdown([times.times(TABLE, RESULTS, "N=1024")])
    assert text.splitlines()[:5] == [
        "`quantized_matmul f16 affine-b4-g64 nt`",
        "",
        "| M | N=1024 K=5120 | geomean |",
        "| ---: | ---: | ---: |",
        "| 3 | 30.0 to 10.0, **3.00x** | 3.00x |",
    ]


def test_json():
    (found,) = times.document([times.times(TABLE, RESULTS, "N=1024")])["tables"]
    assert found["chip"]["id"] == "h100"
    assert found["geometric_mean"] == pytest.approx(3.0, abs=0.01)
    (cell,) = found["times"]
    assert (cell["problem"], cell["route"], cell["routed_us"]) == (str(problem(NARROW, 3)), PAD, 10)


def test_what_gains_most_comes_next():
    found = [times.times(TABLE, RESULTS, "bf16"), times.times(TABLE, RESULTS, "f16")]
    assert times.next_step(found) == f"autotune explain '{problem(NARROW, 3)}'"
    assert times.next_step(found[:1], "--chip h100") == f"autotune explain '{problem(BRAIN, 3)}' --chip h100"


def test_a_dense_family_is_one_too():
    table = make({DENSE: [row(3, 3, PAD, 2.0)]})
    found = times.times(table, [timed(DENSE, 3, STOCK, 10, 10), timed(DENSE, 3, PAD, 5, 10)])
    assert found.groups[0].class_ == "matmul bf16 nt"
