import os
import subprocess
import sys

import pytest

from autotune.errors import FAILED, AutotuneError
from autotune.search.lock import exclusive

HOLD = """
import sys
from pathlib import Path
from autotune.search.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path`` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_makes_the_folder_and_says_who_holds_it(tmp_path):
    with exclusive(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / "sweep.lock").read_text() == str(os.getpid())


def test_one_at_a_time(tmp_path):
    with exclusive(tmp_path), pytest.raises(AutotuneError) as raised, exclusive(tmp_path):
        pass
    assert f"another sweep is running on this machine (process {os.getpid()})" in str(raised.value)
    assert raised.value.exit_code == FAILED


def test_is_let_go_of_afterwards(tmp_path):
    for _ in range(3):
        with exclusive(tmp_path):
            pass


def test_is_let_go_of_after_an_error(tmp_path):
    with pytest.raises(KeyError), exclusive(tmp_path):
        raise KeyError
    with exclusive(tmp_path):
        pass


def test_folders_do_not_mind_each_other(tmp_path):
    with exclusive(tmp_path / "a"), exclusive(tmp_path / "b"):
        pass


def test_a_refused_one_leaves_the_holder_in_place(tmp_path):
    with exclusive(tmp_path):
        for _ in range(2):
            with pytest.raises(AutotuneError, match=str(os.getpid())), exclusive(tmp_path):
                pass


@pytest.mark.slow
def test_another_process_is_named(holder, tmp_path):
    with pytest.raises(AutotuneError, match=rf"\(process {holder.pid}\)"), exclusive(tmp_path):
        pass


@pytest.mark.slow
def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        assert (tmp_path / "sweep.lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutotuneError) as raised, exclusive(tmp_path / "file" / "below"):
        pass
    assert str(raised.value) == (
        f"cannot write to {tmp_path}/file/below (Not a directory): name a folder of yours in AUTOTUNE_DATA"
    )


def test_a_folder_in_the_locks_place(tmp_path):
    (tmp_path / "sweep.lock").mkdir()
    with pytest.raises(AutotuneError, match=r"cannot write to .* \(Is a directory\)"), exclusive(tmp_path):
        pass
