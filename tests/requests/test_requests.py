"""The plan and the judges of `make requests`, and the campaign at a size that fits the tests."""

from collections import Counter

import pytest
import requests_calls
import requests_kills
from requests_plan import ERRORS, SHARES, Call, make_calls

from streamfn.errors import FunctionError, WorkerUnavailable


class TestPlan:
    def test_a_seed_makes_the_same_calls(self):
        assert make_calls(7, 500) == make_calls(7, 500) != make_calls(8, 500)

    def test_each_kind_has_its_share(self):
        kinds = Counter(call.does for call in make_calls(1, 10_000))

        assert {kind: kinds[kind] / 10_000 for kind in SHARES} == SHARES
        assert kinds["good"] == 9_600

    def test_few_calls_have_one_of_each_kind(self):
        kinds = Counter(call.does for call in make_calls(1, 20))

        assert [kinds[kind] for kind in SHARES] == [1] * len(SHARES)

    def test_names_are_unique(self):
        assert len({call.name for call in make_calls(1, 1_000)}) == 1_000


class TestAnswers:
    """What must be found is found."""

    GOOD = Call("c1", "good", "text")

    def test_the_own_answer_is_right(self):
        assert self.GOOD.finding({"name": "c1", "text": "text"}) is None

    @pytest.mark.parametrize(
        "answer",
        [
            {"name": "c2", "text": "text"},
            {"name": "c1", "text": ""},
            None,
            FunctionError("Runtime.ExitError", "signal: segmentation fault"),
            WorkerUnavailable("work", "why"),
        ],
    )
    def test_any_other_is_found(self, answer):
        assert self.GOOD.finding(answer).startswith("call c1 (good) got ")

    @pytest.mark.parametrize("kind", ERRORS)
    def test_an_error_must_be_that_of_its_kind(self, kind):
        call = Call("c1", kind, "")

        assert call.finding(FunctionError(ERRORS[kind][0], f"… {ERRORS[kind][1]}")) is None
        assert call.finding(FunctionError(ERRORS[kind][0], "another")) is not None
        assert call.finding(FunctionError("Another", ERRORS[kind][1])) is not None
        assert call.finding({"name": "c1", "text": ""}) is not None


class TestKills:
    """What must be found is found."""

    def checked(self, tmp_path, lines, deaths=(), ran=""):
        (tmp_path / "caller-0").write_text("\n".join(lines))
        (tmp_path / "ran").write_text(ran)
        outcome = requests_kills.Outcome()
        requests_kills._check_calls(tmp_path, list(deaths), outcome)
        requests_kills._check_runs(tmp_path, outcome)
        return outcome

    def test_calls_that_end_in_time_are_right(self, tmp_path):
        lines = ["begin a 10.0 0.3", "end a 12.2 ok", "begin b 13.0 0", "stopped"][:2]

        assert self.checked(tmp_path, [*lines, "stopped"]).findings == []

    def test_the_time_counts_from_the_last_death(self, tmp_path):
        lines = ["begin a 10.0 0", "end a 15.0 Runtime.WorkerLost x", "stopped"]

        assert self.checked(tmp_path, lines, deaths=[9.0, 13.5, 16.0]).findings == []
        [found] = self.checked(tmp_path, lines, deaths=[9.0, 12.9, 16.0]).findings
        assert found.startswith("call a ended 2.10 s after the last death")

    @pytest.mark.parametrize("how", ["wrong {}", "Runtime.MarshalError x", "KeyError x"])
    def test_a_wrong_end_is_found(self, tmp_path, how):
        lines = ["begin a 10.0 0", f"end a 10.1 {how}", "stopped"]

        assert self.checked(tmp_path, lines).findings == [f"call a ended with {how}"]

    def test_a_call_that_never_ends_is_found_but_for_killed_callers(self, tmp_path):
        assert self.checked(tmp_path, ["begin a 10.0 0"]).findings == []
        assert len(self.checked(tmp_path, ["begin a 10.0 0", "stopped"]).findings) == 1

    def test_a_call_that_ran_twice_is_found(self, tmp_path):
        assert self.checked(tmp_path, [], ran="a\nb\n").findings == []
        assert self.checked(tmp_path, [], ran="a\nb\na\n").findings == [
            "calls that ran more than once: ['a']"
        ]


@pytest.mark.slow
def test_no_neighbour_of_a_failing_call_is_harmed(tmp_path):
    outcome = requests_calls.run(200, 16, 1, tmp_path)

    assert outcome.findings == []
    assert outcome.kinds["good"] >= 190
    assert outcome.starts > 1


@pytest.mark.slow
def test_callers_get_answers_or_errors_whatever_is_killed(tmp_path):
    outcome = requests_kills.run(8, 1, tmp_path)

    assert outcome.findings == []
    assert set(outcome.kills) == set(requests_kills.KINDS)
    assert outcome.ends["ok"] > 0
