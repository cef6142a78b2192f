"""Every operator of event patterns: what matches, what does not, what is refused.

The ids name the fact they hold: 7.1 and the operator are the rows of the language, 1.6 the table of
filters on streams. SOURCE: the documentation of Amazon EventBridge and AWS Lambda, and what
TestEventPattern was recorded to answer.
"""

import json

import pytest

from streamfn import ConfigError, _core, explain


def value(alternatives):
    """A pattern on the field `a`."""
    return {"a": alternatives}


BOTH = {"a": {"b": [1], "c": [2]}}
OR = {"$or": [{"a": [1]}, {"b": [2]}], "c": [3]}

# fact, pattern, events that match, events that do not
LANGUAGE = [
    (
        "7.1 exact text",
        value(["x"]),
        ['"x"', '["y","x"]', '"\\u0078"'],
        ['"X"', '"xx"', "null", "{}"],
    ),
    ("7.1 exact empty text", value([""]), ['""'], ['" "', "null", "[]"]),
    ("7.1 exact number", value([300]), ["300", "300.0", "3e2"], ['"300"', "301", "true"]),
    ("7.1 exact zero", value([0]), ["0", "-0", "0.0"], ["false", "null", '""']),
    ("7.1 exact true", value([True]), ["true"], ["false", '"true"', "1"]),
    ("7.1 exact false", value([False]), ["false"], ["true", "null", "0"]),
    ("7.1 exact null", value([None]), ["null", "[1,null]"], ['"null"', "[]", "0"]),
    ("7.1 any of several", value(["x", 1]), ['"x"', "1"], ['"1"']),
    ("7.1 arrays intersect", value(["x", "y"]), ['["z","y"]', '[["x"]]'], ['["z"]', "[]"]),
    ("7.1 prefix", value([{"prefix": "ab"}]), ['"ab"', '"abc"'], ['"aB"', '"a"', "12"]),
    ("7.1 prefix of nothing", value([{"prefix": ""}]), ['""', '"x"'], ["1", "null"]),
    ("7.1 prefix of a number", value([{"prefix": "1"}]), ['"12"'], ["12"]),
    ("7.1 suffix", value([{"suffix": "bc"}]), ['"bc"', '"abc"'], ['"abC"', '"c"', "12"]),
    ("7.1 suffix of nothing", value([{"suffix": ""}]), ['""', '"x"'], ["1"]),
    (
        "7.1 prefix ignoring case",
        value([{"prefix": {"equals-ignore-case": "éA"}}]),
        ['"Éab"', '"éA"'],
        ['"eab"', '"é"'],
    ),
    (
        "7.1 suffix ignoring case",
        value([{"suffix": {"equals-ignore-case": "PNG"}}]),
        ['"x.png"', '"x.Png"'],
        ['"png.x"', '"g"'],
    ),
    ("7.1 equals-ignore-case", value([{"equals-ignore-case": "Ada"}]), ['"aDA"'], ['"adam"', "1"]),
    ("7.1 equals-ignore-case empty", value([{"equals-ignore-case": ""}]), ['""'], ['"x"']),
    (
        "7.1 wildcard",
        value([{"wildcard": "a*b"}]),
        ['"ab"', '"axxb"', '"abab"'],
        ['"aba"', '"xab"'],
    ),
    ("7.1 wildcard at the ends", value([{"wildcard": "*a*"}]), ['"a"', '"bab"'], ['"b"', '""']),
    ("7.1 wildcard alone", value([{"wildcard": "*"}]), ['""', '"x"'], ["1"]),
    ("7.1 wildcard parts in order", value([{"wildcard": "a*b*a"}]), ['"aba"'], ['"ab"', '"aa"']),
    ("7.1 wildcard escapes", value([{"wildcard": "a\\*\\\\*"}]), ['"a*\\\\x"'], ['"ax\\\\x"']),
    ("7.1 wildcard empty", value([{"wildcard": ""}]), ['""'], ['"x"']),
    ("7.1 anything-but text", value([{"anything-but": "x"}]), ['"y"', "1", "null"], ['"x"', "[]"]),
    ("7.1 anything-but texts", value([{"anything-but": ["x", "y"]}]), ['"z"'], ['"x"', '"y"']),
    ("7.1 anything-but numbers", value([{"anything-but": [1, 2]}]), ["3", '"1"'], ["1", "2.0"]),
    ("7.1 anything-but in an array", value([{"anything-but": "x"}]), ['["x","y"]'], ['["x"]']),
    (
        "7.1 anything-but prefix",
        value([{"anything-but": {"prefix": "ab"}}]),
        ['"ba"', "12", "null"],
        ['"abc"'],
    ),
    (
        "7.1 anything-but prefixes",
        value([{"anything-but": {"prefix": ["a", "b"]}}]),
        ['"c"'],
        ['"a"', '"bc"'],
    ),
    ("7.1 anything-but suffix", value([{"anything-but": {"suffix": "x"}}]), ['"xy"'], ['"yx"']),
    (
        "7.1 anything-but ignoring case",
        value([{"anything-but": {"equals-ignore-case": ["Ada", "Bob"]}}]),
        ['"eve"', "1"],
        ['"ADA"', '"bob"'],
    ),
    (
        "7.1 anything-but wildcard",
        value([{"anything-but": {"wildcard": "*/lib/*"}}]),
        ['"/usr"'],
        ['"/lib/x"'],
    ),
    ("7.1 numeric equal", value([{"numeric": ["=", 5]}]), ["5", "5.0"], ['"5"', "5.1"]),
    ("7.1 numeric below", value([{"numeric": ["<", 5]}]), ["4.9", "-1e300"], ["5"]),
    (
        "7.1 numeric range",
        value([{"numeric": [">", 0, "<=", 5]}]),
        ["5", "1e-9"],
        ["0", "5.1", "null"],
    ),
    ("7.1 numeric in binary64", value([{"numeric": [">=", 2**53]}]), ["9007199254740992"], ["1"]),
    ("7.1 exists", value([{"exists": True}]), ["null", '""', "[0]"], ["[]", "{}", '{"b":1}']),
    ("7.1 exists not", value([{"exists": False}]), ["[]", "{}", '{"b":1}'], ["null", "[0]"]),
    ("7.1 cidr", value([{"cidr": "10.0.0.0/24"}]), ['"10.0.0.255"'], ['"10.0.1.0"', '"x"', "10"]),
    ("7.1 cidr of IPv6", value([{"cidr": "2001:db8::/32"}]), ['"2001:db8::1"'], ['"2001:db9::1"']),
    ("7.1 cidr of all", value([{"cidr": "0.0.0.0/0"}]), ['"1.2.3.4"'], ['"::1"', '"1.2.3"']),
]

