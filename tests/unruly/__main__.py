"""`python tests/unruly`: random unruly handlers beside calm ones, each burst with a real worker.

Exit code 1: an innocent record was set aside or never done, a worker did not end, or something was
left behind. A burst that fails keeps its log, and its seed repeats it.
"""

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from unruly_plan import make_burst  # noqa: E402 -- it is in that folder
from unruly_run import Outcome, run  # noqa: E402
from unruly_tricks import TRICKS  # noqa: E402

BURST = 20
"""Unruly handlers in a burst."""


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/unruly", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first burst")
    parser.add_argument("--handlers", type=int, default=60, help="unruly handlers, in all")
    parser.add_argument("--each", type=int, default=BURST, help="unruly handlers in a burst")
    parser.add_argument("--trick", choices=TRICKS, help="that each handler begins with, or ends")
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "target" / "unruly")
    return parser.parse_args()


def show(outcome: Outcome, findings: list[str]) -> None:
    """Print a line for a burst, and its findings."""
    burst = outcome.burst
    said = "clean" if not findings else f"{len(findings)} findings"
    dead = sum(map(len, outcome.dead.values()))
    print(
        f"seed {burst.seed}: {len(burst.handlers)} handlers, {burst.processes} processes, "
        f"{burst.threads} threads, {dead} set aside, {outcome.seconds:.1f} s: {said}",
        flush=True,
    )
    for finding in findings:
        print(f"  {finding}")
    if findings:
        for handler in burst.handlers:
            print(f"  {handler}")


def main() -> int:
    """Run all bursts."""
    given = arguments()
    failed = 0
    bursts = -(-given.handlers // given.each)
    for seed in range(given.seed, given.seed + bursts):
        folder = given.folder / f"seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        outcome = run(make_burst(seed, given.each, given.trick), folder)
        findings = outcome.findings()
        show(outcome, findings)
        if not findings:
            shutil.rmtree(folder)
            continue
        failed += 1
        trick = f" --trick {given.trick}" if given.trick else ""
        print(f"  log, journal and stderr: {folder}")
        print(
            f"  the same again: {sys.executable} tests/unruly --seed {seed} "
            f"--handlers {given.each} --each {given.each}{trick}",
            flush=True,
        )
    print(f"{bursts * given.each} unruly handlers in {bursts} bursts, {failed} of which failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
