import random

import pytest

from autotune.errors import UsageError
from autotune.problem import DEFAULTS, DTYPES, EPILOGUES, LAYOUTS, MODES, Family, Problem, Quantization

QUANTIZATIONS = [
    Quantization(mode, b, group) for mode, (bits, groups) in MODES.items() for b in bits for group in groups
]
EVERY_KIND = [
    *(Problem("matmul", 3, 64, 96, dtype, layout) for dtype in DTYPES for layout in LAYOUTS),
    *(
        Problem("addmm", 3, 64, 96, dtype, layout, epilogue=epilogue)
        for dtype in DTYPES
        for layout in LAYOUTS
        for epilogue in EPILOGUES
    ),
    *(
        Problem("quantized_matmul", 3, 256, 384, dtype, layout, q)
        for dtype in DTYPES
        for layout in ("nt", "nn")
        for q in QUANTIZATIONS
    ),
    Problem("matmul", 3, 64, 96, "f32", "nn", batch=7),
    Problem("addmm", 1, 1, 1, "bf16", "tt", batch=2, epilogue="full"),
]


class TestText:
    def test_canonical_text_of_each_op(self):
        q = Quantization("affine", 4, 64)
        assert str(Problem("quantized_matmul", 3, 13824, 5120, "f16", "nt", q)) == (
            "quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt"
        )
        assert str(Problem("matmul", 64, 512, 256, "f32", "nn")) == "matmul M=64 N=512 K=256 f32 nn"
        assert str(Problem("matmul", 64, 512, 256, "f32", "nn", batch=3)) == "matmul M=64 N=512 K=256 B=3 f32 nn"
        assert str(Problem("addmm", 1, 2, 3, "bf16", epilogue="full")) == "addmm M=1 N=2 K=3 bf16 nt full"

    def test_every_problem_reads_what_it_writes(self):
        for problem in EVERY_KIND:
            assert Problem.parse(str(problem)) == problem
        assert len({str(problem) for problem in EVERY_KIND}) == len(EVERY_KIND)

    @pytest.mark.parametrize("seed", range(5))
    def test_words_come_in_any_order_and_case(self, seed):
        rng = random.Random(seed)
        for problem in rng.sample(EVERY_KIND, 20):
            op, *words = str(problem).split()
            rng.shuffle(words)
            words = [rng.choice([str.upper, str.lower, str.title])(word) for word in (op, *words)]
            assert Problem.parse("  ".join(words)) == problem, words

    def test_layout_defaults_to_nt_and_the_addend_to_a_row(self):
        assert str(Problem.parse("matmul M=1 N=2 K=3 f32")) == "matmul M=1 N=2 K=3 f32 nt"
        assert str(Problem.parse("addmm M=1 N=2 K=3 f32 nn")) == "addmm M=1 N=2 K=3 f32 nn row"

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("", "empty problem"),
            ("   ", "empty problem"),
            ("matmull M=1 N=2 K=3 f32", "did you mean matmul"),
            ("quantised_matmul M=1 N=64 K=64 f16 affine-b4-g64", "did you mean quantized_matmul"),
            ("conv M=1 N=2 K=3 f32", "known: addmm, matmul, quantized_matmul"),
            ("matmul M=1 N=2 K=3 f61", "unknown dtype 'f61': known: f32, f16, bf16"),
            ("matmul M=1 N=2 K=3 f64", "unknown dtype 'f64': known: f32, f16, bf16"),
            ("matmul M=1 N=2 K=3 fp16", "unknown dtype 'fp16': did you mean f16? known: f32, f16, bf16"),
            ("matmul M=1 N=2 K=3 Float16", "did you mean f16?"),
            ("matmul M=1 N=2 K=3 bfloat16", "did you mean bf16?"),
            ("matmul M=1 N=2 K=3 half", "did you mean f16?"),
            ("matmul M=1 N=2 K=3 f32 nq", "'nq' is not understood"),
            ("matmul M=-1 N=2 K=3 f32", "'M=-1' is not understood"),
            ("matmul M= N=2 K=3 f32", "'M=' is not understood"),
            ("matmul M=1.5 N=2 K=3 f32", "'M=1.5' is not understood"),
            ("matmul N=2 f32", "lacks M, K"),
            ("matmul M=1 N=2 K=3", "lacks dtype"),
            ("quantized_matmul M=1 N=64 K=64 f16", "needs a quantization"),
            ("matmul M=1 N=64 K=64 f16 affine-b4-g64", "takes no quantization"),
            ("quantized_matmul M=1 N=64 K=64 f16 afine-b4-g64", "did you mean affine"),
            ("quantized_matmul M=1 N=64 K=64 f16 affine-b7-g64", "affine has no b7-g64"),
            ("quantized_matmul M=1 N=64 K=64 f16 nvfp4-b4-g32", "nvfp4 has no b4-g32: bits 4; groups 16"),
            ("quantized_matmul M=1 N=64 K=64 f16 affine-bx-g64", "is not MODE-bBITS-gGROUP"),
            ("quantized_matmul M=1 N=64 K=96 f16 affine-b4-g64", "K=96 is no multiple of the group size 64"),
            ("quantized_matmul M=1 N=96 K=64 f16 affine-b4-g64 nn", "N=96 is no multiple of the group size 64"),
            ("quantized_matmul M=1 N=64 K=64 f16 affine-b4-g64 tn", "no transposed A"),
            ("matmul M=0 N=2 K=3 f32", "empty dimension"),
            ("matmul M=1 N=2 K=3 B=0 f32", "empty dimension"),
            ("matmul M=1 N=2 K=3 f32 row", "with epilogue 'row'"),
            ("matmul M=4 M=8 N=2 K=3 f16", "gives M twice, again as 'M=8': give each of its words once"),
            ("matmul M=4 M=4 N=2 K=3 f16", "gives M twice"),
            ("matmul M=4 N=2 K=3 B=2 b=3 f16", "gives B twice, again as 'b=3'"),
            ("matmul M=4 N=2 K=3 f16 bf16", "gives dtype twice, again as 'bf16'"),
            ("matmul M=4 N=2 K=3 f16 nt NN", "gives layout twice, again as 'NN'"),
            ("addmm M=4 N=2 K=3 f16 row full", "gives epilogue twice, again as 'full'"),
            ("quantized_matmul M=1 N=64 K=64 f16 affine-b4-g64 affine-b8-g64", "gives quantization twice"),
        ],
    )
    def test_a_mistake_is_named_with_its_remedy(self, text, part):
        with pytest.raises(UsageError) as caught:
            Problem.parse(text)
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_grouped_axis_is_the_last_axis_of_the_stored_matrix(self):
        q = Quantization("affine", 4, 64)
        assert Problem("quantized_matmul", 1, 65, 64, "f16", "nt", q).n == 65
        assert Problem("quantized_matmul", 1, 64, 65, "f16", "nn", q).k == 65

    @pytest.mark.parametrize(
        ("field", "value", "part"),
        [
            ("op", "addm", "did you mean addmm"),
            ("dtype", "f61", "known: f32, f16, bf16"),
            ("dtype", "float32", "did you mean f32"),
            ("dtype", "int8", "unknown dtype 'int8': known: f32, f16, bf16"),
            ("layout", "xx", "known: nn, nt, tn, tt"),
        ],
    )
    def test_fields_are_checked_when_made(self, field, value, part):
        fields = {"op": "matmul", "m": 1, "n": 1, "k": 1, "dtype": "f32", "layout": "nn", field: value}
        with pytest.raises(UsageError, match=part):
            Problem(**fields)


