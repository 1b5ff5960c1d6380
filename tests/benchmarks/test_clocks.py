"""``benchmarks/clocks.py``: on a CPU it has nothing to compare, and says so at once."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "clocks.py"

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the tests lie outside a checkout")


def test_plain_times_alone():
    command = [sys.executable, str(PROGRAM), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "here times are plain, and there is no other clock to compare them with\n"
