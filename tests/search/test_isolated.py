"""The worker process, for real: it is started, crashed, hung and starved, and the session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from autotune.devices.base import RouteFailed
from autotune.errors import UNFIT, UnfitError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search.isolated import IsolatedDevice

pytestmark = pytest.mark.slow

PROBLEM = Problem.parse("matmul M=2 N=32 K=16 f32 nt")
CACHE = 1 << 12
"""A small cache keeps the ring of weights small, and the tests fast."""

PLUGIN = '''
import os
import signal
import sys
import time

import mlx.core as mx
import numpy as np

from autotune import kernels
from autotune.kernels.base import Kernel, Parameter


def raises():
    raise ValueError("this route does not like\\nits arguments")


def hangs():
    time.sleep(600)


def leaves():
    os._exit(3)


def exits():
    sys.exit(4)


def says_why():
    print("so many words", file=sys.stderr, flush=True)
    os._exit(5)


def faults():
    os.kill(os.getpid(), signal.SIGSEGV)


def takes_memory():
    """Takes address space in steps of 1 GiB until it is refused; pages that nobody touches cost the machine nothing."""
    taken = []
    while len(taken) < 1 << 16:
        taken.append(np.empty(1 << 30, np.uint8))
    raise RuntimeError("64 TiB and no end")


def takes_memory_of_mlx():
    mx.eval(mx.zeros((1 << 21, 1 << 21), mx.uint8))


def loses_the_gpu():
    raise RuntimeError("cudaMallocManaged(&data, size) failed: misaligned address")


def prints():
    print("a line on stdout", flush=True)
    os.write(1, b'{"seconds": 1}\\n')


FAULTS = {each.__name__: each for each in (
    raises, hangs, leaves, exits, says_why, faults, takes_memory, takes_memory_of_mlx, prints, loses_the_gpu
)}


class Faulty(Kernel):
    name = "faulty"
    ops = ("matmul",)
    parameters = {"how": Parameter(words=tuple(FAULTS))}

    def build(self, problem, config):
        def matmul(a, b, /, *, stream=None):
            FAULTS[config["how"]]()
            return mx.matmul(a, b)

        return matmul


kernels.KERNELS["faulty"] = Faulty()
'''

macos = pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit a process's address space")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Puts a module with a kernel that fails on demand where the worker finds it; returns its name."""
    (tmp_path / "faulty_kernel.py").write_text(PLUGIN, "utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "faulty_kernel"


@pytest.fixture
def device(plugin):
    """An isolated CPU whose routes may be silent for three seconds."""
    device = IsolatedDevice("cpu", CACHE, patience=3.0, modules=[plugin])
    yield device
    device.close()


@pytest.fixture
def session(device):
    return device.open(PROBLEM, 1, "chained")


def faulty(how):
    return Route.of("faulty", {"how": how})


def goes_on(session):
    """Whether stock is right and takes time."""
    assert session.check(STOCK).error < 1e-6
    assert 0 < session.time(STOCK, 3) < 1


def failure(ask):
    began = time.monotonic()
    with pytest.raises(RouteFailed) as raised:
        ask()
    assert time.monotonic() - began < 20
    return raised.value


def gone(pid, within=5.0):
    """Whether the process ends in time."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("how", "kind", "detail"),
    [
        ("raises", "raised", "ValueError: this route does not like\nits arguments"),
        ("leaves", "crashed", "exit code 3"),
        ("exits", "crashed", "exit code 4"),
        ("says_why", "crashed", "exit code 5: so many words"),
        ("faults", "crashed", "SIGSEGV"),
        pytest.param("takes_memory", "memory", "Unable to allocate", marks=macos),
    ],
)
def test_a_route_that_fails_costs_itself(session, how, kind, detail):
    for ask in (lambda: session.check(faulty(how)), lambda: session.time(faulty(how), 2)):
        failed = failure(ask)
        assert failed.kind == kind
        assert detail in failed.detail
        goes_on(session)


@macos
def test_memory_that_mlx_does_not_get(session):
    """Some builds say so and some take the process with them."""
    assert failure(lambda: session.time(faulty("takes_memory_of_mlx"), 1)).kind in ("memory", "crashed")
    goes_on(session)


def test_a_route_that_hangs_is_ended_after_the_patience(device, session):
    goes_on(session)
    pid = device._process.pid
    began = time.monotonic()
    failed = failure(lambda: session.check(faulty("hangs")))
    assert (failed.kind, failed.detail) == ("hung", "no answer in 3 s")
    assert 3 <= time.monotonic() - began < 8
    assert gone(pid)
    goes_on(session)


def test_what_a_route_prints_is_no_answer(session):
    for _ in range(2):
        assert 0 < session.time(faulty("prints"), 2) < 1
        goes_on(session)


def test_a_process_that_raised_is_kept(device, session):
    pid = device._process.pid
    failure(lambda: session.check(faulty("raises")))
    goes_on(session)
    assert device._process.pid == pid
    failure(lambda: session.check(faulty("leaves")))
    goes_on(session)
    assert device._process.pid != pid


def test_a_process_that_lost_the_gpu_is_ended(device, session):
    """What CUDA says then it says of every call that follows, whatever the route."""
    goes_on(session)
    pid = device._process.pid
    assert failure(lambda: session.check(faulty("loses_the_gpu"))).kind == "crashed"
    assert gone(pid)
    goes_on(session)


def test_each_death_has_its_own_last_words(session):
    """The second process writes where the first one wrote: nothing of that file's past may show."""
    for _ in range(3):
        assert failure(lambda: session.check(faulty("says_why"))).detail == "exit code 5: so many words"
    assert failure(lambda: session.check(faulty("leaves"))).detail == "exit code 3"


def test_the_inputs_are_the_same_after_a_death(session):
    before = session.check(STOCK)
    failure(lambda: session.time(faulty("faults"), 1))
    assert session.check(STOCK) == before


def test_a_process_that_died_between_two_requests(device, session):
    goes_on(session)
    device._process.kill()
    device._process.wait()
    goes_on(session)


def test_a_process_that_dies_as_it_is_asked(device, session):
    """As above, but seen only when the request is written."""
    device._process.kill()
    device._process.wait()
    assert failure(lambda: device.ask({"do": "time", "route": "stock", "calls": 1})).kind == "crashed"
    goes_on(session)


def test_an_unknown_route_is_a_failure_of_that_route(session):
    assert failure(lambda: session.check(Route("nobody"))).kind == "raised"
    goes_on(session)


def test_one_session_after_another(device):
    for text in ("matmul M=1 N=32 K=16 f16 nt", "quantized_matmul M=2 N=32 K=64 f32 affine-b4-g64 nt"):
        assert device.open(Problem.parse(text), 0, "queued").check(STOCK).error < 0.01


def test_a_worker_outlives_neither_close_nor_its_parent(device, session):
    pid = device._process.pid
    # A group of its own: a Ctrl-C in the terminal is for the sweep alone.
    assert os.getpgid(pid) == pid != os.getpgid(0)
    device.close()
    device.close()
    assert gone(pid)
    goes_on(session)


@pytest.mark.parametrize("how", ["idle", "in a route that hangs"])
def test_a_worker_ends_with_a_parent_that_is_killed(plugin, how):
    script = f"""
import sys, threading
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.search.isolated import IsolatedDevice
device = IsolatedDevice("cpu", {CACHE}, 60.0, ["{plugin}"])
session = device.open(Problem.parse("{PROBLEM}"), 0, "chained")
print(device._process.pid, flush=True)
if {how == "idle"}:
    sys.stdin.read()
session.check(Route.parse("faulty how=hangs"))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    ended = gone(worker)
    if not ended:
        os.kill(worker, signal.SIGKILL)
    assert ended


def test_a_worker_that_cannot_start_is_no_routes_fault(plugin):
    device = IsolatedDevice("cpu", CACHE, patience=3.0, modules=["no_such_module_anywhere"])
    with pytest.raises(UnfitError) as raised:
        device.open(PROBLEM, 0, "chained")
    assert raised.value.exit_code == UNFIT
    assert "No module named 'no_such_module_anywhere'" in str(raised.value)
    device.close()
