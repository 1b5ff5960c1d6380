"""How far the model of Apple's GPUs is from published measurements.

    python benchmarks/simulator/run.py [--cross] [--json FILE]     errors by source, by chip and overall
    python benchmarks/simulator/run.py --published FILE            the same of rows of your own, like published.yaml
    python benchmarks/simulator/run.py --report 3422               ml-explore/mlx #3422 beside the model, row by row
    python benchmarks/simulator/run.py --report 3553               the same of #3553
    python benchmarks/simulator/run.py --fit                       fits the constants again and prints them
    python benchmarks/simulator/run.py --sensitivity               which source decides each constant, or its prior
    python benchmarks/simulator/run.py --folds                     what the fit gains from sources of single constants

Errors are absolute values of predicted over published time minus one. Sources with the role ``fit`` are those that the
constants in ``configs/simulated.yaml`` were fitted to; the held-out ones were not looked at by the fit; from those with
the role ``read`` one constant was read, and they count in no summary. With ``--cross`` each
thread's rows are predicted besides with constants that were fitted to all other threads (a minute): then no row is
predicted by fitted constants that it had a part in. Those that are not fitted (``cache``, ``emulated``, ``drift_k``,
``nax``) stay as they are. The rows of ``--published FILE`` are judged and never fitted to: with
``--cross`` by constants that were fitted to all threads of the repository but their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import fit
import folds
import rows
from rows import FIT, HELD_OUT, READ, Row, Source

from autotune.errors import AutotuneError

FIVE = ("m3max", "m4pro", "m4max", "m5", "m5max")
"""The chips that the goals are about."""
TIE = 0.05
"""Two times that differ by less are a tie, published or predicted."""
REPEATS = ("mlx-3474-dense",)
"""Held-out sources with the cases of a fitted one, on another day."""
REPORTS = {
    "3422": ("mlx-3422-before", "mlx-3422-after"),
    "3553": ("mlx-3553-op", "mlx-3553-model"),
}

Predict = Callable[[Source, Row], float]


def main() -> int:
    options = _options()
    try:
        _run(options)
    except AutotuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.fit:
        _print_fit()
    elif options.folds:
        _print_folds()
    elif options.sensitivity:
        _print_sensitivities()
    elif options.report:
        _print_report(options.report)
    else:
        sources = rows.sources(options.published or rows.PATH)
        found = errors(rows.seconds, sources)
        crossed = errors(_crossed(sources), sources) if options.cross else {}
        _print_errors(sources, found, crossed)
        if not options.published:
            _print_ratios()
            _print_crossovers()
            _print_left_out()
        if options.json:
            options.json.write_text(json.dumps({"errors": found, "crossed": crossed}, indent=1) + "\n", "utf-8")


def errors(predict: Predict, sources: Sequence[Source]) -> dict[str, list[float]]:
    """Signed relative errors by source."""
    return {source.id: [predict(source, row) / row.seconds - 1 for row in source.rows] for source in sources}


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which a share of them lies, interpolated; 0 for none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    at = share * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def winner(before: float, after: float) -> str:
    """Which of two times is the shorter one, or ``tie``."""
    return "tie" if abs(before / after - 1) < TIE else "after" if after < before else "before"


def right_winner(published: tuple[float, float], predicted: tuple[float, float]) -> bool:
    """Whether the model names the published winner, or a tie where that is one."""
    return winner(*published) == winner(*predicted)


def _crossed(every: Sequence[Source]) -> Predict:
    """Predictions by constants that were fitted to the repository's rows, but for the row's thread and for sources of
    single constants."""
    used = [source for source in rows.sources() if source.role != READ]
    constants = {url: fit.fit(source for source in used if source.url != url) for url in {each.url for each in every}}
    return lambda source, row: rows.seconds(source, row, constants[source.url])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cross", action="store_true", help="predict each thread by constants fitted without it")
    parser.add_argument("--published", type=Path, help="rows to judge, instead of those of the repository")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--report", choices=sorted(REPORTS), help="one thread beside the model")
    other.add_argument("--fit", action="store_true", help="fit the constants and print them")
    other.add_argument("--folds", action="store_true", help="leave each fitted source out, with and without others")
    other.add_argument("--sensitivity", action="store_true", help="what decides each constant: its prior, or a source")
    parser.add_argument("--json", type=Path, help="keep the errors there")
    options = parser.parse_args()
    alone = options.report or options.fit or options.folds or options.sensitivity
    if alone and (options.published or options.cross or options.json):
        parser.error("--report, --fit, --folds and --sensitivity are of the repository's rows, without further options")
    return options


def _print_errors(every: Sequence[Source], found: dict[str, list[float]], crossed: dict[str, list[float]]) -> None:
    head = ["source", "chip", "role", "rows", "median", "p90", "bias"] + (["crossed", "p90"] if crossed else [])
    lines = []
    for source in every:
        seen = found[source.id]
        cells = [source.id, source.chip.id, source.role, str(len(seen)), *_summary(seen), _per_cent(median(seen), True)]
        # Constants that were read from a source are in the crossed predictions too.
        lines.append(cells + _summary(crossed.get(source.id, []) if source.role != READ else []))
    _table(head, lines)
    print()
    judged = [each for each in every if each.role != READ]
    groups = {f"all rows, {chip}": [each for each in judged if each.chip.id == chip] for chip in FIVE}
    five = [each for each in judged if each.chip.id in FIVE]
    groups["all rows, other chips"] = [each for each in judged if each.chip.id not in FIVE]
    groups["fitted rows, five chips"] = [each for each in five if each.role == FIT]
    groups["rows not fitted to, five chips"] = [each for each in five if each.role == HELD_OUT]
    groups["all rows, five chips"] = five
    held = [each for each in every if each.role == HELD_OUT]
    known = [*rows.sources(), *every]  # rows of a file may be of problems and threads that the repository fits to
    seen_threads = {each.url for each in known if each.role != HELD_OUT}
    groups["rows not fitted to, all chips"] = held
    groups["rows that nothing fitted is near to, five chips"] = [
        each for each in five if each.role == HELD_OUT and each.url not in seen_threads and each.id not in REPEATS
    ]
    for chip in FIVE:
        groups[f"rows not fitted to, {chip}"] = [each for each in held if each.chip.id == chip]
    lines = []
    for name, chosen in groups.items():
        seen = [error for each in chosen for error in found[each.id]]
        other = [error for each in chosen for error in crossed.get(each.id, [])]
        lines.append([name, str(len(seen)), *_summary(seen), *_summary(other)])
        if name == "rows not fitted to, five chips":
            new = {each.id: _new(each, known) for each in chosen}
            seen, other = (
                [error for id_, kept in new.items() for error, keep in zip(errors_.get(id_, []), kept) if keep]
                for errors_ in (found, crossed)
            )
            lines.append(
                ["the same without problems that were fitted to", str(len(seen)), *_summary(seen), *_summary(other)]
            )
    _table(["", "rows", "median", "p90"] + (["crossed", "p90"] if crossed else []), lines)


def _new(source: Source, every: Sequence[Source]) -> list[bool]:
    """Whether each row is of products that no fitted row of the same chip is of, whatever their version and timing."""
    fitted = {row.terms for each in every if each.role == FIT and each.chip.id == source.chip.id for row in each.rows}
    return [row.terms not in fitted for row in source.rows]


def _summary(signed: Sequence[float]) -> list[str]:
    if not signed:
        return []
    sizes = [abs(error) for error in signed]
    return [_per_cent(median(sizes)), _per_cent(quantile(sizes, 0.9))]


def _print_ratios() -> None:
    by_source: dict[str, list[float]] = {}
    for each in rows.ratios():
        by_source.setdefault(each.source, []).append(rows.ratio(each) / each.ratio - 1)
    print("\nRatios of two times (not fitted to):")
    _table(
        ["source", "rows", "median", "p90", "bias"],
        [[name, str(len(seen)), *_summary(seen), _per_cent(median(seen), True)] for name, seen in by_source.items()],
    )


def _print_crossovers() -> None:
    print("\nFirst M at which MLX's matrix-matrix kernel is the faster one (not fitted to):")
    lines = []
    for each in rows.crossovers():
        published = str(each.first) if each.first == each.last else f"{each.first} to {each.last}"
        shape = f"N={each.problem.n} K={each.problem.k} {each.problem.quantization}"
        lines.append([each.source, each.chip.id, shape, published, str(rows.crossover(each))])
    _table(["source", "chip", "shape", "published", "model"], lines)


def _print_left_out() -> None:
    print("\nNot used:")
    for each in rows.left_out():
        count = len(each["urls"])
        print(f"  {count} {'thread' if count == 1 else 'threads'}: {each['why']}")


def _print_report(name: str) -> None:
    one, other = (next(source for source in rows.sources() if source.id == id_) for id_ in REPORTS[name])
    print(f"ml-explore/mlx #{name}: {one.chip.name}, {one.url}\n")
    if name == "3422":
        _print_splits(one, other)
    else:
        _print_rows(one, other)
    sizes = [abs(rows.seconds(source, row) / row.seconds - 1) for source in (one, other) for row in source.rows]
    print(f"\nmedian error {_per_cent(median(sizes))}, 90th percentile {_per_cent(quantile(sizes, 0.9))}")


def _print_splits(before: Source, after: Source) -> None:
    """#3422: (M x K @ K x M) @ M x K, before and after split-K shapes reached the accelerators, milliseconds."""
    lines, won, tied = [], [], []
    for one, other in zip(before.rows, after.rows):
        published = one.seconds, other.seconds
        predicted = rows.seconds(before, one), rows.seconds(after, other)
        agrees = right_winner(published, predicted)
        (tied if winner(*published) == "tie" else won).append(agrees)
        problem = one.terms[0][1]
        times = [_ms(seconds) for pair in zip(published, predicted) for seconds in pair]
        winners = f"{winner(*published)}, {winner(*predicted)}" + ("" if agrees else " (differs)")
        lines.append([f"{problem.m}x{problem.k}", *times, winners])
    _table(["M x K", "before, ms", "model", "after, ms", "model", "faster: published, model"], lines)
    share = _per_cent(sum(won) / len(won))
    print(f"\nright winner in {sum(won)} of the {len(won)} rows that have one ({share}),", end=" ")
    print(f"with ties {sum(won) + sum(tied)} of {len(before.rows)}")


