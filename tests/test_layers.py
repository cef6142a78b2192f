"""Each room imports only from the floors below it (ARCHITECTURE.md, "Rooms").

Rooms of one floor do not know each other. The Python side is read with `ast`, the Rust side with a
regular expression; imports inside functions and `crate::{a, b}` count too.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / "python" / "streamfn"
RUST = ROOT / "rust" / "core" / "src"

PYTHON_FLOORS = [
    {"errors", "units", "clock", "stdio", "texts", "error_text"},
    {"_core"},
    {"model"},
    {"log", "app"},
    {"engine", "aio"},
    {"worker"},
    {"demo", "testing", "bench"},
    {"cli"},
]
"""From the ground up. `__init__` and `__main__` are doors, not rooms: they may import anything."""

WORKER_ROOMS = {
    "shared": set(),
    "supervisor": {"shared"},
    "child": {"shared"},
    "runner": {"shared", "child"},
}
"""Rooms of `worker`, and what each may import of the others: `shared` are the files in the folder
itself. A supervisor and its runners are different processes and do not know each other."""

RUST_FLOORS = [
    {"error", "types", "clock", "fs", "sync", "sys"},
    {"format", "control", "memory", "memory_fs"},
    {"log"},
    {"stream"},
    {"checkpoint", "filter"},
    {"lane", "fsck"},
]
"""From the ground up."""

PURE = {
    "format": {"fs", "clock"},
    "filter": {"fs", "clock", "sync", "sys", "control", "memory", "log", "stream"},
}
"""Rooms below that are out of bounds all the same: `format` turns bytes into structures only, and
`filter` judges them."""


def python_modules(path: Path) -> set[str]:
    """Names after `import` in the file, wherever the import stands, and what it takes of them."""
    found = set()
    package = ("streamfn", *path.relative_to(PYTHON).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from streamfn import log` names its room on the right.
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def python_imports(path: Path) -> set[str]:
    """Rooms of streamfn that the file imports."""
    parts = (module.split(".") for module in python_modules(path))
    return {each[1] for each in parts if each[0] == "streamfn" and len(each) > 1}


def worker_imports(path: Path) -> set[str]:
    """Rooms of `worker` that the file imports."""
    parts = (module.split(".") for module in python_modules(path))
    names = {each[2] for each in parts if each[:2] == ["streamfn", "worker"] and len(each) > 2}
    return {name if name in WORKER_ROOMS else "shared" for name in names}


def worker_room(path: Path) -> str:
    """The room of `worker` that the file lies in."""
    first = path.relative_to(PYTHON / "worker").parts[0]
    return first if first in WORKER_ROOMS else "shared"


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of names that lead to one another, each sorted."""
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in list(reach):
        for name, targets in reach.items():
            if middle in targets:
                reach[name] = targets | reach[middle]
    circles = {
        frozenset({name} | {other for other in reach[name] if name in reach.get(other, ())})
        for name in reach
        if name in reach[name]
    }
    return sorted(sorted(circle) for circle in circles)


def rust_imports(source: str) -> set[str]:
    """Rooms of the crate that the text names as `crate::room` or in `crate::{room, …}`."""
    source = re.sub(r"//[^\n]*", "", source)
    rooms = set(re.findall(r"\bcrate::(\w+)", source))
    for group in re.finditer(r"\bcrate::\{", source):
        depth, names = 1, ""
        for letter in source[group.end() :]:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if depth == 0:
                break
            names += letter if depth == 1 else ""
        rooms |= set(re.findall(r"(?:^|,)\s*(\w+)", names))
    return rooms


