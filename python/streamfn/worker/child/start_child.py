"""What a child process executes first: it imports our modules before the user's can be found.

    python -P …/start_child.py MODULE CONTROL LIFELINE …

MODULE has `run_process`, which gets the descriptors and what `sys.path` was.

A file of the user's may have the name of a module that our code needs (`queue.py`, `random.py`).
So the working directory, the app's folder and the folders of PYTHONPATH come behind the standard
library, this package and what is installed, until all of our modules are loaded. The supervisor
starts this file by its path with `python -P`, which leaves its folder out of `sys.path`.
"""

import importlib
import os
import sys

LAZY = ("asyncio", "concurrent.futures.thread", "difflib", "queue", "tokenize", "unicodedata")
"""Modules that our code, or the standard library for it, imports only when they are needed."""


def own_modules_first() -> list[str]:
    """Have `sys.path` begin with the standard library, this package and what is installed.

    Returns:
        What it was.
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
    """Whether a folder of `sys.path` is the standard library's."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 -- as above
    name = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return folder in {library, f"{library}/lib-dynload"} or folder.endswith(name)


def users_modules_first(path: list[str], app: str) -> None:
    """Put `sys.path` as it was, now that ours is loaded.

    Args:
        path: What `own_modules_first` returned.
        app: The APP argument; its folder becomes importable with the app.
    """
    folders = {os.getcwd(), os.path.dirname(app.partition(":")[0]), *path}  # noqa: PTH109, PTH120
    hidden = shadowed([folder for folder in folders if not _is_pythons(folder)])
    if hidden:
        stem = os.path.basename(app.partition(":")[0]).removesuffix(".py")  # noqa: PTH119
        for name in (*LAZY, *hidden & {stem}):
            importlib.import_module(name)
    sys.path[:] = path


def shadowed(folders: list[str]) -> set[str]:
    """Return the names of the standard library that files in these folders have, too."""
    found = set()
    for folder in folders:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 -- as above
        except OSError:
            continue
        found |= {name.partition(".")[0] for name in names}
    return found & sys.stdlib_module_names


def main() -> None:
    """Load what this kind of child needs, then run it."""
    before = own_modules_first()
    from streamfn.stdio import open_missing_stdio  # noqa: PLC0415 -- the path is right only now

    open_missing_stdio()
    module, *descriptors = sys.argv[1:]
    importlib.import_module(module).run_process(descriptors, before)


if __name__ == "__main__":
    main()
