"""Tests for `streamfn.explain` and for reading `filter=` (`streamfn.model.filter`)."""

import pytest

from streamfn import App, ConfigError, explain
from streamfn.model.filter import Mismatch
from streamfn.model.mapping import EventSourceMapping

DEAR = {"data": {"amount": [{"numeric": [">", 100]}], "state": ["paid"]}}


def mismatches(pattern, event):
    """Of the only pattern."""
    [result] = explain(pattern, event).patterns
    return [(each.field, each.found) for each in result.mismatches]


class TestExplain:
    """Tests for `explain`."""

    def test_a_match_is_true_and_has_no_mismatches(self):
        found = explain(DEAR, {"data": {"amount": 101, "state": "paid"}})

        assert found
        assert found.matched
        assert mismatches(DEAR, {"data": {"amount": 101, "state": "paid"}}) == []
        assert str(found) == "matches"

    def test_each_field_that_failed_is_named_with_what_was_wanted_and_found(self):
        found = explain(DEAR, {"data": {"amount": 12}})

        assert not found
        assert found.patterns[0].mismatches == (
            Mismatch("data.amount", '[{"numeric":[">",100]}]', "12"),
            Mismatch("data.state", '["paid"]', "nothing: the field is missing"),
        )
        assert str(found).splitlines() == [
            "does not match",
            '  data.amount: wants [{"numeric":[">",100]}], found 12',
            '  data.state: wants ["paid"], found nothing: the field is missing',
        ]

    def test_of_several_patterns_each_has_its_answer(self):
        found = explain([DEAR, {"partitionKey": ["ada"]}], {"partitionKey": "ada"})

        assert found
        assert [each.matched for each in found.patterns] == [False, True]

    def test_of_or_branches_the_one_that_came_closest_is_told(self):
        pattern = {"a": [1], "$or": [{"b": [1], "c": [1]}, {"d": [1]}]}

        assert mismatches(pattern, {"a": 1, "b": 1}) == [("c", "nothing: the field is missing")]

    @pytest.mark.parametrize(
        ("event", "found"),
        [
            ({"a": "x" * 200}, '"' + "x" * 99 + "…"),
            ({"a": [1, "x", None, True, 2]}, '1, "x", null and 2 more'),
            ({"a": [{"b": 1}]}, "an object, which is no value"),
            ({"a": [[]]}, "an empty array, which is no value"),
            ({"b": 1}, "nothing: the field is missing"),
        ],
    )
    def test_what_was_found_is_shown(self, event, found):
        assert mismatches({"a": ["wanted"]}, event) == [("a", found)]

    def test_what_is_spelled_with_dots_is_found(self):
        assert mismatches({"a": {"b": {"c": [1]}}}, {"a.b": [{"c": 2}]}) == [("a.b.c", "2")]

    def test_fields_that_hold_in_different_elements_are_told_together(self):
        [(fields, found)] = mismatches(
            {"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 0}, {"b": 0, "c": 2}]}
        )

        assert fields == "a.b, a.c"
        assert "same element" in found

    def test_an_event_may_be_text(self):
        assert explain(DEAR, '{"data":{"amount":101,"state":"paid"}}')
        assert explain(DEAR, b' {"data":{"amount":101,"state":"paid"}}')

    @pytest.mark.parametrize("event", ["[1]", "1", "{", b"\xff", {"a": {1}}])
    def test_what_is_no_event_is_refused(self, event):
        with pytest.raises(ConfigError) as caught:
            explain(DEAR, event)

        assert caught.value.field == "event"

    def test_an_event_deeper_than_can_be_described_is_matched(self):
        deep = '{"a":' + "[" * 500 + "1" + "]" * 500 + "}"

        assert explain({"a": [1]}, deep)
        assert not explain({"a": [2]}, deep)


class TestRecords:
    """A `Record` is explained as a worker's filter sees it."""

    def test_its_metadata_and_its_json_are_seen(self, make_record):
        record = make_record(b'{"amount":101}', "ada", sequence_number=7)

        assert explain({"data": {"amount": [101]}, "partitionKey": ["ada"]}, record)
        assert explain({"sequenceNumber": ["7"], "kinesisSchemaVersion": ["1.0"]}, record)
        assert mismatches({"partitionKey": ["bob"]}, record) == [("partitionKey", '"ada"')]

    def test_a_record_without_a_key_has_none(self, make_record):
        assert explain({"partitionKey": [{"exists": False}]}, make_record(b"{}"))

    def test_data_that_is_not_json_is_named(self, make_record):
        [(field, found)] = mismatches({"data": {"a": [{"exists": False}]}}, make_record(b"plain"))

        assert field == "data"
        assert "not JSON: plain" in found

    def test_data_that_is_not_json_does_not_matter_to_metadata(self, make_record):
        record = make_record(b"plain", "ada")

        assert explain({"partitionKey": ["ada"]}, record)
        assert mismatches({"partitionKey": ["bob"]}, record) == [("partitionKey", '"ada"')]


def refused(pattern, **more):
    """The `ConfigError` of a decorator with this filter."""
    with pytest.raises(ConfigError) as caught:
        App("shop").stream("orders", filter=pattern, **more)
    return caught.value.field, caught.value.reason


class TestTheArgument:
    """Tests for `filter=` of `App.stream`."""

    @pytest.mark.parametrize(
        "given",
        [
            {"data": {"a": [1]}},
            [{"data": {"a": [1]}}],
            '{"data":{"a":[1]}}',
            ['{"data":{"a":[1]}}'],
            '[{"data":{"a":[1]}}]',
        ],
    )
    def test_it_is_a_dict_a_list_of_them_or_json(self, given):
        app = App("shop")
        app.stream("orders", name="f", filter=given)(lambda batch: None)

        [mapping] = app.mappings
        assert mapping.filter == ('{"data":{"a":[1]}}',)
        assert EventSourceMapping.from_dict(mapping.to_dict()) == mapping

    def test_none_delivers_all(self):
        app = App("shop")
        app.stream("orders", name="f", filter=None)(lambda batch: None)

        assert app.mappings[0].filter == ()
        assert app.mappings[0].compiled_filter() is None

    def test_a_wrong_operator_is_refused_with_its_place_and_the_fix(self):
        field, reason = refused({"data": {"amount": ["x", {"greater": 5}]}})

        assert field == "filter.data.amount[1].greater"
        assert "use one of `prefix`" in reason

    def test_of_several_patterns_the_wrong_one_is_named(self):
        field, _ = refused([{"data": {"a": [1]}}, {"data": {"a": 1}}])

        assert field == "filter[1].data.a"

    def test_a_field_that_no_record_has_is_refused_with_the_way_out(self):
        """The commonest mistake: what is in the payload lies in `data`."""
        field, reason = refused({"amount": [1]})

        assert field == "filter.amount"
        assert '{"data": {"amount": …}}' in reason

    @pytest.mark.parametrize(
        ("given", "field", "word"),
        [
            ([], "filter", "leave `filter` out"),
            (5, "filter", "not an event pattern"),
            (b"{}", "filter", "not an event pattern"),
            ([5], "filter[0]", "not an event pattern"),
            ("{", "filter", "not JSON"),
            (["{"], "filter[0]", "not JSON"),
            ('"x"', "filter", "not an event pattern"),
            ({"data": {"a": [{1}]}}, "filter", "cannot be written as JSON"),
            ({"data": {"a": [float("nan")]}}, "filter", "cannot be written as JSON"),
        ],
    )
    def test_what_is_no_pattern_is_refused(self, given, field, word):
        found, reason = refused(given)

        assert found == field
        assert word in reason
