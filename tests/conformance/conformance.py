"""Makes docs/conformance.md from facts.toml and the tests that carry `@pytest.mark.fact`.

python tests/conformance/conformance.py        writes the page
"""

import ast
import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
FACTS = tomllib.loads((Path(__file__).parent / "facts.toml").read_text())
VERDICTS = {
    "held": "held",
    "aws": 'held with `preset="aws"`',
    "differs": "differs on purpose",
    "not applicable": "not applicable",
}
HEAD = """# Conformance with AWS Lambda

What AWS Lambda does with the records of a stream and with synchronous calls, fact by fact, and what
streamfn does. The facts are from AWS's documentation, its service models, and recordings of the
real service.

This page is made from the tests by `python tests/conformance/conformance.py`. A fact that is held
names the tests that hold it. Any other fact has a reason.

"""
GROUPS = {
    "K": "Kinesis event source mappings",
    "G": "Event source mappings in general",
    "W": "Tumbling windows",
    "I": "Synchronous calls",
}
COLUMNS = 100


def marked_tests() -> dict[str, list[str]]:
    """The tests that hold each fact, as `path::name`."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, fact in _marks(ast.parse(path.read_text())):
            found[fact].append(f"{path.relative_to(ROOT)}::{name}")
    return found


def _marks(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fact":
                for argument in mark.args:
                    yield node.name, ast.literal_eval(argument)


def page() -> str:
    """The whole page."""
    tests = marked_tests()
    parts = []
    for letter, title in GROUPS.items():
        parts.append(f"## {letter}: {title}\n")
        parts += [
            _entry(identity, fact, tests.get(identity, []))
            for identity, fact in FACTS.items()
            if identity.startswith(letter)
        ]
    return HEAD + "\n".join(parts)


def _entry(identity: str, fact: dict[str, str], tests: list[str]) -> str:
    """A fact, its verdict and reason, and the tests that hold it, by file."""
    text = f"**{identity}** {fact['fact']} *{VERDICTS[fact['verdict']].capitalize()}.*"
    lines = _wrapped(f"{text} {fact.get('why', '')}".rstrip(), "")
    by_file = defaultdict(list)
    for path, name in (test.split("::") for test in tests):
        by_file[path].append(name)
    if by_file:
        lines.append("")
    for path, names in by_file.items():
        lines += [f"* `{path}`:", *_wrapped(", ".join(f"`{name}`" for name in names), "  ")]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    # WHY not within words: names of tests and `code` stay whole.
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    PAGE.write_text(page())
