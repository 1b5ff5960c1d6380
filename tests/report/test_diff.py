"""What ``diff`` finds between two tables, and that it finds no loss that the evidence does not show."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from autotune.errors import TableError, UsageError
from autotune.report import diff
from autotune.routing.neighbours import Bound
from report.builders import DENSE, M5MAX, PAD, REPEAT, STOCK, WIDE, header, make, row


def kinds(a, b):
    return [(c.first, c.last, c.kind, c.rerouted) for c in diff.segments(WIDE, a, b)]


@pytest.mark.parametrize(
    ("a", "b", "kind", "rerouted"),
    [
        (row(3, 7, PAD, 2.0), row(3, 7, PAD, 2.2), "faster", False),
        (row(3, 7, PAD, 2.2), row(3, 7, PAD, 2.0), "slower", False),
        (row(3, 7, PAD, 2.0), row(3, 7, PAD, 2.09), "tie", False),
        (row(3, 7, PAD, 2.0), row(3, 7, REPEAT, 2.05), "tie", True),
        (row(3, 7), row(3, 7, PAD, 1.2), "faster", True),
        (row(3, 7, PAD, 1.2), row(3, 7), "slower", True),
        (row(3, 7, PAD, 1.04), row(3, 7), "tie", True),
        (row(3, 7, STOCK, 1.02), row(3, 7, STOCK, 0.5), "tie", False),
    ],
    ids=lambda value: str(value) if isinstance(value, (str, bool)) else "",
)
def test_two_rows_of_one_interval(a, b, kind, rerouted):
    assert kinds([a], [b]) == [(3, 7, kind, rerouted)]


def test_segments_are_cut_at_the_edges_of_both():
    a, b = [row(1, 2), row(3, 7, PAD, 2.0), row(8, 64)], [row(2, 4), row(5, 100)]
    assert [(c.first, c.last) for c in diff.segments(WIDE, a, b)] == [
        (1, 1),
        (2, 2),
        (3, 4),
        (5, 7),
        (8, 64),
        (65, 100),
    ]
    assert [c.kind for c in diff.segments(WIDE, a, b)] == ["gone", "tie", "slower", "slower", "tie", "new"]


def test_a_gap_in_both_is_no_segment():
    assert kinds([row(1, 2), row(9, 9)], [row(1, 2), row(9, 9)]) == [(1, 2, "tie", False), (9, 9, "tie", False)]


def test_a_wider_interval_is_no_loss_at_the_others():
    """The newer table's evidence is of M=16, which the older one had elsewhere: nothing is known of 3..7."""
    a, b = [row(3, 7, PAD, 2.0), row(8, 16, PAD, 1.1)], [row(3, 16, PAD, 1.1)]
    assert kinds(a, b) == [(3, 7, "tie", False), (8, 16, "tie", False)]


def test_a_narrower_interval_is_no_gain_at_the_others():
    a, b = [row(3, 16, PAD, 1.1)], [row(3, 7, PAD, 2.0), row(8, 16, PAD, 1.1)]
    assert [kind for *_, kind, _ in kinds(a, b)] == ["tie", "tie"]


def test_a_loss_within_the_segment_shows_wherever_the_older_evidence_is():
    """The older row gains at least 2.0 everywhere, so 1.5 at M=4 is a loss."""
    assert kinds([row(3, 16, PAD, 2.0)], [row(3, 4, PAD, 1.5)])[0] == (3, 4, "slower", False)


OLD = make({WIDE: [row(1, 2), row(3, 7, PAD, 2.0)], DENSE: [row(2, 8, "chunk rows=1", 1.5)]}, path="old.json")
NEW = make({WIDE: [row(1, 2), row(3, 7, PAD, 1.5)], "addmm N=512 K=512 f16 nt row": [row(1, 8)]}, path="new.json")


def test_counts_come_first():
    found = diff.diff(OLD, NEW)
    assert found.counts == {"slower": 1, "faster": 0, "new": 1, "gone": 1, "tie": 1}
    assert diff.summary(found) == "1 slower, 0 faster, 1 new, 1 gone, 1 tie; 0 on another route"
    assert [change.kind for change in found.told] == ["slower", "new", "gone"]
    assert diff.markdown(found).splitlines()[0] == f"**{diff.summary(found)}**"


def test_the_same_table_differs_in_nothing():
    found = diff.diff(OLD, OLD)
    assert not found.told
    assert not found.notes
    assert "| " not in diff.markdown(found)
    assert diff.next_step(found) == "autotune show --table old.json"


def test_the_next_step_is_the_loss():
    step = diff.next_step(diff.diff(OLD, NEW))
    assert step == f"autotune explain '{WIDE.replace(' N', ' M=7 N', 1)}' --table new.json"


def test_what_makes_numbers_hard_to_compare_is_said():
    other = make({WIDE: [row(1, 2, mlx="0.31.0")]}, header(M5MAX, load="queued"))
    notes = diff.diff(other, NEW).notes
    for expected in (
        "not the same chip: Apple M5 Max",
        "not the same load",
        "MLX 0.31.0, then",
    ):
        assert any(expected in note for note in notes)


def test_measured_and_simulated_tables_are_not_compared():
    simulated = replace(OLD, header=header(source="simulated"), path="simulated.json")
    for a, b in ((simulated, NEW), (NEW, simulated)):
        with pytest.raises(UsageError, match=r"simulated\.json is simulated"):
            diff.diff(a, b)
    assert diff.diff(simulated, simulated).changes


def test_markdown_is_a_table_for_a_pull_request():
    lines = diff.markdown(diff.diff(OLD, NEW)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count(" |") for row in rows}) == 1
    assert rows[2] == f"| slower | `{WIDE}` | 3..7 | `{PAD}` 2.00x [1.95, 2.05] | `{PAD}` 1.50x [1.45, 1.55] | -25 % |"
    assert "1 tie on the same route" in lines[-1]


def test_names_from_a_file_cannot_change_the_markdown():
    odd = header(chip=M5MAX.__class__("x", "cuda", "A | <b>*B*</b>\n# C", "sm_90", 1, False))
    assert "A \\| \\<b\\>\\*B\\*\\</b\\> # C" in diff.markdown(diff.diff(make({}, odd), make({}, odd)))


def test_document_lists_ties_too():
    document = json.loads(json.dumps(diff.document(diff.diff(OLD, NEW))))
    assert [change["kind"] for change in document["changes"]].count("tie") == 1
    assert document["counts"]["slower"] == 1
    slower = next(change for change in document["changes"] if change["kind"] == "slower")
    assert (slower["m"], slower["ratio"]) == ([3, 7], 0.75)


def test_a_class_that_is_routed_beyond_its_shapes_in_one_table_alone_is_noted():
    bound = Bound("matmul bf16 nt", 0.03, 2.0, 20, 40, 0, 0)
    without, routed, lost = (make({}, header(neighbours=b)) for b in (None, (bound,), (replace(bound, regret=0.3),)))
    assert diff.diff(without, routed).notes == ("matmul bf16 nt: shapes beyond the tuned ones are now routed",)
    assert diff.diff(routed, lost).notes == ("matmul bf16 nt: shapes beyond the tuned ones are no longer routed",)
    assert diff.diff(without, lost).notes == ()


def test_a_bad_file_is_an_error():
    bad = make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]})
    with pytest.raises(TableError, match="outside its kernel's space"):
        diff.diff(OLD, bad)
