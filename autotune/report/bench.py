"""Stock against routed: what the table brings, as the tables in MLX's pull requests show it, and how sure it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..search.stats import Interval, geometric_mean

SLOWER, SAME, FASTER = "slower", "same", "faster"


@dataclass(frozen=True)
class Line:
    """One product or chain: microseconds a call before and after, and the paired speedup with its 95 % interval.

    ``routed`` is false where the table leaves it to stock: then both sides run the same code, and the interval shows
    the noise of the machine.
    """

    label: str
    shape: str
    route: str
    routed: bool
    before_us: float
    after_us: float
    speedup: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if not self.routed or self.low <= 1 <= self.high:
            return SAME
        return FASTER if self.low > 1 else SLOWER


@dataclass(frozen=True)
class Bench:
    """All lines of a run and what they were measured on. ``noise`` is how far stock was from itself, as a ratio minus
    one: the largest bound over the lines that the table leaves to stock, or of stock against itself where it leaves
    none."""

    title: str
    machine: str
    mlx: str
    os: str
    date: str
    load: str
    noise: float
    lines: tuple[Line, ...]

    @property
    def geometric_mean(self) -> float:
        return geometric_mean([line.speedup for line in self.lines])

    @property
    def regressions(self) -> list[Line]:
        """Lines that are slower than stock by more than the noise floor."""
        return [line for line in self.lines if line.verdict == SLOWER and line.high < 1 / (1 + self.noise)]


def line(label: str, shape: str, routes: Sequence[str], before: float, after: float, interval: Interval) -> Line:
    """A line from seconds a call and the paired interval; times rounded to what a reader needs."""
    rounded = [
        float(f"{value:.4g}") for value in (before * 1e6, after * 1e6, interval.value, interval.low, interval.high)
    ]
    routed = any(route != "stock" for route in routes)
    return Line(label, shape, " + ".join(dict.fromkeys(routes)), routed, *rounded)


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
    """A table for a pull request or a README, with the machine above it and the summary below."""
    rows = [
        f"| {each.shape} | {_us(each.before_us)} | {_us(each.after_us)} | **{each.speedup:.2f}x** "
        f"| {each.low:.2f} to {each.high:.2f} | {each.route} |"
        for each in bench.lines
    ]
    head = [
        "| problem | before (us) | after (us) | speedup | 95 % interval | route |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    return "\n".join([_where(bench), "", *head, *rows, "", _summary(bench)])


def to_text(bench: Bench) -> str:
    """The same in columns."""
    width = max(len(each.shape) for each in bench.lines)
    rows = [
        f"{each.shape:{width}} {_us(each.before_us):>10} {_us(each.after_us):>10} {each.speedup:>7.2f}x"
        f"  [{each.low:.2f}, {each.high:.2f}]  {each.route}"
        for each in bench.lines
    ]
    head = f"{'problem':{width}} {'before us':>10} {'after us':>10} {'speedup':>8}  95 % interval  route"
    return "\n".join([_where(bench), head, *rows, _summary(bench)])


def parse_json(text: str) -> Bench:
    """Reads what ``autotune bench --json`` printed. Raises ValueError, KeyError or TypeError."""
    raw = json.loads(text)
    lines = tuple(Line(**each) for each in raw["lines"])
    return Bench(**{key: raw[key] for key in Bench.__dataclass_fields__ if key != "lines"}, lines=lines)


def _us(value: float) -> str:
    """Microseconds with four significant digits, thousands separated."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _where(bench: Bench) -> str:
    return f"{bench.title}: {bench.machine}, MLX {bench.mlx}, {bench.os}, {bench.date}, {bench.load} load, cold weights"


def _summary(bench: Bench) -> str:
    counts = {verdict: sum(each.verdict == verdict for each in bench.lines) for verdict in (FASTER, SAME, SLOWER)}
    return (
        f"{counts[FASTER]} faster, {counts[SAME]} the same, {counts[SLOWER]} slower; geometric mean "
        f"{bench.geometric_mean:.2f}x; noise floor {bench.noise:.1%}"
    )
