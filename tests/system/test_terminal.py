"""What `streamfn worker` shows on a terminal of 80 and of 200 columns, driven by tmux."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
from rich.cells import cell_len

APP = """
import os, time
from datetime import timedelta
from pathlib import Path
from streamfn import App, Backoff

app = App("shop")
QUICK = Backoff(base=timedelta(milliseconds=100), cap=timedelta(milliseconds=200))


@app.stream("orders", batch_size=1, max_retries=-1, backoff=QUICK)
def total(batch):
    print("processing", batch[0].data.decode(), "with a remark that is so long that it does "
          "not fit into a terminal of 80 columns, and that a terminal of 200 columns has to fold "
          "as well, because it goes on and on")
    if Path("broken").exists():
        raise ConnectionError("refused by a far away host with a rather long name.example.org:5432")
    if batch[0].data == b"last":
        time.sleep(2)
"""


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, folder, columns):
        self.columns = columns
        # WHY its own folder: the path of a socket has at most 107 bytes.
        self._socket = tempfile.TemporaryDirectory()
        self._tmux = ["tmux", "-S", f"{self._socket.name}/tmux", "-f", "/dev/null"]
        self._folder = folder

    def start(self, *command):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
        environment.pop("COLUMNS", None)  # it would count for more than the terminal's width
        shell = " ".join(map(shlex.quote, map(str, command)))
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", str(self.columns), "-y", "200", "-c",
             self._folder, f"{shell}; echo ended with $?; sleep 600"],
            env=environment | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
            check=True,
        )  # fmt: skip

    def screen(self):
        """The lines on the screen; those that the terminal folded are joined."""
        captured = subprocess.run([*self._tmux, "capture-pane", "-pJ"], capture_output=True,
                                  text=True, check=True)  # fmt: skip
        return captured.stdout.rstrip().splitlines()

    def await_line(self, pattern):
        """Wait for a line, and return the screen."""
        for _ in range(600):
            screen = self.screen()
            if any(re.search(pattern, line) for line in screen):
                return screen
            time.sleep(0.1)
        raise AssertionError("\n".join([f"no {pattern}", *screen]))

    def press(self, key):
        subprocess.run([*self._tmux, "send-keys", key], check=True)

    def close(self):
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)
        self._socket.cleanup()


@pytest.fixture(params=[80, 200])
def terminal(request, tmp_path):
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed (Debian: apt install tmux)")
    terminal = Terminal(tmp_path, request.param)
    yield terminal
    terminal.close()


def test_a_worker_shows_its_work_a_failure_the_recovery_and_the_drain(terminal, log, tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    orders = log.create_stream("orders")
    terminal.start(sys.executable, "-m", "streamfn", "worker", "shop.py", "--log-dir", log.path)
    terminal.await_line(r"INFO  worker started")
    orders.put(b"first")
    terminal.await_line(r"INFO  shop\.total orders/0 #0 processing first")

    (tmp_path / "broken").touch()
    orders.put(b"second")
    terminal.await_line(r"WARN  shop\.total orders/0 #1 1 record failed, attempt 1: ")
    terminal.await_line(r"WARN  shop\.total is failing: ConnectionError: ")
    (tmp_path / "broken").unlink()
    terminal.await_line(r"INFO  shop\.total is (running|idle)")

    orders.put(b"last")
    terminal.await_line(r"#2 processing last")
    terminal.press("C-c")
    terminal.await_line(r"INFO  finishing 1 call in flight")
    screen = terminal.await_line(r"ended with 0")

    assert any("shop.total 3 records in" in line for line in screen)
    lines = [line for line in screen if line and not line.startswith("ended") and line != "^C"]
    clock = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO |WARN |ERROR) ")
    printed = [line for line in lines if "#" in line and "processing" in line]
    assert all(line.rstrip().endswith("because it goes on and on") for line in printed)
    own = [line for line in lines if re.search(" INFO ", line) and line not in printed]
    assert all(cell_len(line) <= terminal.columns for line in own), "the terminal folded it"
    others = [line.rstrip() for line in lines if not clock.match(line)]
    assert others[0] == "Traceback (most recent call last):"
    assert others[-1].endswith("name.example.org:5432"), "the rest is the traceback"
    assert len([line for line in others if line.startswith("Traceback")]) == 1
    failed = [line for line in lines if "record failed" in line]
    assert len(failed) == 1, "a failure that comes again is counted"
