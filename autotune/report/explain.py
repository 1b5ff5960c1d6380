"""Why a problem takes its route: the row that decides, its evidence, and what else was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import kernels
from ..errors import TableError, UsageError
from ..kernels import STOCK, Route
from ..problem import Problem
from ..routing import freshness
from ..routing.freshness import Grade
from ..routing.neighbours import Neighbour, class_of, speaks
from ..routing.table import Header, Row, Table
from ..search.measured import LEAST_ROUNDS
from ..search.results import OK, PRUNED, Result, read
from . import tables


@dataclass(frozen=True)
class LookUp:
    """The route for a problem and why. ``row`` is the row that covers its M, also where it cannot be used, and
    ``neighbour`` the tuned family in which it stands, where that is not the problem's own."""

    route: Route
    why: str
    row: Row | None = None
    grade: Grade | None = None
    neighbour: Neighbour | None = None

    @property
    def routed(self) -> bool:
        """Whether the row was followed; where not, stock is taken for want of one."""
        return self.row is not None and self.row.route == self.route and self.grade is not None and self.grade.usable


def look_up(table: Table, problem: Problem, mlx: str | None = None) -> LookUp:
    """What the router finds in this table, in words: the same rule as :meth:`autotune.routing.router.Router.find`.

    Rows whose evidence is stale (against ``mlx``, or the installed one) are as good as absent. A route has to be legal
    for the very M, not only for the ends of its interval. A family without rows is answered by its neighbour's, where
    the table's header allows it.
    """
    try:
        rows = table.rows(str(problem.family))
    except TableError as error:
        return LookUp(STOCK, f"the table's rows for this family cannot be used: {error}")
    if rows:
        return _covering(rows, problem, table, mlx)
    neighbour = table.neighbour(problem.family)
    if neighbour is None:
        return LookUp(STOCK, f"this family is not tuned{_near(table, problem)}{_alone(table, problem)}")
    whose = f"this family is not tuned; its neighbour {tables.shape(neighbour.family)} is the nearest that is, "
    whose += f"{tables.three(neighbour.factor)} times apart, and "
    try:
        found = _covering(table.rows(str(neighbour.family)), problem, table, mlx)
    except TableError as error:
        return LookUp(STOCK, f"{whose}its rows cannot be used: {error}", neighbour=neighbour)
    if not speaks(found.route.kernel, problem.family, neighbour.family):
        why = f"{whose}its route {found.route} writes the weights to memory, and they are larger here"
        return LookUp(STOCK, why, found.row, found.grade, neighbour)
    return replace(found, why=whose + found.why, neighbour=neighbour)


def _covering(rows: Sequence[Row], problem: Problem, table: Table, mlx: str | None) -> LookUp:
    """The route of those rows for the problem."""
    row = next((row for row in rows if row.first <= problem.m <= row.last), None)
    if row is None:
        return LookUp(STOCK, f"M={problem.m} was not tuned: the family's rows cover M={_hull(rows)}")
    grade = freshness.grade(row, mlx)
    place = f"the row M={tables.interval_of(row.first, row.last)}"
    if not grade.usable:
        return LookUp(STOCK, f"{place} ({row.route}) is stale and not used: {grade.reason}", row, grade)
    if not kernels.accepts(row.route, problem):
        return LookUp(STOCK, f"{place} has {row.route}, which is not legal at M={problem.m}", row, grade)
    if tables.is_stock(row):
        gain = tables.speedup(tables.evidence(row))
        return LookUp(STOCK, f"{place} keeps stock: its best rival's {gain} {_short(row, table)}", row, grade)
    return LookUp(row.route, f"{place} says so", row, grade)


def _short(row: Row, table: Table) -> str:
    """What a rival that stock was kept against lacked, as far as its row tells."""
    if row.samples < LEAST_ROUNDS:
        return "was in no play-off"
    if row.low <= 1 + table.header.margin:
        return f"does not clear {tables.per_cent(table.header.margin)}"
    cost = "" if table.header.gpu_bound else ", or saves less than a call costs the CPU more"
    return f"does not clear that problem's own noise{cost}"


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


def layout_note(table: Table, problem: Problem, mlx: str | None = None) -> str:
    """What a dense call does instead, which cannot tell its layouts apart (see :mod:`autotune.routing.resolve`)."""
    if problem.quantization:
        return ""
    if problem.layout not in ("nt", "nn"):
        return f"routed calls are looked up as nt or nn: none takes a route for {problem.layout}"
    other = problem.with_layout("nn" if problem.layout == "nt" else "nt")
    ours, theirs = look_up(table, problem, mlx), look_up(table, other, mlx)
    tuned = [each for each, of in ((ours, problem), (theirs, other)) if str(of.family) in table.families]
    routed = [each for each in tuned or (ours, theirs) if each.routed]
    agreed = len({each.route for each in routed}) == 1 and (tuned or len(routed) == 2)
    taken = routed[0].route if agreed else STOCK
    if taken == ours.route:
        return ""
    cannot = f"a call cannot tell {problem.layout} from {other.layout}"
    if taken == STOCK:
        why = f"whose route is {theirs.route}" if theirs.routed else "for which no tuned shape speaks"
        return f"{cannot}, {why}: it takes stock"
    return f"{cannot}, and takes the latter's route: {taken}"


