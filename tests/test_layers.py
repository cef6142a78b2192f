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
    {"log"},
    {"telemetry"},
    {"engine"},
    {"health"},
    {"invocation"},
    {"app"},
    {"worker", "aio"},
    {"demo", "testing", "bench"},
    {"cli"},
]
"""From the ground up. `__init__` and `__main__` are doors, not rooms: they may import anything."""

WORKER_ROOMS = {
    "shared": set(),
    "supervisor": {"shared"},
    "child": {"shared"},
    "runner": {"shared", "child"},
    "function_runner": {"shared", "child"},
    "front": set(),
}
"""Rooms of `worker`, and what each may import of the others: `shared` are the files in the folder
itself. A supervisor and its runners are different processes and do not know each other."""

RUST_FLOORS = [
    {"error", "types", "clock", "fs", "sync", "sys"},
    {"format", "control", "memory", "memory_fs"},
    {"log"},
    {"stream"},
    {"counts"},
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


# Sibling files of a Rust room: none needs one that needs it.


def rust_code(path: Path) -> str:
    """The text of a file without comments, and without the tests at its end."""
    source = re.sub(r"//[^\n]*", "", path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", source)[0]


def rust_paths(source: str) -> set[tuple[str, ...]]:
    """Every path that begins with `crate`, `super` or `self`; each name of a group is one."""
    paths: set[tuple[str, ...]] = set()

    def read(at: int, path: tuple[str, ...]) -> int:
        """Add what is named from `at` on, below `path`; return the place behind it."""
        while name := re.compile(r"\s*(\w+)").match(source, at):
            path, at = (*path, name[1]), name.end()
            step = re.compile(r"\s*::\s*").match(source, at)
            if step is None:
                break
            at = step.end()
            if source[at] == "{":
                while source[at] != "}":
                    at = read(at + 1, path)
                    at = re.compile(r"[^,}]*").match(source, at).end()
                return at + 1
        paths.add(path)
        return at

    for start in re.finditer(r"(?<![\w:])(?:crate|super|self)\s*::", source):
        read(start.start(), ())
    return paths


def rust_shown(source: str) -> dict[str, str]:
    """Names that a `mod.rs` takes from its files with `use`, and the file of each."""
    shown = {}
    for use in re.finditer(r"\buse\s+(?:self::)?(\w+)::([^;]+);", source):
        for name in re.finditer(r"(\w+)(?:\s+as\s+(\w+))?", use[2]):
            shown[name[2] or name[1]] = use[1]
    return shown


def rust_absolute(path: tuple[str, ...], module: tuple[str, ...]) -> tuple[str, ...]:
    """The path from the root of the crate on, as `module` means it."""
    if path[0] == "crate":
        return path[1:]
    while path and path[0] in ("self", "super"):
        module = module[: len(module) - (path[0] == "super")]
        path = path[1:]
    return (*module, *path)


def rust_siblings(folder: Path) -> dict[str, list[Path]]:
    """The modules of a folder, each with its files: `x.rs`, and all that is in `x/`."""
    siblings: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.rs")):
        name = path.relative_to(folder).parts[0].removesuffix(".rs")
        if path.name != "tests.rs" and name not in ("mod", "lib"):
            siblings.setdefault(name, []).append(path)
    return siblings


def sibling_imports(folder: Path, root: Path) -> dict[str, set[str]]:
    """Which of its siblings each module of a folder needs: by its path, or as the room shows it."""
    room = folder.relative_to(root).parts
    doors = [folder / "mod.rs", folder / "lib.rs", folder.with_suffix(".rs")]
    shown = {}
    for door in filter(Path.exists, doors):
        shown = rust_shown(rust_code(door))
    siblings = rust_siblings(folder)
    needs = {}
    for name, files in siblings.items():
        found = set()
        for file in files:
            parts = file.relative_to(root).with_suffix("").parts
            module = parts[:-1] if parts[-1] == "mod" else parts
            for path in rust_paths(rust_code(file)):
                whole = rust_absolute(path, module)
                if whole[: len(room)] == room and len(whole) > len(room):
                    found |= {whole[len(room)], shown.get(whole[len(room)])}
        needs[name] = (found & set(siblings)) - {name}
    return needs


def cycle_in(needs: dict[str, set[str]]) -> list[str]:
    """Names of which each needs the next, and the last the first; none if there is no cycle."""
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name not in done:
            for needed in sorted(needs.get(name, ())):
                if found := follow(needed, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(needs) if (found := follow(name, []))), [])


RUST_FOLDERS = sorted({path.parent for path in RUST.rglob("*.rs")})


@pytest.mark.parametrize("folder", RUST_FOLDERS, ids=lambda folder: str(folder.relative_to(RUST)))
def test_sibling_files_of_a_rust_room_need_each_other_one_way_only(folder):
    """What two of them need is in a third. A `mod.rs`, and tests, may need all of a room."""
    assert cycle_in(sibling_imports(folder, RUST)) == []


class TestTheReadingOfSiblings:
    """The test above is only as good as what it can see."""

    @pytest.fixture
    def needs(self, tmp_path):
        """Read a room with the files `a`, whose text is given, `b`, and the folder `c`."""

        def needs(text: str, file: str = "a.rs") -> set[str]:
            room = tmp_path / "room"
            (room / "a").mkdir(parents=True)
            (room / "c").mkdir()
            (room / "mod.rs").write_text("mod a;\nmod b;\npub use b::{First, Second as Other};")
            (room / "c" / "mod.rs").write_text("")
            for name in {"a.rs", "b.rs", file}:
                (room / name).write_text(text if name == file else "")
            return sibling_imports(room, tmp_path)["a"]

        return needs

    @pytest.mark.parametrize(
        "text",
        [
            "use super::b::Thing;",
            "use super::b;",
            "use super::{b, other::Thing};",
            "use super::{other::{x, y}, b::{Thing, self}};",
            "use crate::room::b::Thing;",
            "use crate::room::{other, b};",
            "use crate::{types::{Micros, ShardId}, room::b::Thing};",
            "pub(crate) use crate::{\n    types,\n    room::{\n        b,\n    },\n};",
            "fn f() { let x = super::b::open(); }",
            "use super::First;",
            "use super::{other, Other};",
            "use self::super::b::Thing;",
        ],
    )
    def test_a_use_is_seen_in_every_spelling(self, needs, text):
        assert needs(text) == {"b"}

    def test_a_folder_is_a_sibling(self, needs):
        assert needs("use super::c::Thing;") == {"c"}

    @pytest.mark.parametrize("text", ["use super::super::b;", "use crate::room::b::Thing;"])
    def test_a_file_in_a_folder_speaks_for_it(self, needs, text):
        """`a/inner.rs` belongs to `a`."""
        assert needs(text, "a/inner.rs") == {"b"}

    @pytest.mark.parametrize(
        "text",
        [
            "use super::Unknown;",
            "use self::b::Thing;",
            "use super::super::b::Thing;",
            "use crate::other::b;",
            "use std::b;",
            "//! See [`super::b`].",
            "#[cfg(test)]\nmod tests {\n    use super::super::b::Thing;\n}",
            "use super::a::Thing;",
        ],
    )
    def test_what_is_no_use_of_a_sibling_is_none(self, needs, text):
        assert needs(text) == set()

    def test_a_cycle_is_found_however_long_it_is(self):
        needs = {"a": {"b"}, "b": {"c"}, "c": {"d", "e"}, "d": set(), "e": {"b"}}

        assert cycle_in(needs) == ["b", "c", "e"]
        assert cycle_in({**needs, "e": {"d"}}) == []
