"""The table of cases: complete, readable, and with the edges where indexing goes wrong."""

from __future__ import annotations

import pytest

from autotune.devices import cases
from autotune.devices.cases import Case, Kind
from autotune.errors import UsageError
from autotune.problem import DTYPES, LAYOUTS, MODES, OPS, Problem

DENSE = Kind("matmul", "f16", "nt")
ADDMM = Kind("addmm", "f32", "nn", None, 1, "full")
PACKED = next(kind for kind in cases.kinds(("quantized_matmul",)) if kind.usual)


def every():
    for kind in (DENSE, ADDMM, PACKED):
        yield from cases.table(kind, True, True)
        yield from cases.around(kind, (4, 8), 70, 261, True, 64)


class TestText:
    @pytest.mark.parametrize("case", list(every()), ids=str)
    def test_is_read_as_it_is_written(self, case):
        assert Case.parse(str(case)) == case

    def test_a_problem_alone_is_the_plain_case(self):
        assert Case.parse("matmul M=1 N=2 K=3 f32 nn") == Case(Problem.parse("matmul M=1 N=2 K=3 f32 nn"))

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("matmul M=1 N=2 K=3 f32 nn | sideways", "sideways"),
            ("matmul M=1 N=2 K=3 f32 nn | plain gamma=1", "gamma=1"),
            ("matmul M=5 N=2 K=3 f32 nn | plain lead=2", "M=5"),
            ("matmul M=4 N=2 K=3 B=2 f32 nn | plain lead=2", "lead"),
        ],
    )
    def test_a_slip_is_named(self, text, named):
        with pytest.raises(UsageError, match=named):
            Case.parse(text)


class TestKinds:
    def test_all_quantizations_in_all_dtypes_and_layouts(self):
        found = cases.kinds(("quantized_matmul",))
        modes = {(q.mode, q.bits, q.group_size) for q in (kind.quantization for kind in found) if q}
        assert modes == {(mode, bits, group) for mode, of in MODES.items() for bits in of[0] for group in of[1]}
        assert {(kind.dtype, kind.layout) for kind in found} == {(d, la) for d in DTYPES for la in ("nt", "nn")}

    def test_dense_ones_in_all_dtypes_layouts_epilogues_and_batches(self):
        for op in ("matmul", "addmm"):
            found = cases.kinds((op,))
            assert {(kind.dtype, kind.layout) for kind in found} == {(d, la) for d in DTYPES for la in LAYOUTS}
            assert {kind.batch for kind in found} == {1, 3}
        assert {kind.epilogue for kind in cases.kinds(("addmm",))} == {"row", "full"}

    def test_no_kind_comes_twice(self):
        found = cases.kinds(OPS)
        assert len(set(found)) == len(found)

    def test_dense_and_packed_products_have_a_usual_kind_in_each_dtype(self):
        usual = [(kind.op, kind.dtype) for kind in cases.kinds(OPS) if kind.usual]
        assert sorted(usual) == sorted((op, dtype) for op in ("matmul", "quantized_matmul") for dtype in DTYPES)

    def test_of_gives_back_the_kind_of_its_problem(self):
        assert all(Kind.of(kind.problem(5, 100, 100)) == kind for kind in cases.kinds(OPS))


class TestTable:
    def test_has_single_elements_vectors_tails_and_leading_axes(self):
        sizes = {(case.problem.m, case.problem.n, case.problem.k) for case in cases.table(DENSE, True, False)}
        assert (1, 1, 1) in sizes
        assert any(m == 1 < n for m, n, _ in sizes)
        assert any(n == 1 < m for m, n, _ in sizes)
        assert {127, 128, 257, 513} <= {k for _, _, k in sizes}
        assert {case.lead for case in cases.table(DENSE, True, False)} == {(), *cases.LEADS}

    def test_compositions_are_tried_around_the_limits_of_mlx(self):
        rows = {case.problem.m for case in cases.table(PACKED, False, False)}
        assert {limit + step for limit in cases.LIMITS for step in (-1, 0, 1)} <= rows

    def test_packed_axes_are_whole_groups_one_group_among_them(self):
        ks = {case.problem.k for case in cases.table(PACKED, True, False)}
        assert {64, 128, 576} <= ks
        assert all(k % 64 == 0 for k in ks)

    def test_the_filling_case_is_for_those_who_ask(self):
        assert max(case.problem.m for case in cases.table(DENSE, True, False)) < 64
        assert cases.FILLING in {(c.problem.m, c.problem.n, c.problem.k) for c in cases.table(DENSE, True, True)}


class TestAround:
    def test_rows_lie_around_each_value_of_the_config(self):
        found = cases.around(DENSE, (4, 16, 100), 33, 70, True, 64)
        assert {case.problem.m for case in found if case.variant == "plain"} == {3, 4, 5, 15, 16, 17}
        assert all((case.problem.n, case.problem.k) == (33, 70) for case in found)

    def test_every_variant_occurs_at_rows_that_no_value_divides(self):
        found = [case for case in cases.around(DENSE, (5, 7), 33, 70, True, 64) if case.variant != "plain"]
        assert {case.variant for case in found} == set(cases.VARIANTS) - {"plain"}
        assert {case.problem.m for case in found} == {11}

    def test_kernels_without_a_promise_are_spared_what_they_do_not_promise(self):
        assert "large" in {case.variant for case in cases.around(DENSE, (), 33, 70, True, 64)}
        assert "large" not in {case.variant for case in cases.around(DENSE, (), 33, 70, False, 64)}

    def test_addends_come_with_all_factors_that_are_not_read_among_them(self):
        found = [*cases.table(ADDMM, True, False), *cases.around(ADDMM, (4,), 33, 70, True, 64)]
        assert {(case.alpha, case.beta) for case in found} == set(cases.FACTORS)
        assert any(case.beta == 0 for case in found)
