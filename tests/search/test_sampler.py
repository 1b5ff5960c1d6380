import math
import time

import optuna
import pytest
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import space
from autotune.search.portfolio import Portfolio
from autotune.search.sampler import IN_VAIN, Exhausted, LegalSetSampler, choices_of, frozen, route_of, suggest

PROBLEM = Problem.parse("quantized_matmul M=5 N=256 K=1280 f16 affine-b4-g64 nt")
WHOLE = space.legal_routes(PROBLEM, "metal", space.dealt_out())
SEARCHED = [route for route in space.legal_routes(PROBLEM, "metal", ["qmv"]) if route != STOCK]
ROUTES = [*WHOLE, *SEARCHED[::100]]
SOME = ROUTES[:6]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    return InMemoryStorage() if request.param == "memory" else RDBStorage(f"sqlite:///{tmp_path / 'studies.db'}")


def study_in(storage):
    return optuna.create_study(storage=storage, study_name="a study", load_if_exists=True)


def deal(study, routes=SOME, seeds=(), seed=0):
    study.sampler = LegalSetSampler(routes, seeds, seed)
    trial = study.ask()
    return trial, suggest(trial, choices_of(routes))


def dealt(study, count, **kwargs):
    found = []
    for _ in range(count):
        trial, route = deal(study, **kwargs)
        study.tell(trial, 1.0)
        found.append(route)
    return found


class TestDealing:
    def test_each_route_once_then_none(self):
        study = study_in(InMemoryStorage())
        found = dealt(study, len(ROUTES), routes=ROUTES)
        assert sorted(map(str, found)) == sorted(map(str, ROUTES))
        with pytest.raises(Exhausted):
            LegalSetSampler(ROUTES).next_route(study)

    def test_across_restarts(self, storage):
        first = dealt(study_in(storage), 3)
        rest = dealt(study_in(storage), 3, seed=1)
        assert sorted(map(str, first + rest)) == sorted(map(str, SOME))
        with pytest.raises(Exhausted):
            LegalSetSampler(SOME).next_route(study_in(storage))

    def test_stock_comes_first_and_seeds_after_it(self):
        seeds = [ROUTES[9], ROUTES[4], ROUTES[9]]
        found = dealt(study_in(InMemoryStorage()), len(ROUTES), routes=ROUTES, seeds=seeds)
        assert found[:3] == [STOCK, ROUTES[9], ROUTES[4]]
        assert len(set(found)) == len(ROUTES)

    def test_seeds_that_are_not_legal_here_are_passed_over(self):
        seeds = [Route.of("pad", {"multiple": 4096, "fill": "zeros"}), STOCK, SOME[3]]
        assert dealt(study_in(InMemoryStorage()), 2, seeds=seeds) == [STOCK, SOME[3]]

    def test_is_the_same_under_the_same_seed_alone(self):
        def order(seed):
            return dealt(study_in(InMemoryStorage()), len(ROUTES), routes=ROUTES, seed=seed)

        assert order(7) == order(7)
        assert order(7) != order(8)
        assert order(7)[1:] != ROUTES[1:]

    def test_a_set_without_stock(self):
        found = dealt(study_in(InMemoryStorage()), 2, routes=ROUTES[1:3])
        assert set(found) == set(ROUTES[1:3])


def of(route):
    """A made-up cost: few rows and no split are fast."""
    return 1.0 + abs(route.config["v"] - 5) / 4 + route.config["split"] / 8 + route.config["stage"] / 3


def searched(study, count, sampler=None, cost=of, routes=None):
    """Routes that a sampler deals of a searched space, told their costs; stock is told first."""
    routes = routes or [STOCK, *SEARCHED]
    study.sampler = sampler or LegalSetSampler(routes)
    found = []
    for _ in range(count):
        trial = study.ask()
        route = suggest(trial, choices_of(routes))
        study.tell(trial, 1.0 if route == STOCK else cost(route))
        found.append(route)
    return found


