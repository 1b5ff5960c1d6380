"""What is compiled for a launch on CUDA: the parameters, and the parts in their order."""

from __future__ import annotations

import re

import mlx.core as mx

from autotune.kernels import cuda
from autotune.kernels.program import Launch, Program

PROGRAM = Program("p", ("sizes", "x"), ("y",), "#include <metal_stdlib>\nint f();\n", "y[0] = x[sizes[0]];")


def asked(program=PROGRAM, inputs=None, dtypes=(mx.float16,)):
    inputs = inputs or (mx.zeros((3,), mx.int32), mx.zeros((2, 4), mx.bfloat16))
    return Launch(program, inputs, (64, 4, 1), (32, 4, 1), ((2, 4),), dtypes)


def parameters(source):
    """The signature in words: bounds, name and parameters."""
    match = re.search(r'^extern "C" __global__ void __launch_bounds__\((\d+)\) (\w+)\((.*)\) \{$', source, re.MULTILINE)
    assert match
    return int(match[1]), match[2], match[3].split(", ")


class TestSource:
    def test_signature(self):
        made = cuda.source(asked(), "some")
        by_value = ["int size0", "int size1", "int size2"]
        assert parameters(made) == (128, "some", ["const __nv_bfloat16* x", "__half* y", *by_value])
        assert "const int sizes[] = {size0, size1, size2};\ny[0] = x[sizes[0]];" in made

    def test_without_sizes_there_is_nothing_by_value(self):
        program = Program("p", ("x",), ("y",), "", "y[0] = x[0];")
        made = cuda.source(asked(program, (mx.zeros((8,)),)), "some")
        assert parameters(made)[2] == ["const float* x", "__half* y"]
        assert "size" not in made.rpartition("{")[2]

    def test_parts_are_in_order(self):
        made = cuda.source(asked(), "some")
        places = [made.index(part) for part in (cuda.PRELUDE, "#define METAL_FUNC", "int f();", "extern", PROGRAM.body)]
        assert places == sorted(places)
        assert made.endswith("}\n")
        assert "metal_stdlib" not in made

    def test_shapes_and_strides_only_where_the_body_asks(self):
        body = "y[0] = x[x_shape[0] + x_strides[1]] + w[w_ndim];"
        program = Program("p", ("x", "w"), ("y",), "", body, contiguous=False)
        made = cuda.source(asked(program, (mx.zeros((2, 4)), mx.zeros((8,), mx.uint8))), "some")
        assert parameters(made)[2] == [
            "const float* x",
            "const __grid_constant__ Shape x_shape",
            "const __grid_constant__ Strides x_strides",
            "const unsigned char* w",
            "const __grid_constant__ int w_ndim",
            "__half* y",
        ]
        assert "x_shape.data()[0] + x_strides.data()[1]" in made

    def test_every_dtype_that_families_pass(self):
        names = tuple(f"x{number}" for number in range(len(cuda.TYPES)))
        program = Program("p", names, ("y", "z"), "", "y[0] = 0;")
        inputs = tuple(mx.zeros((8,), dtype) for dtype in cuda.TYPES)
        made = parameters(cuda.source(asked(program, inputs, (mx.float32, mx.bfloat16)), "some"))[2]
        types = ("float", "__half", "__nv_bfloat16", "int", "unsigned int", "unsigned char")
        assert made[:-2] == [f"const {type_}* {name}" for type_, name in zip(types, names)]
        assert made[-2:] == ["float* y", "__nv_bfloat16* z"]
