"""Where event patterns are read as AWS's engine reads them, and where they differ on purpose.

SOURCE: docs/filters.md, "Beside AWS". Names with dots are compared with `naive_matcher`, which
knows nothing of routes.
"""

import itertools
import json
import time

import naive_matcher
import pytest

from streamfn import ConfigError, _core


def match(pattern, event):
    """Whether a pattern, as an object, matches an event, as an object or as JSON text."""
    text = event if isinstance(event, str) else json.dumps(event)
    return _core.Filter([json.dumps(pattern)]).matches([text.encode()])[0]


class TestNamesWithDots:
    """`{"a.b": 1}` is `{"a": {"b": 1}}`, also where both stand beside each other."""

    def test_a_field_that_is_there_by_its_other_spelling_is_not_missing(self):
        absent = {"a": {"b": [{"exists": False}]}, "c": [1]}
        assert not match(absent, {"c": 1, "a": [{"x": 1}], "a.b": 1})
        assert not match(absent, {"a.b": 1, "a": [{"x": 1}], "c": 1})
        assert match(absent, {"c": 1, "a": [{"x": 1}], "a.d": 1})

    @pytest.mark.parametrize("event", ['{"a":{"b":1},"a.b":2}', '{"a.b":2,"a":{"b":1}}'])
    @pytest.mark.parametrize("wanted", [1, 2])
    def test_a_value_may_stand_under_either_spelling(self, event, wanted):
        assert match({"a": {"b": [wanted]}}, event)
        assert match({"a.b": [wanted]}, event)

    def test_fields_within_one_array_still_match_in_one_element(self):
        pattern = {"a": {"b": [1], "c": [2], "d": [3]}}
        assert not match(pattern, {"a.b": 1, "a": [{"c": 2}, {"d": 3}]})
        assert match(pattern, {"a.b": 1, "a": [{"c": 2, "d": 3}]})

    WHOLES = (1, 2, {"c": 1}, {"b": 1}, {"b": 2, "c": 1})
    PARTS = (
        *([], [{"b": 1}], [{"b": 2}, {"c": 1}], [{"c": 1}, {"c": 2}], [{"b": 1, "c": 2}, {"c": 1}]),
        *({"b": [1, 2]}, {"b": 3}, {"b": {"c": 1}}, [{"b": [{"c": 1}, {"d": 2}]}, {"b": 1}]),
    )
    PATTERNS = (
        {"a": {"b": [1]}},
        {"a": {"b": [{"exists": False}]}},
        {"a": {"b": [{"exists": False}], "c": [1]}},
        {"a": {"b": [1], "c": [1]}},
        {"a": {"b": [1, {"exists": False}], "c": [2, {"exists": False}]}},
        {"a": {"b": [{"anything-but": 1}], "c": [{"exists": False}]}},
        {"a": {"b": {"c": [1]}}},
        {"a": {"b": {"c": [{"exists": False}], "d": [2]}}},
        {"a": {"b": {"c": [1], "d": [{"exists": False}]}, "c": [{"exists": False}]}},
    )

    @pytest.mark.parametrize("pattern", PATTERNS, ids=json.dumps)
    def test_two_spellings_are_judged_as_by_who_tries_everything(self, pattern):
        found = set()
        names = ("a.b", "a.c", "a.b.c")
        for name, whole, part in itertools.product(names, self.WHOLES, self.PARTS):
            for event in ({name: whole, "a": part}, {"a": part, name: whole}):
                expected = naive_matcher.matches([pattern], json.dumps(event))
                assert match(pattern, event) == expected, event
                found.add(expected)
        assert True in found

    def test_an_event_with_very_many_spellings_is_judged_in_bounded_time(self):
        names = [f"n{i}" for i in range(12)]
        pattern = {"a": {name: [1, {"exists": False}] for name in names}}
        elements = [dict.fromkeys(names[i:], 2) for i in range(len(names))] * 50
        event = {"a": elements, **{f"a.{name}": [2, 3] for name in names}}
        began = time.process_time()
        assert match(pattern, event) is False
        assert time.process_time() - began < 30


class TestWhatAwsTakes:
    """What AWS's engine accepts beyond its documentation is accepted."""

    def test_exactly_is_an_equal_text(self):
        pattern = {"a": [{"exactly": "x"}]}
        assert match(pattern, {"a": "x"})
        assert match(pattern, {"a": ["y", "x"]})
        for other in ("X", "xx", "", None, 1, {"exactly": "x"}):
            assert not match(pattern, {"a": other})

    @pytest.mark.parametrize("operand", [1, None, True, ["x"], {"prefix": "x"}])
    def test_exactly_takes_a_text_alone(self, operand):
        with pytest.raises(ConfigError) as caught:
            match({"a": [{"exactly": operand}]}, {})
        assert "a[0].exactly" in str(caught.value)


class TestDifferencesOnPurpose:
    """What docs/filters.md says of where the two differ."""

    def test_a_cidr_of_everything_matches_addresses_of_its_kind_alone(self):
        assert match({"a": [{"cidr": "0.0.0.0/0"}]}, {"a": "255.255.255.255"})
        assert match({"a": [{"cidr": "::/0"}]}, {"a": "ffff::1"})
        for text in ("", "x", "1.2.3", "::1"):
            assert not match({"a": [{"cidr": "0.0.0.0/0"}]}, {"a": text})
        for text in ("", "x", "1.2.3.4"):
            assert not match({"a": [{"cidr": "::/0"}]}, {"a": text})

    def test_a_cidr_may_be_one_address(self):
        assert match({"a": [{"cidr": "10.0.0.1/32"}]}, {"a": "10.0.0.1"})
        assert match({"a": [{"cidr": "::1/128"}]}, {"a": "::1"})

    def test_an_address_as_a_value_is_a_text(self):
        assert match({"a": ["::1"]}, {"a": "::1"})
        assert not match({"a": ["::1"]}, {"a": "0:0:0:0:0:0:0:1"})

    @pytest.mark.parametrize(
        ("one", "other", "equal"),
        [
            ("Straße", "STRASSE", False),
            ("ß", "ẞ", True),
            ("\u03c3", "Σ", True),
            ("ς", "Σ", False),
            ("\u017f", "s", False),
            ("k", "\u212a", True),
            ("\U00010428", "\U00010400", True),
            ("i", "İ", False),
        ],
    )
    def test_texts_are_equal_without_case_if_their_small_letters_are(self, one, other, equal):
        assert match({"a": [{"equals-ignore-case": one}]}, {"a": other}) is equal
        assert match({"a": [{"equals-ignore-case": other}]}, {"a": one}) is equal

    def test_a_value_and_an_object_in_one_array_are_two_elements(self):
        assert match({"a": [1]}, {"a": [1, {"b": 2}]})
        assert match({"a": {"b": [2]}}, {"a": [1, {"b": 2}]})
        assert not match({"$or": [{"z": [1]}, {"a": {"b": [3]}}]}, {"a": [1, {"b": 2}]})

    def test_the_last_of_two_members_of_one_name_counts(self):
        assert match({"a": [2]}, '{"a":1,"a":2}')
        assert not match({"a": [1]}, '{"a":1,"a":2}')

    def test_numbers_are_doubles(self):
        assert match({"a": [2**53]}, {"a": 2**53 + 1})

    def test_missing_is_judged_in_the_element_in_which_the_others_match(self):
        pattern = {"a": {"b": [1], "c": [{"exists": False}]}}
        assert match(pattern, {"a": [{"b": 1}, {"c": 1}]})
        assert not match(pattern, {"a": [{"b": 1, "c": 1}, {"b": 2}]})