class TestSearching:
    def test_a_searched_space_is_not_dealt_blindly(self):
        found = searched(study_in(InMemoryStorage()), 41)
        assert len(set(found)) == 41
        best = min(map(of, SEARCHED))
        assert min(map(of, found[1:])) == best
        assert sum(of(route) < best + 0.3 for route in found[20:]) > 10

    def test_comes_after_what_is_measured_whole(self):
        study = study_in(InMemoryStorage())
        found = searched(study, len(WHOLE) + 3, cost=lambda route: 1.0, routes=[*SEARCHED, *WHOLE])
        assert set(found[: len(WHOLE)]) == set(WHOLE)
        assert {route.kernel for route in found[len(WHOLE) :]} == {"qmv"}

    def test_no_more_than_so_many(self):
        study = study_in(InMemoryStorage())
        searched(study, 11, LegalSetSampler([STOCK, *SEARCHED], searched=10))
        with pytest.raises(Exhausted):
            LegalSetSampler([STOCK, *SEARCHED], searched=10).next_route(study)
        assert LegalSetSampler([STOCK, *SEARCHED], searched=11).next_route(study) in SEARCHED

    def test_a_restart_changes_nothing(self, storage):
        study = study_in(InMemoryStorage())
        whole = searched(study, 30)
        again = study_in(storage)
        assert searched(again, 18) == whole[:18]
        assert searched(study_in(storage), 12) == whole[18:]

    def test_seeds_of_a_searched_kernel_come_first(self):
        study = study_in(InMemoryStorage())
        seeds = [SEARCHED[7], SEARCHED[3]]
        assert searched(study, 3, LegalSetSampler([STOCK, *SEARCHED], seeds)) == [STOCK, *seeds]

    def test_failed_and_pruned_trials_are_learned_from_and_play_offs_are_not(self, monkeypatch):
        told = []
        monkeypatch.setattr(Portfolio, "tell", lambda self, index, cost: told.append((index, cost)))
        study, routes = study_in(InMemoryStorage()), [STOCK, *SEARCHED]
        study.add_trial(frozen(SEARCHED[0], choices_of(routes), 0.5, TrialState.COMPLETE, {}))
        study.add_trial(frozen(SEARCHED[1], choices_of(routes), None, TrialState.PRUNED, {}, seen=2.5))
        study.add_trial(frozen(SEARCHED[2], choices_of(routes), None, TrialState.FAIL, {}))
        study.add_trial(frozen(SEARCHED[0], choices_of(routes), 0.7, TrialState.COMPLETE, {}))
        sampler = LegalSetSampler(routes)
        for _ in range(2):
            sampler.next_route(study)
        assert told == [(0, 0.5), (1, 2.5), (2, math.inf)]

    def test_two_at_once_get_different_routes(self):
        study, routes = study_in(InMemoryStorage()), [STOCK, *SEARCHED]
        searched(study, 15)
        study.sampler = LegalSetSampler(routes)
        trials = [study.ask() for _ in range(1)]
        first = suggest(trials[0], choices_of(routes))
        assert suggest(study.ask(), choices_of(routes)) != first

    def test_two_that_were_not_asked_for_their_routes_get_different_ones(self):
        study = study_in(InMemoryStorage())
        study.sampler = LegalSetSampler(SOME)
        trials = [study.ask(), study.ask()]
        assert len({suggest(trial, choices_of(SOME)) for trial in trials}) == 2

    def test_kernels_take_turns_and_the_fastest_gets_more(self):
        problem = Problem.parse("matmul M=4 N=512 K=512 f16 nt")
        gemv = [route for route in space.legal_routes(problem, "metal", ["gemv"]) if route != STOCK]
        cost = lambda route: 2.0 if route.kernel == "gemv" else 1.0  # noqa: E731
        found = searched(study_in(InMemoryStorage()), 41, cost=cost, routes=[STOCK, *SEARCHED, *gemv])
        names = [route.kernel for route in found[1:]]
        assert 8 <= names.count("gemv") < names.count("qmv")


class TestTrialsThatEnded:
    def test_a_running_one_keeps_its_route(self, storage):
        study = study_in(storage)
        _, first = deal(study)
        _, second = deal(study)
        assert first != second

    def test_a_failed_one_is_not_repeated(self, storage):
        study = study_in(storage)
        trial, first = deal(study)
        study.tell(trial, state=TrialState.FAIL)
        assert deal(study)[1] != first

    def test_an_interrupted_one_is_dealt_again(self, storage):
        study = study_in(storage)
        trial, first = deal(study)
        trial.set_user_attr(IN_VAIN, True)
        study.tell(trial, state=TrialState.FAIL)
        assert deal(study_in(storage))[1] == first

    def test_one_that_was_never_asked_for_its_route_holds_none(self, storage):
        study = study_in(storage)
        study.sampler = LegalSetSampler(SOME)
        study.ask()
        assert deal(study)[1] == STOCK