# fact, pattern, whole events that match, whole events that do not
EVENTS = [
    ("7.1 fields are and", {"a": [1], "b": [2]}, ['{"a":1,"b":2}'], ['{"a":1}', '{"b":2}']),
    ("7.1 unnamed fields are ignored", {"a": [1]}, ['{"z":[{"a":2}],"a":1}'], ['{"z":{"a":1}}']),
    (
        "7.1 arrays are passed through",
        {"a": {"b": [1]}},
        ['{"a":[{"b":0},[{"b":1}]]}'],
        ['{"a":[1]}'],
    ),
    (
        "7.1 one element of an array",
        BOTH,
        ['{"a":[{"b":0},{"b":1,"c":2}]}'],
        ['{"a":[{"b":1},{"c":2}]}', '{"a":[{"b":1,"c":3},{"b":0,"c":2}]}'],
    ),
    (
        "7.1 exists in an array of objects",
        {"a": {"b": [{"exists": True}]}},
        ['{"a":[{"c":1},{"b":1}]}'],
        ['{"a":[{"c":1}]}'],
    ),
    (
        "7.1 exists not, in an array of objects",
        {"a": {"b": [{"exists": False}]}},
        ['{"a":[{"c":1}]}', "{}"],
        ['{"a":[{"c":1},{"b":1}]}'],
    ),
    ("7.1 $or", OR, ['{"a":1,"c":3}', '{"b":2,"c":3}'], ['{"a":1,"b":2}', '{"c":3}']),
    (
        "7.1 $or in $or",
        {"$or": [{"a": [1]}, {"$or": [{"b": [2]}, {"c": [3]}]}]},
        ['{"a":1}', '{"c":3}'],
        ['{"a":2,"b":1}'],
    ),
    ("7.1 $or as a field", {"$or": ["x", "y"]}, ['{"$or":"x"}'], ['{"x":1}']),
    (
        "7.1 $or of operators is a field",
        {"$or": [{"prefix": "x"}, {"suffix": "y"}]},
        ['{"$or":"xa"}', '{"$or":"ay"}'],
        ['{"prefix":"x"}'],
    ),
    ("7.1 dots in the pattern", {"a.b": [1]}, ['{"a":{"b":1}}', '{"a.b":1}'], ['{"a":1}']),
    ("7.1 dots in the event", {"a": {"b": {"c": [1]}}}, ['{"a":{"b.c":1}}', '{"a.b.c":1}'], ["{}"]),
    (
        "1.6 a number inside a text is no number",
        {"N": [{"numeric": [">", 100]}, {"anything-but": "101"}]},
        ['{"N":"102"}', '{"N":150}'],
        ['{"N":"101"}'],
    ),
]

