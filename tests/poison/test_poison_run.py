"""A small part of what `make poison` does at length: bad records in a batch of 1,000.

Left out here, because each death costs the start of a process: 3 and 50 records that take their
process along, and the default waits. `tests/testing/test_hard_times.py` has all numbers and places
without processes.
"""

import pytest
from poison_run import BATCH, FIRST, KINDS, Call, Case, Outcome, run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_record_is_set_aside_within_22_calls(tmp_path, kind):
    """The last of the batch is the deepest: no place costs more."""
    outcome = run(Case(kind, 1, "last"), tmp_path, in_a_hurry=True)

    print(f"{len(outcome.about_the_poison)} calls, {outcome.seconds:.1f} s")
    assert outcome.findings() == []


@pytest.mark.parametrize("count", [3, 50])
def test_records_that_raise_are_set_aside_within_58_and_577_calls(tmp_path, count):
    outcome = run(Case("raise", count, "1"), tmp_path, in_a_hurry=True)

    print(f"{len(outcome.about_the_poison)} calls, {outcome.seconds:.1f} s")
    assert outcome.findings() == []


class TestFindings:
    """The judge is judged: what must be found is found."""

    CASE = Case("kill", 1, "first")
    LETTER = (FIRST, 2, "FunctionCrashed")
    CLEAN = (Call(0.0, 0, BATCH - 1, 0.1), Call(9.0, 2 * BATCH, 3 * BATCH - 1, 9.1))

    def outcome(self, *, poisoned=((FIRST, None), (FIRST + 1, 2.0)), dead=(LETTER,), code=0):
        """Calls from each of these records to the next, between the calls beside them."""
        starts = [first for first, _ in poisoned] + [FIRST + BATCH]
        calls = [
            Call(1.0, first, following - 1, ended)
            for (first, ended), following in zip(poisoned, starts[1:], strict=True)
        ]
        return Outcome(self.CASE, code, [self.CLEAN[0], *calls, self.CLEAN[1]], list(dead), 1.0)

    def test_nothing_is_found_when_all_is_well(self):
        assert self.outcome().findings() == []

    @pytest.mark.parametrize(
        "dead", [(), (LETTER, LETTER), ((FIRST + 1, 2, "FunctionCrashed"),),
                 ((FIRST, 3, "FunctionCrashed"),), ((FIRST, 2, "ValueError"),)]
    )  # fmt: skip
    def test_other_dead_letters(self, dead):
        [finding] = self.outcome(dead=dead).findings()
        assert finding.startswith("dead letters")

    def test_a_call_too_many(self):
        calls = [(FIRST, None), *((FIRST + n, 2.0) for n in range(1, 23))]
        assert self.outcome(poisoned=calls[:22]).findings() == []
        assert self.outcome(poisoned=calls).findings() == ["23 calls, more than 22"]

    def test_an_innocent_record_that_was_never_done(self):
        [finding] = self.outcome(poisoned=((FIRST, None), (FIRST + 2, 2.0))).findings()
        assert "innocent" in finding

    def test_an_exit_code(self):
        assert self.outcome(code=3).findings() == ["the worker ended with 3"]
