"""Why a problem takes its route: the row that decides, its evidence, and what else was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing.decision import Decision, Reason, answer, decide, of_call, other_layout
from ..routing.neighbours import Neighbour, class_of
from ..routing.table import Header, Row, Table
from ..search.measured import LEAST_ROUNDS, bar
from ..search.results import OK, PRUNED, Result, read
from . import ends, tables
from .ends import ByRoute, Ends, Faster


@dataclass(frozen=True)
class LookUp:
    """What a routed call of a problem takes, and why in words; ``table`` is the one that decides, else the first in
    use, None where there is none."""

    decision: Decision
    why: str
    table: Table | None = None


def look_up(found: Sequence[Table], problem: Problem) -> LookUp:
    """What a call takes with those tables in use, in order of precedence: the rule is the router's own
    (:mod:`autotune.routing.decision`), this puts it in words.

    A dense call cannot tell the layouts ``nt`` and ``nn`` apart, so that its route may be another than that of the row
    for the problem's layout, or stand in another table.
    """
    if not found:
        return LookUp(Decision(problem, STOCK, Reason.UNTUNED), "there is no table to look in")

    def find(each: Problem) -> Decision:
        return decide(answer(found, each.family), each)

    own, taken = find(problem), of_call(find, problem)
    if taken.reason is Reason.TRANSPOSED:
        why = f"routed calls are looked up as nt or nn: none takes a route for {problem.layout}"
    elif taken.reason is Reason.LAYOUTS:
        other = find(other_layout(problem))
        why = f"{_why(own, found[0], f'says {own.route}')}, but a call cannot tell {problem.layout} from "
        why += f"{other.problem.layout}, {_differs(other)}: it takes stock"
    elif taken.route != own.route:
        why = f"{_why(own, found[0])}; a call cannot tell {problem.layout} from {taken.problem.layout}, and takes the "
        why += f"latter's route: {_why(taken, found[0])}"
    else:
        taken, why = own, _why(own, found[0])
    return LookUp(taken, why, taken.table or found[0])


def _differs(other: Decision) -> str:
    """What the other layout has instead of the route of the problem's own."""
    if other.followed:
        return f"whose route is {other.route}"
    return "which has no route here" if other.tuned else "for which no tuned shape speaks"


def _why(decision: Decision, first: Table, says: str = "says so") -> str:
    """A decision's reason, for one layout; ``first`` is the table that is told of where none decides."""
    table, row, problem = decision.table, decision.row, decision.problem
    if table is None:
        if decision.reason is Reason.UNREADABLE:
            return f"the table's rows for this family cannot be used: {decision.fault}"
        return f"this family is not tuned{_near(first, problem)}{_alone(first, problem)}"
    neighbour, whose = decision.neighbour, ""
    if neighbour:
        whose = f"this family is not tuned; its neighbour {tables.shape(neighbour.family)} is the nearest that is, "
        whose += f"{tables.three(neighbour.factor)} times apart, and "
    if row is None:
        rows = table.rows(str(neighbour.family if neighbour else problem.family))
        return f"{whose}M={problem.m} was not tuned: the family's rows cover M={_hull(rows)}"
    place = f"{whose}the row M={tables.interval_of(row.first, row.last)}"
    if decision.reason is Reason.STALE:
        return f"{place} ({row.route}) is stale and not used: {decision.grade.reason if decision.grade else ''}"
    if decision.reason is Reason.LARGER:
        return f"{whose}its route {row.route} writes the weights to memory, and they are larger here"
    if decision.reason is Reason.ILLEGAL:
        return f"{place} has {row.route}, which is not legal at M={problem.m}"
    if tables.is_stock(row):
        return f"{place} keeps stock: its best rival, at {tables.speedup(tables.evidence(row))}, {_short(row, table)}"
    return f"{place} {says}"


def _short(row: Row, table: Table) -> str:
    """What a rival that stock was kept against lacked, as far as its row tells."""
    if row.high < 1:
        return "is slower"
    if row.samples < LEAST_ROUNDS:
        return "was in no play-off"
    header = table.header
    least = bar(header.margin, header.sessions)
    if row.low <= least:
        return f"does not clear {tables.per_cent(least - 1)}"
    on_cpu = header.gpu_bound or header.chip.backend == "cpu"
    cost = "" if on_cpu else ", or it saves the GPU less than it costs the CPU"
    return f"does not clear that problem's own noise, or not in both sessions{cost}"


