"""What ``autotune sweep --simulate`` does instead of measuring: the same sweep, on a model of a chip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from . import recording
from .output import note
from .stop import Stop

if TYPE_CHECKING:
    from ..kernels import Route
    from ..problem import Problem
    from ..search.plan import Plan
    from ..search.studies import ProblemStudy
    from ..search.sweep import Outcome

ROUTE_SECONDS = 0.0027
"""What a route takes of a simulated sweep, most of it the search's own work (docs/simulated.md)."""


class Simulation:
    """One simulated sweep. ``chip`` is the model's, and ``path`` the CSV that the rows go to.

    Studies live in memory: asking the model again costs less than keeping what it said. The rows are simulated by name
    (``source``), and so is every table that is derived from them.
    """

    def __init__(self, name: str, cores: int, mlx: str, load: str, out: Optional[Path], noise: float) -> None:
        """``noise`` is the standard deviation of one evaluation's log time.

        Raises :class:`UsageError` for an unknown chip or version, and where ``out`` holds anything but such rows."""
        from .. import machine, paths
        from ..devices.simulated import chip
        from ..stock_rules import versions
        from . import sources

        self.chip = chip.get(name, cores)
        self.mlx = mlx or machine.mlx_version()
        self.said = versions.said(self.mlx)
        self.load = load
        self.noise = noise
        self.path = out or paths.user_data() / "simulated" / f"{self.chip.id}-simulated.csv"
        sources.demand(self.path, "simulated")

    def sweep(self, plan: Plan, record: str = "") -> Outcome:
        """Runs the plan on the model and writes the rows."""
        import gc

        import optuna

        from .. import paths
        from .._version import __version__
        from ..devices.simulated.device import SimulatedDevice
        from ..report.progress import listener
        from ..report.tables import count
        from ..routing import table
        from ..search import results, studies, tuned
        from ..search.results import Origin
        from ..search.sweep import Sweep

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        device = SimulatedDevice(self.chip, self.mlx, self.noise)
        origin = Origin.of(self.chip.id, device.machine, __version__, self.load, "simulated")
        problems = count(len(plan.problems), "problem")
        note(
            f"simulated {self.chip.name} ({self.chip.cores} GPU cores, MLX {self.said}): {problems} at effort "
            f"{plan.effort.name}, {self.load} load; times come from a model, nothing is measured"
        )
        opened: list[ProblemStudy] = []
        before = tuned.load(origin.key, origin.source, (paths.tuned_tables(),), self.path.with_suffix(".json"))

        def open_study(problem: Problem, routes: Sequence[Route]) -> ProblemStudy:
            # A storage of its own: in one for all, opening a study looks through those of all other problems.
            storage = optuna.storages.InMemoryStorage()
            opened.append(studies.ProblemStudy(storage, problem, origin, routes, plan.effort.final if record else 0))
            return opened[-1]

        progress, stop = listener(), Stop()
        gc.disable()  # spaces and trials are millions of objects that all stay: a seventh of the time went to looking
        try:
            with stop:
                outcome = Sweep(
                    device, origin, plan, open_study, progress, stop.asked, sleep=lambda _: None, tuned=before
                ).run()
        finally:
            gc.enable()
            progress.close()
        done = {str(each.problem) for each in outcome.done}
        rows = [row for study in opened if str(study.problem) in done for row in study.rows().values()]
        table.write_atomically(self.path, results.dumps(rows))
        if record:
            recording.write(opened, Path(record))
        return outcome