def rooms_of(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """Files of each room; a room is a file or a folder."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        if path.name == "tests.rs":
            continue  # a room's own tests set it up from above, as its users do
        rooms.setdefault(path.relative_to(folder).parts[0].removesuffix(suffix), []).append(path)
    return rooms


def allowed(room: str, floors: list[set[str]]) -> set[str]:
    """What the room may import: itself and all floors below, without what is out of bounds."""
    floor = next(i for i, rooms in enumerate(floors) if room in rooms)
    below = set().union(*floors[:floor]) if floor else set(floors[0])
    return ({room} | below) - PURE.get(room, set())


PYTHON_ROOMS = rooms_of(PYTHON, ".py")
RUST_ROOMS = rooms_of(RUST, ".rs")


def test_every_python_room_has_a_floor():
    """A new room is entered in the table above, and in ARCHITECTURE.md."""
    assert set(PYTHON_ROOMS) - {"__init__", "__main__"} <= set().union(*PYTHON_FLOORS)


def test_every_rust_room_has_a_floor():
    """A new room is entered in the table above, and in ARCHITECTURE.md."""
    assert set(RUST_ROOMS) - {"lib"} <= set().union(*RUST_FLOORS)


@pytest.mark.parametrize("room", sorted(set(PYTHON_ROOMS) - {"__init__", "__main__"}))
def test_a_python_room_imports_only_from_below(room):
    imported = {path.name: python_imports(path) for path in PYTHON_ROOMS[room]}

    known = set().union(*PYTHON_FLOORS)
    wrong = {
        name: bad
        for name, rooms in imported.items()
        if (bad := (rooms & known) - allowed(room, PYTHON_FLOORS))
    }
    assert wrong == {}


@pytest.mark.parametrize("room", WORKER_ROOMS)
def test_a_room_of_the_worker_imports_only_what_it_may(room):
    """So no file of the supervisor can load what runs user code, nor the other way round."""
    files = [path for path in PYTHON_ROOMS["worker"] if worker_room(path) == room]

    imported = {path.name: worker_imports(path) for path in files}
    wrong = {
        name: bad
        for name, rooms in imported.items()
        if (bad := rooms - WORKER_ROOMS[room] - {room})
    }
    assert files
    assert wrong == {}


def test_no_python_file_is_imported_by_what_it_imports():
    """An import inside a function counts too: it hides a circle, and does not break it."""
    modules = {
        ".".join(("streamfn", *path.relative_to(PYTHON).with_suffix("").parts)): path
        for path in PYTHON.rglob("*.py")
    }
    graph = {
        name: (python_modules(path) & modules.keys()) - {name} for name, path in modules.items()
    }

    assert cycles(graph) == []


@pytest.mark.parametrize("room", sorted(set(RUST_ROOMS) - {"lib"}))
def test_a_rust_room_imports_only_from_below(room):
    known = set().union(*RUST_FLOORS)
    wrong = {
        path.name: bad
        for path in RUST_ROOMS[room]
        if (bad := (rust_imports(path.read_text()) & known) - allowed(room, RUST_FLOORS))
    }
    assert wrong == {}


class TestTheReading:
    """The tests above are only as good as what they can see."""

    def test_a_circle_is_found_however_long_it_is(self):
        graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}

        assert cycles(graph) == [["a", "b", "c"], ["e"]]
        assert cycles({"a": {"b"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []

    def test_the_rooms_of_the_worker_are_told_apart(self, tmp_path, monkeypatch):
        monkeypatch.setitem(globals(), "PYTHON", tmp_path)
        path = tmp_path / "worker" / "supervisor" / "loop.py"
        path.parent.mkdir(parents=True)
        path.write_text(
            "from streamfn.worker.runner.lane_job import LaneJob\n"
            "from ..child import process\nfrom streamfn.worker import messages\n"
        )

        assert worker_room(path) == "supervisor"
        assert worker_imports(path) == {"runner", "child", "shared"}

    @pytest.mark.parametrize(
        "line",
        [
            "import streamfn.worker",
            "import streamfn.worker.runner as r",
            "from streamfn import worker",
            "from streamfn.worker import runner",
            "from streamfn.worker.runner import Runner",
            "from .. import worker",
            "from ..worker import runner",
            "def f():\n    from ..worker.runner import Runner",
        ],
    )
    def test_an_import_is_seen_in_every_spelling(self, line, tmp_path, monkeypatch):
        monkeypatch.setitem(globals(), "PYTHON", tmp_path)
        path = tmp_path / "model" / "record.py"
        path.parent.mkdir()
        path.write_text(line)

        assert "worker" in python_imports(path)

    @pytest.mark.parametrize(
        "text",
        [
            "use crate::lane::LaneSet;",
            "use crate::{lane, types::Micros};",
            "use crate::{types::{Micros, ShardId}, lane::LaneSet};",
            "let x = crate::lane::open();",
            "pub(crate) use crate::{\n    types,\n    lane,\n};",
        ],
    )
    def test_a_use_is_seen_in_every_spelling(self, text):
        assert "lane" in rust_imports(text)

    def test_a_name_inside_a_room_is_not_a_room(self):
        """`crate::types::{lane}` imports from `types`."""
        assert rust_imports("use crate::types::{lane, fs};") == {"types"}

    def test_a_comment_is_not_an_import(self):
        assert rust_imports("//! See [`crate::lane`].\nuse crate::types;") == {"types"}
