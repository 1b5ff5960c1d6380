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
from autotune.report import explain as report
from autotune.report import explain_text, tables
from autotune.report.explain import achieved, beside, by_problem, document, listed
from autotune.routing.neighbours import Bound
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

BOUND = Bound(WIDE.replace("N=13824 K=5120 ", ""), 0.03, 2.0, 20, 40, 1, 0)


def look_up(tables, asked):
    """What a call takes with that table, or those."""
    return report.look_up(tables if isinstance(tables, list) else [tables], asked)


def explain(asked, table, *rest, **options):
    return report.explain(asked, report.look_up([table] if table else [], asked), *rest, **options)


@pytest.mark.parametrize(
    ("m", "route", "why"),
    [
        (1, STOCK, "the row M=1..2 keeps stock: its best rival, at 0.98x [0.93, 1.03], does not clear 3 %"),
        (3, PAD, "the row M=3..7 says so"),
        (8, STOCK, "the row M=8..16 (upcast) is stale and not used: kernel upcast changed since it was measured"),
        (64, STOCK, "is stale and not used: measured with MLX 0.1.0"),
        (50, STOCK, "M=50 was not tuned: the family's rows cover M=1..40 and 64..128"),
        (5000, STOCK, "M=5000 was not tuned"),
    ],
)
def test_a_look_up_gives_its_reason(m, route, why):
    found = look_up(make({WIDE: ROWS}), problem(WIDE, m))
    assert found.decision.route == Route.parse(route)
    assert why in found.why


def test_a_family_that_is_not_tuned_names_its_likes():
    found = look_up(make({WIDE: ROWS}), problem(WIDE.replace("b4", "b8"), 3))
    assert (str(found.decision.route), found.decision.row) == (STOCK, None)
    assert found.why == f"this family is not tuned; for this N and K there is {WIDE}"
    assert look_up(make({WIDE: ROWS}), problem(DENSE, 3)).why == "this family is not tuned"


def _shapes(rows, kind="f16 affine-b4-g64 nt", bound=BOUND):
    """A table of three shapes; N=8192 K=5120 is between two of them and nearest to N=10240."""
    families = {f"{WIDE.split()[0]} N={n} K=5120 {kind}": rows for n in (4096, 10240, 20480)}
    return make(families, header(neighbours=bound and (bound,)))


BETWEEN = WIDE.replace("13824", "8192")


def test_a_neighbour_speaks_and_is_named_with_its_bound():
    found = look_up(_shapes([row(3, 7, PAD, 2.91), row(8, 9, STOCK)]), problem(BETWEEN, 3))
    assert (str(found.decision.route), found.decision.neighbour.family.n) == (PAD, 10240)
    assert found.why == (
        "this family is not tuned; its neighbour N=10240 K=5120 is the nearest that is, 1.25 times apart, and the row "
        "M=3..7 says so"
    )
    assert found.decision.followed
    kept = look_up(_shapes([row(3, 7, PAD, 2.91), row(8, 9, STOCK)]), problem(BETWEEN, 8))
    assert kept.decision.route == Route.parse(STOCK)
    assert "keeps stock" in kept.why


@pytest.mark.parametrize(
    ("bound", "why"),
    [
        (replace(BOUND, regret=None, shapes=4), "too few of its shapes have a neighbour to learn from (4, 19 "
         "are needed)"),
        (replace(BOUND, regret=0.081), "took at most 8.1 % longer than the best in 95 % of cases, by shapes "
         "(20 shapes and 40 problems left out), more than 5 %"),
        (replace(BOUND, regret=None), "has no bound (20 shapes and 40 problems left out; the neighbour's route was not "
         "measured in 1)"),
        (replace(BOUND, regret=None, unmeasured=0), "has no bound (20 shapes and 40 problems left out; routes were "
         "searched for)"),
        (replace(BOUND, reach=1.2), "no tuned shape of its alignment is within a factor of 1.20"),
        (replace(BOUND, class_="other"), "no shape of its class is tuned"),
    ],
)  # fmt: skip
def test_where_no_neighbour_speaks_the_reason_is_given(bound, why):
    found = look_up(_shapes([row(3, 7, PAD, 2.91)], bound=bound), problem(BETWEEN, 3))
    assert (str(found.decision.route), found.decision.neighbour) == (STOCK, None)
    assert why in found.why


