//! Every limit at its edge: what is at the limit is taken, one more is refused with the name of what
//! is too large, and nothing of the call is written. The table in `docs/limits.md` is made here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test reads the documentation")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::SimFs;
use streamfn_core::checkpoint::Mapping;
use streamfn_core::format::record_batch::{BODY_BYTES_MAX, RAW_BYTES_MAX, RECORDS_MAX};
use streamfn_core::log::{SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use streamfn_core::types::{
    BATCH_SIZE_MAX, DEAD_LETTER_BYTES_EXTRA, FACTOR_MAX, HEADERS_BYTES_MAX, NAME_BYTES_MAX,
    PARTITION_KEY_CHARS_MAX, RECORD_BYTES_MAX, SHARDS_MAX,
};
use streamfn_core::{
    Compression, Durability, Error, Log, Patience, ReadBuffer, ShardId, Start, Stream, StreamConfig,
};

const MIB: usize = 1024 * 1024;
/// A header `h` without its value: count, length of the name, name, length of the value.
const HEADER_BYTES: usize = 2 + 2 + 1 + 4;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(60))
}

fn open() -> Arc<Log> {
    crate::simulation::open(&SimFs::new())
}

fn stream(log: &Log, is_internal: bool) -> Arc<Stream> {
    let config = StreamConfig {
        durability: Durability::Process,
        compression: Compression::None,
        is_internal,
        ..StreamConfig::default()
    };
    log.create_stream(if is_internal { "app.fn.dlq" } else { "s" }, &config, &patience()).unwrap()
}

/// Puts a record, behind another of the same call that is within all limits.
fn put(stream: &Stream, data: &[u8], key: Option<&str>, header: Option<&[u8]>) -> Option<Error> {
    let mut put = stream.begin_put().unwrap();
    put.push(b"before", None, std::iter::empty()).unwrap();
    let headers: Vec<(&str, &[u8])> = header.map(|value| ("h", value)).into_iter().collect();
    if let Err(error) = put.push(data, key, headers.into_iter()) {
        return Some(error);
    }
    put.commit(&patience()).unwrap();
    None
}

/// Records in each batch of the stream's only shard.
fn batches(stream: &Stream) -> Vec<u32> {
    let shard = stream.shard(ShardId(0)).unwrap();
    let (mut cursor, mut buffer) =
        (shard.cursor(Start::TrimHorizon).unwrap(), ReadBuffer::default());
    let mut counts = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        counts.push(batch.count());
        cursor = after;
    }
    counts
}

fn assert_too_large(error: Option<Error>, expected: (&str, usize, usize)) {
    match error {
        Some(Error::RecordTooLarge { size, limit, what, index: 1 }) => {
            assert_eq!(expected, (what, size, limit));
        }
        other => panic!("{expected:?}: {other:?}"),
    }
}

#[test]
fn a_record_is_measured_with_its_key_and_headers() {
    for (is_internal, limit) in
        [(false, RECORD_BYTES_MAX), (true, RECORD_BYTES_MAX + DEAD_LETTER_BYTES_EXTRA)]
    {
        let log = open();
        let stream = stream(&log, is_internal);
        let (key, header) = ("kéy", [1; 10]);
        let data = vec![7; limit - key.len() - HEADER_BYTES - header.len()];

        assert!(put(&stream, &data, Some(key), Some(&header)).is_none());
        let beyond = put(&stream, &data, Some("kéyy"), Some(&header));

        assert_too_large(beyond, ("record bytes", limit + 1, limit));
        assert_eq!(2, batches(&stream).iter().sum::<u32>(), "nothing of the refused call");
    }
}

#[test]
fn the_headers_of_a_record_are_measured_as_they_are_stored() {
    for (is_internal, limit) in
        [(false, HEADERS_BYTES_MAX), (true, HEADERS_BYTES_MAX + DEAD_LETTER_BYTES_EXTRA)]
    {
        let log = open();
        let stream = stream(&log, is_internal);
        let value = vec![7; limit - HEADER_BYTES];

        assert!(put(&stream, b"", None, Some(&value)).is_none());
        let beyond = put(&stream, b"", None, Some(&[&value[..], &[7]].concat()));

        assert_too_large(beyond, ("header bytes", limit + 1, limit));
        assert_eq!(2, batches(&stream).iter().sum::<u32>(), "nothing of the refused call");
    }
}

