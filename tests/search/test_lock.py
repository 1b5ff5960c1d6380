import errno
import fcntl
import os
import subprocess
import sys

import pytest

from autotune.errors import FAILED, AutotuneError
from autotune.search import lock
from autotune.search.lock import exclusive

HOLD = """
import sys
from autotune.search.lock import exclusive
with exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""


def refused():
    """What is said where the lock cannot be had."""
    with pytest.raises(AutotuneError) as raised, exclusive():
        pass
    assert raised.value.exit_code == FAILED
    return str(raised.value)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until it is killed, with a data folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "AUTOTUNE_DATA": str(tmp_path / "another")},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_is_this_users_and_says_who_holds_it(tmp_path):
    assert lock.path() == tmp_path / f"autotune-{os.getuid()}.lock"
    with exclusive():
        assert lock.path().read_text() == str(os.getpid())
        assert lock.path().stat().st_mode & 0o777 == 0o600


def test_one_at_a_time():
    with exclusive():
        assert refused() == (
            f"another autotune of yours measures on this machine (process {os.getpid()}): "
            "wait for it or end it; what a sweep has measured is kept"
        )


def test_another_data_folder_is_no_way_around(monkeypatch, tmp_path):
    with exclusive():
        monkeypatch.setenv("AUTOTUNE_DATA", str(tmp_path / "another"))
        assert str(os.getpid()) in refused()


def test_is_let_go_of_afterwards():
    for _ in range(3):
        with exclusive():
            pass


def test_is_let_go_of_after_an_error():
    with pytest.raises(KeyError), exclusive():
        raise KeyError
    with exclusive():
        pass


def test_a_refused_one_leaves_the_holder_in_place():
    with exclusive():
        for _ in range(2):
            assert str(os.getpid()) in refused()


@pytest.mark.slow
def test_another_process_is_named(holder):
    assert f"(process {holder.pid})" in refused()


@pytest.mark.slow
def test_a_killed_process_holds_nothing(holder):
    holder.kill()
    holder.wait()
    with exclusive():
        assert lock.path().read_text() == str(os.getpid())


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(lock, "gettempdir", lambda: str(tmp_path / "none"))
    assert refused() == (
        f"cannot lock {lock.path()} (No such file or directory): remove it, or name a folder of yours in TMPDIR"
    )


def test_a_folder_in_the_locks_place():
    lock.path().mkdir()
    assert "(Is a directory)" in refused()


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_in_the_locks_place_costs_no_file(tmp_path, make):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    make(precious, lock.path())
    assert refused().startswith(f"cannot lock {lock.path()} (")
    assert precious.read_text() == "kept"


def test_a_pipe_in_the_locks_place():
    os.mkfifo(lock.path())
    assert "(no file of yours alone)" in refused()


def test_another_users_file_in_the_locks_place(monkeypatch):
    name, user = lock.path(), os.getuid()
    name.write_text("")
    monkeypatch.setattr(lock, "path", lambda: name)
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert "(no file of yours alone)" in refused()


def test_a_file_system_without_locks_is_no_other_process(monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert "(No locks available)" in refused()
