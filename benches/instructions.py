"""Count the instructions of a record's two paths, and fail if they have grown by more than 5 %.

    python benches/instructions.py [--write]

Unlike a time, a count does not depend on the speed of the machine, nor on what else runs on it; it
depends on the compiler. `instructions.json` holds the counts of one compiler; under another one the
parent commit is built and counted instead. Needs cargo and valgrind (callgrind counts).
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BASELINE: Final = ROOT / "benches" / "instructions.json"
GROWTH_MAX: Final = 0.05
BATCH_RECORDS: Final = 1_000
"""As in `rust/lib.rs`."""
FEW: Final = 10
"""Batches of one run ..."""
MANY: Final = 50
"""... and of another: their difference is what 40 batches cost, without beginning and end."""
MALLOC: Final = "glibc.malloc.mmap_threshold=131072"
"""Fixed: otherwise malloc moves it as it learns, and how often large memory is copied as it grows
is another in each build."""
CASES: Final = {
    f"{path}, {length} B, {compression}": (path, length, compression)
    for path in ("append", "lane")
    for length in ("100", "1024")
    for compression in ("none", "zstd")
}


def main() -> int:
    """Count, print a table, and return how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="make these counts the baseline")
    is_asked = parser.parse_args().write
    compilers = [_said(name, "--version").partition("\n")[0] for name in ("rustc", "cc")]
    compiler = ", ".join([*compilers, platform.machine()])
    counts = _counted(_built(ROOT))
    if is_asked:
        document = {"compiler": compiler, "instructions a record": counts}
        BASELINE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    known = json.loads(BASELINE.read_text("utf-8"))
    if known["compiler"] == compiler:
        name, before = "baseline", known["instructions a record"]
    else:
        print(f"The baseline was made by {known['compiler']}, this is {compiler}.")
        name, before = "parent commit", _of_parent()
    return judged(counts, before, name)


def judged(counts: Mapping[str, float], before: Mapping[str, float], name: str) -> int:
    """Print the table, and return 1 if a count has grown too much."""
    print(f"| instructions a record | {name} | now | change |\n|---|--:|--:|--:|")
    grown = []
    for case, now in counts.items():
        change = now / before[case] - 1
        print(f"| {case} | {before[case]:,.1f} | {now:,.1f} | {change:+.1%} |")
        if change > GROWTH_MAX:
            grown.append(case)
    if grown:
        print(
            f"More than {GROWTH_MAX:.0%} above the {name}: {'; '.join(grown)}.\n"
            "If that is worth it: `make instructions-baseline`, and say in the commit what it buys."
        )
    return 1 if grown else 0


def _counted(program: Path) -> dict[str, float]:
    """Instructions a record of each case."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(CASES, threads.map(lambda case: _a_record(program, *case), CASES.values()),
                        strict=True))  # fmt: skip


def _a_record(program: Path, path: str, length: str, compression: str) -> float:
    few, many = (
        _instructions([str(program), path, length, compression, str(batches), str(MANY)])
        for batches in (FEW, MANY)
    )
    return round((many - few) / ((MANY - FEW) * BATCH_RECORDS), 1)


def _instructions(command: list[str]) -> int:
    """Instructions that a program runs, by callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        valgrind = [_valgrind(), "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run(
            [*valgrind, *command], capture_output=True, text=True, check=False,
            env={"TMPDIR": folder, "GLIBC_TUNABLES": MALLOC},
        )  # fmt: skip
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"{' '.join(command)} failed under valgrind:\n{done.stderr}")
    return int(found[1])


def _valgrind() -> str:
    found = shutil.which("valgrind")
    if found is None:
        raise SystemExit("valgrind was not found (Debian: apt install valgrind)")
    return found


def _built(tree: Path) -> Path:
    """The program that walks the paths, of a tree."""
    command = ["cargo", "build", "--release", "--locked", "--package", "streamfn-bench"]
    target = ROOT / "target" / "instructions"
    subprocess.run(
        [*command, "--bin", "one-path", "--target-dir", str(target)], cwd=tree, check=True
    )
    return target / "release" / "one-path"


def _of_parent() -> dict[str, float]:
    """The counts of the parent commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "parent"
        with _worktree(tree):
            return _counted(_built(tree))


@contextmanager
def _worktree(tree: Path) -> Iterator[None]:
    subprocess.run(
        ["git", "worktree", "add", "--quiet", "--detach", str(tree), "HEAD^"], cwd=ROOT, check=True
    )
    try:
        yield
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
