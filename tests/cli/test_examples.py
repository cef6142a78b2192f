"""Tests for the examples in the help of each command."""

import shlex

import click
import pytest
from click.testing import CliRunner

from streamfn.cli.examples import EXAMPLES
from streamfn.cli.main import COMMANDS, streamfn

WITHOUT = {"filter test", "fsck", "bench", "demo"}
"""Commands whose help says all in its text."""


def leaves():
    """All commands that are no groups, by their path."""
    context = click.Context(streamfn, info_name="streamfn")
    found = {}
    for name in COMMANDS:
        command = streamfn.get_command(context, name)
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=context)
            for each in command.list_commands(inner):
                found[f"{name} {each}"] = command.get_command(inner, each)
        else:
            found[name] = command
    return found


def test_every_command_has_examples():
    assert set(leaves()) - WITHOUT == set(EXAMPLES)
    assert "Examples:\n  streamfn stream set" in leaves()["stream set"].epilog


@pytest.mark.parametrize(
    ("path", "example"), [(path, each) for path, several in EXAMPLES.items() for each in several]
)
def test_every_example_is_accepted(path, example):
    arguments = shlex.split(example)[len(path.split()) :]

    leaves()[path].make_context(path, arguments)  # raises what the command line would say


def test_no_sentence_of_the_commands_is_cut():
    for group in ([], ["stream"], ["fn"], ["dlq"]):
        assert "..." not in CliRunner().invoke(streamfn, [*group, "--help"]).output.partition(
            "Commands:"
        )[2]  # fmt: skip
