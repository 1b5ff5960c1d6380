"""What is made of a proof, and what repeats a failure."""

from __future__ import annotations

import pytest

from autotune.devices.base import Accuracy
from autotune.devices.cases import Case
from autotune.devices.proof import Element, Proof
from autotune.kernels import STOCK, Route
from autotune.search.verdict import Failure, judged

SMALL = Case.parse("matmul M=5 N=7 K=12 f16 nt")


def good(share):
    return Proof(Element((0, 0), 1.0, 1.0, 0.1, share))


def bad(got=2.0):
    return Proof(Element((1, 0), 1.0, got, 0.1, 10.0))


class TestJudged:
    """Compositions beyond their elements' bound are held to the sweep's rule."""

    ROUTE = Route.parse("pad multiple=8 fill=zeros")

    def of(self, mine, stock):
        return judged(self.ROUTE, SMALL, Proof(bad().element, accuracy=(mine, stock)))

    def test_as_good_as_stock_is_right(self):
        objection, share = self.of(Accuracy(0.01, 0.05, 0.01, 0.05), Accuracy(0.01, 0.05, 0, 0))
        assert (objection, share) == ("", pytest.approx(1 / 2.1))

    def test_far_worse_is_wrong(self):
        objection, share = self.of(Accuracy(0.1, 0.5, 0.1, 0.5), Accuracy(0.01, 0.05, 0, 0))
        assert "error 0.1 is above" in objection
        assert share > 1

    def test_a_finding_is_wrong_whatever_the_numbers(self):
        assert judged(self.ROUTE, SMALL, Proof(finding="race: two threads"))[0] == "race: two threads"


class TestCommand:
    def test_repeats_the_failure(self):
        failure = Failure(
            Route.parse("ours how=right size=1"),
            Case.parse("matmul M=4 N=2 K=3 f32 nt | offset lead=2"),
            "",
            "wrong",
            "",
        )
        assert failure.command("metal", 7) == (
            "autotune verify --device metal --route 'ours how=right size=1' "
            "--case 'matmul M=4 N=2 K=3 f32 nt | offset lead=2' --seed 7"
        )

    @pytest.mark.parametrize(("way", "said"), [("reverse", "--schedule reverse"), ("check", "--check")])
    def test_says_how_the_host_ran_it(self, way, said):
        assert Failure(STOCK, SMALL, way, "wrong", "").command("msl-host", 7).endswith(said)
