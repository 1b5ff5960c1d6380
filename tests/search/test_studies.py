import math
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import optuna
import pytest
from fakes import MACHINE
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from autotune import kernels
from autotune.errors import FAILED as EXIT_FAILED
from autotune.errors import AutotuneError, UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import results, space, studies
from autotune.search.results import FAILED, INACCURATE, OK, PRUNED, Origin
from autotune.search.sampler import Exhausted
from autotune.search.studies import ProblemStudy, all_rows, open_storage

PROBLEM = Problem.parse("matmul M=3 N=64 K=64 f16 nt")
ORIGIN = Origin.of("fake", MACHINE, "0.1.0", "chained")
PAD, OTHER, UPCAST = (Route.parse(text) for text in ("pad multiple=4 fill=zeros", "chunk rows=1", "upcast"))
ROUTES = [STOCK, PAD, OTHER, UPCAST]


def row(route, speedup=1.0, status=OK, origin=ORIGIN, problem=PROBLEM):
    kernel = kernels.kernel(route.kernel)
    stamp = {
        "origin": origin,
        "error": 1e-4,
        "stock_error": 1e-4,
        "kernel": kernels.fingerprint.of(kernel),
        "space": space.fingerprint(kernel),
        "date": "2026-01-31",
        "seed": 1,
    }
    if status in (INACCURATE, FAILED):
        return results.untimed(problem, route, status, "so it is", **stamp)
    stock, times = [1e-3 * speedup] * 4, [1e-3] * 4
    return results.timed(problem, route, status, stock, times, [math.log(speedup)] * 4, **stamp)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A database without studies: copying one is much faster than having Optuna make it."""
    path = tmp_path_factory.mktemp("empty") / "studies.db"
    open_storage(f"sqlite:///{path}").remove_session()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def url(tmp_path, empty):
    path = tmp_path / "somewhere" / "studies.db"
    path.parent.mkdir()
    shutil.copy(empty, path)
    return f"sqlite:///{path}"


@pytest.fixture
def opened():
    """Opens the storage: the same one in memory each time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    memory = InMemoryStorage()
    return lambda: memory


class OnDisk:
    """Tests whose storage is a file, opened each time as a new process would."""

    @pytest.fixture
    def opened(self, url):
        return lambda: open_storage(url)


@pytest.fixture
def reopen(opened):
    def reopen(routes=ROUTES, origin=ORIGIN, problem=PROBLEM, even=0):
        return ProblemStudy(opened(), problem, origin, routes, even)

    return reopen


@pytest.fixture
def change(monkeypatch):
    """Makes the code of the kernels of that name look changed."""
    of = kernels.fingerprint.of

    def change(*names):
        monkeypatch.setattr(
            kernels.fingerprint, "of", lambda kernel: ("new" if kernel.name in names else "") + of(kernel)
        )

    return change


def measure(study, speedups):
    """Tells a row for as many routes as the study deals and ``speedups`` has."""
    for _ in speedups:
        trial, route = study.deal((), 0)
        study.tell(trial, row(route, speedups[route]))


def dealt(study):
    """All routes that the study would still deal, each told as it comes."""
    found = []
    while True:
        try:
            trial, route = study.deal((), 0)
        except Exhausted:
            return found
        study.tell(trial, row(route))
        found.append(route)


