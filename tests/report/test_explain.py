"""Why a problem takes its route: agreement with the router, and what is said of evidence, rivals and rooflines."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

from autotune import machine
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.report import explain_text, tables
from autotune.report.explain import achieved, beside, deciding, document, explain, layout_note, look_up, measured
from autotune.routing.router import Router
from autotune.routing.table import ChipKey, load
from autotune.search import results
from report.builders import DENSE, H100, PAD, REPEAT, STOCK, WIDE, header, make, problem, refused, row, saved, timed

ROWS = [
    row(1, 2, STOCK, 0.98),
    row(3, 7, PAD, 2.91),
    row(8, 16, "upcast", 1.3, kernel="old"),
    row(17, 40, "chunk rows=16", 1.3),
    row(64, 128, "dequantize compute=native", 1.2, mlx="0.1.0"),
]


@pytest.mark.parametrize(
    ("m", "route", "why"),
    [
        (1, STOCK, "the row M=1..2 keeps stock: its best rival's 0.98x [0.93, 1.03] does not clear 3 %"),
        (3, PAD, "the row M=3..7 says so"),
        (8, STOCK, "the row M=8..16 (upcast) is stale and not used: kernel upcast changed since it was measured"),
        (64, STOCK, "is stale and not used: measured with MLX 0.1.0"),
        (50, STOCK, "M=50 was not tuned: the family's rows cover M=1..40 and 64..128"),
        (5000, STOCK, "M=5000 was not tuned"),
    ],
)
def test_a_look_up_gives_its_reason(m, route, why):
    found = look_up(make({WIDE: ROWS}), problem(WIDE, m))
    assert found.route == Route.parse(route)
    assert why in found.why


def test_a_family_that_is_not_tuned_names_its_likes():
    found = look_up(make({WIDE: ROWS}), problem(WIDE.replace("b4", "b8"), 3))
    assert (str(found.route), found.row) == (STOCK, None)
    assert found.why == f"this family is not tuned; for this N and K there is {WIDE}"
    assert look_up(make({WIDE: ROWS}), problem(DENSE, 3)).why == "this family is not tuned"


def test_rows_that_cannot_be_read_mean_stock():
    found = look_up(make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]}), problem(WIDE, 3))
    assert str(found.route) == STOCK
    assert "outside its kernel's space" in found.why


def test_a_route_has_to_be_legal_inside_its_interval_too():
    found = look_up(make({WIDE: [row(7, 9, PAD, 2.0)]}), problem(WIDE, 8))
    assert found.why == f"the row M=7..9 has {PAD}, which is not legal at M=8"
    assert not found.routed


def test_look_ups_agree_with_the_router(tmp_path, monkeypatch):
    cpu = machine.local("cpu")
    here = ChipKey("cpu", cpu.backend, cpu.device_name, cpu.architecture, cpu.cores, cpu.nax)
    families = {WIDE: ROWS, DENSE: [row(3, 8, "chunk rows=2", 1.4), row(9, 9, "chunk rows=3", 1.2, mlx="0.1.0")]}
    path = saved(tmp_path, families, header(here))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(path))
    router, table = Router("cpu"), load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in (*families, DENSE.replace("nt", "nn")):
            for m in range(1, 140):
                found, theirs = look_up(table, problem(family, m)), router.find(problem(family, m))
                assert found.route == theirs.route
                assert (found.row if found.routed else None) == theirs.row


def test_the_first_table_with_the_family_decides():
    broken = make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]}, path="broken")
    dense, wide = make({DENSE: [row(1, 8)]}, path="dense"), make({WIDE: ROWS}, path="wide")
    assert deciding([broken, dense, wide], problem(WIDE, 3)).path == "wide"
    assert deciding([dense, wide], problem(DENSE.replace("bf16", "f16"), 3)).path == "dense"
    assert deciding([], problem(WIDE, 3)) is None


def test_layouts_that_a_call_cannot_tell_apart():
    nn = DENSE.replace("nt", "nn")
    one, other = [row(3, 8, "chunk rows=2", 1.4)], [row(3, 8, "upcast", 1.4)]
    assert layout_note(make({DENSE: one}), problem(DENSE, 4)) == ""
    assert layout_note(make({DENSE: one, nn: one}), problem(DENSE, 4)) == ""
    assert "takes stock" in layout_note(make({DENSE: one, nn: other}), problem(DENSE, 4))
    assert "takes the latter's route: chunk rows=2" in layout_note(make({DENSE: one}), problem(nn, 4))
    assert "none takes a route for tn" in layout_note(make({DENSE: one}), problem(DENSE.replace("nt", "tn"), 4))
    assert layout_note(make({DENSE: [row(3, 8)]}), problem(nn, 4)) == ""
    assert layout_note(make({WIDE: ROWS}), problem(WIDE, 3)) == ""


RESULTS = [
    timed(WIDE, 3, STOCK, 130, 130),
    timed(WIDE, 3, REPEAT, 44.3, 130),
    timed(WIDE, 3, PAD, 44.1, 130),
    timed(WIDE, 3, "chunk rows=1", 300, 130, status=results.PRUNED),
    refused(WIDE, 3, "upcast", results.INACCURATE, "error 1 is above [0.1]"),
    timed(WIDE, 8, STOCK, 47, 47),
    timed(WIDE.replace("b4", "b8"), 4, STOCK, 47, 47),
]


def test_measured_routes_are_sorted_with_refused_ones_last():
    found = measured(RESULTS, problem(WIDE, 3), "chained")
    assert [each.route for each in found.results] == [PAD, REPEAT, STOCK, "chunk rows=1", "upcast"]
    assert [each.route for each in found.timed] == [PAD, REPEAT, STOCK, "chunk rows=1"]
    assert found.runner_up(Route.parse(PAD)).route == REPEAT
    assert found.runner_up(Route.parse(REPEAT)).route == PAD


def test_the_nearest_measured_m_stands_in_and_the_rows_own_goes_first():
    assert measured(RESULTS, problem(WIDE, 6), "chained").problem.m == 8
    assert measured(RESULTS, problem(WIDE, 6), "chained", row(3, 7, PAD, 2.9)).problem.m == 3
    assert measured(RESULTS, problem(DENSE, 6), "chained") is None


def test_only_the_newest_row_of_a_route_under_the_tables_load_counts():
    old = replace(RESULTS[2], time_us=99.0, date="2024-01-01")
    queued = replace(RESULTS[2], time_us=11.0, date="2026-01-01", load="queued")
    found = measured([*RESULTS, old, queued], problem(WIDE, 3), "chained")
    assert found.of(Route.parse(PAD)).time_us == pytest.approx(44.1)


def test_achieved_rates_are_bytes_and_flops_over_time():
    each = problem(WIDE, 3)
    found = achieved(each, STOCK, 100.0)
    assert found.gbs == pytest.approx(each.bytes / 100e-6 / 1e9)
    assert found.tflops == pytest.approx(each.flops / 100e-6 / 1e12)


def test_an_explanation_has_roofline_peak_and_notes():
    found = explain(problem(WIDE, 3), make({WIDE: ROWS}), RESULTS, ["a note", ""])
    assert [each.route for each in found.roofline] == [STOCK, PAD]
    assert found.peak == pytest.approx(3350, rel=0.01)
    assert found.notes == ("a note",)
    assert not explain(problem(WIDE, 3), make({WIDE: ROWS}, header(replace(H100, id="other")))).peak


def test_results_beside_a_table(tmp_path):
    table = load(saved(tmp_path, {WIDE: ROWS}))
    assert beside(table) == (
        [],
        "there are no measurements beside the table (h100.csv), so that other routes cannot be listed",
    )
    (tmp_path / "h100.csv").write_text(results.dumps(RESULTS))
    assert len(beside(table)[0]) == len(RESULTS)
    (tmp_path / "h100.csv").write_text("no,results\n")
    assert beside(table)[1].startswith("the measurements beside the table are left out")
    assert beside(None) == ([], "")


def _text(explanation) -> str:
    console = Console(width=200, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for part in explain_text.text(explanation):
            console.print(part, markup=False)
    return captured.get()


def test_text_tells_route_rivals_and_roofline():
    text = _text(explain(problem(WIDE, 3), make({WIDE: ROWS}), RESULTS))
    for expected in (
        "the row M=3..7 says so", "2.91x [2.86, 2.96] over stock at M=7", "Measured at M=3\n", f">  {PAD}", "of 3350",
        "  dropped", "inaccurate: error 1 is above [0.1]",
        "Stock, timed beside it: 130 us, 2.95 times the route's 44.1 us.",
        f"Runner-up: {REPEAT}, 44.3 us, 1.00 times the route's 44.1 us; their intervals overlap.", "425 MFLOP",
    ):  # fmt: skip
        assert expected in text


def test_text_says_where_another_m_was_measured():
    text = _text(explain(problem(WIDE, 20), make({WIDE: ROWS}), RESULTS))
    assert "Measured at M=8, the nearest to M=20 that was" in text
    assert "The route chunk rows=16 was not timed at M=8." in text


def test_text_names_stocks_best_rival():
    text = _text(explain(problem(WIDE, 1), make({WIDE: [row(1, 3)]}), RESULTS))
    assert f"Best rival of stock: {PAD}, 44.1 us, 2.95x [" in text
    assert "Runner-up" not in text


def test_text_tells_the_bar_of_that_problem():
    noisy = [timed(WIDE, 3, STOCK, 130, 130, low=0.92, high=1.05), timed(WIDE, 3, PAD, 44, 130)]
    text = _text(explain(problem(WIDE, 3), make({WIDE: ROWS}), noisy))
    assert "Stock was up to 8.7 % from itself: a speedup's lower bound has to clear 8.7 % here." in text
    calm = [timed(WIDE, 3, STOCK, 130, 130, low=0.99, high=1.005), *noisy[1:]]
    assert "1.01 % from itself: a speedup's lower bound has to clear 3 % here." in _text(
        explain(problem(WIDE, 3), make({WIDE: ROWS}), calm)
    )


def test_text_has_stocks_time_beside_each_route():
    text = _text(
        explain(problem(WIDE, 3), make({WIDE: ROWS}), [timed(WIDE, 3, STOCK, 130, 131), timed(WIDE, 3, PAD, 44, 150)])
    )
    (line,) = [line for line in text.splitlines() if line.startswith(f">  {PAD}")]
    assert line.split()[4:7] == ["44.0", "150", "3.41x"]


def test_small_machines_get_small_units():
    slow = [timed(WIDE, 3, STOCK, 130e3, 130e3)]
    text = _text(explain(problem(WIDE, 1), make({WIDE: ROWS}), slow))
    assert "GFLOP/s" in text
    assert "3.27" in text


def test_text_caps_long_lists_but_keeps_stock():
    many = [timed(WIDE, 3, f"pad multiple={m} fill=zeros", 50 + m, 300) for m in range(4, 40)]
    text = _text(explain(problem(WIDE, 1000), make({WIDE: ROWS}), [*many, timed(WIDE, 3, STOCK, 300, 300)]))
    assert ">  stock" in text
    assert "and 16 more: --json lists them all" in text


def test_without_a_table_the_files_say_why():
    files = [tables.Standing("a.json", (), "it is for cuda, this device is cpu")]
    found = explain(problem(WIDE, 3), None, files=files)
    text = _text(found)
    assert "no table is in use on this machine" in text
    assert "a.json: it is for cuda, this device is cpu" in text
    assert explain_text.next_step(found).startswith("autotune sweep --problem 'quantized_matmul M=3")
    assert document(found)["table"] is None


def test_a_table_that_is_not_this_machines_says_so():
    files = [tables.Standing("made.json", (), "it is for cuda, this device is cpu")]
    assert "not used on this machine: it is for cuda" in _text(
        explain(problem(WIDE, 3), make({WIDE: ROWS}), files=files)
    )


def test_document_survives_json():
    found = json.loads(json.dumps(document(explain(problem(WIDE, 3), make({WIDE: ROWS}), RESULTS))))
    assert (found["route"], found["runner_up"], found["stock_us"]) == (PAD, REPEAT, 130.0)
    assert found["row"]["m"] == [3, 7]
    assert found["row"]["freshness"]["level"] == "valid"
    assert [each["status"] for each in found["measured"]][-1] == "inaccurate"
    assert Problem.parse(found["measured_at"]) == problem(WIDE, 3)
