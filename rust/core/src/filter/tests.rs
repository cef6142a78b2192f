//! The room from outside; the language itself is tested from Python, against a naive matcher.

use proptest::prelude::*;

use super::json::{Scanner, DEPTH_MAX};
use super::*;
use crate::format::RecordBuilder;
use crate::types::ShardId;

fn matcher(patterns: &[&str]) -> Matcher {
    Matcher::new(Arc::new(Filter::new(patterns).unwrap()))
}

fn record_matcher(patterns: &[&str]) -> Matcher {
    Matcher::new(Arc::new(Filter::for_records(patterns).unwrap()))
}

fn records(records: &[(&[u8], Option<&str>)]) -> DecodedBatch {
    let mut builder = RecordBuilder::default();
    for (data, key) in records {
        builder.push(data, *key, &[]);
    }
    DecodedBatch::in_memory(&builder, 40, 1_500_000, "s".into(), ShardId(0))
}

fn verdicts(patterns: &[&str], batch: &DecodedBatch) -> Vec<Verdict> {
    let mut matcher = record_matcher(patterns);
    (0..batch.count()).map(|index| matcher.record(batch, index)).collect()
}

/// Whether all of a text is one JSON value.
fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.skip().is_some() && scanner.is_at_end()
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e300_f64..1e300).prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_json_is_passed_over(value in json(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        prop_assert!(is_json(&text));
    }

    /// One byte more, less or other: the judgement stays that of `serde_json`.
    #[test]
    fn what_is_nearly_json_is_judged_as_by_serde_json(
        value in json(), at: prop::sample::Index, other in "[]\\[{}\",:0-9eE.\\-+\\\\u a-f\u{0}]", how in 0..3
    ) {
        let text = value.to_string();
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        let behind = text[at..].chars().next().map_or(0, char::len_utf8);
        let changed = match how {
            0 => format!("{}{other}{}", &text[..at], &text[at..]),
            1 => format!("{}{}", &text[..at], &text[at + behind..]),
            _ => format!("{}{other}{}", &text[..at], &text[at + behind..]),
        };
        let expected = serde_json::from_str::<serde_json::Value>(&changed).is_ok();
        prop_assert_eq!(expected, is_json(&changed), "{}", changed);
    }

    #[test]
    fn texts_mean_what_serde_json_says(text in ".{0,30}", escaped in any::<bool>()) {
        let mut quoted = serde_json::to_string(&text).unwrap();
        if escaped {
            let unit = |unit: u16| format!("\\u{unit:04X}");
            quoted = format!("\"{}\"", text.encode_utf16().map(unit).collect::<String>());
        }
        let pattern = serde_json::json!({"a": [text]}).to_string();
        let event = format!("{{\"a\":{quoted}}}");
        prop_assert_eq!(Verdict::Matched, matcher(&[&pattern]).event(event.as_bytes()));
    }

    #[test]
    fn any_bytes_are_judged_without_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
        let batch = records(&[(&data, None)]);
        verdicts(&["{\"data\":{\"a\":[{\"exists\":false}]}}"], &batch);
    }
}

#[test]
fn json_is_what_the_reader_of_a_record_takes() {
    for text in ["0", "-0", "1e-400", "[1,2.5E+3]", " {} ", "\"\u{7f}\\u00e9\\ud83d\\ude00\""] {
        assert!(is_json(text), "{text}");
    }
    for text in [
        "",
        "01",
        "1.",
        ".5",
        "+1",
        "1e400",
        "NaN",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\x\"",
        "\"\t\"",
        "[1,]",
        "{\"a\"}",
        "1 2",
        "\u{feff}1",
    ] {
        assert!(!is_json(text), "{text}");
    }
    let digits = "9".repeat(400);
    assert!(!is_json(&digits));
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(is_json(&nested(DEPTH_MAX)));
    assert!(!is_json(&nested(DEPTH_MAX + 1)));

    let pattern = ["{\"data\":[1]}"];
    let (deep, deeper) = (nested(DEPTH_MAX), nested(DEPTH_MAX + 1));
    let batch = records(&[(deep.as_bytes(), None), (deeper.as_bytes(), None)]);
    assert_eq!(vec![Verdict::Matched, Verdict::NotJson], verdicts(&pattern, &batch));
}

#[test]
fn a_record_is_matched_with_its_metadata() {
    let batch = records(&[(b"{\"kind\":\"a\"}", Some("ada")), (b"{\"kind\":\"a\"}", None)]);
    for (pattern, expected) in [
        ("{\"partitionKey\":[\"ada\"]}", [true, false]),
        ("{\"partitionKey\":[{\"exists\":false}]}", [false, true]),
        ("{\"sequenceNumber\":[\"41\"]}", [false, true]),
        ("{\"approximateArrivalTimestamp\":[{\"numeric\":[\"=\",1.5]}]}", [true, true]),
        ("{\"kinesisSchemaVersion\":[\"1.0\"]}", [true, true]),
        ("{\"data\":{\"kind\":[\"a\"]},\"partitionKey\":[\"ada\"]}", [true, false]),
    ] {
        let matched = verdicts(&[pattern], &batch).into_iter().map(|v| v == Verdict::Matched);
        assert_eq!(expected.to_vec(), matched.collect::<Vec<_>>(), "{pattern}");
    }
}

