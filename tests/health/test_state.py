"""Tests for `streamfn.health.state`."""

from pathlib import Path

from streamfn.health.state import State, worst, worst_function

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_first_state_in_the_order_counts():
    assert worst([State.IDLE, State.RUNNING, State.FAILING]) is State.FAILING
    assert worst([State.FAILING, State.BLOCKED, State.WAITING]) is State.BLOCKED
    assert worst([State.BLOCKED, State.PAUSED]) is State.PAUSED
    assert worst([]) is State.IDLE


def test_a_paused_function_says_nothing_about_its_worker():
    assert worst_function([State.PAUSED, State.FAILING]) is State.FAILING
    assert worst_function([State.PAUSED]) is State.PAUSED


def test_the_docs_have_each_word_with_its_meaning_in_the_order_of_precedence():
    rows = [f"| `{state}` | {state.meaning} |" for state in State]

    assert "\n".join(rows) in OPERATIONS.read_text()
