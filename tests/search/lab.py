"""A laboratory for sweeps: a fake device with planted times, a storage of its own, a listener that remembers."""

from fakes import MACHINE, FakeDevice
from optuna.storages import InMemoryStorage

from autotune.problem import Problem
from autotune.search import export, space, studies
from autotune.search.measure import EFFORTS
from autotune.search.plan import Plan
from autotune.search.results import Origin
from autotune.search.studies import ProblemStudy
from autotune.search.sweep import Sweep
from autotune.search.tuned import UNTUNED

ORIGIN = Origin.of("fake", MACHINE, "0.1.0", "chained")
QUICK = EFFORTS["quick"]
PROBLEM = Problem.parse("matmul M=3 N=64 K=64 f16 nt")
NEXT = PROBLEM.with_m(4)
ROUTES = space.legal_routes(PROBLEM, "cpu")
PAD, REPEAT, CHUNK, UPCAST = "pad multiple=8 fill=zeros", "pad multiple=8 fill=repeat", "chunk rows=1", "upcast"
KINDS = ("raised", "crashed", "hung", "memory")


class Log:
    """A listener that remembers, and asks the sweep to stop after a number of measurements."""

    def __init__(self, stop_after=10**9):
        self.events = []
        self.results = []
        self.took = []
        self.stop_after = stop_after

    def started(self, problem, number, total, eta):
        self.events.append(("started", str(problem), number, total, eta))

    def measured(self, problem, result, best, seconds, play_off):
        self.took.append((result.route, seconds, play_off))
        self.events.append(("measured", str(problem), result.route, best.route if best else None))
        self.results.append(result)

    def finished(self, done):
        self.events.append(("finished", str(done.problem)))

    def stop(self):
        return len(self.results) >= self.stop_after


def planted(stock=1e-3, **fast):
    """Seconds of a call: routes named in ``fast`` by their text, all others 10 % slower than stock."""
    by_route = {"stock": stock, **fast}

    def seconds(problem, route):
        return by_route.get(str(route), 1.1 * stock)

    return seconds


class Lab:
    """Sweeps of one storage with new devices, as new processes would do them."""

    def __init__(self, opened):
        self.opened = opened
        self.origin = ORIGIN

    def sweep(self, seconds=None, problems=(PROBLEM,), log=None, stop=None, device=None, tuned=UNTUNED, **options):
        """Runs a sweep; ``options`` are the device's and the plan's. Returns its outcome and the device."""
        plan_options = {name: options.pop(name) for name in list(options) if name in Plan.__dataclass_fields__}
        device = device or FakeDevice(seconds or planted(**{PAD: 4e-4}), **options)
        plan = Plan(tuple(problems), plan_options.pop("effort", QUICK), **plan_options)
        storage, log = self.opened(), log or Log()
        outcome = Sweep(
            device,
            self.origin,
            plan,
            lambda problem, routes: ProblemStudy(storage, problem, self.origin, routes),
            log,
            stop or log.stop,
            clock=device.clock,
            today=lambda: "2026-01-31",
            sleep=device.sleep,
            tuned=tuned,
        ).run()
        return outcome, device

    def rows(self, problem=PROBLEM):
        """The latest row of each route of a problem, by the route's text."""
        return {row.route: row for row in studies.all_rows(self.opened()) if row.problem == str(problem)}

    def table(self):
        return export.derive(list(studies.all_rows(self.opened())))


def in_memory():
    """A lab whose storage is one in memory, its own."""
    memory = InMemoryStorage()
    return Lab(lambda: memory)
