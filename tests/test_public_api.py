"""The public face of the package: what is in it, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamfn


def test_all_is_sorted_and_complete():
    for name in streamfn.__all__:
        getattr(streamfn, name)  # it is loaded when it is first asked for
    public = {name for name in vars(streamfn) if not name.startswith("_")}
    rooms = {name for name in public if type(vars(streamfn)[name]).__name__ == "module"}

    assert streamfn.__all__ == sorted(streamfn.__all__)
    assert set(streamfn.__all__) - {"__version__"} == public - rooms


def test_the_names_of_the_product_are_there():
    """`PRODUCT` names that users write; removing one is a major release."""
    assert {"App", "Backoff", "Batch", "Context", "Log", "Record", "Reject"} <= set(
        streamfn.__all__
    )


def test_every_public_name_has_a_docstring():
    named = {name: getattr(streamfn, name) for name in streamfn.__all__}

    assert [name for name, value in named.items() if not value.__doc__] == []


def loaded_by(statement):
    """Top-level modules that a fresh interpreter has after the statement."""
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    return {name.partition(".")[0] for name in listed.split()}


def test_importing_the_package_is_light():
    """A function's process must not pay for the command line."""
    heavy = {"click", "rich", "orjson", "msgspec", "zstandard", "asyncio", "multiprocessing"}

    assert loaded_by("from streamfn import *") & heavy == set()


def test_the_command_line_loads_the_terminal_only_when_it_writes_to_one():
    heavy = {"rich", "orjson", "zstandard", "asyncio", "multiprocessing"}
    commands = "put, tail, stream, fn, dlq, worker, demo"

    assert loaded_by("import streamfn.cli.main") & heavy == set()
    assert loaded_by(f"from streamfn.cli import {commands}") & heavy == set()


def test_elsewhere_importing_says_so_plainly():
    code = "import sys; sys.platform = 'darwin'; import streamfn"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert said.splitlines()[-1] == (
        "ImportError: streamfn runs on Linux so far, and this is darwin"
    )


def names_for_type_checkers():
    """Module and names of each import that only a type checker runs."""
    tree = ast.parse(Path(streamfn.__file__).read_text("utf-8"))
    guarded = next(
        node.body
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {node.module: tuple(alias.name for alias in node.names) for node in guarded}


def test_type_checkers_see_the_names_that_are_loaded_on_demand():
    homes = streamfn._HOMES

    assert names_for_type_checkers() == homes
    assert sorted(name for names in homes.values() for name in names) == sorted(streamfn.__all__)


@pytest.mark.parametrize("room", streamfn._ROOMS)
def test_a_module_is_there_after_the_import_of_the_package(room):
    """In a fresh interpreter: here something else may have imported it before."""
    code = (
        f"import streamfn; assert {room!r} in dir(streamfn)\n"
        f"assert streamfn.{room}.__name__ == 'streamfn.{room}'"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'streamfn' has no attribute 'Batches'"):
        _ = streamfn.Batches


def test_the_version_is_told_without_the_engine():
    code = (
        "import sys; from streamfn.cli.main import run; run(['--version'])\n"
        "print(*[name for name in sys.modules if name.startswith('streamfn.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    version, modules = done.stdout.splitlines()
    assert version == f"streamfn {streamfn.__version__}"
    assert {name.split(".")[1] for name in modules.split()} == {"_core", "cli", "errors"}
