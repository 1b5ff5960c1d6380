"""What ``autotune sweep --record`` writes and what it leaves out."""

import json

import pytest
from fakes import FakeDevice, costs
from report.builders import problem

from autotune.cli import outcome, recording
from autotune.kernels import STOCK
from autotune.search import recorded, space, studies
from autotune.search.measure import EFFORTS
from autotune.search.plan import Plan
from autotune.search.results import Origin
from autotune.search.sweep import Done, Outcome, Sweep

FAMILY = "quantized_matmul N=64 K=512 f16 affine-b4-g64 nt"
EVEN = EFFORTS["quick"].recording()


class Silent:
    def started(self, *_):
        pass

    measured = finished = started


@pytest.fixture
def sweep():
    """Runs a sweep of some kernels at M=3 under --record and returns its studies."""
    storage = studies.optuna.storages.InMemoryStorage()

    def run(device, names, *, even=EVEN.final, effort=EVEN, trials=0):
        origin = Origin.of("here", device.machine, "0", "chained")
        tuned = []

        def open_study(each, routes):
            tuned.append(studies.ProblemStudy(storage, each, origin, routes, even))
            return tuned[-1]

        plan = Plan((problem(FAMILY, 3),), effort, names, trials=trials)
        Sweep(device, origin, plan, open_study, Silent(), clock=device.clock, sleep=device.sleep).run()
        return tuned

    return run


def content(folder, kernel):
    return json.loads(next(folder.glob(f"*_{kernel}.json")).read_text("utf-8"))


def test_kernels_of_other_sweeps_are_not_written(sweep, tmp_path, capsys):
    """The study knows a part of chunk's space, of a sweep that asked for it; this one asks for pad alone."""
    device = FakeDevice(costs(1e-3))
    sweep(device, ("chunk",), trials=2)
    recording.write(sweep(device, ("pad",)), tmp_path)
    assert sorted(path.name.split("_")[-1] for path in tmp_path.iterdir()) == ["pad.json", "stock.json"]
    assert "not written" not in capsys.readouterr().err


def test_a_space_in_part_is_left_out_in_one_line(sweep, tmp_path, capsys):
    tuned = sweep(FakeDevice(costs(1e-3)), ("pad", "chunk"), trials=4)
    recording.write(tuned, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "not written" in line]
    assert len(said) == 1
    rows = tuned[0].rows()
    for name in ("pad", "chunk"):
        legal = [route for route in tuned[0].routes if route.kernel == name]
        measured = sum(route in rows for route in legal)
        whole = measured == len(legal)
        assert whole == bool(list(tmp_path.glob(f"*_{name}.json")))
        assert whole != (f"{name} at 1 problem ({measured} of {len(legal)} configs)" in said[0])


def test_every_config_gets_the_same_rounds(sweep, tmp_path):
    """Also one that is 50 times slower than the best, which a sweep would not time at all."""
    device = FakeDevice(lambda _, route: 1e-3 * (50 if "rows=1" in str(route) else 1), noise=0.01)
    recording.write(sweep(device, ("chunk", "pad")), tmp_path)
    for kernel in ("chunk", "pad"):
        found = content(tmp_path, kernel)
        assert found["metadata"]["rounds"] == [EVEN.final, EVEN.final]
        assert {len(each["times"]["runtimes"]) for each in found["results"]} == {EVEN.final}
        assert all("T" in each["timestamp"] for each in found["results"])


def test_drift_cancels_in_the_recorded_times(sweep, tmp_path):
    """The machine becomes three times slower on the way; all configs are equally fast in truth."""
    device = FakeDevice(costs(1e-3), drift=lambda now: 1 + now / 2)
    tuned = sweep(device, ("chunk", "pad"))
    clock = [row.time_us for row in tuned[0].rows().values() if row.rounds]
    recording.write(tuned, tmp_path)
    recorded_ = [
        cost for name in ("chunk", "pad") for cost in recorded.read(next(tmp_path.glob(f"*_{name}.json"))).costs
    ]
    assert max(clock) / min(clock) > 1.2
    assert max(recorded_) / min(recorded_) == pytest.approx(1, abs=0.01)


def test_rows_of_a_sweep_that_recorded_nothing_are_not_taken_over(sweep):
    device = FakeDevice(costs(1e-3))
    sweep(device, ("pad",), even=0, effort=EFFORTS["quick"])
    (study,) = sweep(device, ("pad",))
    assert {row.rounds for row in study.rows().values()} == {EVEN.final}
    assert study.rounds().keys() == set(space.legal_routes(problem(FAMILY, 3), device.machine.backend, ["pad"]))
    assert STOCK in study.rounds()


def test_a_sweep_that_was_stopped_goes_on_and_keeps_its_rounds(sweep, tmp_path):
    device = FakeDevice(costs(1e-3))
    sweep(device, ("pad",), trials=2)
    timed = len(device.timed)
    recording.write(sweep(device, ("pad",)), tmp_path)
    assert {len(each["times"]["runtimes"]) for each in content(tmp_path, "pad")["results"]} == {EVEN.final}
    assert timed > 0
    again = len(device.timed)
    sweep(device, ("pad",))
    assert len(device.timed) == again


def test_no_table_is_offered_after_a_recording(capsys):
    """An export does not read it."""
    done = Outcome([Done(problem(FAMILY, 3), None, 1, 0, False, 1.0)])
    for recorded_ in (False, True):
        outcome.tell(done, "here", "sqlite:///studies.db", fresh=False, json=False, recorded=recorded_)
        assert ("next: autotune export" in capsys.readouterr().err) is not recorded_
