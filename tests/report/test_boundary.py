"""What is said of a measured boundary."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from autotune.report import boundary, tables
from autotune.search.boundary import Boundary, Crossing, Sign
from autotune.search.duel import Axis, Duel, Found, Tried
from autotune.search.stats import Interval
from report.builders import DENSE, H100, WIDE, problem

NAMES = ("vector", "matrix")
UNSURE = "anywhere from {} to {}, as far as it can be told"
DUELS = (
    Duel(2, "stock", "pad multiple=8 fill=zeros", 40.0, 80.0, Interval(0.5, 0.48, 0.52), 5, Sign(-1, True)),
    Duel(3, "chunk rows=2", "stock", 60.0, 50.0, Interval(1.2, 0.9, 1.6), 16, Sign(1, False)),
    Duel(4, "", "stock", 0.0, 0.0, Interval(1.0, 0.0, 1e6), 0, Sign(1, False)),
)


def found(*crossings, template=None, axis=None, duels=DUELS, signs=None):
    signs = signs or {duel.value: duel.sign for duel in duels}
    return Found(template or problem(WIDE, 1), axis or Axis("m", 1, 64), duels, Boundary(crossings, signs))


@pytest.mark.parametrize(
    ("crossings", "said"),
    [
        ([Crossing(3, 2, 3, True)], "matrix overtakes vector at M=3"),
        ([Crossing(3, 2, 3, False)], "vector overtakes matrix at M=3"),
        ([Crossing(9, 5, 12, True)], f"matrix overtakes vector at M=9 ({UNSURE.format(6, 12)})"),
        (
            [Crossing(20, 19, 20, True), Crossing(40, 38, 40, False)],
            "the sides change places 2 times: vector first, then matrix from M=20 and vector from M=40 "
            f"({UNSURE.format(39, 40)})",
        ),
    ],
)
def test_the_headline(crossings, said):
    assert boundary.headline(found(*crossings), NAMES) == said


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ({1: Sign(-1, True), 64: Sign(-1, True)}, "vector is ahead of matrix at every M that was compared in M=1..64"),
        (
            {1: Sign(1, True), 64: Sign(1, False)},
            "matrix is ahead of vector at every M that was compared in M=1..64, not everywhere clearly",
        ),
        (
            {1: Sign(-1, False), 40: Sign(0, False), 64: Sign(1, True)},
            "matrix is ahead of vector at every M in M=1..64 at which either is clearly ahead",
        ),
        (
            {1: Sign(-1, False), 64: Sign(1, False)},
            "neither vector nor matrix is clearly ahead at any M that was compared in M=1..64",
        ),
    ],
)
def test_without_a_crossing(signs, said):
    assert boundary.headline(found(signs=signs), NAMES) == said


def test_a_step_widens_the_words_too():
    axis = Axis("k", 512, 8192, 512)
    assert boundary.headline(found(Crossing(2048, 1536, 2048, True), axis=axis), NAMES).endswith("at K=2048")
    said = boundary.headline(found(Crossing(2048, 1024, 2560, True), axis=axis), NAMES)
    assert "(anywhere from 1536 to 2560," in said


def test_the_text_has_every_duel_and_mlxs_own_limit():
    out = io.StringIO()
    tables.write(Console(file=out, width=200), boundary.text(found(Crossing(3, 2, 3, True)), NAMES, H100))
    lines = out.getvalue().splitlines()
    assert lines[0] == "quantized_matmul N=13824 K=5120 f16 affine-b4-g64 nt, M=1..64"
    assert lines[1] == "matrix overtakes vector at M=3"
    assert "has 8 compiled in" in lines[2]
    assert [line.split()[0] for line in lines[5:]] == ["2", "3", "4"]


def test_a_side_that_was_tried_in_part_is_said_to_be():
    searched = replace(DUELS[0], tried=(Tried("qmm", 120, 722), Tried("qmv", 120, 1252)))
    more = replace(DUELS[1], tried=(Tried("qmm", 120, 1714),))
    made = found(Crossing(3, 2, 3, True), duels=(searched, more))
    said = boundary.tried(made)
    assert "120 of 722 to 1714 of qmm, 120 of 1252 of qmv" in said
    assert said.startswith("not exact")
    assert "10%" in said
    assert said in [str(part) for part in boundary.text(made, NAMES, H100)]
    assert boundary.document(made, NAMES, H100)["exact"] is False
    assert boundary.tried(found()) == ""
    assert boundary.document(found(), NAMES, H100)["exact"] is True


def test_cells():
    rows = [boundary._cells(duel, NAMES) for duel in DUELS]
    assert [str(row[-1]) for row in rows] == ["vector", "matrix?", "matrix alone"]
    assert rows[0][:6] == ("2", "stock", "40.0", "pad multiple=8 fill=zeros", "80.0", "0.50x [0.48, 0.52]")
    assert rows[2][1:6] == ("-", "", "stock", "", "")


def test_mlx_has_a_limit_along_m_of_quantized_products_alone():
    assert boundary.compiled(found(), H100) == 8
    assert boundary.compiled(found(axis=Axis("k", 512, 1024, 512)), H100) is None
    assert boundary.compiled(found(template=problem(DENSE, 1)), H100) is None
    assert boundary.compiled(found(), replace(H100, backend="cpu")) is None


def test_the_document_survives_json():
    document = json.loads(json.dumps(boundary.document(found(Crossing(3, 2, 3, True)), NAMES, H100)))
    assert document["limit"] == {"at": 3, "low": 2, "high": 3, "second": True}
    assert document["compiled"] == 8
    assert [duel["value"] for duel in document["duels"]] == [2, 3, 4]
    assert document["axis"] == {"name": "m", "first": 1, "last": 64, "step": 1}
    twice = boundary.document(found(Crossing(3, 2, 3, True), Crossing(9, 8, 9, False)), NAMES, H100)
    assert twice["limit"] is None
    assert len(twice["crossings"]) == 2
