"""`streamfn filter`: tests event patterns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamfn.errors import ConfigError
from streamfn.model.filter import Explanation, Mismatch, explain

from .console import write_json, write_line
from .exits import Exit
from .params import CommandGroup, json_option, output_options


class JsonText(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """JSON text as it is, `@FILE`, or `-` for standard input."""

    name = "json"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the text; anything else is a usage error."""
        given = str(value)
        try:
            if given == "-":
                return sys.stdin.buffer.read().decode()
            return Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
        except OSError as error:
            self.fail(f"{given[1:]} cannot be read: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail(f"`{given}` is not UTF-8", param, ctx)


@click.group("filter", cls=CommandGroup)
def command() -> None:
    """Test event patterns."""


@command.command("test")
@click.argument("pattern", type=JsonText())
@click.argument("event", type=JsonText())
@json_option
@output_options
def test(*, pattern: str, event: str, as_json: bool) -> int:
    """Print whether PATTERN matches EVENT.

    If not, it prints which field does not match.

    Both are JSON text, @FILE, or - for standard input. PATTERN may be an array of patterns; it
    matches if one of them does. EVENT has the fields of a record that filters can use:
    {"data": {...}, "partitionKey": "..."}.

    The exit code is 0 if it matches and 1 if not.
    """
    try:
        found = explain(pattern, event)
    except ConfigError as error:
        if error.field == "event":
            raise click.BadParameter(error.reason, param_hint="EVENT") from None
        raise
    if as_json:
        write_json(_object(found))
    else:
        write_line(str(found).encode())
    return Exit.OK if found.matched else Exit.FAILED


def _object(found: Explanation) -> dict[str, Any]:
    return {
        "matched": found.matched,
        "patterns": [
            {"matched": each.matched, "mismatches": [*map(_mismatch, each.mismatches)]}
            for each in found.patterns
        ],
    }


def _mismatch(mismatch: Mismatch) -> dict[str, str]:
    return {"field": mismatch.field, "wanted": mismatch.wanted, "found": mismatch.found}
