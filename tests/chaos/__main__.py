"""`python tests/chaos`: kills and stops the processes around a log, then checks what they saw.

A run is made of rounds of about a hundred kills, each on a log of its own, checked at its end. Exit
code 1: something was violated, a process failed by itself, or fewer were killed than asked for.
"""

import argparse
import shutil
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "formats")]

from checker import check  # noqa: E402 -- the folders above are where they are
from contents import read_contents  # noqa: E402
from evidence import Evidence  # noqa: E402
from harness import Harness, HarnessError  # noqa: E402
from history import load_history  # noqa: E402
from plan import make_plan  # noqa: E402
from summary import Summary  # noqa: E402

from streamfn.errors import StreamfnError  # noqa: E402

KILLS_EACH_ROUND = 100
VIOLATIONS_SHOWN = 20


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--kills", type=int, default=100, help="processes to be killed, at least")
    parser.add_argument("--pause", type=float, default=0.35, help="average seconds between events")
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "target" / "chaos")
    return parser.parse_args()


def play(seed: int, kills: int, given: argparse.Namespace, summary: Summary) -> bool:
    """Carry out a plan and check what came of it; what there is to see is kept if it went wrong."""
    folder = given.folder / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    plan = make_plan(seed, kills, given.pause)
    print(f"seed {seed}: {len(plan.events)} events, plan {plan.fingerprint}", flush=True)
    harness = Harness(folder, plan)
    try:
        harness.run()
        evidence = Evidence(load_history(harness.history), read_contents(harness.log_dir))
    except (HarnessError, StreamfnError, OSError, ValueError, AssertionError) as error:
        traceback.print_exc()
        found = [f"failed: {error!r}"]
    else:
        found = list(map(str, check(evidence)))
        summary.add(harness.tally, evidence, len(found))
    if harness.tally.kills.total() < kills:
        found.append(f"killed {harness.tally.kills.total()} processes, not {kills}")
    if not found:
        shutil.rmtree(folder)
        return True
    print(*found[:VIOLATIONS_SHOWN], sep="\n")
    print(f"{len(found)} findings; journals, stderr of each process and the log: {folder}")
    repeat = f"{sys.executable} tests/chaos --seed {seed} --kills {kills} --pause {given.pause}"
    print(f"the same again: {repeat}", flush=True)
    return False


def main() -> int:
    """Play all rounds."""
    given = arguments()
    summary = Summary()
    rounds = max(1, round(given.kills / KILLS_EACH_ROUND))
    results = [
        play(given.seed + n, -(-given.kills // rounds), given, summary) for n in range(rounds)
    ]
    print(summary)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
