"""The pages are true: their examples run, their links lead somewhere, the tests they name exist.

A page's blocks run in order in one empty folder. A `python` block that begins with `# name.py` is
written to that file, any other is run as a script. In a `console` block each line after `$ ` is run
by bash and must succeed; lines below it, if any, are its output (`…` stands for anything). Blocks
of another kind, such as `sh`, are not run.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benches/*.md", "changelog.d/*.md")
    for path in ROOT.glob(pattern)
)
MARKDOWN = sorted({*PAGES, *(ROOT / "python").rglob("*.md")})
COLUMNS_MAX = 100
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def blocks(page: Path) -> list[tuple[str, str]]:
    return [
        (kind, text)
        for kind, text in BLOCK.findall(page.read_text())
        if kind in {"python", "console"}
    ]


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that succeeds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PATH": path, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_console(text: str, folder: Path) -> None:
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        printed = run(["bash", "-euo", "pipefail", "-c", command], folder)
        if shown.strip():
            pattern = re.escape(shown.rstrip("\n")).replace(r"…", "(?s:.*)")
            assert re.fullmatch(pattern, printed.rstrip("\n")), printed


def run_python(text: str, folder: Path) -> None:
    if name := re.match(r"# (\w+\.py)\n", text):
        (folder / name[1]).write_text(text)
    else:
        run([sys.executable, "-c", text], folder)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: names([p])[0])
def test_examples_run(page, tmp_path):
    try:
        for kind, text in blocks(page):
            {"python": run_python, "console": run_console}[kind](text, tmp_path)
    finally:
        for path in tmp_path.glob("*.pid"):  # of what an example started
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGTERM)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_named_files_exist(page):
    """Words in backticks that are paths of this repository."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    paths = re.findall(r"`((?:python|rust|tests|docs|benches)/[\w./-]*\w)/?(?:::\w+)*`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def wide_lines(page: Path) -> list[int]:
    """Numbers of the lines that are too wide, but for code, names of tests, and figures."""
    wide, in_fence = [], False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        is_fence = line.lstrip().startswith("```")
        in_fence ^= is_fence
        is_figures = page == ROOT / "benches/README.md" and line.startswith("|")
        is_name = re.fullmatch(r"\* `\S+`", line)  # nothing in it can be broken
        if len(line) > COLUMNS_MAX and not (in_fence or is_fence or is_figures or is_name):
            wide.append(number)
    return wide


@pytest.mark.parametrize("page", MARKDOWN, ids=names(MARKDOWN))
def test_lines_fit_100_columns(page):
    assert wide_lines(page) == []


def test_the_readme_fits_three_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_fragments_are_named_as_changelog_d_says():
    named = re.compile(r"README\.md|[a-z0-9]+(-[a-z0-9]+)*\.(added|changed|fixed|removed)\.md")
    found = [path.name for path in (ROOT / "changelog.d").iterdir()]

    assert [name for name in found if not named.fullmatch(name)] == []


def test_the_promises_of_the_readme_stand_whole_on_their_page():
    """Each line of the README links to the heading of its promise, below which its words stand."""
    section = (ROOT / "README.md").read_text().split("## What is promised")[1].split("\n## ")[0]
    lines = re.findall(
        r"^\d\. \[\*\*(.+)\*\*\]\(docs/promises\.md#([\w-]+)\)", section, re.MULTILINE
    )
    page = (ROOT / "docs/promises.md").read_text()
    promises = re.findall(r"^## (\d\. [\w ]+)\n\n\*\*([^*]+?)\.?\*\*", page, re.MULTILINE)

    assert len(promises) == 6
    assert lines == [
        (words, heading.lower().replace(".", "").replace(" ", "-")) for heading, words in promises
    ]


def test_the_invariants_that_promises_rest_on_exist():
    promises = (ROOT / "docs/promises.md").read_text()
    named = set(re.findall(r"\bI\d+\b", promises))

    assert named, "each promise names its invariants"
    assert named <= set(
        re.findall(r"^### (I\d+)$", (ROOT / "docs/invariants.md").read_text(), re.MULTILINE)
    )


def test_the_readme_names_the_rust_that_a_build_needs():
    needed = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]

    assert f"Rust {needed['rust-version']} or newer" in (ROOT / "README.md").read_text()


def test_the_tests_that_hold_the_invariants_exist():
    """docs/invariants.md names them below each invariant, as `path::name`."""
    text = (ROOT / "docs/invariants.md").read_text()
    named = re.findall(r"`([\w./]+)::(\w+)`", text)
    sections = text.split("### ")[1:]

    assert [each.split("\n")[0] for each in sections] == [f"I{n + 1}" for n in range(len(sections))]
    assert all("::" in each for each in sections), "each invariant has a test"
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or f" {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []
