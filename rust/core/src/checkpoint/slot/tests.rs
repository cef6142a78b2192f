use super::*;
use crate::format::Damage;
use crate::types::{Position, ShardId, Start, FACTOR_MAX};
use proptest::prelude::*;

fn checkpoints() -> impl Strategy<Value = Checkpoint> {
    (any::<[u64; 5]>(), any::<u32>(), any::<u32>()).prop_map(|(words, offset, shard_epoch)| {
        let [counter, generation, lease_epoch, next_seq, written] = words;
        let hint = Position { segment: shard_epoch, offset: u64::from(offset) * 8 };
        Checkpoint { counter, generation, lease_epoch, next_seq, hint, written, shard_epoch }
    })
}

fn entries() -> impl Strategy<Value = Entry> {
    (any::<[u64; 3]>(), any::<u32>(), any::<bool>(), 0u8..4, any::<i32>()).prop_map(
        |([a, b, first_failed], attempts, is_joined, cause, detail)| {
            let cause = Cause::from_number(cause).unwrap();
            Entry {
                first: a.min(b),
                last: a.max(b),
                attempts,
                is_joined,
                cause,
                detail,
                first_failed,
            }
        },
    )
}

fn in_flights() -> impl Strategy<Value = InFlight> {
    let entries = prop::collection::vec(entries(), 0..=SLOT_ENTRIES_MAX);
    (any::<[[u8; 16]; 2]>(), any::<[u64; 4]>(), any::<[u32; 3]>(), any::<[bool; 4]>(), entries)
        .prop_map(
            |(
                [boot_id, worker],
                [generation, formed_at, end, not_before],
                [runner, worker_deaths, exponent],
                flags,
                entries,
            )| {
                let [is_calling, is_alone, is_exclusive, is_final] = flags;
                InFlight {
                    boot_id,
                    worker,
                    runner,
                    generation,
                    formed_at,
                    end,
                    is_calling,
                    worker_deaths,
                    is_alone,
                    is_exclusive,
                    is_final,
                    exponent,
                    not_before: if entries.is_empty() { 0 } else { not_before >> 16 },
                    entries,
                }
            },
        )
}

fn starts() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::TrimHorizon),
        Just(Start::Latest),
        any::<u64>().prop_map(Start::AtTimestamp),
        any::<u64>().prop_map(Start::AtSequence),
    ]
}

fn mapping_records() -> impl Strategy<Value = MappingRecord> {
    let begun = prop::collection::vec("[a-z]{1,128}(\\.[a-z]{1,128}){0,2}", 0..=STREAMS_MAX);
    (any::<[u64; 2]>(), 1..=FACTOR_MAX, any::<bool>(), starts(), begun).prop_map(
        |([counter, replays], wanted_factor, is_paused, start, begun)| MappingRecord {
            on_failure: match counter % 3 {
                0 => OnFailure::DeadLetters,
                1 => OnFailure::Dropped,
                _ => OnFailure::Stream("b".repeat(1 + (replays % 128) as usize)),
            },
            counter,
            wanted_factor,
            wants_windows: wanted_factor == 1 && counter % 2 == 0,
            is_paused,
            start,
            begun,
            replays,
        },
    )
}