def _print_rows(op: Source, whole: Source) -> None:
    """#3553: four shapes at M = 1 to 4, and a whole model at M = 1 to 6, milliseconds."""
    lines = []
    for at in range(0, len(op.rows), 4):
        block = op.rows[at : at + 4]
        problem = block[0].terms[0][1]
        for kind, times in (
            ("published", [row.seconds for row in block]),
            ("model", [rows.seconds(op, row) for row in block]),
        ):
            step = _per_cent(times[2] / times[1] - 1, True)
            lines.append([f"N={problem.n} K={problem.k}", kind, *map(_ms, times), step])
    _table(["shape", "", "M=1, ms", "M=2", "M=3", "M=4", "M=3 over M=2"], lines)
    print("\nA whole model of 27e9 weights, taken as 381 products of the two wide shapes:\n")
    published = [row.seconds for row in whole.rows]
    predicted = [rows.seconds(whole, row) for row in whole.rows]
    head = ["", *(f"M={number}, ms" for number in range(1, len(published) + 1)), "M=3 over M=2"]
    _table(
        head,
        [
            [kind, *map(_ms, times), _per_cent(times[2] / times[1] - 1, True)]
            for kind, times in (("published", published), ("model", predicted))
        ],
    )


def _print_fit() -> None:
    constants = fit.fit(source for source in rows.sources() if source.role == FIT)
    current = fit.chips.constants()
    _table(
        ["constant", "plausible", "in use", "fitted"],
        [
            [name, f"{start:g}", f"{getattr(current, name):g}", f"{getattr(constants, name):g}"]
            for name, (start, _) in fit.PRIOR.items()
        ],
    )


