"""What tests of the command line share."""

from dataclasses import dataclass

import orjson
import pytest
from click.testing import CliRunner

from streamfn.cli.console import CommandOutput, output
from streamfn.cli.exits import exit_code, one_line
from streamfn.cli.main import streamfn


@dataclass
class Ended:
    """How a command ended: its exit code, its data, and what it said besides."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def json(self):
        """The one JSON document on stdout."""
        return orjson.loads(self.stdout)

    @property
    def objects(self):
        """The JSON objects on stdout, one a line."""
        return [orjson.loads(line) for line in self.stdout.splitlines()]


@pytest.fixture
def run(log_dir):
    """Runs a command on the log in this process: `run("put", "clicks", input=b"{}")`."""

    def run(*args, input=b""):
        for field in ("quiet", "verbose", "no_color"):
            setattr(output, field, getattr(CommandOutput(), field))
        arguments = [*map(str, args), "--log-dir", str(log_dir)]
        ended = CliRunner().invoke(streamfn, arguments, input=input, standalone_mode=False)
        if ended.exception is None:
            return Ended(ended.return_value or 0, ended.stdout_bytes, ended.stderr)
        code, said = exit_code(ended.exception), one_line(ended.exception)
        return Ended(code, ended.stdout_bytes, f"{ended.stderr}{said}\n")

    return run
