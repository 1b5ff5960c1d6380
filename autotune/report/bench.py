"""What ``autotune bench`` found, as the tables in MLX's pull requests show it, and how sure it is."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from ..search.bench import FASTER, SAME, SLOWER, Bench, Line


def to_json(bench: Bench) -> dict[str, object]:
    """The run as one JSON document."""
    return {
        **{key: value for key, value in asdict(bench).items() if key != "lines"},
        "geometric_mean": round(bench.geometric_mean, 4),
        "lines": [asdict(each) for each in bench.lines],
    }


def to_csv(bench: Bench) -> str:
    """The lines as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Line.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in bench.lines)
    return out.getvalue()


def to_markdown(bench: Bench) -> str:
    """A table for a pull request or a README, with the machine above it and the summary below; what is left to stock
    gains nothing, and its speedup is not bold."""
    rows = [
        f"| {each.label} | {_us(each.before_us)} | {_us(each.after_us)} | {_strong(each)} "
        f"| {each.low:.2f} to {each.high:.2f} | {each.route} |"
        for each in bench.lines
    ]
    head = [
        "| problem | before (us) | after (us) | speedup | 95 % interval | route |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    return "\n".join([_where(bench), "", *head, *rows, "", _summary(bench)])


def _strong(line: Line) -> str:
    return f"**{line.speedup:.2f}x**" if line.routed else f"{line.speedup:.2f}x"


def to_text(bench: Bench) -> str:
    """The same in columns."""
    width = max(len(each.label) for each in bench.lines)
    rows = [
        f"{each.label:{width}} {_us(each.before_us):>10} {_us(each.after_us):>10} {each.speedup:>7.2f}x"
        f"  [{each.low:.2f}, {each.high:.2f}]  {each.route}"
        for each in bench.lines
    ]
    head = f"{'problem':{width}} {'before us':>10} {'after us':>10} {'speedup':>8}  95 % interval  route"
    return "\n".join([_where(bench), head, *rows, _summary(bench)])


def parse_json(text: str) -> Bench:
    """Reads what ``autotune bench --json`` printed. Raises ValueError, KeyError or TypeError."""
    raw = {"clock": "plain", **json.loads(text)}  # older files do not say
    lines = tuple(Line(**each) for each in raw["lines"])
    return Bench(**{key: raw[key] for key in Bench.__dataclass_fields__ if key != "lines"}, lines=lines)


def _us(value: float) -> str:
    """Microseconds with four significant digits, thousands separated."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _where(bench: Bench) -> str:
    how = f"{bench.load} load, cold weights, {bench.clock} times"
    return f"{bench.title}: {bench.machine}, MLX {bench.mlx}, {bench.os}, {bench.date}, {how}"


def _summary(bench: Bench) -> str:
    counts = {verdict: sum(each.verdict == verdict for each in bench.lines) for verdict in (FASTER, SAME, SLOWER)}
    return (
        f"{counts[FASTER]} faster, {counts[SAME]} the same, {counts[SLOWER]} slower; beyond the noise floor of "
        f"{bench.noise:.1%} {len(bench.gains)} faster, {len(bench.regressions)} slower; geometric mean "
        f"{bench.geometric_mean:.2f}x"
    )
