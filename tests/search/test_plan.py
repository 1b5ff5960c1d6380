from report.builders import PAD, STOCK, WIDE, timed

from autotune.kernels import Route
from autotune.search.measure import EFFORTS
from autotune.search.plan import Plan

ROWS = {Route.parse(text): timed(WIDE, 3, text, 50, 100) for text in (STOCK, PAD, "upcast", "gone a=1")}


def asked_for(*kernels):
    return {str(route) for route in Plan((), EFFORTS["quick"], kernels).asked_for(ROWS)}


def test_all_kernels_are_asked_for_where_none_is_named():
    assert asked_for() == {STOCK, PAD, "upcast"}


def test_stock_is_always_asked_for():
    assert asked_for("upcast") == {STOCK, "upcast"}