# fact, pattern, place, words of the reason
REFUSED = [
    ("7.1 empty array", {"a": []}, "a", "empty arrays are not allowed"),
    ("7.1 empty object", {"a": {}}, "a", "empty objects are not allowed"),
    ("7.1 empty pattern", {}, "", "empty objects are not allowed"),
    ("7.1 a bare text", {"a": "x"}, "a", "must be an object or an array"),
    ("7.1 an array in an array", {"a": [[1]]}, "a[0]", "match value must be"),
    ("7.1 operators are lower-case", {"a": [{"EXISTS": True}]}, "a[0].EXISTS",
     "unrecognized match type"),
    ("7.1 two operators", {"a": [{"prefix": "x", "suffix": "y"}]}, "a[0]", "only one key"),
    ("7.1 no operator", {"a": ["x", {}]}, "a[1]", "name an operator"),
    ("7.1 prefix of a number", {"a": [{"prefix": 1}]}, "a[0].prefix", "must be a string"),
    ("7.1 suffix of null", {"a": [{"suffix": None}]}, "a[0].suffix", "must be a string"),
    ("7.1 prefix of a prefix", {"a": [{"prefix": {"prefix": "x"}}]}, "a[0].prefix", "unsupported"),
    ("7.1 ignoring the case of a list", {"a": [{"equals-ignore-case": ["x"]}]},
     "a[0].equals-ignore-case", "must be a string"),
    ("7.1 ignoring the case of an object", {"a": [{"equals-ignore-case": {"prefix": "x"}}]},
     "a[0].equals-ignore-case", "must be a string"),
    ("7.1 wildcards in a row", {"a": [{"wildcard": "a**"}]}, "a[0].wildcard",
     "consecutive wildcard characters at pos 1"),
    ("7.1 wildcard with a wrong escape", {"a": [{"wildcard": "a\\b"}]}, "a[0].wildcard",
     "invalid escape character at pos 1"),
    ("7.1 too many wildcards", {"a": [{"wildcard": "*:*:*:*:*:event-bus/*"}]}, "a[0].wildcard",
     "too complex"),
    ("7.1 anything-but mixed", {"a": [{"anything-but": ["x", 1]}]}, "a[0].anything-but",
     "either all"),
    ("7.1 anything-but null", {"a": [{"anything-but": None}]}, "a[0].anything-but",
     "strings or numbers"),
    ("7.1 anything-but true", {"a": [{"anything-but": [True]}]}, "a[0].anything-but",
     "strings or numbers"),
    ("7.1 anything-but nothing", {"a": [{"anything-but": []}]}, "a[0].anything-but", "either all"),
    ("7.1 anything-but empty prefix", {"a": [{"anything-but": {"prefix": ""}}]},
     "a[0].anything-but.prefix", "null prefix/suffix not allowed"),
    ("7.1 anything-but empty suffix", {"a": [{"anything-but": {"suffix": ["x", ""]}}]},
     "a[0].anything-but.suffix", "null prefix/suffix not allowed"),
    ("7.1 anything-but prefix ignoring case",
     {"a": [{"anything-but": {"prefix": {"equals-ignore-case": "x"}}}]},
     "a[0].anything-but.prefix", "must be a string"),
    ("7.1 anything-but exists", {"a": [{"anything-but": {"exists": True}}]}, "a[0].anything-but",
     "unsupported"),
    ("7.1 numeric without an array", {"a": [{"numeric": 10}]}, "a[0].numeric", "must be an array"),
    ("7.1 numeric of nothing", {"a": [{"numeric": []}]}, "a[0].numeric", "must not be empty"),
    ("7.1 numeric with two lower bounds", {"a": [{"numeric": [">", 0, ">", 0]}]}, "a[0].numeric",
     "bad numeric range operator: >"),
    ("7.1 numeric of a text", {"a": [{"numeric": ["=", "5"]}]}, "a[0].numeric", "must be numeric"),
    ("7.1 numeric without a sign", {"a": [{"numeric": [5]}]}, "a[0].numeric", "invalid member"),
    ("7.1 numeric with a wrong sign", {"a": [{"numeric": ["!=", 5]}]}, "a[0].numeric",
     "unrecognized"),
    ("7.1 numeric from an upper bound", {"a": [{"numeric": ["<", 5, ">", 0]}]}, "a[0].numeric",
     "too many elements"),
    ("7.1 numeric upside down", {"a": [{"numeric": [">", 5, "<", 0]}]}, "a[0].numeric", "bottom"),
    ("7.1 numeric with too much", {"a": [{"numeric": [">", 0, "<", 5, "<"]}]}, "a[0].numeric",
     "too many terms"),
    ("7.1 exists of a text", {"a": [{"exists": "true"}]}, "a[0].exists", "either true or false"),
    ("7.1 cidr without a slash", {"a": [{"cidr": "10.0.0.1"}]}, "a[0].cidr", "one `/` required"),
    ("7.1 cidr of a name", {"a": [{"cidr": "example/24"}]}, "a[0].cidr", "nonstandard IP address"),
    ("7.1 cidr with too many bits", {"a": [{"cidr": "10.0.0.0/33"}]}, "a[0].cidr", "from 0 to 32"),
    ("7.1 $or with one object", {"$or": [{"a": [1]}]}, "$or[0].a", "unrecognized match type"),
    ("7.1 $or with an empty object", {"$or": [{"a": [1]}, {}]}, "$or[1]", "empty objects"),
    ("a field beside and inside $or", {"a": [1], "$or": [{"a": [2]}, {"b": [1]}]}, "a",
     "named twice"),
]  # fmt: skip


