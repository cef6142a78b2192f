"""`python tests/poison`: 1, 3 and 50 bad records of each kind in a batch of 1,000, and their cost.

Real workers, real deaths, the default waits. Neighbours look like an outage and wait as long
(up to a minute each), so many adjacent ones are left to a test whose clock is moved by hand. Exit
code 1: not exactly the poison was set aside, or it took more calls than promised.
"""

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from poison_run import CALLS_MAX, KINDS, Case, Outcome, run  # noqa: E402 -- it is in that folder

ROW = "{:<9} {:>6} {:<8} {:>5} {:>6} {:>6} {:>8} {:>9}  {}"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/poison", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the random places")
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--count", type=int, choices=CALLS_MAX, nargs="*", default=list(CALLS_MAX))
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "target" / "poison")
    return parser.parse_args()


def cases(given: argparse.Namespace) -> list[Case]:
    """All cases, the quick ones of each kind first."""
    seed = given.seed
    places = {1: ["first", "last", seed, seed + 1], 3: ["first", seed, seed + 1], 50: [seed]}
    return [
        Case(kind, count, str(place))
        for kind in given.kind
        for count in given.count
        for place in places[count]
    ]


def row(outcome: Outcome, findings: list[str]) -> str:
    """A line of the table."""
    case, deaths = outcome.case, outcome.deaths
    each = f"{1000 * outcome.seconds / deaths:.0f} ms" if deaths else "–"
    what = "; ".join(findings) or "exact"
    if outcome.overtaken:
        what += f" ({len(outcome.overtaken)} innocent calls were held up for 100 ms)"
    place = case.place if case.place.isalpha() else f"seed {case.place}"
    return ROW.format(
        case.kind, case.count, place, len(outcome.about_the_poison), CALLS_MAX[case.count], deaths,
        f"{outcome.seconds:.1f} s", each, what,
    )  # fmt: skip


def main() -> int:
    """Run all cases and print a line for each."""
    given, is_clean = arguments(), True
    print(
        ROW.format("kind", "poison", "where", "calls", "at most", "deaths", "time", "a death", "")
    )
    for case in cases(given):
        folder = given.folder / f"{case.kind}-{case.count}-{case.place}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        outcome = run(case, folder)
        findings = outcome.findings()
        print(row(outcome, findings), flush=True)
        if findings:
            is_clean = False
            print(f"the log, the calls and what the worker said: {folder}")
        else:
            shutil.rmtree(folder)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