def test_a_route_that_writes_larger_weights_does_not_pass():
    table = _shapes([row(3, 7, "dequantize compute=native", 2.91)])
    larger = look_up(table, problem(BETWEEN.replace("8192", "12288"), 3))
    assert larger.decision.neighbour.family.n == 10240
    assert "writes the weights to memory, and they are larger here" in larger.why
    assert (str(larger.decision.route), larger.decision.followed) == (STOCK, False)
    assert look_up(table, problem(BETWEEN, 3)).decision.followed


def test_what_was_measured_is_shown_of_the_neighbour():
    family = WIDE.replace("13824", "10240")
    results_ = [timed(family, 3, STOCK, 130, 130), timed(family, 3, PAD, 44.1, 130)]
    explained = explain(problem(BETWEEN, 3), _shapes([row(3, 7, PAD, 2.91)]), results_)
    assert str(explained.measured.problem.family) == family
    said = _text(explained)
    assert "Measured at M=3 of the neighbour N=10240 K=5120" in said
    assert (
        " over stock at M=3 and N=10240 K=5120, 8 rounds; the row's least is 2.91x [2.86, 2.96] at M=7 and N=10240 "
        in said
    )
    assert "a neighbour's route took at most 3 % longer than the best in 95 % of cases, by shapes" in said
    assert document(explained)["neighbour"]["family"] == family
    assert document(explained)["neighbour"]["bound"]["regret"] == 0.03
    assert explain_text.next_step(explained).startswith("autotune sweep --problem")


def test_layouts_of_neighbours_have_to_agree():
    kind = "bf16 nt"
    one, other = [row(3, 8, "chunk rows=2", 1.4)], [row(3, 8, "chunk rows=1", 1.4)]

    def made(nn):
        nt = {f"matmul N={n} K=4096 bf16 nt": one for n in (2048, 8192)}
        bounds = tuple(replace(BOUND, class_=f"matmul bf16 {layout}") for layout in ("nt", "nn"))
        rows = {f"matmul N={n} K=4096 bf16 nn": nn for n in (2048, 8192)} if nn else {}
        return make({**nt, **rows}, header(neighbours=bounds))

    asked = problem(f"matmul N=4096 K=4096 {kind}", 4)
    alone, apart, agreed = (look_up(made(nn), asked) for nn in (None, other, one))
    assert "the row M=3..8 says chunk rows=2, but a call cannot tell nt from nn, for which no tuned shape" in alone.why
    assert alone.why.endswith("speaks: it takes stock")
    assert apart.why.endswith("whose route is chunk rows=1: it takes stock")
    assert [str(each.decision.route) for each in (alone, apart, agreed)] == [STOCK, STOCK, "chunk rows=2"]
    assert agreed.why.endswith("says so")


def test_rows_that_cannot_be_read_mean_stock():
    found = look_up(make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]}), problem(WIDE, 3))
    assert str(found.decision.route) == STOCK
    assert "outside its kernel's space" in found.why


def test_a_route_has_to_be_legal_inside_its_interval_too():
    found = look_up(make({WIDE: [row(7, 9, PAD, 2.0)]}), problem(WIDE, 8))
    assert found.why == f"the row M=7..9 has {PAD}, which is not legal at M=8"
    assert not found.decision.followed


def test_look_ups_agree_with_the_router(tmp_path, monkeypatch):
    cpu = machine.local("cpu")
    here = ChipKey("cpu", cpu.backend, cpu.device_name, cpu.architecture, cpu.cores, cpu.nax)
    families = {WIDE: ROWS, DENSE: [row(3, 8, "chunk rows=2", 1.4), row(9, 9, "chunk rows=3", 1.2, mlx="0.1.0")]}
    families[WIDE.replace("13824", "5120")] = [row(3, 7, REPEAT, 2)]
    families["quantized_matmul N=8192 K=5120 f16 affine-b8-g64 nt"] = [row(3, 7, PAD, 2)]
    path = saved(tmp_path, families, header(here, neighbours=(BOUND,)))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(path))
    router, table = Router("cpu"), load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in (
            *families,
            DENSE.replace("nt", "nn"),
            DENSE.replace("nt", "tn"),
            *(WIDE.replace("13824", n) for n in ("7168", "10240", "64")),
        ):
            for m in range(1, 140):
                ours, theirs = look_up(table, problem(family, m)).decision, router.call(problem(family, m))
                assert (ours.route, ours.row) == (theirs.route, theirs.row)


