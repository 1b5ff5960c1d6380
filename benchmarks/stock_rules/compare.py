"""The stock rules against MLX's own routing code.

    git clone https://github.com/ml-explore/mlx /somewhere/mlx
    python benchmarks/stock_rules/compare.py --mlx /somewhere/mlx

For each tag the functions that route ``matmul``, ``addmm`` and ``quantized_matmul`` are taken out of that tag's
mlx/backend/metal/matmul.cpp and quantized.cpp and compiled with ``stubs.h`` in the place of Metal, which writes down
the kernels, grids and threadgroups that they would dispatch. Random calls, most of them next to a threshold, then go
through both. It needs no GPU and no Metal, but the ``host`` extra (``pip install 'mlx-autotune[host]'``) for its C++
compiler.
Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from autotune.errors import UsageError
from autotune.problem import EPILOGUES, LAYOUTS, MODES, Problem, Quantization
from autotune.stock_rules import StockDevice, StockKernel, stock_kernel

HERE = Path(__file__).parent
TAGS = (
    *("v0.29.0", "v0.29.1", "v0.29.2", "v0.29.3", "v0.29.4"),
    *("v0.30.0", "v0.30.1", "v0.30.3", "v0.30.4", "v0.30.5", "v0.30.6"),
    *("v0.31.0", "v0.31.1", "v0.31.2", "v0.32.0", "v0.32.1"),
    "846d176227a0ac13d2667e58d2bb68b322109ab0",
)
VERSIONS = {TAGS[-1]: "0.32.2"}
"""The version that a commit stands for where it is no tag."""
METAL = "mlx/backend/metal/"

SIZES = (
    *range(1, 19),
    *(24, 25, 31, 32, 33, 39, 40, 48, 64, 65, 96, 127, 128, 129, 256, 257, 384, 511, 512, 513, 640, 768),
    *(1000, 1023, 1024, 1025, 1152, 1536, 2047, 2048, 2049, 2560, 3072, 4095, 4096, 4097, 5120, 6144),
    *(8191, 8192, 8193, 8224, 10239, 10240, 11008, 12288, 13824, 14336, 16384, 32768, 65535, 65536, 131072),
)
ARCHITECTURES = tuple(f"applegpu_g{generation}{letter}" for generation in range(12, 19) for letter in "pgscd")

Call = tuple[Problem, str, bool]
"""A problem, an architecture, and whether the OS has NAX."""


class Source:
    """MLX's files at one tag of a clone."""

    def __init__(self, clone: Path, tag: str) -> None:
        self.clone, self.tag = clone, tag

    def file(self, path: str) -> str:
        """Without MLX's own includes; empty where the tag does not have the file."""
        command = ["git", "-C", str(self.clone), "show", f"{self.tag}:{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return re.sub(r"(?m)^#include \"mlx.*$|^#pragma once$", "", done.stdout)

    def function(self, path: str, start: str) -> str:
        """The function that begins with ``start``, up to the brace that ends it; empty where there is none."""
        text = self.file(path)
        at = text.find(start)
        if at < 0:
            return ""
        depth = 0
        for end in range(text.index("{", at), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                break
        return text[at : end + 1]

    def routing(self) -> str:
        """One header: the stubs, then what MLX decides by."""
        utils, packs = "mlx/utils.h", "mlx/backend/common/quantized.h"
        nax = self.function(METAL + "device.h", "inline bool is_nax_available() {")
        nax = nax or self.function(METAL + "device.cpp", "bool is_nax_available() {")
        matmul = self.file(METAL + "matmul.cpp").split("// BlockMaskedMM implementation")[0].rstrip("/\n") + "\n}\n"
        quantized = self.file(METAL + "quantized.cpp").split("void GatherQMM::eval_gpu")[0] + "\n}\n"
        parts = (
            "#define STUBS_NEW_SPLITK\n" if "// no swizzle" in matmul else "",
            (HERE / "stubs.h").read_text(encoding="utf-8"),
            "namespace mlx::core {",
            self.function(utils, "inline bool is_power_of_2"),
            self.function(utils, "inline int next_power_of_2"),
            self.function(packs, "inline constexpr short get_pack_factor"),
            "namespace metal {",
            nax.replace("static bool is_nax_available_", "bool is_nax_available_"),  # asked anew for each call
            "}}",
            self.file("mlx/backend/common/matmul.h"),
            self.file(METAL + "matmul.h"),
            matmul,
            # Both files have a function of this name.
            quantized.replace("ensure_row_contiguous(", "quantized_ensure_row_contiguous("),
        )
        return "\n".join(parts)


def build(source: Source, folder: Path) -> Path:
    """The program that answers calls as MLX would. Raises where it does not compile: the tag needs new stubs then."""
    folder.mkdir()
    (folder / "routing.h").write_text(source.routing(), encoding="utf-8")
    command = [sys.executable, "-m", "ziglang", "c++", "-std=c++20", "-w", "-fno-sanitize=undefined"]
    subprocess.run([*command, f"-I{folder}", str(HERE / "calls.cpp"), "-o", str(folder / "calls")], check=True)
    return folder / "calls"


def random_calls(count: int, seed: int) -> list[Call]:
    rng = random.Random(seed)
    calls: list[Call] = []
    while len(calls) < count:
        problem = random_problem(rng)
        longest = max(problem.m * problem.n, problem.m * problem.k, problem.n * problem.k) * problem.batch
        if longest < 1 << 31:  # MLX counts in int
            calls.append((problem, rng.choice(ARCHITECTURES), rng.random() < 0.6))
    return calls


def random_problem(rng: random.Random) -> Problem:
    op = rng.choice(("matmul", "addmm", "quantized_matmul", "quantized_matmul"))
    m = rng.choice(SIZES[:30]) if rng.random() < 0.5 else size(rng)
    n = 1 if rng.random() < 0.05 else size(rng)
    k = rng.choice((64, 128)) if rng.random() < 0.05 else size(rng)
    batch, dtype = rng.choice((1, 1, 1, 2, 3)), rng.choice(("f32", "f16", "bf16"))
    if op != "quantized_matmul":
        epilogue = rng.choice(EPILOGUES) if op == "addmm" else ""
        return Problem(op, m, n, k, dtype, rng.choice((*LAYOUTS, "nt")), None, batch, epilogue)
    mode = rng.choice(tuple(MODES))
    bits, groups = (rng.choice([each for each in some if each > 1]) for some in MODES[mode])
    layout = rng.choice(("nt", "nt", "nt", "nn"))
    whole = max(groups, 32)
    if layout == "nt":
        k = max(1, k // whole) * whole
    else:
        n = max(1, n // whole) * whole
    return Problem(op, m, n, k, dtype, layout, Quantization(mode, bits, groups), batch)


def size(rng: random.Random) -> int:
    return rng.choice(SIZES) + rng.choice((0, 0, 0, 0, 1)) if rng.random() < 0.8 else rng.randint(1, 6000)


def line(call: Call) -> str:
    problem, architecture, nax = call
    q = problem.quantization
    quantization = f"{q.mode} {q.bits} {q.group_size}" if q else "- 0 0"
    sizes = f"{problem.m} {problem.n} {problem.k} {problem.batch}"
    rest = f"{problem.epilogue or '-'} {architecture} {int(nax)}"
    return f"{problem.op} {sizes} {problem.dtype} {problem.layout} {quantization} {rest}"


def differences(answer: str, kernel: StockKernel) -> list[str]:
    """What MLX dispatches otherwise than the rules say."""
    first, *others = answer.split(" | ")
    name, *numbers = first.split()
    x, y, z, threads = map(int, numbers)
    reductions = [int(each.split()[1]) for each in others if each.startswith("reduce ")]
    found = []
    if name != kernel.symbol:
        found.append(f"kernel {name}, not {kernel.symbol}")
    if (x, y, z) != kernel.grid:
        found.append(f"grid {(x, y, z)}, not {kernel.grid}")
    if threads != kernel.threads:
        found.append(f"{threads} threads, not {kernel.threads}")
    if reductions and reductions != [kernel.partial_bytes]:
        found.append(f"{reductions} bytes of partial results, not {kernel.partial_bytes}")
    if len(others) + 1 != kernel.launches and not (reductions and kernel.launches == 3):  # a reduction in two steps
        found.append(f"{len(others) + 1} launches, not {kernel.launches}")
    return found


def compare(program: Path, version: str, calls: list[Call]) -> Counter[str]:
    """How many calls each kernel got, ``refused`` and ``different`` beside them; differences are printed."""
    text = "\n".join(map(line, calls)) + "\n"
    done = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=True)
    counts: Counter[str] = Counter()
    for (problem, architecture, nax), answer in zip(calls, done.stdout.splitlines()):
        try:
            kernel = stock_kernel(problem, StockDevice("metal", architecture, nax=nax), version)
        except UsageError:
            counts["refused"] += 1
            continue
        counts[kernel.name] += 1
        found = differences(answer, kernel)
        if found:
            counts["different"] += 1
            print(f"{version} {problem} on {architecture}{' with NAX' if nax else ''}: {'; '.join(found)}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlx", type=Path, required=True, help="a clone of ml-explore/mlx")
    parser.add_argument("--tags", nargs="+", default=TAGS, help="tags or commits of it")
    parser.add_argument("--calls", type=int, default=20000, help="random calls for each tag")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    calls, total = random_calls(options.calls, options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for tag in options.tags:
            program = build(Source(options.mlx, tag), Path(folder) / tag)
            counts = compare(program, VERSIONS.get(tag, tag.removeprefix("v")), calls)
            print(f"{tag}: {len(calls) - counts['refused']} calls, {counts['different']} different")
            total += counts
    different, refused = total.pop("different", 0), total.pop("refused", 0)
    print(f"{sum(total.values())} calls, {different} different, {refused} that the version has no kernels for")
    print(", ".join(f"{name} {count}" for name, count in total.most_common()))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
