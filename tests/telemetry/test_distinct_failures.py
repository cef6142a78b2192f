"""Tests for `telemetry.distinct_failures`."""

from streamfn.telemetry.distinct_failures import KINDS_MAX, MINUTE, DistinctFailures


def failed(error_type="ValueError", **fields):
    about = {"mapping": "shop.total", "location": "shop.py:3", "error_message": "no"}
    return {"event": "function_failed", "error_type": error_type, **about, **fields}


def test_the_first_has_a_line_and_the_others_a_count_a_minute():
    failures = DistinctFailures()
    assert [failures.is_new(failed(), now) for now in (0.0, 1.0, 2.0)] == [True, False, False]
    assert list(failures.due(MINUTE - 1)) == []
    [counted] = failures.due(MINUTE)
    assert (counted["event"], counted["times"], counted["seconds"]) == ("failures_repeated", 2, 60)
    assert (counted["error_type"], counted["location"]) == ("ValueError", "shop.py:3")
    assert not failures.is_new(failed(), MINUTE + 1)
    [counted] = failures.due(2 * MINUTE)
    assert counted["times"] == 1


def test_one_that_did_not_come_for_a_minute_is_new_again():
    failures = DistinctFailures()
    assert failures.is_new(failed(), 0.0)
    assert list(failures.due(MINUTE)) == []
    assert failures.is_new(failed(), MINUTE + 1)


def test_what_differs_in_kind_is_told_apart_and_what_differs_in_its_words_is_not():
    failures = DistinctFailures()
    assert failures.is_new(failed(), 0.0)
    for field in ("error_type", "mapping", "location", "event"):
        other = "dead_lettered" if field == "event" else "other"
        assert failures.is_new(failed() | {field: other}, 0.0)
    assert not failures.is_new(failed(error_message="other words", sequence_number=9), 0.0)


def test_beyond_the_bound_failures_are_counted_together():
    failures = DistinctFailures()
    for number in range(KINDS_MAX):
        assert failures.is_new(failed(location=f"shop.py:{number}"), 0.0)
    for number in range(5):
        assert not failures.is_new(failed(location=f"other.py:{number}"), 1.0)
    assert [each["event"] for each in failures.due(MINUTE)] == []
    assert list(failures.due(MINUTE + 1)) == [{"event": "other_failures", "times": 5}]
    assert failures.is_new(failed(location="other.py:1"), MINUTE + 2)


def test_at_the_end_nothing_is_left_out():
    failures = DistinctFailures()
    failures.is_new(failed(), 0.0)
    failures.is_new(failed(), 0.0)
    assert [each["times"] for each in failures.due(1.0, is_end=True)] == [1]


def test_other_events_always_have_a_line():
    failures = DistinctFailures()
    assert all(failures.is_new({"event": "runner_died"}, 0.0) for _ in range(3))
