"""``spaces``: which kernels a chip runs, what they offer, and how much of it is legal for a problem."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from autotune import chips, kernels, machine
from autotune.errors import UsageError
from autotune.kernels import STOCK, Parameter
from autotune.kernels.base import Kernel
from autotune.problem import Problem
from autotune.report import spaces
from autotune.search import space

QUANTIZED = Problem.parse("quantized_matmul M=3 N=512 K=512 f16 affine-b4-g64 nt")
DENSE = Problem.parse("matmul M=3 N=512 K=512 f16 nt")
LAPTOP = spaces.of_chip(chips.get("m4pro"))


class Tile(Kernel):
    """A kernel for NAX alone whose configs are legal up to M."""

    name, summary, ops = "tile", "a kernel", ("matmul",)
    backends, nax = ("metal",), True
    parameters = {"rows": Parameter(1, 64), "fill": Parameter(words=("zeros", "repeat"))}

    def legal(self, problem: Problem, config: Any) -> bool:
        return int(config["rows"]) <= problem.m


@pytest.fixture
def tile(monkeypatch):
    values = {"rows": {"values": [1, 2, 4, 8]}, "fill": {"values": ["zeros", "repeat"]}}
    declared = {**space.spaces(), "tile": values}
    monkeypatch.setitem(kernels.KERNELS, "tile", Tile())
    monkeypatch.setattr(space, "spaces", lambda: declared)


def names(found):
    return [each.kernel for each in found]


@pytest.mark.parametrize(
    ("chip", "backend", "nax", "words"),
    [
        ("m4pro", "metal", False, "Apple M4 Pro, metal, no NAX"),
        ("m5max", "metal", True, "Apple M5 Max, metal, NAX on (from macOS 26.2)"),
        ("h100", "cuda", False, "NVIDIA H100 SXM, cuda"),
        ("cpu", "cpu", False, "CPU, cpu"),
    ],
)
def test_a_chip_of_the_catalogue(chip, backend, nax, words):
    target = spaces.of_chip(chips.get(chip))
    assert (target.chip, target.backend, target.nax, target.words, target.here) == (chip, backend, nax, words, False)


def test_this_machine():
    target = spaces.of_machine("cpu")
    assert (target.chip, target.backend, target.nax, target.here) == ("cpu", "cpu", False, True)
    assert machine.local("cpu").device_name in target.words


def test_kernels_are_those_that_run_on_the_chip(tile):
    assert "tile" in names(spaces.view(spaces.of_chip(chips.get("m5max")), []))
    assert "tile" not in names(spaces.view(LAPTOP, []))
    assert names(spaces.view(spaces.of_chip(chips.get("h100")), [])) == [
        kernel.name for kernel in kernels.KERNELS.values() if "cuda" in kernel.backends
    ]


def test_kernels_that_are_named_come_in_that_order_and_have_to_run_there(tile):
    assert names(spaces.view(LAPTOP, [], ["upcast", "pad", "upcast"])) == ["upcast", "pad"]
    with pytest.raises(UsageError, match="tile does not run on m4pro: it needs metal, with NAX"):
        spaces.view(LAPTOP, [], ["tile"])
    with pytest.raises(UsageError, match="did you mean chunk"):
        spaces.view(LAPTOP, [], ["chunks"])


def test_values_points_and_legal_routes(tile):
    (found,) = spaces.view(spaces.of_chip(chips.get("m5max")), [DENSE, DENSE.with_m(9), QUANTIZED], ["tile"])
    assert found.parameters == {"rows": (1, 2, 4, 8), "fill": ("repeat", "zeros")}
    assert found.raw == 8
    assert [len(legal) for legal in found.legal.values()] == [4, 8, 0]
    assert [str(route) for route in found.legal[DENSE]] == [
        f"tile rows={rows} fill={fill}" for rows in (1, 2) for fill in ("repeat", "zeros")
    ]
    assert spaces._sizes(found) == "8 points, 4..8 legal on 2 of 3 problems"


def test_what_is_counted_is_what_a_sweep_may_measure():
    found = spaces.view(LAPTOP, [QUANTIZED, DENSE])
    for problem, listed in spaces.routes(found).items():
        assert listed == space.legal_routes(problem, "metal")
        assert listed[0] == STOCK


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ([], "30 points"),
        ([DENSE], "30 points, 26 legal"),
        ([QUANTIZED, DENSE], "30 points, 26 legal on 2 of 2 problems"),
    ],
)
def test_sizes_in_words(problems, expected):
    (found,) = spaces.view(LAPTOP, problems, ["pad"])
    assert spaces._sizes(found) == expected


def test_a_kernel_that_serves_none_of_the_problems():
    (found,) = spaces.view(LAPTOP, [DENSE, DENSE.with_m(4)], ["fold_k"])
    assert spaces._sizes(found) == "12 points, 0 legal"


def printed(parts) -> list[str]:
    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_text_names_every_value_and_fits_100_columns():
    lines = printed(spaces.text(LAPTOP, spaces.view(LAPTOP, [QUANTIZED])))
    assert lines[0] == "m4pro: Apple M4 Pro, metal, no NAX"
    assert "  rows  1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 14, 15, 16, 17, 24, 31, 32, 64, 128, 256" in lines
    total = sum(len(each.legal[QUANTIZED]) for each in spaces.view(LAPTOP, [QUANTIZED]))
    assert lines[-2] == f"{QUANTIZED}: {total} legal configs in all"
    assert lines[-1] == "2 kernels need metal with NAX: --chip m5max shows them, on any machine"
    assert max(map(len, lines)) <= 100


def test_text_tells_of_kernels_that_run_elsewhere():
    here, newest = spaces.of_machine("cpu"), spaces.of_chip(chips.get("m5max"))
    own = sum(not kernel.runs_on("cpu", False) for kernel in kernels.KERNELS.values())
    assert printed(spaces.text(here, spaces.view(here, [])))[-1] == (
        f"{own} kernels need metal or cuda: --chip m5max shows them, on any machine"
    )
    assert not any("--chip" in line for line in printed(spaces.text(newest, spaces.view(newest, []))))
    assert not any("--chip" in line for line in printed(spaces.text(here, spaces.view(here, [], ["pad"]))))


def test_text_counts_for_each_of_several_problems():
    lines = printed(spaces.text(LAPTOP, spaces.view(LAPTOP, [QUANTIZED, DENSE], ["pad", "fold_k"])))
    assert lines[-3].split() == ["problem", "legal"]
    assert [line.split()[-1] for line in lines[-2:]] == ["32", "26"]


def test_a_listing_is_one_route_a_line():
    one = spaces.view(LAPTOP, [DENSE], ["stock", "upcast"])
    assert printed(spaces.listing(one)) == ["stock", "upcast"]
    two = spaces.view(LAPTOP, [DENSE, QUANTIZED], ["stock"])
    assert printed(spaces.listing(two)) == [str(DENSE), "stock", "", str(QUANTIZED), "stock"]


def test_document_survives_json():
    found = spaces.view(LAPTOP, [DENSE], ["stock", "dequantize"])
    document = json.loads(json.dumps(spaces.document(LAPTOP, found, True)))
    assert document["chip"] == {"id": "m4pro", "backend": "metal", "nax": False}
    assert [each["legal"] for each in document["kernels"]] == [{str(DENSE): 1}, {str(DENSE): 0}]
    assert document["kernels"][1]["parameters"] == {"compute": ["float32", "native"]}
    assert document["routes"] == {str(DENSE): ["stock"]}
    assert "routes" not in spaces.document(LAPTOP, found, False)


def test_the_next_step():
    here = spaces.of_machine("cpu")
    assert spaces.next_step(here, []).startswith("autotune spaces --problem '")
    assert spaces.next_step(LAPTOP, []).startswith("autotune spaces --chip m4pro --problem '")
    assert spaces.next_step(here, [DENSE]) == f"autotune sweep --problem '{DENSE}'"
    assert spaces.next_step(LAPTOP, [], "quick") == "autotune sweep --chip m4pro --workload quick --dry-run"