class TestOptuna:
    def test_optimize_finds_the_best_and_shows_its_parameters(self):
        study = study_in(InMemoryStorage())
        study.sampler = LegalSetSampler(ROUTES)
        wanted = Route.of("pad", {"multiple": 33, "fill": "repeat"})
        study.optimize(lambda trial: 1.0 + (suggest(trial, choices_of(ROUTES)) != wanted), n_trials=len(ROUTES))
        assert study.best_params == {"kernel": "pad", "pad.multiple": 33, "pad.fill": "repeat"}
        assert len(study.trials) == len(ROUTES)
        assert {route_of(trial) for trial in study.trials} == set(ROUTES)

    def test_optimize_ends_when_all_is_dealt(self, storage):
        study = study_in(storage)
        study.sampler = LegalSetSampler(SOME)
        study.optimize(lambda trial: 1.0 + (suggest(trial, choices_of(SOME)) == STOCK), n_trials=len(SOME) + 5)
        done = [route_of(trial) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
        assert sorted(map(str, done)) == sorted(map(str, SOME))
        assert all(trial.state.is_finished() for trial in study.trials)
        assert len(study.trials) == len(SOME) + 1

    def test_eight_threads_get_different_routes(self):
        study, routes = study_in(InMemoryStorage()), [*WHOLE, *SEARCHED[::40]]
        study.sampler = LegalSetSampler(routes, searched=10)

        def cost(trial):
            time.sleep(0.001)
            return 1.0 + len(str(suggest(trial, choices_of(routes))))

        study.optimize(cost, n_trials=len(routes) + 20, n_jobs=8)
        done = [route_of(trial) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
        assert len(done) == len(set(done)) == len(WHOLE) + 10
        assert all(trial.state.is_finished() for trial in study.trials)

    def test_asking_where_nothing_is_left_closes_the_trial(self, storage):
        study = study_in(storage)
        dealt(study, len(SOME))
        with pytest.raises(Exhausted):
            study.ask()
        assert study.trials[-1].state == TrialState.FAIL
        assert study.trials[-1].user_attrs[IN_VAIN]

    def test_parameters_are_columns_of_its_data_frame(self, storage):
        study = study_in(storage)
        dealt(study, len(SOME))
        frame = study.trials_dataframe()
        assert sorted(frame["params_kernel"]) == sorted(route.kernel for route in SOME)
        assert "params_pad.multiple" in frame

    def test_pruning_works_as_usual(self):
        study = study_in(InMemoryStorage())
        trial, first = deal(study)
        trial.report(3.0, step=1)
        study.tell(trial, state=TrialState.PRUNED)
        assert study.trials[0].intermediate_values == {1: 3.0}
        assert deal(study)[1] != first


class TestRouteOf:
    def test_round_trip_through_a_stored_trial(self, storage):
        study = study_in(storage)
        for route in ROUTES:
            study.add_trial(frozen(route, choices_of(ROUTES), 1.0, TrialState.COMPLETE, {"said": str(route)}))
        assert [route_of(trial) for trial in study.trials] == ROUTES
        assert [trial.user_attrs["said"] for trial in study.trials] == [str(route) for route in ROUTES]

    def test_a_frozen_trial_counts_as_dealt(self):
        study = study_in(InMemoryStorage())
        for route in ROUTES[1:]:
            study.add_trial(frozen(route, choices_of(ROUTES), 1.0, TrialState.COMPLETE, {}))
        assert deal(study, routes=ROUTES)[1] == STOCK
        with pytest.raises(Exhausted):
            LegalSetSampler(ROUTES).next_route(study)

    def test_incomplete_parameters_are_no_route(self):
        def trial(**params):
            distributions = {
                name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()
            }
            return optuna.trial.create_trial(value=1.0, params=params, distributions=distributions)

        assert route_of(trial()) is None
        assert route_of(trial(kernel="pad")) is None
        assert route_of(trial(kernel="pad", **{"pad.multiple": 8})) is None
        assert route_of(trial(kernel="stock")) == STOCK