proptest! {
    #[test]
    fn a_head_comes_back_as_it_was(counter: u64, generation: u64, factor in 1..=FACTOR_MAX) {
        let head = Head { counter, generation, factor, is_windowed: factor == 1 };
        prop_assert_eq!(Ok(head), Head::decode(&head.encode()));
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was(checkpoint in checkpoints()) {
        prop_assert_eq!(Ok(checkpoint), Checkpoint::decode(&checkpoint.encode()));
    }

    #[test]
    fn an_in_flight_slot_comes_back_as_it_was(in_flight in in_flights()) {
        prop_assert_eq!(Ok(in_flight.clone()), InFlight::decode(&in_flight.encode()));
    }

    #[test]
    fn an_in_flight_slot_ignores_what_a_longer_one_left_behind_it(long in in_flights(), short in in_flights()) {
        let (mut bytes, short_bytes) = (long.encode(), short.encode());
        bytes.resize(IN_FLIGHT_BYTES_MAX, 0);
        bytes[..short_bytes.len()].copy_from_slice(&short_bytes);

        prop_assert_eq!(Ok(short), InFlight::decode(&bytes));
    }

    #[test]
    fn a_mapping_record_comes_back_as_it_was(record in mapping_records()) {
        prop_assert_eq!(Ok(record.clone()), MappingRecord::decode(&record.encode()));
    }

    #[test]
    fn stretches_come_back_as_they_were(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
        let range = |(shard, &(a, b)): (u32, &(u64, u64))| {
            RecordRange { shard: ShardId(3 * shard), first: a.min(b), until: a.max(b) }
        };
        let ranges: Vec<RecordRange> = (0..).zip(&pairs).map(range).collect();
        prop_assert_eq!(Ok(ranges.clone()), RecordRange::decode_all(&RecordRange::encode_all(&ranges)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        let _ = (Head::decode(&bytes), Checkpoint::decode(&bytes), InFlight::decode(&bytes), MappingRecord::decode(&bytes));
    }

    #[test]
    fn what_is_still_open_lies_at_or_above_the_checkpoint(in_flight in in_flights(), checkpoint: u64) {
        let (boot, generation) = (in_flight.boot_id, in_flight.generation);
        if let Some(open) = in_flight.still_open(boot, generation, checkpoint) {
            prop_assert!(open.entries.iter().all(|e| checkpoint <= e.first && e.first <= e.last));
            prop_assert!(open.end >= checkpoint);
        }
    }
}

fn in_flight() -> InFlight {
    InFlight {
        boot_id: [1; 16],
        worker: [2; 16],
        runner: 3,
        generation: 4,
        formed_at: 100,
        end: 200,
        is_calling: true,
        exponent: 5,
        not_before: 6,
        entries: vec![
            Entry {
                attempts: 2,
                cause: Cause::Crashed,
                detail: 11,
                first_failed: 9,
                ..Entry::fresh(100, 119)
            },
            Entry { is_joined: true, ..Entry::fresh(120, 149) },
            Entry::fresh(150, 199),
        ],
        ..InFlight::default()
    }
}

fn assert_every_flipped_bit_is_noticed<T: std::fmt::Debug>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, Damage>,
) {
    assert!(decode(bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);

        assert!(decode(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let head = Head { counter: 1, generation: 2, factor: 3, is_windowed: false };
    let hint = Position { segment: 1, offset: 8 };
    let checkpoint = Checkpoint {
        counter: 1,
        generation: 2,
        lease_epoch: 3,
        next_seq: 4,
        hint,
        written: 6,
        shard_epoch: 7,
    };
    let record = MappingRecord {
        counter: 1,
        wanted_factor: 2,
        wants_windows: false,
        is_paused: true,
        start: Start::AtTimestamp(3),
        begun: vec!["orders".into(), "shop.total.redrive".into()],
        replays: 4,
        on_failure: OnFailure::Stream("bad".into()),
    };

    assert_every_flipped_bit_is_noticed(&head.encode(), Head::decode);
    assert_every_flipped_bit_is_noticed(&checkpoint.encode(), Checkpoint::decode);
    assert_every_flipped_bit_is_noticed(&in_flight().encode(), InFlight::decode);
    assert_every_flipped_bit_is_noticed(&record.encode(), MappingRecord::decode);
}

#[test]
fn a_slot_cut_anywhere_is_noticed() {
    let bytes = in_flight().encode();
    for length in 0..bytes.len() {
        assert!(InFlight::decode(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_mapping_of_a_stream_with_a_name_that_leads_elsewhere_is_damage() {
    for name in ["", "../secrets", "a/b", "a b", "a.b.c.d", "\0"] {
        let record = MappingRecord {
            counter: 1,
            wanted_factor: 1,
            wants_windows: false,
            is_paused: false,
            start: Start::Latest,
            begun: vec![name.to_owned()],
            replays: 0,
            on_failure: OnFailure::DeadLetters,
        };
        let on_failure = OnFailure::Stream(name.to_owned());
        let elsewhere = MappingRecord { begun: Vec::new(), on_failure, ..record.clone() };

        assert!(MappingRecord::decode(&record.encode()).is_err(), "{name}");
        assert!(MappingRecord::decode(&elsewhere.encode()).is_err(), "{name}");
    }
}

#[test]
fn a_mapping_of_a_version_that_notes_no_failures_goes_by_the_default() {
    let on_failure = OnFailure::Stream("bad".into());
    let record = MappingRecord { on_failure, ..a_mapping() };
    let mut bytes = record.encode();
    let noted = bytes.windows(3).rposition(|part| part == b"bad").expect("the name") - 6;
    bytes.truncate(noted);
    bytes.resize(MAPPING_BYTES - CRC_BYTES, 0);

    assert_eq!(Ok(a_mapping()), MappingRecord::decode(&seal(bytes)));
}

fn a_mapping() -> MappingRecord {
    MappingRecord {
        counter: 1,
        wanted_factor: 1,
        wants_windows: false,
        is_paused: false,
        start: Start::Latest,
        begun: vec!["orders".into()],
        replays: 3,
        on_failure: OnFailure::DeadLetters,
    }
}

#[test]
fn a_cause_has_one_number_and_others_are_of_a_newer_format() {
    let causes = [Cause::None, Cause::Crashed, Cause::TimedOut, Cause::OutOfMemory];
    for (number, cause) in (0u8..).zip(causes) {
        assert_eq!((cause.number(), Cause::from_number(number)), (number, Some(cause)));
    }

    assert_eq!(None, Cause::from_number(4));
}

#[test]
fn zeros_are_no_slot() {
    let zeros = [0; MAPPING_BYTES];
    assert!(Head::decode(&zeros).is_err());
    assert!(Checkpoint::decode(&zeros).is_err());
    assert!(InFlight::decode(&zeros).is_err());
    assert!(MappingRecord::decode(&zeros).is_err());
}

#[test]
fn a_slot_of_another_boot_or_head_or_formed_above_the_checkpoint_is_void() {
    assert_eq!(None, in_flight().still_open([9; 16], 4, 100));
    assert_eq!(None, in_flight().still_open([1; 16], 5, 100));
    assert_eq!(None, in_flight().still_open([1; 16], 4, 99));
    assert_eq!(Some(in_flight()), in_flight().still_open([1; 16], 4, 100));
}

#[test]
fn entries_below_the_checkpoint_are_dropped_and_one_across_it_is_cut() {
    let open = in_flight().still_open([1; 16], 4, 130).unwrap();

    assert_eq!(vec![Entry::fresh(130, 149), Entry::fresh(150, 199)], open.entries);
}

#[test]
fn nothing_of_a_settled_batch_is_open() {
    let open = in_flight().still_open([1; 16], 4, 200).unwrap();

    assert_eq!((Vec::new(), 5), (open.entries, open.exponent));
}

#[test]
fn the_first_call_ends_where_an_entry_is_not_joined() {
    let mut slot = in_flight();
    assert_eq!(2, slot.first_call().len());
    slot.entries.remove(0);
    assert_eq!(1, slot.first_call().len(), "the first entry begins a call, joined or not");
    slot.entries.clear();
    assert!(slot.first_call().is_empty());
}

#[test]
fn a_list_too_long_for_a_slot_becomes_the_range_from_the_lowest_open_record() {
    let mut list: Vec<Entry> =
        (0..21).map(|i| Entry::fresh(100 + 2 * i, 100 + 2 * i)).rev().collect();
    list[3].first_failed = 77;

    assert_eq!(vec![Entry { first_failed: 77, ..Entry::fresh(100, 199) }], shorten(&list, 200));
    assert_eq!(list[..20], shorten(&list[..20], 200));
}
