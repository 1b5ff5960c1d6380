"""Calls of ``mx.fast.metal_kernel`` for the host's tests: recorded as on a Mac, run on this CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from autotune.devices.msl_host import native
from autotune.devices.msl_host.host import Bits, MslHost, from_bfloat16
from autotune.devices.msl_host.record import record
from autotune.devices.msl_host.runner import to_numpy

Grid = tuple[int, int, int]

SCHEDULES = (
    native.Options(threads=1),
    native.Options(native.Schedule("reverse"), threads=1),
    native.Options(native.Schedule("random", 7), threads=2),
    native.Options(check=True),
)
"""Every way to run a kernel that has to give the same result."""
CHECK = native.Options(check=True)
ONE = ((1,), mx.float32)


@dataclass(frozen=True)
class Call:
    """A kernel and its arguments. ``outputs`` are shapes and dtypes by name."""

    body: str
    inputs: Mapping[str, mx.array]
    outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]]
    header: str = ""
    template: tuple[tuple[str, Any], ...] = ()
    grid: Grid = (1, 1, 1)
    threadgroup: Grid = (1, 1, 1)
    atomic_outputs: bool = False

    def source(self) -> str:
        """What MLX would hand to Apple's compiler."""
        kernel: Any = mx.fast.metal_kernel(
            name="test",
            input_names=list(self.inputs),
            output_names=list(self.outputs),
            source=self.body,
            header=self.header,
            atomic_outputs=self.atomic_outputs,
            ensure_row_contiguous=False,
        )

        def start(*arrays: mx.array) -> Any:
            return kernel(
                inputs=list(arrays),
                template=list(self.template),
                grid=self.grid,
                threadgroup=self.threadgroup,
                output_shapes=[shape for shape, _ in self.outputs.values()],
                output_dtypes=[dtype for _, dtype in self.outputs.values()],
                verbose=True,
            )

        return record(start, *self.inputs.values())[0]

    def run(self, host: MslHost | None = None, init_value: float | None = None) -> list[np.ndarray]:
        """The outputs; bfloat16 as float32."""
        outputs = [(shape, str(dtype).rpartition(".")[2]) for shape, dtype in self.outputs.values()]
        inputs = [to_numpy(array) for array in self.inputs.values()]
        results = (host or MslHost()).run(
            self.source(), inputs, outputs, self.grid, self.threadgroup, init_value=init_value
        )
        return [from_bfloat16(result.array) if isinstance(result, Bits) else result for result in results]


def evaluate(expressions: Sequence[str], setup: str = "", header: str = "", **inputs: mx.array) -> np.ndarray:
    """The values of float expressions, one thread, after the statements ``setup``."""
    stores = "\n".join(f"y[{index}] = float({expression});" for index, expression in enumerate(expressions))
    given = inputs or {"x": mx.zeros((8,))}
    [y] = Call(f"{setup}\n{stores}", given, {"y": ((len(expressions),), mx.float32)}, header).run()
    return y


def float64(array: mx.array) -> np.ndarray:
    """The array's values, exactly."""
    return np.array(array.astype(mx.float32)).astype(np.float64)


def apart(values: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude; infinite where a value is none."""
    difference = np.abs(values.astype(np.float64) - expected)
    return float(difference.max() / np.abs(expected).max()) if np.isfinite(difference).all() else float("inf")
