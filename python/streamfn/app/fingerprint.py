"""The fingerprint of an app's code: its files and functions as one short text.

The files of an app are the files of all loaded modules below the app's folder or the current
folder. Not among them: the standard library, installed packages, virtual environments and streamfn.
They are read after the app is imported, so a module that a function imports later is not among
them either.
"""

from __future__ import annotations

import json
import sys
import sysconfig
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
    roots = _roots(place)
    found = {}
    for path in _loaded_files():
        if any(_is_of_app(path, root) for root in roots):
            found[str(path)] = digest_of(str(path))
    return found


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


def _is_of_app(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or INSTALLED & set(path.relative_to(root).parts):
        return False
    left_out = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    left_out.append(Path(__file__).parents[1])
    if Path(sys.prefix).is_relative_to(root):  # a virtual environment in the app's folder
        left_out.append(Path(sys.prefix))
    return not any(path.is_relative_to(folder) for folder in left_out)


def _loaded_files() -> set[Path]:
    files = (_file_of(module) for module in list(sys.modules.values()))
    return {path for path in files if path is not None}


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
