"""The first code of a child process: imports our modules before the user's folders are searched.

    python -P …/start_child.py MODULE CONTROL LIFELINE …

MODULE has a function `run_process`, which gets the descriptors and the original `sys.path`.

A user's file may have the name of a module that our code needs (`queue.py`, `random.py`). So until
all our modules are loaded, the standard library, this package and the installed packages come
before the working directory, the app's folder and PYTHONPATH. The supervisor starts this file by
its path with `python -P`, which keeps its folder out of `sys.path`.
"""

import importlib
import os
import sys

LAZY = ("asyncio", "concurrent.futures.thread", "difflib", "queue", "tokenize", "unicodedata")
"""Modules that our code, or the standard library for it, imports only on use."""


def own_modules_first() -> list[str]:
    """Move the standard library, this package and installed packages to the front of `sys.path`.

    Returns:
        The original `sys.path`.
    """
    before = list(sys.path)
    package = os.path.abspath(__file__)  # noqa: PTH100 -- `pathlib` is not safe to import yet
    for _ in range(4):
        package = os.path.dirname(package)  # noqa: PTH120 -- as above
    first = [path for path in before if _is_pythons(path)]
    first += [package, *(path for path in before if path.endswith("-packages"))]
    sys.path[:] = [*first, *(path for path in before if path not in first)]
    return before


def _is_pythons(folder: str) -> bool:
    """Whether a folder of `sys.path` belongs to the standard library."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 -- as above
    name = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return folder in {library, f"{library}/lib-dynload"} or folder.endswith(name)


def users_modules_first(path: list[str], app: str) -> None:
    """Restore `sys.path`, now that our modules are loaded.

    If a user's file hides a module of the standard library, load our lazy modules first.

    Args:
        path: The result of `own_modules_first`.
        app: The APP argument; loading the app adds its folder to `sys.path`.
    """
    folders = {os.getcwd(), os.path.dirname(app.partition(":")[0]), *path}  # noqa: PTH109, PTH120
    hidden = shadowed([folder for folder in folders if not _is_pythons(folder)])
    if hidden:
        stem = os.path.basename(app.partition(":")[0]).removesuffix(".py")  # noqa: PTH119
        for name in (*LAZY, *hidden & {stem}):
            importlib.import_module(name)
    sys.path[:] = path


def shadowed(folders: list[str]) -> set[str]:
    """Return the names of standard modules that also are names of files in these folders."""
    found = set()
    for folder in folders:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 -- as above
        except OSError:
            continue
        found |= {name.partition(".")[0] for name in names}
    return found & sys.stdlib_module_names


def main() -> None:
    """Load the module of this kind of child and run it."""
    before = own_modules_first()
    from streamfn.stdio import open_missing_stdio  # noqa: PLC0415 -- `sys.path` must be set first

    open_missing_stdio()
    module, *descriptors = sys.argv[1:]
    importlib.import_module(module).run_process(descriptors, before)


if __name__ == "__main__":
    main()