def _alone(table: Table, problem: Problem) -> str:
    """Why no other shape speaks for this one; nothing where the table was exported before any could."""
    if table.header.neighbours is None:
        return ""
    bound = table.header.bound(class_of(str(problem.family)))
    if bound is None:
        return "; no shape of its class is tuned"
    if not bound.holds:
        return f"; no other shape speaks for it: {tables.bound(bound)}"
    within = f"within a factor of {tables.three(bound.reach)}"
    return f"; no tuned shape of its alignment is {within}, or it lies outside of the tuned ones"


def _hull(rows: Sequence[Row]) -> str:
    """The intervals that rows cover, neighbours run together: ``1..16 and 32..64``."""
    covered: list[list[int]] = []
    for row in rows:
        if covered and row.first == covered[-1][1] + 1:
            covered[-1][1] = row.last
        else:
            covered.append([row.first, row.last])
    return tables.list_of(tables.interval_of(first, last) for first, last in covered)


def _near(table: Table, problem: Problem) -> str:
    """Names tuned families of the same op, N and K: most misses are another dtype or quantization."""
    f = problem.family
    alike = [name for name in table.families if {f.op, f"N={f.n}", f"K={f.k}"} <= set(name.split())]
    return f"; for this N and K there is {tables.list_of(alike[:3])}" if alike else ""


@dataclass(frozen=True)
class Listing:
    """All measured routes of one problem of the family: timed ones by time, then the refused ones."""

    problem: Problem
    results: tuple[Result, ...]

    @property
    def timed(self) -> tuple[Result, ...]:
        return tuple(each for each in self.results if each.status in (OK, PRUNED))

    @property
    def clocks(self) -> str:
        """How its times were taken, in words."""
        return clocks(self.timed)

    def of(self, route: Route) -> Result | None:
        return next((each for each in self.timed if each.route == str(route)), None)

    def runner_up(self, route: Route) -> Result | None:
        """The fastest of the others that was measured to the end, stock aside."""
        return next((r for r in self.timed if r.status == OK and r.route not in (str(route), str(STOCK))), None)


def clocks(timed: Iterable[Result]) -> str:
    """``plain times``, ``gated and plain times``; nothing for what has no times, or a model's."""
    found = tables.list_of(sorted({each.clock for each in timed if each.source != "simulated"}))
    return f"{found} times" if found else ""


def by_problem(results: Iterable[Result], family: Family, load: str) -> dict[Problem, dict[str, Result]]:
    """What was measured of a family under a load, by problem and route; of a route's results the newest."""
    texts: dict[str, dict[str, Result]] = {}
    for result in sorted((each for each in results if each.load == load), key=lambda each: each.date):
        texts.setdefault(result.problem, {})[result.route] = result
    return {each: texts[text] for text in texts if (each := Problem.parse(text)).family == family}


def listed(alike: Mapping[Problem, ByRoute], problem: Problem, row: Row | None = None) -> Listing | None:
    """Of what :func:`by_problem` found the results for the problem, else for the nearest measured M (the smaller of
    two). For a problem that a neighbour speaks for, it is the neighbour's that is given.

    An M of the ``row`` that covers the problem goes before any other: its results are what the row was derived from;
    so does the M beside a row that lies between two, from which its evidence is.
    """
    if not alike:
        return None

    def distance(each: Problem) -> tuple[bool, int, int]:
        own = row is None or (row.first <= each.m <= row.last if tables.measured_in(row) else each.m == row.at)
        return (not own, abs(each.m - problem.m), each.m)

    nearest = min(alike, key=distance)
    found = sorted(alike[nearest].values(), key=lambda r: (r.status not in (OK, PRUNED), r.time_us, r.route))
    return Listing(nearest, tuple(found))


@dataclass(frozen=True)
class Achieved:
    """How far a time is from the roofline: ``gbs`` of the least bytes to move, ``tflops`` of the product's own work."""

    route: str
    time_us: float
    gbs: float
    tflops: float


def achieved(problem: Problem, route: str, time_us: float) -> Achieved:
    return Achieved(route, time_us, problem.bytes / time_us / 1e3, problem.flops / time_us / 1e6)


