"""docs/conformance.md is what the tests say, and no fact is missing from it."""

import conformance
import pytest


def numbers(letter, *ranges):
    return {f"{letter}-{n}" for first, last in ranges for n in range(first, last + 1)}


ALL = numbers("G", (1, 12)) | numbers("K", (1, 16), (20, 36)) | numbers("W", (1, 6))
ALL |= numbers("I", (1, 13))


def test_every_fact_has_a_verdict():
    assert set(conformance.FACTS) == ALL


@pytest.mark.parametrize("identity", sorted(ALL))
def test_a_fact_that_is_held_has_a_test_and_any_other_a_reason(identity):
    fact = conformance.FACTS[identity]
    if fact["verdict"] in {"held", "aws"}:
        assert conformance.marked_tests().get(identity), "no test carries its mark"
    else:
        assert fact["why"]


def test_no_test_names_a_fact_that_is_none():
    assert set(conformance.marked_tests()) <= ALL


def test_the_page_is_up_to_date():
    """`python tests/conformance/conformance.py` writes it."""
    assert conformance.PAGE.read_text() == conformance.page()