def test_the_first_table_with_the_family_decides():
    broken = make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]}, path="broken")
    dense, wide = make({DENSE: [row(1, 8)]}, path="dense"), make({WIDE: ROWS}, path="wide")
    assert look_up([broken, dense, wide], problem(WIDE, 3)).table.path == "wide"
    assert look_up([dense, wide], problem(DENSE.replace("bf16", "f16"), 3)).table.path == "dense"
    assert look_up([], problem(WIDE, 3)).table is None


def test_a_neighbour_in_a_later_table_decides():
    neighbour = _shapes([row(3, 7, PAD, 2.91)])
    assert look_up([make({DENSE: [row(1, 8)]}, path="dense"), neighbour], problem(BETWEEN, 3)).table is neighbour
    own = make({BETWEEN: [row(1, 8)]}, path="own")
    assert look_up([neighbour, own], problem(BETWEEN, 3)).table.path == "own"


def test_layouts_that_a_call_cannot_tell_apart():
    nn = DENSE.replace("nt", "nn")
    one, other = [row(3, 8, "chunk rows=2", 1.4)], [row(3, 8, "chunk rows=1", 1.4)]
    says = "the row M=3..8 says so"

    def taken(families, asked=DENSE):
        found = look_up(make(families), problem(asked, 4))
        return str(found.decision.route), found.why

    assert taken({DENSE: one}) == taken({DENSE: one, nn: one}) == ("chunk rows=2", says)
    route, why = taken({DENSE: one, nn: other})
    assert route == STOCK
    assert why == (
        "the row M=3..8 says chunk rows=2, but a call cannot tell nt from nn, whose route is chunk rows=1: "
        "it takes stock"
    )
    route, why = taken({DENSE: one}, nn)
    assert route == "chunk rows=2"
    assert why.endswith(f"a call cannot tell nn from nt, and takes the latter's route: {says}")
    route, why = taken({DENSE: one, DENSE.replace("nt", "tn"): one}, DENSE.replace("nt", "tn"))
    assert (route, why) == (STOCK, "routed calls are looked up as nt or nn: none takes a route for tn")
    assert "is not tuned" in taken({DENSE: [row(3, 8)]}, nn)[1]


def test_layouts_in_two_tables_have_to_agree_too():
    nn = DENSE.replace("nt", "nn")
    first = make({DENSE: [row(3, 8, "chunk rows=2", 1.4)]}, path="first")
    second = make({nn: [row(3, 8, "chunk rows=1", 1.4)], WIDE: ROWS}, path="second")
    found = look_up([first, second], problem(DENSE, 4))
    assert (str(found.decision.route), found.table.path) == (STOCK, "first")
    assert "whose route is chunk rows=1: it takes stock" in found.why
    beyond = look_up([make({WIDE: ROWS}, path="none"), first], problem(nn, 4))
    assert (str(beyond.decision.route), beyond.table.path) == ("chunk rows=2", "first")


def test_what_was_measured_is_of_the_layout_whose_route_is_taken():
    results_ = [timed(DENSE, 4, STOCK, 130, 130), timed(DENSE, 4, "chunk rows=2", 90, 130)]
    asked = problem(DENSE.replace("nt", "nn"), 4)
    said = _text(explain(asked, make({DENSE: [row(3, 8, "chunk rows=2", 1.4)]}), results_))
    assert "Measured at M=4 of the layout nt" in said
    assert ">  chunk rows=2" in said


RESULTS = [
    timed(WIDE, 3, STOCK, 130, 130),
    timed(WIDE, 3, REPEAT, 44.3, 130),
    timed(WIDE, 3, PAD, 44.1, 130),
    timed(WIDE, 3, "chunk rows=1", 300, 130, status=results.PRUNED),
    refused(WIDE, 3, "upcast", results.INACCURATE, "error 1 is above [0.1]"),
    timed(WIDE, 8, STOCK, 47, 47),
    timed(WIDE.replace("b4", "b8"), 4, STOCK, 47, 47),
]


