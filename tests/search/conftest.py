import broken
import mlx.core as mx
import optuna
import pytest

from autotune import kernels
from autotune.search import space
from search.lab import in_memory


@pytest.fixture
def lab():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return in_memory()


@pytest.fixture
def ours(monkeypatch):
    """Registers a kernel that is right or wrong as its config says, with its space."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    monkeypatch.setitem(kernels.KERNELS, "ours", broken.Ours())
    how = {"values": list(broken.HOW)}
    spaces = {**space.spaces(), "ours": {"how": how, "size": {"values": [1, 2, 4]}}}
    monkeypatch.setattr(space, "spaces", lambda: spaces)
    yield how
    mx.set_default_device(before)
