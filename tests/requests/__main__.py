"""`python tests/requests`: calls by request, many at once, of which some end their processes.

With `--kills N`, fronts, supervisors, runners and callers are killed meanwhile. Exit code 1: a good
call got an error or a wrong answer, a call ran twice or did not end in time, or something was left
behind. The folder of a run that failed is kept.
"""

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import requests_calls  # noqa: E402 -- it is in that folder
import requests_kills  # noqa: E402


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/requests", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="calls, 0 for none")
    parser.add_argument("--callers", type=int, default=64, help="calls at once")
    parser.add_argument("--kills", type=int, default=0, help="processes to kill, in a second run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "target" / "requests")
    return parser.parse_args()


def show(title: str, lines: list[str], findings: list[str], folder: Path) -> int:
    """Print a run and its findings; returns how many these are."""
    print(f"{title}:", *lines, sep="\n  ")
    for finding in findings[:20]:
        print(f"  FOUND {finding}")
    if len(findings) > 20:
        print(f"  … and {len(findings) - 20} more")
    if findings:
        print(f"  journals and the worker's log: {folder}")
    else:
        shutil.rmtree(folder)
    sys.stdout.flush()
    return len(findings)


def fresh(folder: Path) -> Path:
    """Return an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    """Make both runs."""
    given, found = arguments(), 0
    if given.calls:
        folder = fresh(given.folder / f"calls-{given.seed}")
        outcome = requests_calls.run(given.calls, given.callers, given.seed, folder)
        lines = requests_calls.summary(outcome)
        found += show(f"{given.callers} callers", lines, outcome.findings, folder)
    if given.kills:
        folder = fresh(given.folder / f"kills-{given.seed}")
        outcome = requests_kills.run(given.kills, given.seed, folder)
        found += show("kills", requests_kills.summary(outcome), outcome.findings, folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
