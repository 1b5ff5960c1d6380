"""What routing brings to a whole model: the time of a decoding step of an mlx-lm model, stock against routed.

    pip install mlx-lm
    python benchmarks/decode.py --table tuned_tables/h100.json [--model llama-3-8b] [--rows 1 2 4 8] [--json]

The model is mlx-lm's own code with the shapes of a published one, 4-bit weights in groups of 64 in bfloat16, and random
weights: what a step computes is not text, but takes as long. ``rows`` tokens go through the model at once, as in
speculative decoding or, but for attention, a batch; the cache holds ``--context`` tokens before each step. Steps run as
mlx-lm runs them: the next one is built while the GPU computes this one. Stock, routed, and routed with MLX's rules for
gradients at every call (``autotune.enable(rules=True)``) take turns in rounds; the value is the median round of a step,
and the ratio that of rounds next to each other, with the least and the most. ``build_ms`` and ``schedule_ms`` are the
program's CPU time, of a step, for MLX's graph and for handing it to the GPU, without what it waits: where they make up
the step, the CPU is the slower side.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

import mlx.core as mx
import mlx.nn as nn

import autotune
from autotune import machine

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3-8b": (
        "llama",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "vocab_size": 128256,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
        },
    ),
    "llama-3-70b": (
        "llama",
        {
            "hidden_size": 8192,
            "num_hidden_layers": 80,
            "intermediate_size": 28672,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "vocab_size": 128256,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
        },
    ),
    "qwen-3-8b": (
        "qwen3",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 36,
            "intermediate_size": 12288,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rms_norm_eps": 1e-6,
            "vocab_size": 151936,
            "rope_theta": 1000000.0,
            "max_position_embeddings": 40960,
            "tie_word_embeddings": False,
        },
    ),
}
"""mlx-lm's module and its arguments; from the configurations that ``configs/workloads`` names."""
STEPS = 16
"""Steps of a round."""
BY_DEFAULT = ("llama-3-8b", "qwen-3-8b")
WAYS = ("stock", "routed", "rules")


def load(name: str) -> Any:
    """The model with random weights, quantized; evaluated."""
    from importlib import import_module

    module, arguments = MODELS[name]
    try:
        code = import_module("mlx_lm.models." + module)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: pip install mlx-lm")
    model = code.Model(code.ModelArgs(model_type=module, **arguments))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=64, bits=4)
    for layer in model.layers:  # one after the other: all of a large model unquantized need not fit
        mx.eval(layer.parameters())
    mx.eval(model.parameters())
    return model


def switch(way: str) -> None:
    autotune.disable()
    if way != "stock":
        autotune.enable(rules=way == "rules")


@dataclass(frozen=True)
class Step:
    """Seconds of a step, and of CPU time in which the program builds its graph and hands it to the GPU."""

    whole: float
    build: float
    schedule: float


def stepper(model: Any, rows: int, context: int) -> Callable[[], Step]:
    """A function that runs a round and gives the mean of its steps."""
    from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

    cache = make_prompt_cache(model)
    mx.eval(model(mx.zeros((1, context), mx.int32), cache=cache))

    def step(tokens: mx.array) -> mx.array:
        # The cache is trimmed to where it was, so that every step has the same context.
        out = mx.argmax(model(tokens, cache=cache), axis=-1)
        trim_prompt_cache(cache, rows)
        return out

    def run() -> Step:
        tokens = mx.zeros((1, rows), mx.int32)
        tokens = step(tokens)
        mx.eval(tokens)
        build = schedule = 0.0
        start = time.perf_counter()
        for _ in range(STEPS):
            begun = time.thread_time()
            following = step(tokens)
            built = time.thread_time()
            mx.async_eval(following)
            build, schedule = build + built - begun, schedule + time.thread_time() - built
            tokens.tolist()
            tokens = following
        mx.eval(tokens)
        return Step((time.perf_counter() - start) / STEPS, build / STEPS, schedule / STEPS)

    return run


def measure(model: Any, rows: int, context: int, rounds: int) -> dict[str, Any]:
    run = stepper(model, rows, context)
    for way in WAYS:
        switch(way)
        run()
    steps: dict[str, list[Step]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            switch(way)
            steps[way].append(run())
    autotune.disable()
    line: dict[str, Any] = {"rows": rows, "context": context, "rounds": rounds}
    for way in WAYS:
        ratios = [stock.whole / routed.whole for stock, routed in zip(steps["stock"], steps[way])]
        line[way] = {
            "ms": milliseconds(each.whole for each in steps[way]),
            "build_ms": milliseconds(each.build for each in steps[way]),
            "schedule_ms": milliseconds(each.schedule for each in steps[way]),
            "ratio": round(median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }
    return line


def milliseconds(seconds: Iterable[float]) -> float:
    return round(median(seconds) * 1e3, 3)


def in_words(way: str, ms: float, build_ms: float, schedule_ms: float, ratio: float, least: float, most: float) -> str:
    time_ = f"{way} {ms:.2f} ms (CPU {build_ms:.2f} + {schedule_ms:.2f})"
    return time_ + ("" if way == "stock" else f" {ratio:.2f}x, {least:.2f} to {most:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", help="a routing table (default: the one that autotune finds)")
    parser.add_argument("--model", action="append", choices=MODELS, help="repeatable; those of 8B by default")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 3, 4, 6, 8])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.table:
        autotune.use_table(asked.table)
    here = machine.local(machine.default_kind())
    about = {"machine": here.device_name, "mlx": mx.__version__, "date": str(datetime.now(timezone.utc).date())}
    found = []
    for name in asked.model or BY_DEFAULT:
        model = load(name)
        for rows in asked.rows:
            line = {"model": name, **measure(model, rows, asked.context, asked.rounds)}
            found.append(line)
            words = ", ".join(in_words(way, **line[way]) for way in WAYS)
            print(f"{name}, {rows} rows: {words}", file=sys.stderr, flush=True)
    if asked.json:
        json.dump({**about, "lines": found}, sys.stdout, indent=1)
    else:
        print(", ".join(about.values()))


if __name__ == "__main__":
    main()
