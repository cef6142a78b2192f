"""Tests for `streamfn.engine.response`."""

import pytest

from streamfn.engine.outcome import Failed, Reported, Success
from streamfn.engine.response import read


def report(*identifiers):
    return {"batchItemFailures": [{"itemIdentifier": each} for each in identifiers]}


class TestRead:
    """Tests for `read`."""

    @pytest.mark.parametrize(
        "returned", ["", [], None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}]
    )
    def test_the_six_empty_forms_are_success(self, kit, returned):
        """K-27."""
        assert isinstance(read(returned, kit.records_of("abc")), Success)

    @pytest.mark.parametrize("returned", [0, 42, "done", True, {"statusCode": 200}, [1], object()])
    def test_anything_else_that_is_no_report_is_success(self, kit, returned):
        assert isinstance(read(returned, kit.records_of("abc")), Success)

    @pytest.mark.parametrize("identifiers", [("102", "101"), (102, 101), ("101",), ("101", "101")])
    def test_the_lowest_number_counts(self, kit, identifiers):
        """K-26, by value and not as text."""
        assert read(report(*identifiers), kit.records_of("abc")).lowest == 101

    def test_numbers_are_compared_as_numbers(self, kit):
        assert read(report("10", "9"), kit.records_of("abcd", first=8)).lowest == 9

    @pytest.mark.parametrize(
        "returned",
        [
            report(""),
            report(None),
            report("123456"),
            report("-101"),
            report(True),
            report(101.0),
            report("101x"),
            report("\u0661\u0660\u0661"),  # digits, but not ASCII ones
            report(2**70),
            {"batchItemFailures": [{"foo": 123}]},
            {"batchItemFailures": [{"foo": None}]},
            {"batchItemFailures": ["101"]},
            {"batchItemFailures": "101"},
            {"batchItemFailures": {"itemIdentifier": "101"}},
            {"batchItemFailures": 0},
        ],
    )
    def test_a_malformed_or_unknown_item_fails_the_whole_batch(self, kit, returned):
        """K-28."""
        outcome = read(returned, kit.records_of("abc"))

        assert isinstance(outcome, Failed)
        assert outcome.failure.error_type == "InvalidResponse"
        assert "batchItemFailures" in outcome.failure.error_message

    def test_one_bad_item_among_good_ones_fails_it_too(self, kit):
        assert isinstance(read(report("101", "7"), kit.records_of("abc")), Failed)

    def test_a_report_says_how_many(self, kit):
        outcome = read(report("100", "102"), kit.records_of("abc"))

        assert isinstance(outcome, Reported)
        assert outcome.failure.error_message.startswith("2 of 3 records")