def _print_folds() -> None:
    print("Fitted sources, each predicted by constants that were fitted to the others:\n")
    lines = [
        [each.by, " and ".join(each.taken) or "none", f"{each.cost:.3f}", *_summary(each.errors)]
        for each in folds.folds(rows.sources())
    ]
    _table(["left out by", "sources of single constants in the fit", "cost", "median", "p90"], lines)


def _print_sensitivities() -> None:
    print("What decides each fitted constant: how far it follows its prior, and the sources that say most of it:\n")
    lines = []
    for each in fit.sensitivities(source for source in rows.sources() if source.role == FIT):
        (first, share), (second, less) = each.shares[:2]
        others = [first, f"{100 * share:.0f} %", second, f"{100 * less:.0f} %"]
        lines.append([each.name, f"{each.prior:.2f}", *others])
    _table(["constant", "follows its prior by", "decided by", "share", "then by", "share"], lines)


def _per_cent(value: float, signed: bool = False) -> str:
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def _ms(seconds: float) -> str:
    """Milliseconds, without the unit."""
    return f"{1e3 * seconds:.3f}" if seconds < 0.01 else f"{1e3 * seconds:.1f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """A table in Markdown, padded so that it reads as text too."""
    widths = [max(len(str(line[at])) for line in [head, *lines] if at < len(line)) for at in range(len(head))]
    for number, line in enumerate([head, *lines]):
        print("| " + " | ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths)) + " |")
        if number == 0:
            print("| " + " | ".join("-" * width for width in widths) + " |")


if __name__ == "__main__":
    sys.exit(main())
