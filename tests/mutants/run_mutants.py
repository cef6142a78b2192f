"""Build the core with each seeded bug, and see that the tests it names catch it.

A patch begins with what it breaks and with the tests that have to fail, one a line::

    Breaks: a record is acknowledged before it is synced
    Caught by: rust/core/tests/io_errors.rs::every_call_fails_once_and_from_then_on

`make mutants` looks whether these tests pass without any of them, then applies them one after
another to one copy of the tree, so that each build is a small one. A mutant is caught when each of
its tests fails, or does not end; one that does not compile is not caught.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLACE = ROOT / "target" / "mutants"
RESULT = re.compile(
    r"^test ((?:\S+::)?(\w+))(?: - should panic)? \.\.\. (ok|FAILED)$", re.MULTILINE
)
MODULE = re.compile(r"^mod (\w+);$", re.MULTILINE)
SHARED = {"simulation", "crash_workloads"}
"""Files of `tests/all.rs` that have no test, but what the others need."""
ALONE = {"fuzz", "hand_over", "loom"}
"""Programs of their own."""
OUT_OF_TIME_S = 600


@dataclass(frozen=True)
class Mutant:
    """A seeded bug."""

    path: Path
    breaks: str
    caught_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def mutants() -> list[Mutant]:
    """All seeded bugs, sorted by name."""
    found = []
    for path in sorted(HERE.glob("*.patch")):
        head = path.read_text().split("\n\n", 1)[0]
        said = [line.split(": ", 1) for line in head.splitlines()]
        breaks = [text for what, text in said if what == "Breaks"]
        caught_by = tuple(text for what, text in said if what == "Caught by")
        if len(breaks) != 1 or not caught_by or len(said) != 1 + len(caught_by):
            raise ValueError(f"{path.name} does not say what it breaks and which tests catch it")
        found.append(Mutant(path, breaks[0], caught_by))
    return found


def apply(tree: Path, mutant: Mutant, *options: str) -> bool:
    """Apply a patch, or only look whether it would; say whether it fits to the line."""
    # WHY: of a copy taken for a folder of the repository, git would silently pass over the files.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", *options, str(mutant.path)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False)
    return done.returncode == 0


def copy_tree(tree: Path) -> None:
    """Bring a copy of all files that are not ignored up to date; others in it are removed."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    wanted = {Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()}
    present = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    for name in present - wanted:
        (tree / name).unlink()
    for name in wanted:
        source, copy = ROOT / name, tree / name
        # WHY not always: what has not changed need not be built again.
        if name not in present or source.read_bytes() != copy.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def cargo(tree: Path, *arguments: str) -> tuple[int | None, str]:
    """Run `cargo test` in the copy; returns exit code, `None` if it did not end, and output."""
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(PLACE / "target"),
        "CARGO_PROFILE_TEST_DEBUG": "0",
        "RUST_BACKTRACE": "0",
    }
    command = ["cargo", "test", "--package", "streamfn-core", "--locked", *arguments]
    with subprocess.Popen(
        command, cwd=tree, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=OUT_OF_TIME_S)
        except subprocess.TimeoutExpired:
            # The tests too, not only the cargo that waits for them.
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        return process.returncode, output


@dataclass(frozen=True)
class Program:
    """A program of tests, and which of it are meant."""

    argument: str
    """Has cargo build and run it."""
    module: str = ""
    """The file of `tests/all.rs` that the tests are in."""


def programs(tests: tuple[str, ...]) -> dict[Program, list[str]]:
    """The names of tests by the program that they are in."""
    found = defaultdict(list)
    for test in tests:
        file, name = test.split("::")
        parts = Path(file).parts
        if parts[:3] == ("rust", "core", "src"):
            program = Program("--lib")
        elif (target := parts[3].removesuffix(".rs")) in ALONE:
            program = Program(f"--test={target}")
        else:
            program = Program("--test=all", target)
        found[program].append(name)
    return dict(found)


@contextmanager
def only(tree: Path, modules: set[str]) -> Iterator[None]:
    """Leave out all other files of `tests/all.rs`, which would take most of the time of a build."""
    path = tree / "rust" / "core" / "tests" / "all.rs"
    whole = path.read_text()
    wanted = [module for module in MODULE.findall(whole) if module in modules | SHARED]
    path.write_text("".join(f"mod {module};\n" for module in wanted))
    try:
        yield
    finally:
        path.write_text(whole)


class Unbuilt(Exception):
    """The copy does not compile."""


def failing(tree: Path, tests: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Run tests in the copy; returns those that fail or do not end, and the others."""
    by_program = programs(tests)
    failed, passed = [], []
    with only(tree, {program.module for program in by_program}):
        arguments = {program.argument for program in by_program}
        code, output = cargo(tree, "--no-run", "--quiet", *sorted(arguments))
        if code != 0:
            raise Unbuilt(output)
        for program, names in by_program.items():
            code, output = cargo(tree, "--no-fail-fast", program.argument, "--", *names)
            # Two files may have tests of one name.
            within = program.module and f"{program.module}::"
            results = RESULT.findall(output)
            outcome = {name: how for path, name, how in results if path.startswith(within)}
            for name in names:
                # One that took the whole process with it has no line of its own.
                is_failed = code != 0 and outcome.get(name) != "ok"
                (failed if is_failed else passed).append(name)
    return failed, passed


def discover(tree: Path, chosen: list[Mutant]) -> int:
    """Print every test of the core that sees a mutant, for who writes a patch."""
    for mutant in chosen:
        assert apply(tree, mutant), f"{mutant.path} does not apply"
        try:
            code, output = cargo(tree, "--quiet", "--no-fail-fast", "--lib", "--tests")
        finally:
            apply(tree, mutant, "--reverse")
        names = re.findall(r"^    ([a-z_0-9:]+)$", output, re.MULTILINE)
        print(f"{mutant.name}: exit {code}: {', '.join(sorted(set(names)))}", flush=True)
    return 0


def judge(tree: Path, mutant: Mutant) -> tuple[bool, str]:
    """Say whether all tests of a mutant catch it, and how it went."""
    if not apply(tree, mutant):
        return False, "THE PATCH DOES NOT APPLY"
    try:
        failed, passed = failing(tree, mutant.caught_by)
    except Unbuilt:
        return False, "IT DOES NOT COMPILE"
    finally:
        apply(tree, mutant, "--reverse")
    if passed:
        return False, "SURVIVED " + ", ".join(passed)
    return True, ", ".join(failed)


def main() -> int:
    """Run all mutants, or those named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument(
        "--discover", action="store_true", help="run all tests of the core, and print which fail"
    )
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if not options.names or mutant.name in options.names]
    tree = PLACE / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    if options.discover:
        return discover(tree, chosen)
    begun = time.monotonic()
    every = tuple(sorted({test for mutant in chosen for test in mutant.caught_by}))
    failed, _ = failing(tree, every)
    if failed:
        print(f"without any mutant these fail: {', '.join(failed)}")
        return 1
    print(f"without any mutant {len(every)} tests pass: {time.monotonic() - begun:.0f} s\n")
    print(f"{'mutant':<26} {'what it breaks':<64} {'seconds':>7}  caught by", flush=True)
    survivors = 0
    for mutant in chosen:
        start = time.monotonic()
        is_caught, how = judge(tree, mutant)
        survivors += not is_caught
        seconds = time.monotonic() - start
        print(f"{mutant.name:<26} {mutant.breaks:<64} {seconds:>7.0f}  {how}", flush=True)
    print(f"\n{len(chosen)} mutants, {survivors} not caught: {time.monotonic() - begun:.0f} s")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
