"""What tests of the testing room share."""

import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def pytester_like(tmp_path):
    """Runs pytest on a file of its own, as a user's project would."""

    def run(source):
        (tmp_path / "test_users.py").write_text(textwrap.dedent(source))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_users.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