class TestQuantization:
    def test_text_round_trips(self):
        for quantization in QUANTIZATIONS:
            assert Quantization.parse(str(quantization)) == quantization

    def test_defaults_are_legal_and_only_affine_has_biases(self):
        for mode, (bits, group) in DEFAULTS.items():
            assert Quantization(mode, bits, group).has_biases == (mode == "affine")

    @pytest.mark.parametrize("text", ["affine", "affine-b4", "affine-b4-g64-x", "affine-b-g64", " affine-b4-g64"])
    def test_other_texts_are_refused(self, text):
        with pytest.raises(UsageError):
            Quantization.parse(text)


class TestCosts:
    def test_flops_count_multiplications_and_additions_of_all_products(self):
        assert Problem.parse("matmul M=3 N=5 K=7 f32").flops == 2 * 3 * 5 * 7
        assert Problem.parse("matmul M=3 N=5 K=7 B=11 f16").flops == 2 * 3 * 5 * 7 * 11

    @pytest.mark.parametrize(
        ("text", "weights", "everything"),
        [
            ("matmul M=3 N=5 K=7 f32", 5 * 7 * 4, (5 * 7 + 3 * 7 + 3 * 5) * 4),
            ("matmul M=3 N=5 K=7 B=2 f16", 2 * 5 * 7 * 2, 2 * (5 * 7 + 3 * 7 + 3 * 5) * 2),
            ("addmm M=3 N=5 K=7 f32 row", 5 * 7 * 4, (5 * 7 + 3 * 7 + 3 * 5 + 5) * 4),
            ("addmm M=3 N=5 K=7 bf16 full", 5 * 7 * 2, (5 * 7 + 3 * 7 + 3 * 5 + 3 * 5) * 2),
            # 64 x 128 words of 4 bits, and a scale and a bias of 2 bytes for each group of 64
            ("quantized_matmul M=3 N=64 K=128 f16 affine-b4-g64", 4096 + 128 * 4, 4096 + 512 + (3 * 128 + 3 * 64) * 2),
            ("quantized_matmul M=3 N=64 K=128 f32 affine-b3-g32", 3072 + 256 * 8, 3072 + 2048 + (3 * 128 + 3 * 64) * 4),
            ("quantized_matmul M=3 N=64 K=128 f16 mxfp8-b8-g32", 8192 + 256, 8192 + 256 + (3 * 128 + 3 * 64) * 2),
            ("quantized_matmul M=3 N=64 K=128 f16 nvfp4-b4-g16 nn", 4096 + 512, 4096 + 512 + (3 * 128 + 3 * 64) * 2),
        ],
    )
    def test_bytes(self, text, weights, everything):
        problem = Problem.parse(text)
        assert problem.weight_bytes == weights
        assert problem.bytes == everything

    def test_bytes_of_quantized_weights_are_those_of_mlx_arrays(self):
        import mlx.core as mx

        for q in QUANTIZATIONS:
            arrays = mx.quantize(mx.zeros((64, 256), dtype=mx.float16), q.group_size, q.bits, q.mode)
            stored = sum(array.nbytes for array in arrays)
            assert Problem("quantized_matmul", 1, 64, 256, "f16", "nt", q).weight_bytes == stored, q


class TestFamily:
    def test_text_is_the_problems_without_m(self):
        problem = Problem.parse("quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt")
        assert str(problem.family) == "quantized_matmul N=13824 K=5120 f16 affine-b4-g64 nt"
        assert str(Problem.parse("matmul M=1 N=1 K=1 B=9 f32 tn").family) == "matmul N=1 K=1 B=9 f32 tn"

    def test_at_gives_the_problem_back(self):
        for problem in EVERY_KIND:
            assert problem.family.at(problem.m) == problem
            assert problem.family.at(problem.m + 1) == problem.with_m(problem.m + 1)
            assert problem.with_m(17).family == problem.family

    def test_families_sort_by_op_and_size(self):
        small, large = (Family("matmul", n, 64, "f32", "nt") for n in (9, 10))
        assert sorted([large, small, Family("addmm", 99, 64, "f32", "nt", epilogue="row")])[1:] == [small, large]

    def test_with_layout_changes_the_layout_alone(self):
        problem = Problem.parse("addmm M=3 N=5 K=7 B=2 f16 nt full")
        assert str(problem.with_layout("tn")) == "addmm M=3 N=5 K=7 B=2 f16 tn full"
