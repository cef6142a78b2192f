"""A small run of what `make chaos` does at length: every kind of event, and no violation."""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parent


@pytest.mark.slow
def test_nothing_is_violated_while_processes_are_killed_and_stopped(tmp_path):
    """About twenty kills; the seed is fixed, the moments are not."""
    command = [sys.executable, CHAOS, "--kills", "20", "--pause", "0.2", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations               0" in done.stdout
