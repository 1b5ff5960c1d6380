"""``vector_limit``: which side a route is on, where the sides change places, and what cannot be told."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from autotune.report import limits
from autotune.routing.table import ChipKey
from autotune.search.stats import Interval
from autotune.stock_rules import MATRIX, VECTOR
from report.builders import DENSE, H100, M5MAX, PAD, STOCK, WIDE, refused, row, timed

CPU = ChipKey("cpu", "cpu", "AMD EPYC", "x86_64", 16, False)
QMV = "qmv v=4 rows=4 simdgroups=2 split=1 values=16 stage=0 wide=1 math=safe"
TALL = "quantized_matmul N=512 K=2048 f16 affine-b4-g64 nt"
UNTRANSPOSED = "quantized_matmul N=512 K=2048 f16 affine-b4-g64 nn"
MODULES = ("stock", "pad", "chunk", "dequantize", "split_k", "fold_k", "upcast", "qmv")


def found(rows, chip=H100, family=WIDE):
    return limits.of_family(family, rows, {}, chip)


STOCK_LEAVES = [
    ("all stock", [row(1, 4096)]),
    ("stock on both ends of a gap", [row(1, 4), row(16, 64)]),
    ("prefill alone is past the limit", [row(1, 511), row(512, 4096, "dequantize compute=native", 1.2)]),
    ("a whole tile past the limit", [row(1, 32), row(33, 63, "pad multiple=64 fill=zeros", 1.2)]),
    ("a composition that keeps stock's side", [row(1, 2), row(3, 7, "upcast", 1.2), row(8, 64)]),
    ("prefill alone was tuned", [row(64, 4096)]),
]
TABLE_DECIDES = [
    ("padding, then stock", [row(1, 2), row(3, 7, PAD, 2.9), row(8, 2048)], "3"),
    ("padding from the first row on", [row(1, 7, PAD, 1.2), row(8, 64)], "1"),
    ("two paddings", [row(1, 2), row(3, 3, "pad multiple=8 fill=repeat", 2.0), row(4, 7, PAD, 2.9), row(8, 9)], "3"),
    ("pieces that are matrices", [row(1, 2), row(3, 7, PAD, 2.9), row(8, 8), row(9, 16, "chunk rows=8", 1.2)], "3"),
    ("a gap before it", [row(1, 1), row(4, 7, PAD, 2.9), row(16, 16), row(64, 64)], "2..4"),
    ("it begins past M=1", [row(4, 7, PAD, 2.9), row(8, 64)], "1..4"),
    ("folding, half of it into few rows", [row(1, 2), row(3, 7, "fold_k parts=2 sum=native", 1.4), row(8, 16)], "4"),
]
UNTOLD = [
    ("back to stock", [row(1, 2), row(3, 3, PAD, 2.9), row(4, 5), row(6, 7, PAD, 2.0)], "stock matrix-vector at M=4"),
    ("back to pieces", [row(1, 2), row(3, 8, PAD, 2.9), row(9, 16, "chunk rows=2", 1.2)], "chunk rows=2 matrix-vector"),
    ("never forth", [row(1, 2, PAD, 2.9), row(3, 7)], "pad multiple=8 fill=zeros is matrix-matrix at M=1"),
]


@pytest.mark.parametrize("rows", [case[1] for case in STOCK_LEAVES], ids=[case[0] for case in STOCK_LEAVES])
def test_rows_leave_the_limit_to_stock(rows):
    limit = found(rows)
    assert (limit.source, limit.kind, str(limit), limit.compiled) == ("rows", "stock", "stock", 8)


@pytest.mark.parametrize(
    ("rows", "text"), [case[1:] for case in TABLE_DECIDES], ids=[case[0] for case in TABLE_DECIDES]
)
def test_rows_decide_the_limit(rows, text):
    limit = found(rows)
    assert (limit.kind, str(limit)) == ("found", text)


@pytest.mark.parametrize(("rows", "why"), [case[1:] for case in UNTOLD], ids=[case[0] for case in UNTOLD])
def test_rows_do_not_tell_the_limit(rows, why):
    limit = found(rows)
    assert (limit.kind, limit.m, str(limit)) == ("untold", None, "?")
    assert why in limit.reason


def test_rows_that_stay_with_a_vector_kernel_past_mlxs_limit():
    limit = found([row(1, 16, QMV, 1.3)], M5MAX)
    assert (limit.kind, str(limit), limit.compiled) == ("beyond", "past 16", 13)
    assert str(found([row(1, 16, QMV, 1.3), row(17, 64)], M5MAX)) == "17"


def test_an_m_for_which_the_route_is_not_legal_takes_stock():
    """Padding to 8 is not legal at M=8; before, it stays below the limit 13 of an M5, and beyond, 16 rows do not."""
    rows = [row(1, 4), row(5, 12, PAD, 1.3)]
    assert str(found(rows)) == "5"
    assert str(found(rows, M5MAX)) == "9"


def test_rows_on_an_unknown_architecture_do_not_tell():
    limit = found([row(1, 8)], replace(M5MAX, architecture=""))
    assert (limit.kind, limit.compiled) == ("untold", None)
    assert "stock at M=1 may be on either side" in limit.reason


def test_one_kernel_for_every_m_has_no_limit():
    limit = found([row(1, 2), row(3, 7, PAD, 2.9)], CPU)
    assert (limit.kind, limit.compiled) == ("untold", None)
    assert "one kernel" in limit.reason


def test_a_dense_family_has_no_limit():
    assert found([row(1, 8)], family=DENSE) is None


def measured(*points, chip=H100, family=WIDE, load="chained"):
    """The limit of ``(m, route, microseconds)`` or results, with stock at 100."""
    results = [each if not isinstance(each, tuple) else timed(family, *each, 100) for each in points]
    return limits.of_family(family, [row(1, 64)], limits.timed(results, load), chip)


def one_round(m, route, us):
    return timed(WIDE, m, route, us, 100, status="pruned", rounds=1, low=0.0, high=1e6)


STOCK_AND_PAD = [point for m, us in ((1, 150), (2, 120), (3, 50), (4, 40)) for point in ((m, STOCK, 100), (m, PAD, us))]


def test_the_first_m_at_which_matrix_beats_vector():
    limit = measured(*STOCK_AND_PAD)
    assert (limit.source, limit.kind, limit.least, limit.m, limit.compiled) == ("measured", "found", 3, 3, 8)
    assert [each.ahead for each in limit.contests] == [VECTOR, VECTOR, MATRIX, MATRIX]
    third = limit.contests[2]
    assert (third.m, third.vector.route, third.matrix.route, third.matrix.time_us) == (3, STOCK, PAD, 50)
    assert third.ratio.value == pytest.approx(2, rel=1e-3)
    assert third.ratio.low == pytest.approx(limit.contests[2].matrix.speedup.low, rel=1e-3)


def test_the_best_of_each_side_is_compared():
    limit = measured((4, STOCK, 100), (4, PAD, 90), (4, "dequantize compute=native", 60), (4, "chunk rows=2", 50))
    (contest,) = limit.contests
    assert (contest.vector.route, contest.matrix.route) == ("chunk rows=2", "dequantize compute=native")
    assert (limit.kind, str(limit)) == ("beyond", "past 4")


def test_past_mlxs_limit_stock_is_the_other_side():
    limit = measured((16, STOCK, 100), (16, QMV, 60), (24, STOCK, 100), (24, QMV, 150), chip=M5MAX)
    assert (str(limit), limit.compiled) == ("17..24", 13)
    assert [(each.vector.route, each.matrix.route) for each in limit.contests] == [(QMV, STOCK)] * 2


def test_the_ratio_of_two_routes_has_the_error_of_both():
    wide = limits._quotient(Interval(2.0, 2.0 / 1.1, 2.2), Interval(1.0, 1 / 1.1, 1.1))
    assert wide.value == pytest.approx(2)
    assert wide.high / wide.value == pytest.approx(1.1**2**0.5)
    assert wide.value / wide.low == pytest.approx(1.1**2**0.5)


def test_what_does_not_tell_widens_the_limit():
    limit = measured((2, STOCK, 100), (2, PAD, 150), (3, STOCK, 100), (3, PAD, 99.9), (4, STOCK, 100), (4, PAD, 50))
    assert (limit.least, limit.m, str(limit)) == (3, 4, "3..4")
    assert measured((4, STOCK, 100), (4, PAD, 50)).least == 1


def test_no_m_that_tells():
    limit = measured((3, STOCK, 100), (3, PAD, 100))
    assert (limit.kind, str(limit)) == ("untold", "?")
    assert "cannot be told apart" in limit.reason


@pytest.mark.parametrize(("us", "ahead"), [(40, MATRIX), (60, ""), (100, ""), (160, ""), (250, VECTOR)])
def test_one_round_tells_from_a_factor_of_two_on(us, ahead):
    limit = measured((3, STOCK, 100), one_round(3, PAD, us))
    assert limit.contests[0].ahead == ahead
    assert limit.contests[0].ratio.low == 0


def test_sides_that_change_places_again_are_told():
    limit = measured(*STOCK_AND_PAD, (5, STOCK, 100), (5, PAD, 130), (6, STOCK, 100), (6, PAD, 130))
    assert (str(limit), limit.returns) == ("3", (5, 6))
    assert "change places again: matrix-vector is ahead at M=5..6" in _text(limit)


def test_sides_that_change_places_at_once():
    limit = measured((3, STOCK, 100), (3, PAD, 50), (4, STOCK, 100), (4, PAD, 130))
    assert (str(limit), limit.returns) == ("1..3", (4,))


def test_a_vector_side_that_is_never_behind():
    points = [point for m, us in ((2, 200), (3, 130), (4, 100)) for point in ((m, STOCK, 100), (m, PAD, us))]
    limit = measured(*points)
    assert (limit.kind, str(limit), limit.least) == ("beyond", "past 3", None)
    assert _text(limit).startswith("M=3 ")


def test_a_side_that_was_not_measured_is_told():
    limit = measured(*STOCK_AND_PAD, (5, STOCK, 100), (8, STOCK, 100), (16, STOCK, 100))
    assert (limit.vector_alone, limit.matrix_alone) == ((5,), (8, 16))
    assert "only matrix-vector routes were measured at M=5\n" in _text(limit)
    assert "only matrix-matrix routes were measured at M=8..16\n" in _text(limit)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([(3, STOCK, 100)], "only matrix-vector routes"),
        ([(8, STOCK, 100)], "only matrix-matrix routes"),
        ([(3, STOCK, 100), (8, STOCK, 100)], "no M has measured routes of both sides"),
        ([replace(timed(WIDE, 3, PAD, 50, 100), route="gone a=1")], "of no measured route"),
    ],
)
def test_without_a_contest_nothing_is_told(points, why):
    limit = measured(*points)
    assert (limit.kind, str(limit), limit.contests) == ("untold", "?", ())
    assert why in limit.reason
    assert why in _text(limit)


def test_what_was_refused_or_timed_under_another_load_does_not_count():
    results = [*STOCK_AND_PAD, refused(WIDE, 3, "dequantize compute=native", "failed", "why")]
    assert str(measured(*results)) == "3"
    assert measured(*results, load="queued").source == "rows"


def test_the_later_of_two_results_counts():
    earlier = timed(WIDE, 3, PAD, 20, 100, date="2025-01-01")
    assert measured(*STOCK_AND_PAD, earlier).contests[2].matrix.time_us == 50


def test_a_family_without_measurements_has_its_rows():
    results = limits.timed([timed(TALL, 3, STOCK, 100, 100)], "chained")
    assert limits.of_family(WIDE, [row(1, 7, PAD, 1.2)], results, H100).source == "rows"


def _text(limit):
    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        for part in limits.text(limit):
            console.print(part, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def test_the_evidence_is_that_of_both_ends():
    text = _text(measured(*STOCK_AND_PAD))
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines] == ["M=2", "vector", "M=3", "vector"]
    assert lines[0][-6:] == ["matrix", "120", "us", *PAD.split()]
    assert limits.title(measured(*STOCK_AND_PAD)) == "vector_limit 3 (MLX: 8)"
    assert limits.title(found([row(1, 8)], CPU)) == "vector_limit ?"


def test_the_legend_explains_what_occurs():
    both = [measured(*STOCK_AND_PAD), found([row(1, 8)])]
    assert [len(limits.legend(each)) for each in (both, both[:1], both[1:], [])] == [6, 4, 3, 0]
    assert max(map(len, limits.legend(both))) <= 100


def test_the_rules_are_those_of_the_mlx_that_the_rows_were_measured_with():
    family = "quantized_matmul N=512 K=512 f16 affine-b4-g64 nt"
    before, after = (
        limits.of_family(family, [replace(row(1, 64, STOCK), mlx=mlx)], {}, M5MAX) for mlx in ("0.31.1", "0.32.2")
    )
    assert (before.compiled, after.compiled) == (18, 33)
    told = " ".join(limits.legend([before, after]))
    assert "MLX 0.31.1 and 0.32.2 has" in told
    mixed = [replace(row(1, 8), mlx="0.31.1"), replace(row(9, 64), mlx="0.32.2"), replace(row(65, 70), mlx="?")]
    assert limits.of_family(family, mixed, {}, M5MAX).mlx == "0.32.2"
    assert limits.of_family(family, mixed[2:], {}, M5MAX).compiled == 33, "the newest known"


def test_a_limit_survives_json():
    limit = measured(*STOCK_AND_PAD, one_round(5, PAD, 500), (5, STOCK, 100))
    assert json.loads(json.dumps(asdict(limit), allow_nan=False))["contests"][2]["matrix"]["route"] == PAD
