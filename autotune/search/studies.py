"""Optuna's record of a sweep: one study a problem, persistent, resumable, readable by Optuna's own tools.

A trial is one route measured, written when it finishes; its parameters are the route, its value is the route's time
relative to stock (lower is better), and its user attribute ``result`` is the row that tables are derived from. A study
belongs to one device, MLX version and set of kernels; when a kernel changes, the study of the changed set takes over
the trials of the kernels that did not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from .. import kernels, paths
from ..errors import AutotuneError, UsageError
from ..kernels import Route
from ..problem import Problem
from . import results, space
from .learned import Learned, coordinates
from .measure import Comparison
from .record import Rounds
from .results import Origin, Result
from .sampler import IN_VAIN, Choices, LegalSetSampler, choices_of, frozen, suggest

PROTOCOL = 3
"""Raised when the measuring changes so that old and new numbers must not be mixed."""

_STATES = {
    results.OK: TrialState.COMPLETE,
    results.PRUNED: TrialState.PRUNED,
    results.INACCURATE: TrialState.FAIL,
    results.FAILED: TrialState.FAIL,
}


def default_url() -> str:
    """SQLite in the user's data folder."""
    return f"sqlite:///{paths.user_data() / 'studies.db'}"


def open_storage(url: str) -> BaseStorage:
    """Any storage that Optuna takes. Raises :class:`AutotuneError` where it cannot be opened or written."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if not url.startswith("sqlite:///"):
            return optuna.storages.get_storage(url)
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 30}})
        _write_ahead(storage)
        return storage
    except (ValueError, ImportError, sqlalchemy.exc.ArgumentError) as error:
        raise UsageError(
            f"storage {url!r} is not understood ({_first_line(error)})", "such as sqlite:///studies.db"
        ) from None
    except (OSError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise storage_error(error, url) from None


def storage_error(error: Exception, url: str) -> AutotuneError:
    """One line for what a full disk, a read-only folder or a broken file make Optuna raise."""
    return AutotuneError(
        f"the studies at {url} cannot be used ({_first_line(error)})",
        "what was measured before is kept; free the place or name another with --storage or AUTOTUNE_DATA",
    )


STORAGE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError)


def _first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return str(cause).splitlines()[0]


def _write_ahead(storage: RDBStorage) -> None:
    """SQLite's write-ahead log: a commit survives the death of the process and costs no flush of the disk."""
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()