@dataclass(frozen=True)
class Measured:
    """All measured routes of one problem of the family: timed ones by time, then the refused ones."""

    problem: Problem
    results: tuple[Result, ...]

    @property
    def timed(self) -> tuple[Result, ...]:
        return tuple(each for each in self.results if each.status in (OK, PRUNED))

    def of(self, route: Route) -> Result | None:
        return next((each for each in self.timed if each.route == str(route)), None)

    def runner_up(self, route: Route) -> Result | None:
        """The fastest of the others that was measured to the end, stock aside."""
        return next((r for r in self.timed if r.status == OK and r.route not in (str(route), str(STOCK))), None)


def measured(results: Iterable[Result], problem: Problem, load: str, row: Row | None = None) -> Measured | None:
    """The results for the problem, else for the nearest measured M of its family (the smaller of two). For a problem
    that a neighbour speaks for, it is the neighbour's that is given.

    An M of the ``row`` that covers the problem goes before any other: its results are what the row was derived from.
    """
    texts: dict[str, dict[str, Result]] = {}
    for result in sorted((each for each in results if each.load == load), key=lambda each: each.date):
        texts.setdefault(result.problem, {})[result.route] = result
    alike = {each: texts[text] for text in texts if (each := Problem.parse(text)).family == problem.family}
    if not alike:
        return None

    def distance(each: Problem) -> tuple[bool, int, int]:
        return (row is not None and not row.first <= each.m <= row.last, abs(each.m - problem.m), each.m)

    nearest = min(alike, key=distance)
    found = sorted(alike[nearest].values(), key=lambda r: (r.status not in (OK, PRUNED), r.time_us, r.route))
    return Measured(nearest, tuple(found))


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
    """

    problem: Problem
    found: LookUp
    path: str
    header: Header | None
    measured: Measured | None
    notes: tuple[str, ...]
    files: tuple[tables.Standing, ...]
    peak: float | None = None

    @property
    def roofline(self) -> tuple[Achieved, ...]:
        """Stock and the route, at the M that was measured."""
        if self.measured is None:
            return ()
        rows = [self.measured.of(route) for route in dict.fromkeys((STOCK, self.found.route))]
        return tuple(achieved(self.measured.problem, row.route, row.time_us) for row in rows if row and row.time_us > 0)


def deciding(found: Sequence[Table], problem: Problem) -> Table | None:
    """Of the tables in use, in order of precedence, the first with rows for the problem's family; else the first in
    which a neighbour speaks for it; else the first."""
    for table in found:
        try:
            if table.rows(str(problem.family)):
                return table
        except TableError:
            continue
    return next((table for table in found if table.neighbour(problem.family)), found[0] if found else None)


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
    table: Table | None,
    results: Iterable[Result] = (),
    notes: Iterable[str] = (),
    files: Iterable[tables.Standing] = (),
    mlx: str | None = None,
) -> Explanation:
    """The explanation from the table that decides (None where no table is in use) and the results beside it."""
    if table is None:
        found = LookUp(STOCK, "there is no table to look in")
        return Explanation(problem, found, "", None, None, tuple(filter(None, notes)), tuple(files))
    found = look_up(table, problem, mlx)
    speaks = found.neighbour.family.at(problem.m) if found.neighbour else problem
    return Explanation(
        problem,
        found,
        table.path,
        table.header,
        measured(results, speaks, table.header.load, found.row),
        tuple(filter(None, (*notes, layout_note(table, problem, mlx)))),
        tuple(files),
        tables.peak_bandwidth(table.header.chip),
    )


def document(e: Explanation) -> dict[str, Any]:
    """The explanation as a JSON document."""
    row, grade, m = e.found.row, e.found.grade, e.measured
    runner_up = m.runner_up(e.found.route) if m else None
    stock = m.of(STOCK) if m else None
    # A simulated row has no errors: nothing was computed.
    without = {"error": None} if e.header and e.header.source == "simulated" else {}
    return {
        "problem": str(e.problem),
        "route": str(e.found.route),
        "why": e.found.why,
        "row": {**row.as_json(), **without, "freshness": asdict(grade)} if row and grade else None,
        "neighbour": _neighbour_json(e.found.neighbour) if e.found.neighbour else None,
        "table": {"path": e.path, **e.header.as_json()} if e.header else None,
        "files": [asdict(file) for file in e.files],
        "notes": list(e.notes),
        "flops": e.problem.flops,
        "bytes": e.problem.bytes,
        "peak_gbs": e.peak,
        "measured_at": str(m.problem) if m else None,
        "stock_us": stock.time_us if stock else None,
        "runner_up": runner_up.route if runner_up else None,
        "roofline": [asdict(each) for each in e.roofline],
        "measured": [{**asdict(each), **_without_errors(each)} for each in m.results] if m else [],
    }


def _without_errors(result: Result) -> dict[str, None]:
    return {"error": None, "stock_error": None} if result.source == "simulated" else {}


def _neighbour_json(neighbour: Neighbour) -> dict[str, Any]:
    return {"family": str(neighbour.family), "factor": neighbour.factor, "bound": neighbour.bound.as_json()}