#[test]
fn a_name_of_a_header_and_the_number_of_headers_have_the_bounds_of_their_fields() {
    let log = open();
    let stream = stream(&log, true);
    let name = "n".repeat(usize::from(u16::MAX));
    let mut put = stream.begin_put().unwrap();
    put.push(b"", None, [(&*name, &b""[..])].into_iter()).unwrap();

    let longer = format!("{name}n");
    let refused = put.push(b"", None, [(&*longer, &b""[..])].into_iter()).unwrap_err();

    assert!(matches!(refused, Error::Config { field: "headers", .. }), "{refused:?}");
    drop(put);
    assert!(batches(&stream).is_empty());
}

#[test]
fn a_partition_key_is_counted_in_characters() {
    let log = open();
    let stream = stream(&log, false);
    let longest = "ü".repeat(PARTITION_KEY_CHARS_MAX);

    assert!(put(&stream, b"", Some(&longest), None).is_none());
    let limit = PARTITION_KEY_CHARS_MAX;
    let beyond = put(&stream, b"", Some(&format!("{longest}x")), None);
    assert_too_large(beyond, ("partition key characters", limit + 1, limit));
    let empty = put(&stream, b"", Some(""), None);
    assert!(matches!(empty, Some(Error::Config { field: "partition_key", .. })), "{empty:?}");

    assert_eq!(2, batches(&stream).iter().sum::<u32>(), "nothing of the refused calls");
}

#[test]
fn a_call_has_no_limit_and_is_stored_in_batches_that_have() {
    let log = open();
    let stream = stream(&log, false);
    for (count, expected) in
        [(RECORDS_MAX, vec![RECORDS_MAX]), (RECORDS_MAX + 1, vec![RECORDS_MAX, 1])]
    {
        let before = batches(&stream).len();
        let mut put = stream.begin_put().unwrap();
        for _ in 0..count {
            put.push(b"", None, std::iter::empty()).unwrap();
        }
        assert_eq!(count as usize, put.commit(&patience()).unwrap().len());

        assert_eq!(expected, batches(&stream)[before..]);
    }
}

