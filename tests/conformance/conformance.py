"""Makes docs/conformance.md from facts.toml and the tests that carry `@pytest.mark.fact`.

python tests/conformance/conformance.py        writes the page
"""

import ast
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

What AWS Lambda does with the records of a stream, fact by fact, and how streamfn stands to it.
Facts are from AWS's documentation, its service models, and recordings of the real service; K is of
Kinesis mappings, G of mappings in general, W of tumbling windows. The page is made from the tests
by `python tests/conformance/conformance.py`: a fact that is held names the tests that hold it, any
other says why.

"""


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
    lines = ["| | AWS Lambda | streamfn | |", "|---|---|---|---|"]
    for identity, fact in FACTS.items():
        names = ", ".join(f"`{name}`" for name in tests.get(identity, []))
        said = " ".join(part for part in (fact.get("why", ""), names) if part)
        lines.append(f"| {identity} | {fact['fact']} | {VERDICTS[fact['verdict']]} | {said} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
