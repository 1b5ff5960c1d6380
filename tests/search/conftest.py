import optuna
import pytest

from search.lab import in_memory


@pytest.fixture
def lab():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return in_memory()