def measured(results_, problem_, load, row_=None):
    return listed(by_problem(results_, problem_.family, load), problem_, row_)


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
        "the row M=3..7 says so",
        "2.95x [2.93, 2.97] over stock at M=3, 8 rounds; the row's least is 2.91x [2.86, 2.96] at M=7\n",
        "Measured at M=3, plain times\n", f">  {PAD}", "of 3350",
        "  dropped", "inaccurate: error 1 is above [0.1]",
        "Stock, timed beside it: 130 us, 2.95 times the route's 44.1 us.",
        f"Runner-up: {REPEAT}, 44.3 us, 1.00 times the route's 44.1 us; their intervals overlap.", "425 MFLOP",
    ):  # fmt: skip
        assert expected in text


def test_text_says_where_another_m_was_measured():
    text = _text(explain(problem(WIDE, 20), make({WIDE: ROWS}), RESULTS))
    assert "Measured at M=8, the nearest to M=20 that was, plain times\n" in text
    assert "The route chunk rows=16 was not timed at M=8." in text


def test_text_says_that_a_row_lies_between_two_measured_m():
    """Its evidence is of the weaker one, also where the other one is nearer, and that one's results are listed."""
    table = make({WIDE: [row(3, 3, PAD, 2.9), row(4, 7, "upcast", 1.9, at=8, samples=2), row(8, 8)]})
    text = _text(explain(problem(WIDE, 4), table, RESULTS))
    least = "not measured at M=4; the row's least is 1.90x [1.85, 1.95] over stock at M=8, 2 rounds of screening\n"
    assert least in text
    assert least in _text(explain(problem(WIDE, 4), table))
    assert "Measured at M=8, beside M=4, plain times\n" in text
    assert "on both sides" not in text


FOLD = "fold_k parts=2 sum=native"
ENDS = [
    timed(WIDE, 8, STOCK, 100, 100),
    timed(WIDE, 8, "upcast", 40, 100),
    timed(WIDE, 16, STOCK, 110, 110),
    timed(WIDE, 16, "upcast", 50, 110, rounds=2),
    timed(WIDE, 16, FOLD, 30, 110),
]


class TestBetweenTwoMeasuredM:
    """Both ends are told, none comes second, and what is faster at one of them is told with what it lacks."""

    @pytest.mark.parametrize("rows", [[row(9, 15, "upcast", 2.2, at=16)], [row(8, 16, "upcast", 2.2)]])
    def test_in_a_row_of_its_own_and_in_one_that_holds_both(self, rows):
        found = explain(problem(WIDE, 12), make({WIDE: rows}), ENDS)
        text = _text(found)
        for expected in (
            "  not measured at M=12; the row's least is 2.20x [2.15, 2.25] over stock at M=16, 16 rounds\n",
            "The route on both sides of M=12, plain times\n",
            " 8       100      40.0  2.50x [2.48, 2.52]  8 rounds",
            "16       110      50.0  2.20x [2.19, 2.21]  2 rounds of screening",
            "Least gain between them: 1.99x, stock's shorter time over the route's longer one, with the lower bounds "
            "of the speedups.\n",
            ", beside M=12, plain times\n",
        ):
            assert expected in text
        assert "Runner-up" not in text
        assert "Stock, timed beside it" not in text

    def test_a_faster_one_is_named_with_what_it_lacks(self):
        found = explain(problem(WIDE, 12), make({WIDE: [row(9, 15, "upcast", 2.2, at=16)]}), ENDS)
        said = f"Faster at M=16, but not taken: {FOLD}, 30.0 us, 3.67x [3.64, 3.69]: not measured at M=8.\n"
        assert said in _text(found)
        between = json.loads(json.dumps(document(found)))["between"]
        assert between["faster"] == {"at": 16, "route": FOLD, "why": "not measured at M=8"}
        assert [each["problem"] for each in between["ends"]] == [str(problem(WIDE, m)) for m in (8, 16)]
        assert document(found)["runner_up"] is None

    def test_times_of_two_clocks_are_told_apart(self):
        gated = [replace(each, clock="gated") for each in ENDS[:2]]
        table = make({WIDE: [row(9, 15, "upcast", 2.2, at=16)]})
        text = _text(explain(problem(WIDE, 12), table, [*gated, *ENDS[2:]]))
        assert "on both sides of M=12, gated and plain times\n" in text
        assert "8 rounds, gated times" in text
        assert "; a plain time of stock counts as 0.72 of it, as the GPU's own may be that much shorter.\n" in text

    def test_of_a_neighbour(self):
        family = WIDE.replace("13824", "10240")
        ends = [replace(each, problem=each.problem.replace("13824", "10240")) for each in ENDS]
        text = _text(explain(problem(BETWEEN, 12), _shapes([row(9, 15, "upcast", 2.2, at=16)]), ends))
        assert "The route on both sides of M=12 of the neighbour N=10240 K=5120, plain times\n" in text
        assert str(measured(ends, problem(family, 12), "chained").problem.family) == family

    def test_a_measured_m_has_a_runner_up(self):
        found = explain(problem(WIDE, 16), make({WIDE: [row(8, 16, "upcast", 2.2)]}), ENDS)
        assert (found.ends, document(found)["between"]) == (None, None)
        assert f"Runner-up: {FOLD}, 30.0 us" in _text(found)
        assert "  2.20x [2.15, 2.25] over stock at M=16, 16 rounds, the row's least\n" in _text(found)


