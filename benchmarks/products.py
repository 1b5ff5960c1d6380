"""What the products of a model's decoding step take by a table's results, one after the other; runs anywhere.

    python benchmarks/products.py tuned_tables/h100.json [--model llama-3-8b] [--rows 1 2 4 8]

Prints, for the models of ``decode.py`` and numbers of rows at once, milliseconds of all of a step's products: stock's,
and those of the table's routes, each with the link of its chain. Beside the steps that ``decode.py`` measures it shows
how much of a step is left for everything else, and for a CPU that is slower than the GPU. In a program products that
need nothing of each other may overlap: where a step is shorter than its products, they did.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from decode import MODELS

from autotune.errors import AutotuneError
from autotune.kernels import STOCK
from autotune.problem import Problem
from autotune.routing.decision import answer, decide
from autotune.routing.table import Table, load
from autotune.search import measured, results


def products(arguments: dict[str, Any], rows: int) -> dict[Problem, int]:
    """The products of a step and how often it has them; bfloat16, 4 bits in groups of 64, as ``decode.py`` has them."""
    hidden, wide = arguments["hidden_size"], arguments["intermediate_size"]
    head = arguments.get("head_dim", hidden // arguments["num_attention_heads"])
    queries, keys = head * arguments["num_attention_heads"], head * arguments["num_key_value_heads"]
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    layer = Counter([*attention, (wide, hidden), (wide, hidden), (hidden, wide)])
    found = {shape: times * arguments["num_hidden_layers"] for shape, times in layer.items()}
    found[(arguments["vocab_size"], hidden)] = 1
    text = f"quantized_matmul M={rows} N={{}} K={{}} bf16 affine-b4-g64 nt"
    return {Problem.parse(text.format(*shape)): times for shape, times in found.items()}


def times(table: Table, rows: dict[Problem, Any], problem: Problem) -> tuple[float, float]:
    """Microseconds of stock and of the table's route. Raises KeyError for what was not measured."""
    taken = decide(answer([table], problem.family), problem).route
    row = rows[problem][taken]
    return (row.time_us if taken == STOCK else row.stock_us), row.time_us


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", type=Path, help="a routing table with its CSV beside it")
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 3, 4, 6, 8])
    asked = parser.parse_args()
    try:
        table = load(asked.table)
        families = measured.by_family(results.read(asked.table.with_suffix(".csv")))
    except AutotuneError as error:
        parser.exit(2, f"{error}\n")
    found = {each.problem: each.rows for family in families.values() for each in family}
    for model in asked.model or MODELS:
        for rows in asked.rows:
            step = products(MODELS[model][1], rows)
            try:
                taken = [(number, *times(table, found, problem)) for problem, number in step.items()]
            except KeyError:
                print(f"{model}, {rows} rows: not all of its products were measured")
                continue
            stock, routed = (sum(each[0] * each[side] for each in taken) / 1e3 for side in (1, 2))
            print(f"{model}, {rows} rows: {sum(step.values())} products, stock {stock:.2f} ms, routed {routed:.2f} ms")


if __name__ == "__main__":
    main()