@dataclass(frozen=True)
class Explanation:
    """All that is known of a problem's route. ``path`` and ``header`` are of the table that decides, if one does.

    ``files`` says of the tables in reach whether this machine uses them, and ``peak`` is the chip's bandwidth in GB/s.
    ``own`` is what the row's route took at this very M; ``ends`` are the M on both sides, where it was measured at
    these alone.
    """

    problem: Problem
    found: LookUp
    path: str
    header: Header | None
    measured: Listing | None
    notes: tuple[str, ...]
    files: tuple[tables.Standing, ...]
    peak: float | None = None
    own: Result | None = None
    ends: Ends | None = None

    @property
    def faster(self) -> Faster | None:
        """A route that is faster than the one taken at the end whose measurements are listed, and is not taken."""
        if self.ends is None or self.header is None or self.measured is None:
            return None
        m = self.measured.problem.m
        return ends.faster(self.ends, m, self.header) if m in (each.problem.m for each in self.ends.both) else None

    @property
    def roofline(self) -> tuple[Achieved, ...]:
        """Stock and the route, at the M that was measured."""
        if self.measured is None:
            return ()
        rows = [self.measured.of(route) for route in dict.fromkeys((STOCK, self.found.decision.route))]
        return tuple(achieved(self.measured.problem, row.route, row.time_us) for row in rows if row and row.time_us > 0)


def beside(table: Table | None) -> tuple[list[Result], str]:
    """The results that lie beside a table, and a note where there are none to read."""
    if table is None:
        return [], ""
    path = Path(table.path).with_suffix(".csv")
    if not path.exists():
        return [], f"there are no measurements beside the table ({path.name}), so that other routes cannot be listed"
    try:
        return read(path), ""
    except UsageError as error:
        return [], f"the measurements beside the table are left out: {error}"


def explain(
    problem: Problem,
    found: LookUp,
    results: Iterable[Result] = (),
    notes: Iterable[str] = (),
    files: Iterable[tables.Standing] = (),
) -> Explanation:
    """The explanation of what :func:`look_up` found for the problem, with the results beside the table that decides."""
    table, decision = found.table, found.decision
    if table is None:
        return Explanation(problem, found, "", None, None, tuple(filter(None, notes)), tuple(files))
    at, row = decision.problem, decision.row
    speaks = decision.neighbour.family.at(at.m) if decision.neighbour else at
    alike = by_problem(results, speaks.family, table.header.load)
    listing = listed(alike, speaks, row)
    own = Listing(speaks, tuple(alike[speaks].values())).of(row.route) if row and speaks in alike else None
    routed = row is not None and decision.followed and decision.route != STOCK
    return Explanation(
        problem,
        found,
        table.path,
        table.header,
        listing,
        tuple(filter(None, notes)),
        tuple(files),
        tables.peak_bandwidth(table.header.chip),
        own,
        ends.around(alike, at.m, row) if row and routed else None,
    )


def document(e: Explanation) -> dict[str, Any]:
    """The explanation as a JSON document."""
    decision, m = e.found.decision, e.measured
    row, grade = decision.row, decision.grade
    # Between two measured M nothing comes second: a route that is faster at one of them may not be usable at the other.
    runner_up = m.runner_up(decision.route) if m and not e.ends else None
    stock = m.of(STOCK) if m else None
    # A simulated row has no errors: nothing was computed.
    without = {"error": None} if e.header and e.header.source == "simulated" else {}
    return {
        "problem": str(e.problem),
        "route": str(decision.route),
        "why": e.found.why,
        "row": {**row.as_json(), **without, "freshness": asdict(grade)} if row and grade else None,
        "neighbour": _neighbour_json(decision.neighbour) if decision.neighbour else None,
        "table": {"path": e.path, **e.header.as_json()} if e.header else None,
        "files": [asdict(file) for file in e.files],
        "notes": list(e.notes),
        "flops": e.problem.flops,
        "bytes": e.problem.bytes,
        "peak_gbs": e.peak,
        "measured_at": str(m.problem) if m else None,
        "stock_us": stock.time_us if stock else None,
        "runner_up": runner_up.route if runner_up else None,
        "between": ends.document(e.ends, e.faster) if e.ends else None,
        "roofline": [asdict(each) for each in e.roofline],
        "measured": [{**asdict(each), **_without_errors(each)} for each in m.results] if m else [],
    }


def _without_errors(result: Result) -> dict[str, None]:
    return {"error": None, "stock_error": None} if result.source == "simulated" else {}


def _neighbour_json(neighbour: Neighbour) -> dict[str, Any]:
    return {"family": str(neighbour.family), "factor": neighbour.factor, "bound": neighbour.bound.as_json()}