def test_the_clock_of_the_times_is_named_unless_a_model_gave_them():
    table = make({WIDE: ROWS})
    stamped = [replace(each, clock="stamped") for each in RESULTS]
    assert "Measured at M=3, stamped times\n" in _text(explain(problem(WIDE, 3), table, stamped))
    mixed = [stamped[0], *RESULTS[1:]]
    assert "Measured at M=3, plain and stamped times\n" in _text(explain(problem(WIDE, 3), table, mixed))
    simulated = [replace(each, source="simulated") for each in RESULTS]
    model = make({WIDE: ROWS}, header(source="simulated"))
    assert "Simulated at M=3\n" in _text(explain(problem(WIDE, 3), model, simulated))


def test_without_measurements_the_row_says_what_it_knows():
    text = _text(explain(problem(WIDE, 3), make({WIDE: ROWS})))
    assert "  2.91x [2.86, 2.96] over stock at M=7, 16 rounds, the row's least" in text
    assert "  0.98x [0.93, 1.03] over stock at M=2, 16 rounds, the row's best" in _text(
        explain(problem(WIDE, 1), make({WIDE: ROWS}))
    )


@pytest.mark.parametrize(
    ("rival", "lacks"),
    [
        (row(1, 2, STOCK, 0.9, samples=2), "is slower"),
        (row(1, 2, STOCK, 1.3, samples=2), "was in no play-off"),
        (row(1, 2, STOCK, 1.04), "does not clear 3 %"),
        (row(1, 2, STOCK, 1.3), "does not clear that problem's own noise, or not in both sessions, or it saves the GPU "
         "less than it costs the CPU"),
    ],
)  # fmt: skip
def test_what_the_rival_lacked_that_stock_was_kept_against(rival, lacks):
    assert look_up(make({WIDE: [rival]}), problem(WIDE, 1)).why.endswith(f"], {lacks}")


def test_the_next_step_names_a_family_that_the_table_has():
    option = "--table made.json"
    for asked, step in (
        (problem(WIDE, 3), f"autotune show --family 'N=13824 K=5120' {option}"),
        (problem(WIDE.replace("f16", "bf16"), 3), f"autotune show --family 'N=13824 K=5120' {option}"),
        (problem(WIDE.replace("13824", "6144"), 3), f"autotune show {option}"),
    ):
        assert explain_text.next_step(explain(asked, make({WIDE: ROWS})), option) == step


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
    assert "there is no table to look in" in text
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
    assert found["between"] is None
    assert found["row"]["m"] == [3, 7]
    assert found["row"]["freshness"]["level"] == "valid"
    assert [each["status"] for each in found["measured"]][-1] == "inaccurate"
    assert Problem.parse(found["measured_at"]) == problem(WIDE, 3)
