"""The fingerprint of an app's code: its files and functions as one short text.

The files of an app are the files of all loaded modules below the app's folder or the current
folder. Not among them: the standard library, installed packages, virtual environments and streamfn.
They are read after the app is imported, so a module that a function imports later is not among
them either.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Final

from streamfn.model.function_config import FunctionConfig
from streamfn.model.mapping import EventSourceMapping

VERSION_BYTES: Final = 6
"""Length of a code version: 12 hexadecimal digits."""
NOT_IN_VERSION: Final = {"start"}
"""Fields of a mapping that are not code. WHY `start`: it counts only for a new function, and apps
compute it from the time of the import, so that each process would have another version."""
INSTALLED: Final = {"site-packages", "dist-packages"}


@dataclass(frozen=True, slots=True)
class AppCode:
    """The code of an app as one process imported it."""

    version: str
    """12 hexadecimal digits; equal texts mean the same files and functions."""
    files: Mapping[str, str]
    """Digest of each of the app's files, by absolute path."""


def app_code(
    place: str,
    mappings: Iterable[EventSourceMapping],
    functions: Iterable[FunctionConfig] = (),
) -> AppCode:
    """Return the code of an imported app.

    Args:
        place: The module or file of the APP argument, without the attribute.
        mappings: The app's mappings.
        functions: The app's functions by request.
    """
    files = app_files(place)
    roots = _roots(place)
    described = [
        {name: value for name, value in each.to_dict().items() if name not in NOT_IN_VERSION}
        for each in mappings
    ]
    called = [each.to_dict() for each in functions]
    contents = sorted((_relative(Path(path), roots), digest) for path, digest in files.items())
    text = json.dumps([contents, described, called], sort_keys=True, default=str)
    return AppCode(_digest(text.encode()), files)


def app_files(place: str) -> dict[str, str]:
    """Return the digest of each file of the app that is loaded, by absolute path.

    Args:
        place: The module or file of the APP argument, without the attribute.
    """
    roots, left_out = tuple({_inside(root) for root in _roots(place)}), _left_out()
    return {
        path: digest_of(path)
        for path in _loaded_files()
        if path.startswith(roots)
        if not path.startswith(left_out)
        if any(path.startswith(root) and not _is_installed(path, root) for root in roots)
    }


def digest_of(path: str) -> str:
    """Return the digest of a file's content; "" if the file cannot be read."""
    try:
        return _digest(Path(path).read_bytes())
    except OSError:
        return ""


def _roots(place: str) -> list[Path]:
    """Return the folder of the app and the current folder."""
    here = Path.cwd()
    if place.endswith(".py") or "/" in place:
        return [Path(place).resolve().parent, here]
    path = _file_of(sys.modules.get(place.partition(".")[0]))
    if path is None:
        return [here]
    folder = path.parent.parent if path.stem == "__init__" else path.parent
    # WHY: an app that is installed as a package has other packages beside it.
    return [path.parent if folder.name in INSTALLED else folder, here]


def _left_out() -> tuple[str, ...]:
    """Return the beginnings of the paths of the standard library and of streamfn.

    WHY not from `sysconfig`: it takes milliseconds, and each start of a process waits for this.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sys.base_exec_prefix, sys.platlibdir, version)
    return tuple(map(_inside, (Path(os.__file__).parent, library, Path(__file__).parents[1])))


def _is_installed(path: str, root: str) -> bool:
    """Whether a path below a root is that of an installed package."""
    is_in_environment = _inside(Path(sys.prefix)).startswith(root)
    if is_in_environment and path.startswith(_inside(Path(sys.prefix))):
        return True  # a virtual environment in the app's folder
    return not INSTALLED.isdisjoint(path.removeprefix(root).split("/"))


def _inside(folder: Path) -> str:
    """Return how the paths of all that is in a folder begin."""
    return os.path.join(folder, "")  # noqa: PTH118 -- `Path` drops the slash


def _loaded_files() -> set[str]:
    files = (_file_of(module) for module in list(sys.modules.values()))
    return {str(path) for path in files if path is not None}


def _file_of(module: object) -> Path | None:
    if not isinstance(module, ModuleType):
        return None
    # WHY: reading an attribute of a module in the usual way may run code of the module.
    name = object.__getattribute__(module, "__dict__").get("__file__")
    return Path(name).absolute() if isinstance(name, str) else None


def _relative(path: Path, roots: Iterable[Path]) -> str:
    """Return a path that is the same wherever the app's folder lies."""
    return str(next(path.relative_to(root) for root in roots if path.is_relative_to(root)))


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=VERSION_BYTES).hexdigest()
