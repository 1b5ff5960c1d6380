"""The first try of a kernel, on kernels made of stock ops."""

from __future__ import annotations

import pytest

from autotune.kernels import trial
from autotune.problem import LAYOUTS, Problem
from kernels.standins import PROBLEMS, Refused, Right


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(trial, "TRIED", set())
    monkeypatch.setattr(trial, "FAILED", {})


class TestFirstTry:
    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_a_right_kernel_passes(self, problem):
        Right().probe(problem, {"shift": 0})

    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_a_wrong_one_does_not(self, problem):
        with pytest.raises(ArithmeticError, match="wrong"):
            Right().probe(problem, {"shift": 9})

    def test_is_made_once_for_a_config_and_kind_of_problem(self):
        kernel, problem = Right(), PROBLEMS[0]
        for m in (3, 5, 70):
            kernel.probe(problem.with_m(m), {"shift": 0})
        assert kernel.calls == len(LAYOUTS)  # a call may have any, whatever the problem says
        kernel.probe(PROBLEMS[1], {"shift": 0})
        assert kernel.calls == 2 * len(LAYOUTS)

    def test_what_has_failed_is_not_tried_again(self):
        kernel = Refused()
        for m in (3, 5, 70):
            with pytest.raises(RuntimeError, match="unable to build") as caught:
                kernel.probe(PROBLEMS[0].with_m(m), {"shift": 0})
        assert kernel.calls == 1
        assert caught.traceback[-1].name == "once"
        for problem, shift in ((PROBLEMS[1], 0), (PROBLEMS[0], 1)):
            with pytest.raises(RuntimeError, match="unable to build"):
                kernel.probe(problem, {"shift": shift})
        assert kernel.calls == 3

    def test_what_is_kept_of_a_failure_keeps_no_frames(self):
        with pytest.raises(ArithmeticError, match="wrong"):
            Right().probe(PROBLEMS[0], {"shift": 9})
        assert [each.__traceback__ for each in trial.FAILED.values()] == [None]
        with pytest.raises(ArithmeticError, match="wrong"):
            Right().probe(PROBLEMS[0], {"shift": 9})
        assert [each.__traceback__ for each in trial.FAILED.values()] == [None]

    def test_what_the_compiler_says_is_raised(self):
        with pytest.raises(RuntimeError, match="unable to build"):
            Refused().probe(PROBLEMS[0], {"shift": 0})


@pytest.mark.parametrize("layout", ["nt", "nn"])
@pytest.mark.parametrize("quantization", ["affine-b4-g32", "affine-b3-g128", "mxfp4-b4-g32", "mxfp8-b8-g32"])
def test_the_first_try_has_whole_groups_in_every_layout(quantization, layout):
    Right().probe(Problem.parse(f"quantized_matmul M=3 N=128 K=128 f16 {quantization} {layout}"), {"shift": 0})
