"""Files of the user's with the names of modules that we need."""

import pytest

APP = """
import sys
from streamfn import App
app = App("shop")

@app.stream("orders", input="record")
{kind}def handle(record):
    with open("calls", "a") as file:
        file.write(record.text() + "\\n")
"""
NAMES = (
    "queue random selectors signal socket json typing statistics orjson click asyncio ssl tokenize"
    " contextvars dataclasses"
)
SHADOW = "raise RuntimeError('this is the file of the user')\n"


def run(workers, log, target, kind=""):
    log.create_stream("orders", exist_ok=True).put(b"a")
    worker = workers.start(target, "--burst")
    assert worker.wait(300) == 0, workers.errors_of(worker)
    assert (workers.folder / "calls").read_text() == "a\n"


@pytest.mark.parametrize("kind", ["", "async "])
def test_files_in_the_working_directory_do_not_get_in_our_way(workers, log, tmp_path, kind):
    """One of each name that we, or what we import, could ask for."""
    (tmp_path / "shop.py").write_text(APP.format(kind=kind))
    for name in NAMES.split():
        (tmp_path / f"{name}.py").write_text(SHADOW)

    run(workers, log, "shop")


@pytest.mark.parametrize("name", ["json", "signal", "queue", "calendar", "streamfn"])
def test_an_app_may_have_the_name_of_a_module(workers, log, tmp_path, name):
    folder = tmp_path / "apps"
    folder.mkdir()
    (folder / f"{name}.py").write_text(APP.format(kind="async "))

    run(workers, log, f"apps/{name}")


def test_folders_of_pythonpath_come_later_too(workers, log, tmp_path):
    (tmp_path / "shop.py").write_text(APP.format(kind=""))
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "random.py").write_text(SHADOW)
    (folder / "helpers.py").write_text("X = 1\n")
    path = workers.environment.get("PYTHONPATH")
    workers.environment["PYTHONPATH"] = f"{folder}:{path}" if path else str(folder)

    run(workers, log, "shop")


def test_modules_of_the_user_beside_the_app_are_found(workers, log, tmp_path):
    """Also one whose name is in the standard library, if nothing of ours needs that one."""
    app = "import secrets\nassert secrets.KEY == 1\nfrom helpers import X\n" + APP.format(kind="")
    (tmp_path / "shop.py").write_text(app)
    (tmp_path / "secrets.py").write_text("KEY = 1\n")
    (tmp_path / "helpers.py").write_text("X = 1\n")

    run(workers, log, "shop")


def test_a_runner_that_breaks_when_it_is_ready_ends_the_worker(workers, log, tmp_path):
    """It never takes a lane: the worker says so and ends, and does not start runners for ever."""
    app = """
import threading
def broken(self):
    raise RuntimeError("no threads here")
threading.Thread.start = broken
"""
    (tmp_path / "shop.py").write_text(app + APP.format(kind=""))
    log.create_stream("orders").put(b"a")

    worker = workers.start("shop", "--burst")

    assert worker.wait(300) == 3
    assert "no threads here" in workers.errors_of(worker)
