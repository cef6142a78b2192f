"""What tests of several rooms share: real files in `tmp_path`; nothing of ours is mocked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # WHY: a shell starts `make test &` with SIGINT ignored, and so would be all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def log_dir(tmp_path):
    """Path of a log directory that is not there yet."""
    return tmp_path / "log"


@pytest.fixture
def log(log_dir):
    """An open, empty log."""
    import streamfn

    with streamfn.Log.open(log_dir) as log:
        yield log


@pytest.fixture
def make_record():
    """Makes a record by hand: `make_record(b"data", "key", sequence_number=7)`."""
    import streamfn

    return streamfn.Record


@pytest.fixture
def run_streamfn(tmp_path):
    """Runs the command line in `tmp_path` and returns what it printed and its exit code.

    `run_streamfn("put", "clicks", "--key", "user", input="…")`; output is text. Environment
    variables of the project are not handed on, so that a test sees the defaults.
    """

    def run(*args: str | Path, timeout: float = 240, **kwargs) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
        environment |= {"NO_COLOR": "1"} | kwargs.pop("env", {})
        kwargs.setdefault("input", "")
        return subprocess.run(
            [sys.executable, "-m", "streamfn", *map(str, args)],
            cwd=kwargs.pop("cwd", tmp_path),
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **kwargs,
        )

    return run
