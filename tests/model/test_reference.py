"""docs/functions.md is complete, and each default and bound in it is the one that counts."""

import re
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from streamfn import App, Backoff, ConfigError
from streamfn.model.filter import Pattern
from streamfn.model.function_options import FunctionOptions
from streamfn.model.mapping import OnCorruption, Start
from streamfn.model.options import StreamOptions
from streamfn.model.policy import PRESETS, BackoffPolicy, OnExhausted
from streamfn.units import parse_duration, parse_size

PAGE = (Path(__file__).parents[2] / "docs" / "functions.md").read_text()
TYPES = {
    "text": (str, OnExhausted, OnCorruption),
    "whole number": (int,),
    "switch": (bool,),
    "duration": (str | float | timedelta,),
    "size": (str | int,),
    "start": (Start,),
    "pattern": (Pattern,),
    "back-off": (BackoffPolicy,),
}
"""What the page calls the types of `StreamOptions`."""
ANNOTATIONS = get_type_hints(StreamOptions)


def table(heading):
    """Rows of the table below a heading, by their first column, each by its columns' titles."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    titles, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0].strip("`"): dict(zip(titles, row, strict=True)) for row in rows}


def arguments(heading="Arguments"):
    """Type, default and bounds of each argument below a heading, by its name.

    An entry of the list is "* **`name`**: what it does", and below it
    "  * type; default `value`; bounds; AWS's name", of which the last two may be missing.
    """
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    entries = re.findall(
        r"^\* \*\*`(\w+)`\*\*: .*?^  \* (.*?)(?=^\* |\n\n)",
        f"{section}\n\n",
        re.MULTILINE | re.DOTALL,
    )
    assert len(entries) == section.count("\n* "), "each entry has its second line"
    rows = {}
    for argument, facts in entries:
        kind, default, *others = " ".join(facts.split()).split("; ")
        assert default.startswith("default "), argument
        bounds = [each for each in others if not each.startswith("AWS ")]
        assert len(bounds) <= 1, argument
        default = default.removeprefix("default ")
        rows[argument] = {"type": kind, "default": default, "bounds": "".join(bounds)}
    return rows


def value(text):
    """The Python value that is written in backticks."""
    assert re.fullmatch(r"`[^`]+`", text), text
    return eval(text.strip("`"), {"Backoff": Backoff})


ARGUMENTS, AWS = arguments(), table('`preset="aws"`')
RANGES = [
    pytest.param(argument, row["bounds"], preset, id=f"{argument}-{preset}")
    for preset, rows in ((None, ARGUMENTS), ("aws", AWS))
    for argument, row in rows.items()
    if re.match(r"(above )?`[^`]+` to `", row["bounds"])
]


def registered(**options):
    """The mapping of a function with these arguments."""
    app = App("shop")
    app.stream("orders", **options)(handler)
    [mapping] = app.mappings
    return mapping


def handler(batch):
    """Do nothing."""


def is_taken(argument, given, preset=None):
    options = {"preset": preset, argument: given}
    try:
        registered(**options)
    except ConfigError as error:
        if error.field != argument:
            raise
        return False
    return True


class TestArguments:
    """Tests for the list of arguments."""

    def test_every_argument_has_a_row_in_the_order_of_the_code(self):
        assert list(ARGUMENTS) == list(StreamOptions.__annotations__)

    @pytest.mark.parametrize("argument", ARGUMENTS)
    def test_its_type_is_that_of_the_code(self, argument):
        word, may_be_none, _ = re.fullmatch(
            r"(.*?)( or `None`)?()", ARGUMENTS[argument]["type"]
        ).groups()

        allowed = [kind | None if may_be_none else kind for kind in TYPES[word]]
        assert ANNOTATIONS[argument] in allowed

    @pytest.mark.parametrize("argument", ARGUMENTS)
    def test_its_default_is_what_counts_without_it(self, argument):
        default = value(ARGUMENTS[argument]["default"])

        assert registered(**{argument: default}) == registered()

    @pytest.mark.parametrize(("argument", "bounds", "preset"), RANGES)
    def test_its_bounds_are_taken_and_what_is_beyond_is_not(self, argument, bounds, preset):
        low, high = map(value, re.findall(r"`[^`]+`", bounds)[:2])
        step = 1
        if ANNOTATIONS[argument] in {str | float | timedelta, str | float | timedelta | None}:
            low, high, step = parse_duration(low), parse_duration(high), timedelta(microseconds=1)

        assert is_taken(argument, high, preset)
        assert not is_taken(argument, high + step, preset)
        assert is_taken(argument, low, preset) != bounds.startswith("above")
        assert not is_taken(argument, low - step, preset)

    def test_all_numbers_and_durations_have_bounds(self):
        counted = {"whole number", "duration", "size"}
        asked = {
            argument
            for argument, row in ARGUMENTS.items()
            if row["type"].removesuffix(" or `None`") in counted
        }

        assert asked == {each.values[0] for each in RANGES if each.values[2] is None}

    @pytest.mark.parametrize("argument", ["input", "on_exhausted", "on_corruption", "preset"])
    def test_each_word_of_a_choice_is_taken(self, argument):
        words = re.findall(r'`("[^"]+")`', ARGUMENTS[argument]["bounds"])

        assert words
        assert all(is_taken(argument, value(f"`{word}`")) for word in words)
        assert not is_taken(argument, "nothing")


class TestPreset:
    """Tests for the table of AWS's values."""

    def test_it_has_all_that_the_preset_sets_or_bounds(self):
        preset = PRESETS["aws"]

        assert set(AWS) == set(preset.values) | set(preset.bounds)
        assert {each for each, row in AWS.items() if row["bounds"]} == set(preset.bounds)

    @pytest.mark.parametrize("argument", AWS)
    def test_its_default_is_what_counts_without_it(self, argument):
        default = value(AWS[argument]["default"])

        assert registered(**{argument: default}, preset="aws") == registered(preset="aws")