class ProblemStudy:
    """The study of one problem on one device: deals routes, keeps rows, knows when it is done.

    With ``even``, the number of rounds that each route gets where a space is recorded, it is a study of its own, apart
    from those in which candidates get one round and finalists many, and keeps every round.
    """

    def __init__(
        self, storage: BaseStorage, problem: Problem, origin: Origin, routes: Sequence[Route], even: int = 0
    ) -> None:
        self.problem = problem
        self.routes = list(routes)
        self._sampler: LegalSetSampler | None = None
        # A study's choices must stay the same, whichever of the kernels a sweep is asked for.
        every = dict.fromkeys([*space.legal_routes(problem, origin.backend, nax=origin.nax), *routes])
        self._choices = choices_of(list(every))
        self._read: dict[int, tuple[Route, Result] | None] = {}
        self._even = even
        identity = _identity(problem, origin) | ({"even": even} if even else {})
        self._study = optuna.create_study(
            storage=storage, study_name=_name(problem, origin, identity), load_if_exists=True, direction="minimize"
        )
        self._abandon_running()
        if not self._study.user_attrs:
            self._study.set_user_attr("autotune", identity)
            self._adopt(storage, identity)

    def done(self, rounds: int, searched: int = 0) -> bool:
        """Whether every route of this study's set was dealt, of the searched kernels' routes as many as ``searched``
        (or all there are), and a play-off of so many rounds is over."""
        done = self._study.user_attrs.get("done", {})
        if done.get("rounds", 0) < rounds:
            return False
        known = set(done["routes"])
        whole = [str(route) for route in self.routes if not kernels.kernel(route.kernel).searched]
        others = {str(route) for route in self.routes}.difference(whole)
        return known >= set(whole) and len(known & others) >= min(searched, len(others))

    def finish(self, rounds: int, limited: bool = False) -> None:
        """Nothing more is to be measured; where the sweep was ``limited``, that is said of what was dealt alone."""
        dealt = self.rows()
        routes = [r for r in self.routes if r in dealt or not (limited or kernels.kernel(r.kernel).searched)]
        self._study.set_user_attr("done", {"rounds": rounds, "routes": sorted(map(str, routes))})

    def forget(self) -> None:
        """Deletes the study and starts it anew."""
        self._sampler = None
        self._read.clear()
        name, storage, attrs = self._study.study_name, self._study._storage, self._study.user_attrs
        optuna.delete_study(study_name=name, storage=storage)
        self._study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
        self._study.set_user_attr("autotune", attrs["autotune"])

    def deal(
        self, seeds: Sequence[Route], seed: int, searched: int = 0, learned: Learned | None = None
    ) -> tuple[Trial, Route]:
        """The next route to measure, of searched kernels' routes no more than ``searched`` in all; the search for these
        starts from what was ``learned`` on other problems. The sampler is made at the first call, and keeps what that
        one said. Raises :class:`autotune.search.sampler.Exhausted`."""
        if self._sampler is None:
            known = learned.known(self.problem) if learned else None
            self._sampler = LegalSetSampler(self.routes, seeds, seed, searched, coordinates(self.problem), known)
        self._sampler.next_route(self._study)
        self._study.sampler = self._sampler
        trial = self._study.ask()
        return trial, suggest(trial, self._choices)

    def tell(self, trial: Trial, result: Result, comparison: Comparison | None = None) -> None:
        """Keeps a row; from here on it survives the process."""
        state = _STATES[result.status]
        for name, value in self._attrs(result, comparison).items():
            trial.set_user_attr(name, value)
        value = 1 / result.speedup if result.speedup else None
        if state is TrialState.PRUNED and value is not None:
            trial.report(value, step=result.rounds)
        self._study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)

    def add(self, route: Route, result: Result, comparison: Comparison | None = None) -> None:
        """Keeps a row for a route that was dealt before: a finalist's, which replaces its first one."""
        self._study.add_trial(_frozen(route, self._choices, result, self._attrs(result, comparison)))

    def rounds(self) -> dict[Route, Rounds]:
        """The rounds of each route whose latest row has them: those of a study that is ``even``."""
        found: dict[Route, Rounds] = {}
        for trial in self._study.get_trials(deepcopy=False):
            for row in _rows([trial]):
                found.pop(Route.parse(row.route), None)
                if "rounds" in trial.user_attrs:
                    kept = trial.user_attrs["rounds"]
                    found[Route.parse(row.route)] = Rounds(tuple(kept["stock"]), tuple(kept["ratios"]), kept["at"])
        return found

    def _attrs(self, result: Result, comparison: Comparison | None) -> dict[str, Any]:
        attrs: dict[str, Any] = {"result": results.to_json(result)}
        if self._even and comparison is not None:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            attrs["rounds"] = {"stock": comparison.stock, "ratios": comparison.ratios, "at": now}
        return attrs

    def rows(self) -> dict[Route, Result]:
        """The latest row of each route. A finished trial changes no more, and is read once."""
        found: dict[Route, Result] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if trial.number not in self._read and trial.state.is_finished():
                rows = list(_rows([trial]))
                self._read[trial.number] = (Route.parse(rows[0].route), rows[0]) if rows else None
            known = self._read.get(trial.number)
            if known is not None:
                found[known[0]] = known[1]
        return found

    def _abandon_running(self) -> None:
        """Trials that a killed sweep left open are closed, and their routes dealt again."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self._study._storage.set_trial_user_attr(trial._trial_id, IN_VAIN, True)
            self._study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def _adopt(self, storage: BaseStorage, identity: dict[str, Any]) -> None:
        """Takes over rows of earlier studies of this problem on this device whose kernels have not changed since."""
        same = ("problem", "origin", "protocol", "even")
        for other in storage.get_all_studies():
            theirs = storage.get_study_user_attrs(other._study_id).get("autotune", {})
            if other.study_name == self._study.study_name or any(theirs.get(k) != identity.get(k) for k in same):
                continue
            for trial in storage.get_all_trials(other._study_id, deepcopy=False):
                for row in _rows([trial]):
                    route = Route.parse(row.route)
                    found = kernels.KERNELS.get(route.kernel)
                    if found and route in self.routes and kernels.fingerprint.of(found) == row.kernel:
                        self._study.add_trial(_frozen(route, self._choices, row, trial.user_attrs))


def all_rows(storage: BaseStorage, outdated: bool = False) -> Iterator[Result]:
    """Every latest row of every study in the storage that was measured under today's protocol, oldest study first, but
    for recordings; where ``outdated``, of those under any other, which no table may have beside today's.

    A recording (a study that is ``even``) gives every route as many rounds as a play-off, but in one session, without
    that play-off and without what a call costs the CPU: beside a sweep's rows its own would pass for better ones.
    """
    for study in sorted(storage.get_all_studies(), key=lambda each: each._study_id):
        identity = storage.get_study_user_attrs(study._study_id).get("autotune", {})
        if not identity.get("even") and (identity.get("protocol") != PROTOCOL) == outdated:
            trials = storage.get_all_trials(study._study_id, deepcopy=False)
            yield from {row.route: row for row in _rows(trials)}.values()


def _rows(trials: Sequence[FrozenTrial]) -> Iterator[Result]:
    for trial in trials:
        if "result" in trial.user_attrs and trial.state.is_finished():
            yield results.from_json(trial.user_attrs["result"])


def _frozen(route: Route, choices: Choices, result: Result, attrs: dict[str, Any]) -> FrozenTrial:
    state = _STATES[result.status]
    value = 1 / result.speedup if result.speedup else None
    complete = state is TrialState.COMPLETE
    return frozen(route, choices, value if complete else None, state, attrs, seen=None if complete else value)


def _identity(problem: Problem, origin: Origin) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(origin).items() if name not in ("os", "autotune")}
    found = [kernel for kernel in kernels.KERNELS.values() if problem.op in kernel.ops]
    return {
        "problem": str(problem),
        "origin": fields,
        "kernels": {kernel.name: kernels.fingerprint.of(kernel) for kernel in found},
        "spaces": {kernel.name: space.fingerprint(kernel) for kernel in found},
        "protocol": PROTOCOL,
    }


def _name(problem: Problem, origin: Origin, identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{origin.chip} mlx-{origin.mlx} {origin.load} {problem} {digest}"
