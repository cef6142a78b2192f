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


def python_imports(path: Path) -> set[str]:
    """Rooms of streamfn that the file imports, wherever in it the import stands."""
    rooms = set()
    package = ("streamfn", *path.relative_to(PYTHON).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from streamfn import log` names its room on the right.
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {parts[1] for m in modules if (parts := m.split("."))[0] == "streamfn"}
    return rooms


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
    """The test above is only as good as what it can see."""

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
