"""What ``show`` makes of tables: numbers in words, hand-over between kernels, which table hides which."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from autotune.errors import UsageError
from autotune.report import limits, show, tables
from autotune.routing import table
from autotune.routing.neighbours import Bound
from autotune.routing.router import Verdict
from autotune.search.results import dumps
from autotune.search.stats import Interval
from report.builders import DENSE, H100, M5MAX, PAD, STOCK, WIDE, header, make, row, saved, timed

FILES = ("good.json", "torn.json", "odd.json", "alone.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.02134, "0.0213"), (0.9999, "1.00"), (1, "1.00"), (9.996, "10.0"), (47.06, "47.1"),
        (99.96, "100"), (130.4, "130"), (13412, "13400"), (0, "0"),
    ],
)  # fmt: skip
def test_three_significant_digits(value, text):
    assert tables.three(value) == text


@pytest.mark.parametrize(("value", "text"), [(4.25e8, "425 M"), (999.6e6, "1.00 G"), (12, "12.0 ")])
def test_a_quantity_has_a_prefix(value, text):
    assert tables.quantity(value) == text


def test_a_speedup_is_written_with_its_interval():
    assert tables.speedup(Interval(2.912, 2.851, 2.969)) == "2.91x [2.85, 2.97]"
    assert tables.speedup(Interval(38.58, 31.74, 104.2)) == "38.6x [31.7, 104.2]"
    assert tables.speedup(Interval(0.33, 0.0, 1e6)) == "0.33x (one round)"
    assert tables.speedup(Interval(0.741, 0.0114, 48.1)) == "0.74x (few rounds)"


def test_words_for_lists_counts_and_intervals():
    assert [tables.list_of(x) for x in ("", "a", "ab", "abca")] == ["", "a", "a and b", "a, b and c"]
    assert (tables.count(1, "family"), tables.count(2, "family"), tables.count(0, "route")) == (
        "1 family",
        "2 families",
        "0 routes",
    )
    assert (tables.interval_of(3, 3), tables.interval_of(3, 7)) == ("3", "3..7")


def test_a_device_is_described_by_what_its_backend_counts():
    assert tables.device(H100) == "NVIDIA H100 80GB HBM3, sm_90, cuda, 132 multiprocessors"
    assert tables.device(M5MAX) == "Apple M5 Max, applegpu_g17s, metal, 40 GPU cores, NAX on"


def test_only_quantized_families_have_a_hand_over():
    view = show.view(make({WIDE: [row(1, 8)], DENSE: [row(1, 8)]}))
    assert [family.limit is not None for family in view.families] == [True, False]


def test_families_are_picked_by_words_in_any_case():
    made = make({WIDE: [row(1, 8)], DENSE: [row(1, 8)]})
    assert [f.family for f in show.view(made, "n=13824 AFFINE").families] == [WIDE]
    assert show.view(made, "N=4096").total == 2
    with pytest.raises(UsageError, match="no family has 'f8'"):
        show.demand([show.view(made, "f8")], "f8")


@pytest.mark.parametrize(
    ("words", "has"),
    [
        ("f16", True), ("F16 AFFINE", True), ("affine-b4-g64", True), ("b4-g64", True), ("g64", True), ("N=138", True),
        ("quantized", True), ("nt N=13824", True), ("", True), ("bf16", False), ("matmul", False), ("16", False),
        ("4-g64", False), ("3824", False), ("f16 N=5", False), (".", False),
    ],
)  # fmt: skip
def test_a_word_has_to_be_the_start_of_a_word_or_of_a_part(words, has):
    assert tables.has_words(WIDE, words) is has


def test_f16_is_not_bf16():
    made = make({WIDE: [row(1, 8)], WIDE.replace("f16", "bf16"): [row(1, 8)]})
    assert [family.family for family in show.view(made, "f16").families] == [WIDE]


def test_a_rival_that_gained_without_a_play_off_is_marked():
    rows = [row(1, 2, speedup=0.9, samples=2), row(3, 4, speedup=1.3, samples=2), row(5, 6, speedup=1.04)]
    lines = _text([show.view(make({WIDE: rows}))]).splitlines()
    assert [line.split()[2:4] for line in lines if line.startswith(("1..2", "3..4", "5..6"))] == [
        ["(0.90x", "[0.85,"], ["(1.30x", "[1.25,"], ["(1.04x", "[0.99,"],
    ]  # fmt: skip
    assert [")*" in line for line in lines if "(1.30x" in line or "(0.90x" in line] == [False, True]
    assert "* it gained, but was in no play-off, without which no route is taken." in lines
    assert "no play-off" not in _text([show.view(make({WIDE: rows[::2]}))])


def test_a_family_that_cannot_be_read_says_so_and_hides_nothing():
    first = make({WIDE: [row(1, 8, "pad multiple=1 fill=zeros")], DENSE: [row(1, 8)]}, path="first.json")
    second = make({WIDE: [row(1, 8)], DENSE: [row(1, 8)]}, path="second.json")
    views = show.in_use([first, second])
    assert "outside its kernel's space" in views[0].families[0].fault
    assert views[1].families[0].rows
    assert views[1].families[1].fault == "first.json comes first"
    assert not views[1].families[1].rows


def test_a_table_of_another_backend_hides_nothing():
    views = show.in_use([make({DENSE: [row(1, 8)]}), make({DENSE: [row(1, 8)]}, header(M5MAX))])
    assert all(view.families[0].rows for view in views)


def test_rows_are_graded_and_the_next_step_follows():
    aged = show.view(make({WIDE: [row(1, 8, mlx="0.1.0")]}), mlx="0.2.0")
    assert [grade.level for _, grade in aged.rows] == ["stale"]
    assert show.next_step([aged]) == "autotune sweep"
    fresh = show.view(make({DENSE: [row(1, 8)], WIDE: [row(1, 2), row(3, 7, PAD, 2.9)]}))
    assert show.next_step([fresh], "--chip h100") == f"autotune explain '{WIDE.replace(' N', ' M=7 N', 1)}' --chip h100"
    assert show.next_step([]) == "autotune sweep"


def test_verdicts_are_gathered_by_file():
    gpu, cpu = Verdict("a.json", False, "it is for cpu, this device is metal"), Verdict("a.json", True, "measured")
    other = Verdict("b.json", False, "broken")
    found = tables.standings({"gpu": [gpu, other], "cpu": [cpu, other]})
    assert found == (tables.Standing("a.json", ("cpu",), "measured"), tables.Standing("b.json", (), "broken"))
    assert tables.passed_over(found) == ["not used: b.json: broken"]
    assert tables.passed_over(())[0].startswith("no table is in use")


MEASURED = [
    timed(WIDE, m, route, us, 100)
    for m, route, us in [(2, STOCK, 100), (2, PAD, 120), (3, STOCK, 100), (3, PAD, 40), (8, STOCK, 100)]
]


def test_measurements_beside_a_table_decide_its_limits():
    rows = {WIDE: [row(1, 64)], DENSE: [row(1, 8)]}
    measured = limits.timed(MEASURED, "chained")
    (found, dense) = show.view(make(rows), measured=measured).families
    assert (found.limit.source, str(found.limit), dense.limit) == ("measured", "3", None)
    (view,) = show.in_use([make(rows)], measured={"made.json": measured})
    assert view.families[0].limit == found.limit
    assert show.in_use([make(rows)], measured={"other.json": measured})[0].families[0].limit.source == "rows"


def test_measurements_are_read_once_and_faults_are_told(tmp_path):
    good, torn, odd, alone = (table.load(saved(tmp_path, {WIDE: [row(1, 8)]}, name=name)) for name in FILES)
    (tmp_path / "good.csv").write_text(dumps(MEASURED), "utf-8")
    (tmp_path / "torn.csv").write_text("problem,route\n", "utf-8")
    (tmp_path / "odd.csv").write_text(dumps([replace(MEASURED[0], route="pad multiple")]), "utf-8")
    measured, notes = show.measurements([good, torn, odd, alone])
    assert {Path(path).name: list(found) for path, found in measured.items()} == {
        "good.json": [WIDE],
        "torn.json": [],
        "alone.json": [],
    }
    assert len(notes) == 2
    assert "torn.csv lacks the columns" in notes[0]
    assert "route 'pad multiple' has 'multiple'" in notes[1]


def test_the_evidence_of_a_limit_is_printed_and_fits_100_columns():
    view = show.view(
        make({WIDE: [row(1, 2), row(3, 7, PAD, 2.9), row(8, 64)]}), measured=limits.timed(MEASURED, "chained")
    )
    printed = re.sub("\x1b\\[[0-9;]*m", "", _text([view], width=100))
    assert max(map(len, printed.splitlines())) <= 100
    plain = re.sub(" +\n", "\n", printed)
    assert f"{WIDE}  vector_limit 3 (MLX: 8)" in plain
    assert re.search(rf"M=3 +2\.50x \[2\.4\d, 2\.5\d\] +matrix +40\.0 us +{PAD}\n +vector +100 us +stock\n", plain)
    assert "only matrix-matrix routes were measured at M=8\n" in plain
    assert max(map(len, _text([view]).splitlines())) <= 100


def _text(views, width: int = 0) -> str:
    console = Console(width=width or 200, force_terminal=bool(width), highlight=False, soft_wrap=not width)
    with console.capture() as captured:
        for part in show.text(views):
            console.print(part, markup=False)
    return captured.get()


def test_text_has_the_evidence_and_explains_itself():
    rows = [row(1, 2, speedup=0.98), row(3, 7, PAD, 2.91), row(8, 64, mlx="0.32.0", speedup=0.9)]
    text = _text([show.view(make({WIDE: rows}, header(source="simulated")), mlx=rows[0].mlx)])
    for expected in (
        f"{WIDE}  vector_limit 3 (MLX: 8)", PAD, "2.91x [2.86, 2.96]", "(0.98x [0.93, 1.03])", "simulated: a model",
        "3 %: ", "its problem's noise", "1.2 %: ", "in brackets", "vector_limit, where no measurements",
        "3 routes in 1 family",
    ):  # fmt: skip
        assert expected in text


def test_text_fits_80_columns_and_loses_nothing():
    rows = [row(1, 2), row(3, 31, "pad multiple=32 fill=repeat", 12.91), row(1024, 2048, speedup=0.9)]
    text = _text([show.view(make({WIDE: rows}))], width=80)
    plain = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" not in text
    assert "12.9x [12.9, 13.0]" in text


def test_text_says_what_shapes_take_that_are_not_tuned():
    kind = WIDE.replace("N=13824 K=5120 ", "")
    holds, fails = Bound(kind, 0.031, 1.8, 24, 512, 3, 1), Bound("matmul bf16 nt", None, 1.0, 0, 0, 0, 0)
    made = make({WIDE: [row(1, 8)], DENSE: [row(1, 8)]}, header(neighbours=(fails, holds)))
    said = _text([show.view(made)])
    assert f"{kind}: routed up to a factor of 1.80 in N and K; a neighbour's route took at most 3.1 % longer" in said
    assert "matmul bf16 nt: stock; too few of its shapes" in said
    assert "beyond: what a shape takes that is not tuned" in said
    only = _text([show.view(made, "bf16")])
    assert kind not in only.split("table")[1]
    assert "beyond" not in _text([show.view(make({WIDE: [row(1, 8)]}))])
    assert show.document([show.view(made)], [])["tables"][0]["neighbours"][1]["regret"] == 0.031


def test_document_holds_all_and_survives_json():
    view = show.view(make({WIDE: [row(1, 2), row(3, 7, PAD, 2.91)]}))
    document = json.loads(json.dumps(show.document([view], [tables.Standing("a.json", (), "why")])))
    family = document["tables"][0]["families"][0]
    limit = family["vector_limit"]
    assert (limit["source"], limit["kind"], limit["least"], limit["m"], limit["compiled"]) == ("rows", "found", 3, 3, 8)
    assert family["routes"][1]["route"] == PAD
    assert family["routes"][1]["freshness"]["level"] == "valid"
    assert document["files"] == [{"path": "a.json", "kinds": [], "reason": "why"}]