#[test]
fn a_segment_has_bounds() {
    for (segment_bytes, is_within) in [
        (SEGMENT_BYTES_MIN - 1, false),
        (SEGMENT_BYTES_MIN, true),
        (SEGMENT_BYTES_MAX, true),
        (SEGMENT_BYTES_MAX + 1, false),
    ] {
        let log = open();
        let config = StreamConfig { segment_bytes, ..StreamConfig::default() };

        match log.create_stream("s", &config, &patience()) {
            Ok(_) => assert!(is_within, "{segment_bytes}"),
            Err(Error::Config { field: "segment_bytes", .. }) => {
                assert!(!is_within, "{segment_bytes}");
                assert!(log.streams().unwrap().is_empty());
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_log_has_so_many_shards_and_not_one_more() {
    let log = open();
    let of = |shards| StreamConfig { shards, ..StreamConfig::default() };
    for shards in [0, SHARDS_MAX + 1] {
        let refused = log.create_stream("none", &of(shards), &patience()).unwrap_err();
        assert!(matches!(refused, Error::Config { field: "shards", .. }), "{refused:?}");
    }

    log.create_stream("most", &of(SHARDS_MAX - 1), &patience()).unwrap();
    let refused = log.create_stream("two", &of(2), &patience()).unwrap_err();
    assert!(matches!(refused, Error::Config { field: "shards", .. }), "{refused:?}");
    log.create_stream("one", &of(1), &patience()).unwrap();
    let refused = log.create_stream("more", &of(1), &patience()).unwrap_err();
    assert!(matches!(refused, Error::Config { field: "shards", .. }), "{refused:?}");

    assert_eq!(vec!["most", "one"], log.streams().unwrap());
}

#[test]
fn a_name_has_a_length_and_an_alphabet() {
    let log = open();
    let config = StreamConfig::default();
    log.create_stream(&"x".repeat(NAME_BYTES_MAX), &config, &patience()).unwrap();

    for name in ["", "a.b", "a/b", "..", "ü", "a b", &"x".repeat(NAME_BYTES_MAX + 1)] {
        let refused = log.create_stream(name, &config, &patience()).unwrap_err();
        assert!(matches!(refused, Error::Config { field: "name", .. }), "{name}: {refused:?}");
    }
    assert_eq!(1, log.streams().unwrap().len());
}

#[test]
fn a_factor_has_bounds() {
    let log = open();
    for factor in [0, FACTOR_MAX + 1] {
        let refused = Mapping::register(&log, "app.fn", factor, Start::Latest).unwrap_err();
        let is_named = matches!(refused, Error::Config { field: "parallelization_factor", .. });
        assert!(is_named, "{refused:?}");
    }
    assert!(Mapping::names(&log).unwrap().is_empty());

    for factor in [1, FACTOR_MAX] {
        Mapping::register(&log, "app.fn", factor, Start::Latest).unwrap();
    }
}

/// A number as people write it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

fn table() -> String {
    let kib = |bytes: usize| size(bytes as u64);
    let extra = kib(DEAD_LETTER_BYTES_EXTRA);
    let rows = [
        ("a record: data, key and stored headers", kib(RECORD_BYTES_MAX), "`RecordTooLarge`"),
        ("… of a dead letter or a redriven record", format!("{extra} more"), "the same"),
        (
            "partition key",
            format!("1 to {PARTITION_KEY_CHARS_MAX} characters"),
            "`RecordTooLarge`; `ConfigError` `partition_key` if empty",
        ),
        ("headers of a record, as stored", kib(HEADERS_BYTES_MAX), "`RecordTooLarge`"),
        ("… of a dead letter or a redriven record", format!("{extra} more"), "the same"),
        (
            "name of a header",
            format!("{} bytes", grouped(u16::MAX.into())),
            "`ConfigError` `headers`",
        ),
        ("number of headers of a record", grouped(u16::MAX.into()), "`ConfigError` `headers`"),
        ("records of one `put_many`", "memory".into(), "–"),
        ("records of one batch on disk", grouped(RECORDS_MAX.into()), "a call is split"),
        ("a batch on disk, as stored", size(BODY_BYTES_MAX.into()), "a call is split"),
        ("a batch on disk, decompressed", size(RAW_BYTES_MAX.into()), "a call is split"),
        (
            "segment",
            format!(
                "{} to {}, {} by default",
                size(SEGMENT_BYTES_MIN),
                size(SEGMENT_BYTES_MAX),
                size(SEGMENT_BYTES_DEFAULT)
            ),
            "`ConfigError` `segment_bytes`",
        ),
        (
            "shards of a log, all streams and dead letters together",
            grouped(SHARDS_MAX.into()),
            "`ConfigError` `shards`",
        ),
        (
            "name of a stream",
            format!("1 to {NAME_BYTES_MAX} of `[A-Za-z0-9_-]`"),
            "`ConfigError` `name`, `source`",
        ),
        ("name of an app, a function", "the same".into(), "`ConfigError` `App`, `name`"),
        // Held by `tests/model/test_limits.py`: the core knows neither.
        (
            "names of an app and a function together, with the dot",
            "247".into(),
            "`ConfigError` `name`",
        ),
        (
            "`parallelization_factor`",
            format!("1 to {FACTOR_MAX}"),
            "`ConfigError` `parallelization_factor`",
        ),
        (
            "`batch_size`",
            format!("1 to {}", grouped(BATCH_SIZE_MAX.into())),
            "`ConfigError` `batch_size`",
        ),
        (
            "`batch_bytes`, a size in `retention`",
            "1 to 2^63 − 1".into(),
            "`ConfigError` of the argument",
        ),
        ("`max_retries`", "−1 to 1,000,000".into(), "`ConfigError` `max_retries`"),
        ("`max_concurrency`", "1 to 1,000,000".into(), "`ConfigError` `max_concurrency`"),
        ("`memory`", "16 MiB to 2^63 − 1".into(), "`ConfigError` `memory`"),
        ("`timeout`, `batch_window`", "3,650 days".into(), "`ConfigError` of the argument"),
        ("`max_record_age`, `tumbling_window`", "3,650 days".into(), "the same"),
        ("a duration on the command line", "3,650 days".into(), "the same"),
        ("a wait of a back-off", "3,650 days".into(), "the wait of the default back-off"),
        ("`retention`", "any age or size above zero".into(), "`ConfigError` `retention`"),
    ];
    let lines = rows.map(|(what, limit, beyond)| format!("| {what} | {limit} | {beyond} |\n"));
    format!("| what | limit | beyond it |\n|---|---|---|\n{}", lines.concat())
}

#[test]
fn the_documentation_has_the_limits_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = table();

    assert!(text.contains(&table), "docs/limits.md does not have this table:\n\n{table}");
    assert_eq!(10 * MIB, RECORD_BYTES_MAX, "README and docs say 10 MiB too");
}
