import threading
import time

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from autotune.search import portfolio, threads
from autotune.search.points import enumerate_points
from autotune.search.portfolio import FIRST, Portfolio

BLAS = ThreadpoolController().select(user_api="blas")


def counts():
    return [library["num_threads"] for library in BLAS.info()]


@pytest.fixture(autouse=True)
def three():
    """Three BLAS threads, whatever the machine has."""
    if not BLAS.info():
        pytest.skip("this numpy's BLAS has no limit")
    with threadpool_limits(3, user_api="blas"):
        yield


def test_one_thread_inside_and_what_was_there_before_afterwards():
    with threads.single():
        assert set(counts()) == {1}
    assert set(counts()) == {3}


def test_an_error_restores_as_well():
    with pytest.raises(ValueError, match="made up"), threads.single():
        raise ValueError("made up")
    assert set(counts()) == {3}


def test_blocks_may_be_nested():
    with threads.single(), threads.single():
        assert set(counts()) == {1}
    assert set(counts()) == {3}


def test_blocks_of_several_threads_do_not_overlap_and_leave_nothing():
    inside, most = [], []

    def hold():
        for _ in range(20):
            with threads.single():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    others = [threading.Thread(target=hold) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert len(most) == 60
    assert max(most) == 1
    assert set(counts()) == {3}


def test_a_proposal_computes_with_one_thread_and_leaves_the_rest(monkeypatch):
    seen = []
    fit = portfolio.ranking.fit
    monkeypatch.setattr(portfolio.ranking, "fit", lambda *given: (seen.append(counts()), fit(*given))[1])
    points = enumerate_points({"a": [1, 2, 4, 8], "b": [1, 2, 4, 8]})
    found = Portfolio(points)
    for cost in np.linspace(1, 2, FIRST + 1):
        found.tell(found.propose(), float(cost))
        assert set(counts()) == {3}
    assert seen
    assert all(set(each) == {1} for each in seen)