class TestResume(OnDisk):
    def test_rows_survive(self, reopen):
        measure(reopen(), {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
        assert reopen().rows() == {route: row(route, value) for route, value in zip(ROUTES, (1.0, 2.0, 0.5, 1.5))}

    def test_goes_on_where_it_stopped(self, reopen):
        study = reopen()
        for _ in range(2):
            trial, route = study.deal((), 0)
            study.tell(trial, row(route))
        first = list(study.rows())
        again = reopen()
        assert set(dealt(again)) == set(ROUTES) - set(first)
        assert set(again.rows()) == set(ROUTES)

    @pytest.mark.parametrize("status", [PRUNED, INACCURATE, FAILED])
    def test_what_was_refused_is_not_tried_again(self, reopen, status):
        study = reopen()
        trial, _ = study.deal((), 0)
        study.tell(trial, row(STOCK))
        trial, bad = study.deal((), 0)
        study.tell(trial, row(bad, 0.1, status))
        again = reopen()
        assert again.rows()[bad].status == status
        assert bad not in dealt(again)

    def test_done_is_remembered(self, reopen):
        study = reopen()
        assert not study.done(8)
        dealt(study)
        assert not study.done(8)
        study.finish(8)
        assert study.done(8)
        assert reopen().done(8)

    def test_done_for_some_routes_is_not_done_for_more(self, reopen):
        study = reopen(routes=[STOCK, PAD])
        dealt(study)
        study.finish(8)
        assert reopen(routes=[STOCK, PAD]).done(8)
        assert reopen(routes=[STOCK]).done(8)
        assert not reopen().done(8)

    def test_a_study_of_some_routes_goes_on_with_more(self, reopen):
        dealt(reopen(routes=[STOCK, PAD]))
        assert set(dealt(reopen())) == {OTHER, UPCAST}

    def test_a_study_of_more_routes_goes_on_with_some(self, reopen):
        study = reopen()
        trial, _ = study.deal((), 0)
        study.tell(trial, row(STOCK))
        assert dealt(reopen(routes=[STOCK, PAD])) == [PAD]

    def test_the_latest_row_of_a_route_counts(self, reopen):
        study = reopen()
        measure(study, {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
        study.add(PAD, row(PAD, 1.9))
        assert reopen().rows()[PAD].speedup == 1.9
        study.add(PAD, row(PAD, status=FAILED))
        assert reopen().rows()[PAD].status == FAILED

    def test_problems_do_not_mix(self, reopen):
        measure(reopen(), {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
        assert not reopen(problem=PROBLEM.with_m(4)).rows()


class TestAbandonedTrials(OnDisk):
    def test_the_route_is_dealt_again(self, reopen):
        _, lost = reopen().deal((), 0)
        again = reopen()
        assert not again.rows()
        assert lost in dealt(again)

    def test_one_that_was_never_given_its_route(self, reopen):
        reopen()._study.ask()
        assert set(dealt(reopen())) == set(ROUTES)

    def test_many(self, reopen):
        for _ in range(3):
            reopen().deal((), 0)
        assert set(dealt(reopen())) == set(ROUTES)

    def test_none_stays_running(self, reopen):
        reopen().deal((), 0)
        trials = reopen()._study.get_trials()
        assert [trial.state for trial in trials] == [TrialState.FAIL]

    def test_one_that_somebody_enqueued(self, reopen):
        reopen()._study.enqueue_trial({"kernel": "upcast"})
        assert set(dealt(reopen())) == set(ROUTES)


class TestWhoseStudy:
    def test_another_os_or_autotune_goes_on(self, reopen):
        dealt(reopen())
        assert len(reopen(origin=replace(ORIGIN, os="FakeOS 1.1", autotune="0.2.0")).rows()) == len(ROUTES)

    @pytest.mark.parametrize(
        "other", [{"mlx": "0.33.0"}, {"load": "queued"}, {"chip": "other"}, {"cores": 9}, {"source": "simulated"}]
    )
    def test_another_machine_mlx_or_load_starts_anew(self, reopen, other):
        dealt(reopen())
        assert not reopen(origin=replace(ORIGIN, **other)).rows()

    def test_another_protocol_starts_anew(self, reopen, monkeypatch):
        dealt(reopen())
        monkeypatch.setattr(studies, "PROTOCOL", studies.PROTOCOL + 1)
        assert not reopen().rows()


class TestAdoption:
    def test_a_changed_kernel_costs_its_own_rows_alone(self, reopen, change):
        study = reopen()
        measure(study, {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
        study.finish(8)
        known = study.rows()
        change("pad")
        again = reopen()
        assert again.rows() == {route: known[route] for route in (STOCK, OTHER, UPCAST)}
        assert not again.done(8)
        assert dealt(again) == [PAD]

    def test_a_kernel_of_another_op_changes_nothing(self, reopen, change):
        study = reopen()
        dealt(study)
        study.finish(8)
        change("dequantize")
        assert reopen().done(8)

    def test_a_changed_stock_leaves_nothing_to_compare_with(self, reopen, change):
        dealt(reopen())
        change("stock")
        assert STOCK not in reopen().rows()

    def test_a_changed_space_keeps_the_routes_that_are_left(self, reopen, monkeypatch):
        dealt(reopen())
        of = space.fingerprint
        monkeypatch.setattr(space, "fingerprint", lambda kernel: "new" + of(kernel))
        more = Route.parse("chunk rows=2")
        again = reopen(routes=[STOCK, PAD, more])
        assert set(again.rows()) == {STOCK, PAD}
        assert dealt(again) == [more]

    def test_happens_once(self, reopen, change):
        dealt(reopen())
        change("pad")
        assert len(reopen()._study.get_trials()) == len(reopen()._study.get_trials()) == 3

    def test_going_back_finds_the_old_study(self, reopen, change):
        study = reopen()
        dealt(study)
        study.finish(8)
        change("pad")
        assert not reopen().done(8)
        change()
        assert reopen().done(8)

    def test_through_two_changes(self, reopen, change):
        measure(reopen(), {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
        change("pad")
        reopen()
        change("pad", "upcast")
        rows = reopen().rows()
        assert set(rows) == {STOCK, OTHER}
        assert rows[OTHER].speedup == 0.5

    def test_refused_rows_come_too(self, reopen, change):
        study = reopen()
        study.add(STOCK, row(STOCK))
        study.add(UPCAST, row(UPCAST, status=INACCURATE))
        change("pad")
        assert reopen().rows()[UPCAST].status == INACCURATE

    def test_another_mlx_is_not_adopted(self, reopen, change):
        dealt(reopen())
        change("pad")
        assert not reopen(origin=replace(ORIGIN, mlx="0.33.0")).rows()


class TestForget:
    def test_starts_anew(self, reopen):
        study = reopen()
        dealt(study)
        study.finish(8)
        study.forget()
        assert not study.done(8)
        assert not study.rows()
        again = reopen()
        assert not again.done(8)
        assert set(dealt(again)) == set(ROUTES)

    def test_others_stay(self, reopen):
        dealt(reopen(problem=PROBLEM.with_m(4)))
        reopen().forget()
        assert len(reopen(problem=PROBLEM.with_m(4)).rows()) == len(ROUTES)

    def test_nothing_is_adopted_back(self, reopen, change):
        dealt(reopen())
        change("pad")
        reopen().forget()
        assert not reopen().rows()


class TestForOptuna(OnDisk):
    def test_a_study_reads_like_any_other(self, reopen, url):
        study = reopen()
        measure(study, {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.6})
        found = optuna.load_study(study_name=study._study.study_name, storage=url)
        assert found.study_name.startswith("fake mlx-0.32.4 chained matmul M=3 N=64 K=64 f16 nt ")
        assert found.best_params == {"kernel": "pad", "pad.multiple": 4, "pad.fill": "zeros"}
        assert found.best_value == 0.5
        study.add(UPCAST, row(UPCAST, 4.0))
        assert (found.best_value, found.best_params) == (0.25, {"kernel": "upcast"})

    def test_states(self, reopen):
        study = reopen()
        told = {}
        for status in (OK, PRUNED, INACCURATE, FAILED):
            trial, route = study.deal((), 0)
            study.tell(trial, row(route, 0.5, status))
            told[trial.number] = status
        states = {OK: "COMPLETE", PRUNED: "PRUNED", INACCURATE: "FAIL", FAILED: "FAIL"}
        trials = study._study.get_trials()
        assert [trial.state.name for trial in trials] == [states[told[trial.number]] for trial in trials]
        assert trials[1].intermediate_values == {4: 2.0}


def test_all_rows_gives_the_latest_of_each_study_oldest_first(reopen, opened, change):
    study = reopen()
    measure(study, {STOCK: 1.0, PAD: 2.0, OTHER: 0.5, UPCAST: 1.5})
    study.add(PAD, row(PAD, 1.9))
    change("upcast")
    measure(reopen(), {UPCAST: 3.0})
    found = list(all_rows(opened()))
    assert [(each.route, each.speedup) for each in found if each.route in (str(PAD), str(UPCAST))] == [
        (str(PAD), 1.9),
        (str(UPCAST), 1.5),
        (str(PAD), 1.9),
        (str(UPCAST), 3.0),
    ]


class TestStorage(OnDisk):
    def failed(self, url, error=AutotuneError):
        with pytest.raises(error) as raised:
            open_storage(url)
        assert "\n" not in str(raised.value)
        assert type(raised.value) is error
        return raised.value

    def test_the_default_lies_in_the_users_folder(self, isolated):
        assert studies.default_url() == f"sqlite:///{isolated}/studies.db"

    def test_makes_the_folder(self, tmp_path):
        open_storage(f"sqlite:///{tmp_path}/a/b/studies.db")
        assert (tmp_path / "a" / "b" / "studies.db").is_file()

    def test_anything_that_optuna_takes(self):
        ProblemStudy(open_storage("sqlite://"), PROBLEM, ORIGIN, ROUTES)

    @pytest.mark.parametrize("url", ["nonsense", "mysqll://host/db", "sqlite:/one-slash.db", "://"])
    def test_a_bad_url_is_wrong_use(self, url):
        error = self.failed(url, UsageError)
        assert str(error).startswith(f"storage {url!r} is not understood (")
        assert error.remedy == "such as sqlite:///studies.db"

    def test_a_folder_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        error = self.failed(f"sqlite:///{tmp_path}/file/below/studies.db")
        assert error.exit_code == EXIT_FAILED
        assert "cannot be used (Not a directory)" in error.cause
        assert "--storage or AUTOTUNE_DATA" in error.remedy

    def test_a_folder_in_the_files_place(self, tmp_path):
        assert "unable to open database file" in self.failed(f"sqlite:///{tmp_path}").cause

    def test_a_file_that_is_no_database(self, tmp_path):
        (tmp_path / "studies.db").write_bytes(b"not a database at all, and long enough to be read as one" * 40)
        assert "file is not a database" in self.failed(f"sqlite:///{tmp_path}/studies.db").cause

    def test_a_database_that_was_cut_short(self, reopen, url, tmp_path):
        dealt(reopen())
        path = tmp_path / "somewhere" / "studies.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((AutotuneError, *studies.STORAGE_ERRORS)) as raised:
            reopen().rows()
        assert "\n" not in str(studies.storage_error(raised.value, url))

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
    def test_a_database_that_cannot_be_written(self, reopen, url, tmp_path):
        reopen()
        folder = tmp_path / "somewhere"
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            with pytest.raises((AutotuneError, *studies.STORAGE_ERRORS)):
                reopen(problem=PROBLEM.with_m(4))
        finally:
            folder.chmod(0o755)


def test_all_rows_has_none_of_an_older_protocol(reopen, opened, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(studies, "PROTOCOL", studies.PROTOCOL - 1)
        measure(reopen(), {STOCK: 1.0, PAD: 9.0})
    measure(reopen(), {STOCK: 1.0, PAD: 2.0})
    assert [each.speedup for each in all_rows(opened())] == [1.0, 2.0]
    assert [each.speedup for each in all_rows(opened(), outdated=True)] == [1.0, 9.0]


def test_all_rows_has_none_of_a_recording(reopen, opened):
    """One session, no play-off, nothing of what calls cost: it would change the table that a sweep gave."""
    measure(reopen(), {STOCK: 1.0, PAD: 2.0})
    recording = reopen(even=5)
    measure(recording, {STOCK: 1.0, PAD: 9.0})
    assert recording.rows()[PAD].speedup == 9.0
    assert [(each.route, each.speedup) for each in all_rows(opened())] == [(str(STOCK), 1.0), (str(PAD), 2.0)]