/// SOURCE: the table of section "Filters on streams" of the Lambda guide.
#[test]
fn data_that_is_not_json_passes_only_patterns_on_metadata() {
    let batch = records(&[(b"plain text", Some("ada")), (b"\xff", Some("ada"))]);
    let absent = "{\"data\":{\"a\":[{\"exists\":false}]}}";
    assert_eq!(vec![Verdict::NotJson; 2], verdicts(&[absent], &batch));
    assert_eq!(vec![Verdict::Matched; 2], verdicts(&["{\"partitionKey\":[\"ada\"]}"], &batch));
    assert_eq!(vec![Verdict::Filtered; 2], verdicts(&["{\"partitionKey\":[\"bob\"]}"], &batch));
    let either = [absent, "{\"partitionKey\":[\"ada\"]}"];
    assert_eq!(vec![Verdict::Matched; 2], verdicts(&either, &batch));
}

#[test]
fn what_was_read_of_broken_data_counts_for_nothing() {
    let batch = records(&[(b"{\"a\":1,", None), (b"{}", None)]);
    let patterns = ["{\"data\":{\"a\":[1]}}"];
    assert_eq!(vec![Verdict::NotJson, Verdict::Filtered], verdicts(&patterns, &batch));
}

#[test]
fn constraints_on_one_array_hold_in_one_element() {
    let mut both = matcher(&["{\"a\":{\"b\":[1],\"c\":[2]}}"]);
    assert_eq!(Verdict::Filtered, both.event(b"{\"a\":[{\"b\":1,\"c\":0},{\"b\":0,\"c\":2}]}"));
    assert_eq!(Verdict::Matched, both.event(b"{\"a\":[{\"b\":0},[{\"b\":1,\"c\":2}]]}"));
    let mut lacking = matcher(&["{\"a\":{\"b\":[1],\"c\":[{\"exists\":false}]}}"]);
    assert_eq!(Verdict::Matched, lacking.event(b"{\"a\":[{\"b\":1},{\"b\":0,\"c\":2}]}"));
    assert_eq!(Verdict::Filtered, lacking.event(b"{\"a\":[{\"b\":1,\"c\":2},{\"b\":0}]}"));
}

#[test]
fn the_last_of_two_members_with_one_name_counts() {
    let mut one = matcher(&["{\"a\":{\"b\":[1]}}"]);
    assert_eq!(Verdict::Filtered, one.event(b"{\"a\":{\"b\":1},\"a\":{}}"));
    assert_eq!(Verdict::Filtered, one.event(b"{\"a\":{\"b\":1,\"b\":2}}"));
    assert_eq!(Verdict::Matched, one.event(b"{\"a\":5,\"a\":{\"b\":2,\"\\u0062\":1}}"));
}

/// Many members of one name, and many elements of one value, cost no more than as many others.
#[test]
fn repetition_is_not_dear() {
    let count = 200_000;
    let members = "\"a\":1,\"b\":[1,2],\"c\":{\"d\":1},".repeat(count);
    let event = format!("{{{members}\"a\":2}}");
    let mut names = matcher(&["{\"a\":[2],\"b\":[2],\"c\":{\"d\":[1]}}"]);
    assert_eq!(Verdict::Matched, names.event(event.as_bytes()));

    let patterns: Vec<_> =
        (0..500).map(|n| format!("{{\"a\":[1],\"b\":[{{\"prefix\":\"{n}\"}}]}}")).collect();
    let event = format!("{{\"a\":[{}1],\"b\":\"x\"}}", "1,".repeat(count));
    let mut values = Matcher::new(Arc::new(Filter::new(&patterns).unwrap()));
    assert_eq!(Verdict::Filtered, values.event(event.as_bytes()));
}

#[test]
fn an_event_is_forgotten_before_the_next() {
    let mut matcher = matcher(&["{\"a\":[1],\"b\":[2]}", "{\"c\":[{\"exists\":false}],\"b\":[3]}"]);
    assert_eq!(Verdict::Filtered, matcher.event(b"{\"a\":1}"));
    assert_eq!(Verdict::Filtered, matcher.event(b"{\"b\":2}"));
    assert_eq!(Verdict::Matched, matcher.event(b"{\"b\":[3,2]}"));
    assert_eq!(Verdict::Filtered, matcher.event(b"{\"b\":3,\"c\":0}"));
    assert_eq!(Verdict::NotJson, matcher.event(b"[1]"));
}

#[test]
fn too_many_combinations_are_refused() {
    let or = |n: usize| format!("\"f{n}\":{{\"$or\":[{{\"a\":[1]}},{{\"b\":[1]}}]}}");
    let pattern = |n: usize| format!("{{{}}}", (0..n).map(or).collect::<Vec<_>>().join(","));

    assert!(Filter::new(&[pattern(9)]).is_ok());
    let (number, rejected) = Filter::new(&["{\"a\":[1]}".to_owned(), pattern(10)]).unwrap_err();
    assert_eq!(1, number);
    assert!(rejected.reason.contains("combinations"), "{rejected}");
}
