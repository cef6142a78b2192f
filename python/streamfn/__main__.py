"""`python -m streamfn`, and where the program `streamfn` begins."""

from typing import NoReturn

from streamfn.stdio import open_missing_stdio


def main() -> NoReturn:
    """Run the command line, and leave the process with its exit code."""
    open_missing_stdio()  # before the imports below: they may open files
    from streamfn.cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
