"""`python -m streamfn`, and where the program `streamfn` begins."""

from __future__ import annotations

from streamfn.worker.child.start_child import own_modules_first

TYPE_CHECKING = False  # WHY: `typing` may be a file in the working directory, which comes first yet
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and leave the process with its exit code."""
    own_modules_first()
    from streamfn.stdio import open_missing_stdio  # noqa: PLC0415 -- the path is right only now

    open_missing_stdio()  # before the imports below: they may open files
    from streamfn.cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