def cases(table):
    return [pytest.param(*case[1:], id=case[0]) for case in table]


def verdicts(pattern, events):
    """What the engine says to events, given as JSON texts, and what its explanations say."""
    found = _core.Filter([json.dumps(pattern)]).matches(event.encode() for event in events)
    assert [explain(pattern, event).matched for event in events] == found
    return dict(zip(events, found, strict=True))


@pytest.mark.parametrize(("pattern", "matching", "others"), cases(LANGUAGE))
def test_a_value(pattern, matching, others):
    events = {f'{{"a":{value}}}': value in matching for value in [*matching, *others]}

    assert verdicts(pattern, events) == events


@pytest.mark.parametrize(("pattern", "matching", "others"), cases(EVENTS))
def test_an_event(pattern, matching, others):
    events = {event: event in matching for event in [*matching, *others]}

    assert verdicts(pattern, events) == events


@pytest.mark.parametrize("pattern", [case[1] for case in LANGUAGE], ids=[c[0] for c in LANGUAGE])
def test_a_missing_field_matches_only_where_it_may_be_missing(pattern):
    assert verdicts(pattern, ["{}"]) == {"{}": pattern == value([{"exists": False}])}


@pytest.mark.parametrize(("pattern", "place", "reason"), cases(REFUSED))
def test_a_refusal_names_the_place_and_the_reason(pattern, place, reason):
    with pytest.raises(ConfigError) as caught:
        explain(pattern, {})

    assert caught.value.field == ".".join(filter(None, ["filter", place]))
    assert reason in caught.value.reason


def test_the_last_of_two_keys_of_a_pattern_wins():
    """7.1; a pattern as text can say a key twice."""
    assert explain('{"a":[1],"a":[2]}', {"a": 2})
    assert not explain('{"a":[1],"a":[2]}', {"a": 1})


def test_an_event_is_a_json_object():
    """7.1: what is not an object cannot match, and is said to be none."""
    events = [b"[1]", b"1", b"", b'{"a":1', b'{"a":1} x', b"\xff", b'{"a":NaN}']

    assert _core.Filter(['{"a":[1]}']).matches(events) == [None] * len(events)
