"""Commands that are started with some of the descriptors 0, 1 and 2 closed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamfn import Log, _core
from streamfn.engine.deadletter import DeadLetters

CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}

APP = """
import os
import subprocess
import sys
from pathlib import Path

from streamfn import App

app = App("shop")

@app.stream("s", input="record", max_retries=0)
def fn(record):
    print("from the function")
    print("from the function", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo from its child; echo from its child >&2"], check=True)
    if record.data == b"2":
        raise ValueError("no")
    with Path("seen").open("ab") as seen:
        seen.write(record.data)
"""


def start(folder, command, closed=""):
    """Start a command as a shell does."""
    words = f'exec "{sys.executable}" -m streamfn {command} {closed}'
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(["sh", "-c", words], cwd=folder, env=environment, **pipes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an app, a log, a dead letter, and a record that was not processed yet."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "app.py").write_text(APP)
    (folder / "input.ndjson").write_text("4\n5\n")
    for command, text in (("put s", b"1\n2\n"), ("worker app.py --burst", b""), ("put s", b"3\n")):
        start(folder, command).communicate(text, timeout=60)
    return folder


@pytest.fixture
def run_closed(folder, tmp_path):
    """Runs a command in a copy of the folder; returns that, its exit code and what it said."""

    def run_closed(command, name):
        place = tmp_path / "copy"
        shutil.copytree(folder, place)
        process = start(place, command, CLOSED[name])
        out, err = process.communicate(timeout=240)
        assert _core.fsck(str(place / ".streamfn")).findings == []
        return place, process.returncode, (out + err).decode()

    return run_closed


def contents(place, stream):
    with Log.open(place / ".streamfn", create=False) as log:
        return [record.data for batch in log.stream(stream).read() for record in batch]


@pytest.mark.parametrize("name", CLOSED)
class TestEachOfThem:
    """A closed one is empty, or takes what is written to it in silence."""

    def test_a_worker_calls_its_functions(self, name, run_closed):
        place, code, said = run_closed("worker app.py --burst", name)

        assert (code, "Traceback" in said) == (0, False)
        assert (place / "seen").read_bytes() == b"13"
        assert ("worker stopped" in said) is (name not in {"stderr", "all"})
        assert ("from the function" in said) is (name not in {"stderr", "all"})
        with Log.open(place / ".streamfn", create=False) as log:
            assert [letter.data for letter in DeadLetters(log, "shop.fn").entries()] == [b"2"]

    def test_put_puts_what_a_file_has(self, name, run_closed):
        place, code, said = run_closed("put new input.ndjson", name)

        assert code == 0
        assert contents(place, "new") == [b"4", b"5"]
        assert ("put 2 records" in said) is (name not in {"stderr", "all"})

    def test_tail_prints_to_whoever_is_there(self, name, run_closed):
        _, code, said = run_closed("tail s -e", name)

        assert code == 0
        assert said == ("" if name in {"stdout", "all"} else "1\n2\n3\n")


def test_put_from_a_closed_standard_input_puts_nothing(run_closed):
    place, code, said = run_closed("put s", "stdin")

    assert (code, said) == (0, "put 0 records into `s`\n")
    assert contents(place, "s") == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("replay s --fn fn --dry-run --json", 0),
        ("dlq show fn", 0),
        ("dlq drop fn", 2),
        ("stream ls", 0),
        ("fsck", 0),
        ("tail none", 1),
        ("--help", 0),
        ("nonsense", 2),
    ],
)
def test_every_command_ends_as_with_them(command, code, run_closed):
    assert run_closed(command, "all")[1:] == (code, "")


def test_they_are_open_before_anything_else_is_imported():
    """Whatever a module opens as it is imported must not get one of these numbers."""
    code = "import streamfn.__main__, streamfn.stdio, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {name for name in loaded if name.startswith("streamfn")} == {
        "streamfn", "streamfn.__main__", "streamfn.stdio",
        "streamfn.worker", "streamfn.worker.child", "streamfn.worker.child.start_child",
    }  # fmt: skip
    assert "click" not in loaded
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'streamfn = "streamfn.__main__:main"' in pyproject
