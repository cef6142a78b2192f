"""The plans and the judge of `make unruly`; the bursts themselves are a campaign, not a test."""

import pytest
from unruly_plan import Burst, Handler, make_burst
from unruly_run import CALM, CALM_RECORDS, Outcome, innocent
from unruly_tricks import TRICKS

EACH = 20


def test_a_seed_makes_one_burst(tmp_path):
    """So that it repeats what failed; each is another one, and the app reads what was made."""
    burst = make_burst(7, EACH)
    burst.write(tmp_path / "plan")

    assert make_burst(7, EACH) == burst == Burst.read(tmp_path / "plan")
    assert make_burst(8, EACH) != burst


def test_every_trick_comes_up():
    """Among those of `make unruly`."""
    handlers = [each for seed in range(1, 101) for each in make_burst(seed, EACH).handlers]

    assert {step for each in handlers for step in each.steps} == set(TRICKS)


class TestFindings:
    """What must be found is found."""

    HANDLER = Handler(0, "batch", False, ("end_well",), 3)

    def outcome(self, **changed):
        burst = Burst(1, (self.HANDLER,), 1, 1)
        calm = {f"c{n}" for n in range(CALM_RECORDS)}
        done = {**{name: set(calm) for name in CALM}, "unruly_0": set(innocent(self.HANDLER))}
        dead = {name: [] for name in done}
        return Outcome(**{"burst": burst, "exit_code": 0, "done": done, "dead": dead} | changed)

    def test_nothing_where_all_is_well(self):
        assert self.outcome().findings() == []

    @pytest.mark.parametrize(("code", "said"), [(None, "did not end"), (143, "ended with 143")])
    def test_how_the_worker_ended(self, code, said):
        assert self.outcome(exit_code=code).findings() == [f"the worker {said}"]

    def test_the_marked_record_may_be_set_aside_and_no_other(self):
        outcome = self.outcome()
        outcome.dead["unruly_0"] = ["marked"]
        assert outcome.findings() == []

        outcome.dead["unruly_0"] = ["marked", "r1"]
        outcome.dead["calm_async"] = ["c2"]
        assert outcome.findings() == [
            "calm_async: 1 innocent set aside: c2",
            "unruly_0: 1 innocent set aside: r1",
        ]

    def test_what_was_never_done(self):
        outcome = self.outcome()
        outcome.done["calm_batch"].discard("c1")
        del outcome.done["unruly_0"]

        [calm, unruly] = outcome.findings()
        assert calm == "calm_batch: 1 never done: c1"
        assert unruly.startswith("unruly_0: 7 never done: r0")

    def test_what_was_left_behind(self):
        outcome = self.outcome(left=["process 7: sleep"], files=["tmpabc"])

        assert outcome.findings() == ["left behind: process 7: sleep", "left behind: tmpabc"]
