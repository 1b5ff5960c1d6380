"""The model's account of a problem: bounds, hand-overs, levers; as a document, as text and as a picture."""

import json
from dataclasses import replace
from statistics import median

import pytest
from rich.console import Console

from autotune.devices.simulated import chip
from autotune.devices.simulated.device import SimulatedDevice
from autotune.kernels import STOCK
from autotune.problem import Problem
from autotune.report import bounds, bounds_plot, bounds_text, tables
from autotune.search.measure import EFFORTS, Meter
from report.builders import timed

FAMILY = "quantized_matmul N=13824 K=5120 f16 affine-b4-g64 nt"
PROBLEM = Problem.parse(FAMILY.replace(" N", " M=3 N", 1))


@pytest.fixture(scope="module")
def account():
    return bounds.bounds(PROBLEM, chip.get("m4pro"), "0.31.1", {3: bounds.StockTime(250e-6, 0.01)})


class TestBounds:
    def test_lists_every_small_m_and_the_one_that_was_asked_for(self, account):
        assert [each.m for each in account.by_m][:17] == [*range(1, 17), 24]
        asked = bounds.bounds(PROBLEM.with_m(77), chip.get("m4pro"), "0.31.1")
        assert 77 in [each.m for each in asked.by_m]

    def test_says_where_bounds_and_kernels_hand_over(self, account):
        assert [(each.m, each.before, each.after) for each in account.crossings][:2] == [
            (3, "memory", "lanes"),
            (10, "lanes", "matrix"),
        ]
        assert (account.crossings[1].kernel_before, account.crossings[1].kernel_after) == ("qmv_fast", "qmm")

    def test_levers_move_the_time_as_the_ruling_bound_says(self, account):
        seconds = {each.what: each.seconds for each in account.levers}
        now = account.prediction.seconds
        assert seconds["10 % higher clock"] < 0.93 * now
        assert seconds["10 % more memory bandwidth"] > 0.98 * now

    def test_names_the_best_route_of_each_faster_kernel(self, account):
        kernels = [each.what.split()[0] for each in account.routes]
        assert kernels[0] == "qmv"
        assert len(set(kernels)) == len(kernels)
        assert all(each.seconds < account.prediction.seconds for each in account.routes)

    def test_puts_the_measured_time_beside_the_model(self, account):
        assert {each.m: each.measured for each in account.by_m}[3] == 250e-6


def test_only_measured_times_of_stock_in_the_family_count():
    rows = [timed(FAMILY, 3, "stock", 130, 130), timed(FAMILY, 4, "pad multiple=8 fill=zeros", 44, 130)]
    rows.append(replace(timed(FAMILY, 5, "stock", 130, 130), source="simulated"))
    rows.append(timed(FAMILY.replace("5120", "5184"), 6, "stock", 130, 130))
    assert bounds.measured_by_m(rows, PROBLEM) == {3: bounds.StockTime(pytest.approx(130e-6), 0.01)}


@pytest.mark.parametrize("effort", ["quick", "standard", "full"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 256, 256), (3, 1024, 1024), (2, 13824, 5120), (512, 4096, 4096)])
def test_what_the_model_itself_measured_is_met(effort, m, n, k):
    """The link of a chain and the evaluation's share, on both sides of the comparison or on none."""
    problem = Problem.parse(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g64 nt")
    of = chip.get("m4pro")
    session = SimulatedDevice(of, "0.31.1", noise=0.0).open(problem, 0, "chained")
    settings = EFFORTS[effort]
    meter = Meter(session, settings)
    comparison = meter.compare(STOCK)
    meter.settle(comparison)
    us = 1e6 * median(comparison.times)
    row = timed(str(problem.family), m, "stock", us, us, rounds=settings.final)
    known = bounds.measured_by_m([row], problem)
    (at,) = (each for each in bounds.bounds(problem, of, "0.31.1", known).by_m if each.m == m)
    assert at.measured == pytest.approx(row.time_us * 1e-6)
    assert abs(at.off) < 1e-3
    assert at.seconds < at.expected


def test_the_document_is_json_and_says_that_it_is_simulated(account):
    document = json.loads(json.dumps(bounds.document(account)))
    assert document["simulated"] is True
    assert document["chip"]["id"] == "m4pro"
    assert document["rules"] == "lanes"
    assert document["by_m"][2]["measured_us"] == 250
    assert document["crossings"][0]["m"] == 3


def test_the_text_names_bounds_hand_overs_and_levers(account):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.capture() as captured:
        for each in bounds_text.text(account):
            console.print(each, markup=False)
    text = captured.get()
    for wanted in (
        "Model of the Apple M4 Pro (20 GPU cores, 273 GB/s, MLX 0.31.1): predicted, not measured",
        ">  arithmetic",
        "memory hands over to arithmetic",
        "qmv_fast, bound by arithmetic, hands over to qmm, bound by matrix units",
        "10 % higher clock",
        "measured us",
    ):
        assert wanted in text
    assert tables.three(250) in text


def test_at_80_columns_no_word_and_no_number_is_cut(account):
    console = Console(width=80, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        for each in bounds_text.text(account):
            console.print(each, markup=False)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert max(map(len, lines)) <= 80
    by_m = [line.split() for line in lines if line.split()[1:2] in (["qmv_fast"], ["qmm"])]
    assert [each[0] for each in by_m] == [str(each.m) for each in account.by_m]
    assert {" ".join(each[8:]) for each in by_m} == {"memory", "arithmetic", "matrix units"}
    levers = lines[lines.index("What would move it") + 1 :]
    speedups = [line for line in levers if line.endswith("x")]
    assert len(speedups) == len(account.routes) + sum(each.startswith("10 % ") for each in levers)


def test_axes_are_logarithmic_for_many_rows_and_crossings_are_labelled(monkeypatch, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    seen = {}

    def close(figure):
        (axes,) = figure.axes
        seen[axes.get_xscale(), axes.get_yscale()] = [each.get_text() for each in axes.texts]

    monkeypatch.setattr(pyplot, "close", close)
    for m in (3, 2048):
        problem = Problem.parse(f"quantized_matmul M={m} N=13824 K=5120 f16 affine-b4-g64 nt")
        bounds_plot.plot(bounds.bounds(problem, chip.get("m4pro"), "0.31.1"), tmp_path / f"{m}.svg")
    assert set(seen) == {("linear", "linear"), ("log", "log")}
    for texts in seen.values():
        assert "M=3: memory to arithmetic" in texts
        assert {"qmv_fast", "qmm"} <= set(texts)


def test_the_plot_is_drawn(account, tmp_path):
    pytest.importorskip("matplotlib")
    bounds_plot.plot(account, tmp_path / "bounds.png")
    assert (tmp_path / "bounds.png").stat().st_size > 10_000
