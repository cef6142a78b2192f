"""Tests for `streamfn filter`."""

import pytest
from click.testing import CliRunner

from streamfn.cli.exits import Exit, exit_code
from streamfn.cli.main import streamfn

PATTERN = '{"data":{"amount":[{"numeric":[">",100]}]}}'
DEAR, CHEAP = '{"data":{"amount":101}}', '{"data":{"amount":12}}'


@pytest.fixture
def run():
    """Runs `streamfn filter test` and returns its exit code and its data."""

    def run(*args, input=""):
        arguments = ["filter", "test", *args]
        ended = CliRunner().invoke(streamfn, arguments, input=input, standalone_mode=False)
        code = ended.return_value if ended.exception is None else exit_code(ended.exception)
        return code, ended.stdout

    return run


def test_a_match_exits_0(run):
    assert run(PATTERN, DEAR) == (Exit.OK, "matches\n")


def test_a_mismatch_exits_1_and_names_the_field(run):
    code, said = run(PATTERN, CHEAP)

    assert code == Exit.FAILED
    assert said.splitlines() == [
        "does not match",
        '  data.amount: wants [{"numeric":[">",100]}], found 12',
    ]


def test_json_has_every_pattern(run):
    import orjson

    code, said = run("--json", f"[{PATTERN},{PATTERN}]", CHEAP)

    assert code == Exit.FAILED
    found = orjson.loads(said)
    assert found["matched"] is False
    mismatch = {"field": "data.amount", "wanted": '[{"numeric":[">",100]}]', "found": "12"}
    assert found["patterns"] == [{"matched": False, "mismatches": [mismatch]}] * 2


def test_both_come_from_files_or_standard_input(run, tmp_path):
    path = tmp_path / "pattern.json"
    path.write_text(PATTERN)

    assert run(f"@{path}", "-", input=DEAR)[0] == Exit.OK
    assert run("-", CHEAP, input=PATTERN)[0] == Exit.FAILED


@pytest.mark.parametrize("event", ["[1]", "{", "@no-such-file"])
def test_what_is_no_event_is_usage(run, event):
    assert run(PATTERN, event)[0] == Exit.USAGE


@pytest.mark.parametrize("pattern", ['{"data":{"amount":100}}', "{", "[]", "5"])
def test_what_is_no_pattern_is_configuration(run, pattern):
    assert run(pattern, DEAR)[0] == Exit.CONFIG