BY_REQUEST = arguments("Arguments of `@app.function`")


def is_taken_by_request(handler, **options):
    try:
        App("shop").function(**options)(handler)
    except ConfigError as error:
        if error.field not in options:
            raise
        return False
    return True


class TestByRequest:
    """Tests for the list of arguments of `@app.function`."""

    def test_every_argument_has_an_entry(self):
        assert set(BY_REQUEST) == set(FunctionOptions.__annotations__)

    @pytest.mark.parametrize("argument", BY_REQUEST)
    def test_its_default_is_what_counts_without_it(self, argument):
        def config(**options):
            app = App("shop")
            app.function(**options)(handler)
            return app.functions

        assert config(**{argument: value(BY_REQUEST[argument]["default"])}) == config()

    @pytest.mark.parametrize("argument", ["timeout", "concurrency", "memory", "per_process"])
    def test_its_bounds_are_taken_and_what_is_beyond_is_not(self, argument):
        async def waits(event): ...

        bounds = BY_REQUEST[argument]["bounds"]
        low, high = map(value, re.findall(r"`[^`]+`", bounds)[:2])
        step = 1
        if argument == "timeout":
            low, high, step = (
                timedelta(seconds=low),
                parse_duration(high),
                timedelta(microseconds=1),
            )
        elif argument == "memory":
            low = parse_size(low)

        assert is_taken_by_request(waits, **{argument: high})
        assert not is_taken_by_request(waits, **{argument: high + step})
        assert is_taken_by_request(waits, **{argument: low}) != bounds.startswith("above")
        assert not is_taken_by_request(waits, **{argument: low - step})

    def test_a_process_runs_one_call_of_a_def_function(self):
        assert is_taken_by_request(handler, per_process=1)
        assert not is_taken_by_request(handler, per_process=2)
