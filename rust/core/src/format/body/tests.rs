use super::*;
use crate::format::BatchHeader;
use crate::types::{Position, ShardId};
use proptest::prelude::*;

type Plain = (Vec<u8>, Option<String>, Vec<(String, Vec<u8>)>);

fn push(builder: &mut RecordBuilder, (data, key, headers): &Plain) {
    let encoded = encode_headers(headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())));
    builder.push(data, key.as_deref(), &encoded.unwrap());
}

fn read(batch: &DecodedBatch) -> Vec<Plain> {
    let headers = |index| batch.headers(index).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    (0..batch.count())
        .map(|i| (batch.value(i).to_owned(), batch.key(i).map(str::to_owned), headers(i)))
        .collect()
}

fn decode(builder: &RecordBuilder) -> DecodedBatch {
    DecodedBatch::in_memory(builder, 5, 6, "s".into(), ShardId(0))
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let header = (".{0,8}", prop::collection::vec(any::<u8>(), 0..16));
    let record = (
        prop::collection::vec(any::<u8>(), 0..64),
        prop::option::of(".{0,12}"),
        prop::collection::vec(header, 0..3),
    );
    prop::collection::vec(record, 1..40)
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in records()) {
        let mut builder = RecordBuilder::default();
        for record in &records {
            push(&mut builder, record);
        }

        prop_assert_eq!(&records, &read(&decode(&builder)));
    }

    #[test]
    fn a_range_has_the_payloads_and_the_bytes_of_its_records(
        records in records(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let mut builder = RecordBuilder::default();
        for record in &records {
            push(&mut builder, record);
        }
        let batch = decode(&builder);
        let [a, b] = [cut.0, cut.1].map(|cut| u32::try_from(cut.index(records.len() + 1)).unwrap());
        let range = a.min(b)..a.max(b);

        let bytes: usize = range.clone().map(|index| batch.record_bytes(index)).sum();
        prop_assert_eq!(bytes, batch.range_bytes(&range));
        let (run, ends) = batch.value_run(&range);
        let mut from = 0;
        let payloads: Vec<&[u8]> =
            ends.map(|end| &run[std::mem::replace(&mut from, end)..end]).collect();
        prop_assert_eq!(run.len(), from);
        let expected: Vec<&[u8]> = range.map(|index| batch.value(index)).collect();
        prop_assert_eq!(expected, payloads);
    }

    #[test]
    fn joining_builders_is_pushing_one_after_the_other(a in records(), b in records()) {
        let (mut first, mut second) = (RecordBuilder::default(), RecordBuilder::default());
        for record in &a {
            push(&mut first, record);
        }
        for record in &b {
            push(&mut second, record);
        }
        first.append(&second);

        prop_assert_eq!([a, b].concat(), read(&decode(&first)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(body in prop::collection::vec(any::<u8>(), 0..512), count in 1u32..40) {
        let header = BatchHeader { record_count: count, ..BatchHeader::default() };
        if let Ok(batch) = DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), SharedBytes::whole(body)) {
            read(&batch);
        }
    }
}

#[test]
fn a_list_of_headers_that_is_cut_or_changed_is_damage() {
    let whole = encode_headers([("h", &b"vv"[..]), ("n\u{f6}", b"")].into_iter()).unwrap();
    let refused = |list: &[u8]| {
        let mut builder = RecordBuilder::default();
        builder.push(b"before", None, &[]);
        builder.push(b"data", None, list);
        let body = SharedBytes::whole(builder.with_body(|parts| parts.concat()));
        let header = BatchHeader { record_count: 2, ..BatchHeader::default() };
        let batch = DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), body);
        batch.err().map(|damage| damage.0)
    };

    assert_eq!(None, refused(&whole));
    let damage = Some("a list of headers is not whole");
    for length in 1..whole.len() {
        assert_eq!(damage, refused(&whole[..length]), "{length} bytes");
    }
    assert_eq!(damage, refused(&[&whole[..], &[0]].concat()), "a byte too many");
    for (place, byte) in [(0, 1), (0, 3), (2, 2), (5, 1), (12, 0xff)] {
        let mut changed = whole.clone();
        changed[place] = byte;
        assert_eq!(damage, refused(&changed), "byte {place}");
    }
}

#[test]
fn a_key_that_is_empty_and_one_that_is_missing_differ() {
    let mut builder = RecordBuilder::default();
    builder.push(b"a", None, &[]);
    builder.push(b"b", Some(""), &[]);

    let batch = decode(&builder);

    assert_eq!((None, Some("")), (batch.key(0), batch.key(1)));
}

#[test]
fn a_record_is_measured_with_key_and_headers() {
    let mut builder = RecordBuilder::default();
    let headers = encode_headers([("h", &b"vv"[..])].into_iter()).unwrap();
    builder.push(b"data", Some("key"), &headers);

    assert_eq!(4 + 3 + headers.len(), decode(&builder).record_bytes(0));
}
