"""The stub of the extension says what the extension has."""

import subprocess
import sys


def test_the_stub_and_the_extension_agree():
    """Names, signatures and kinds are the same (mypy's stubtest compares them)."""
    command = [sys.executable, "-m", "mypy.stubtest", "streamfn._core"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == finished.returncode, finished.stdout
