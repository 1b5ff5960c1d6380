"""MLX's kernels as launches: as many threadgroups as MLX's own rules give work to."""

from itertools import product

import pytest

from autotune.devices.simulated import chip, model, stock
from autotune.problem import Problem

VECTORS = [
    "matmul M={} N=1 K={} f16 nn",
    "matmul M={} N=1 K={} f32 tn",
    "addmm M={} N=1 K={} bf16 nt full",
    "matmul M={} N=1 K={} B=4 f16 nt",
    "matmul M=1 N={} K={} f16 nt",
    "matmul M=3 N={} K={} f16 nt",
    "quantized_matmul M=3 N={} K={} f16 affine-b4-g64 nt",
    "quantized_matmul M=2 N=64 K={1} f16 affine-b4-g64 nn",
]


@pytest.mark.parametrize("version", ["0.29.3", "0.32.2"])
@pytest.mark.parametrize("text", VECTORS)
def test_matrix_vector_kernels_have_the_threadgroups_that_mlx_gives_work_to(text, version):
    of = chip.get("m4pro")
    for size, k in product((5, 64, 4096), (64, 5120)):
        problem = Problem.parse(text.format(size, k))
        assert stock.launches(problem, of, version)[0].groups == stock.kernel(problem, of, version).busy, problem


def test_one_column_is_the_transposed_product_of_one_row():
    """A times a vector reads A once, as a vector times B reads B; the model once put all of it on one core."""
    of = chip.get("m4pro")
    column, row = (
        model.predict(Problem.parse(text), of, "0.32.2").seconds
        for text in ("matmul M=4096 N=1 K=4096 f16 nn", "matmul M=1 N=4096 K=4096 f16 nt")
    )
    assert column == pytest.approx(row, rel=0.05)


def test_a_deep_product_without_barriers_slows_down_up_to_a_limit():
    m5, drift = chip.get("m5max"), chip.get("m5max").constants.drift

    def rate(k):
        (found,) = stock.launches(Problem.parse(f"matmul M=4096 N=4096 K={k} bf16 nn"), m5, "0.30.3")
        assert found.name == "nax_fused"
        return sum(task.operations for task in found.tasks if task.unit == "nax") / (4096 * 4096 * k)

    assert rate(8192) == pytest.approx(1.0)
    assert rate(16384) == pytest.approx(1 + drift / 2)
    assert rate(1 << 20) < 1 + drift


@pytest.mark.parametrize(("version", "item"), [("0.32.2", 2), ("0.32.4", 4)])
def test_partial_sums_of_qmm_have_the_bytes_that_the_rules_say(version, item):
    """0.32.4 reduces float32 where versions before reduce the dtype of x."""
    problem, of = Problem.parse("quantized_matmul M=16 N=2048 K=4096 f16 affine-b4-g64 nt"), chip.get("m3max")
    kernel = stock.kernel(problem, of, version)
    product_, *reductions = stock.launches(problem, of, version)
    assert kernel.name == "qmm_splitk"
    assert product_.written == kernel.split_k * 16 * 2048 * item == kernel.partial_bytes
    assert all(each.other >= kernel.partial_bytes for each in reductions)
