//! The small structures: slots of state, lanes and mappings, the segment header, the manifest.

use std::path::Path;

use streamfn_core::checkpoint::slot::{
    Checkpoint, Head, MappingRecord, OnFailure, IN_FLIGHT_BYTES_MAX, MAPPING_BYTES,
    SLOT_ENTRIES_MAX, STREAMS_MAX,
};
use streamfn_core::checkpoint::window::{Pair, STATE_BYTES_MAX};
use streamfn_core::checkpoint::{
    Cause, Entry, InFlight, OpenWindow, RecordRange, ResumePoint, StateKind, WindowState, Windows,
};
use streamfn_core::format::checksum::crc32c;
use streamfn_core::format::{holes, seal, Damage, Hole, SegmentHeader, ShardState};
use streamfn_core::log::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use streamfn_core::stream::{Manifest, Retention};
use streamfn_core::types::{is_valid_internal_name, is_valid_name, FACTOR_MAX, SHARDS_MAX};
use streamfn_core::{
    Compression, Durability, Error, Position, ShardId, ShardMeta, Start, StreamConfig,
};

use crate::campaign::{Decoder, Outcome};
use crate::mutation::Random;

/// A structure of fixed length that ends with the checksum of what stands before it.
pub(crate) struct Slot<T> {
    pub(crate) name: &'static str,
    /// Where its checksum stands, found from its bytes.
    crc_at: fn(&[u8]) -> usize,
    hot: usize,
    make: fn(&mut Random) -> T,
    encode: fn(&T) -> Vec<u8>,
    decode: fn(&[u8]) -> Result<T, Damage>,
    is_within_limits: fn(&T) -> bool,
}

impl<T: PartialEq + std::fmt::Debug> Decoder for Slot<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        (self.encode)(&(self.make)(random))
    }

    fn hot(&self) -> usize {
        self.hot
    }

    fn fix(&self, bytes: &mut [u8]) {
        let at = (self.crc_at)(bytes);
        if let Some((head, crc)) = bytes.split_at_mut_checked(at) {
            if let Some(crc) = crc.get_mut(..4) {
                crc.copy_from_slice(&crc32c(head).to_le_bytes());
            }
        }
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        let found = match (self.decode)(bytes) {
            Ok(found) => found,
            Err(damage) => return Ok(Outcome::Refused(damage.0)),
        };
        if !(self.is_within_limits)(&found) {
            return Err(format!("beyond the limits: {found:?}"));
        }
        match (self.decode)(&(self.encode)(&found)) {
            Ok(again) if again == found => Ok(Outcome::Accepted),
            other => Err(format!("{found:?} came back as {other:?}")),
        }
    }

    fn allocation_max(&self) -> usize {
        64 * 1024
    }
}

/// Head of a lanes file.
pub(crate) fn head() -> Slot<Head> {
    Slot {
        name: "lanes head",
        crc_at: |_| 28,
        hot: 32,
        make: |random| Head {
            counter: random.number(),
            generation: random.number(),
            factor: 1 + random.below(FACTOR_MAX as usize) as u32,
            is_windowed: false,
        },
        encode: Head::encode,
        decode: Head::decode,
        is_within_limits: |head| (1..=FACTOR_MAX).contains(&head.factor),
    }
}

/// Checkpoint slot of a lane.
pub(crate) fn checkpoint() -> Slot<Checkpoint> {
    Slot {
        name: "checkpoint slot",
        crc_at: |_| 60,
        hot: 64,
        make: |random| Checkpoint {
            counter: random.number(),
            generation: random.number(),
            lease_epoch: random.number(),
            next_seq: random.number(),
            hint: Position::from_word(random.number()),
            written: random.number(),
            shard_epoch: random.number() as u32,
        },
        encode: Checkpoint::encode,
        decode: Checkpoint::decode,
        is_within_limits: |_| true,
    }
}

/// In-flight slot of a lane.
pub(crate) fn in_flight() -> Slot<InFlight> {
    Slot {
        name: "in-flight slot",
        crc_at: |bytes| 80 + 40 * usize::from(bytes.get(77).copied().unwrap_or(0)),
        hot: IN_FLIGHT_BYTES_MAX,
        make: |random| {
            let entries = 0..random.below(SLOT_ENTRIES_MAX + 1);
            let not_before = random.number() >> 16;
            InFlight {
                boot_id: [random.number() as u8; 16],
                worker: [random.number() as u8; 16],
                generation: random.number(),
                formed_at: random.number(),
                end: random.number(),
                is_calling: random.once_in(2),
                is_alone: random.once_in(2),
                is_exclusive: random.once_in(2),
                is_final: random.once_in(2),
                worker_deaths: random.below(9) as u32,
                exponent: random.below(33) as u32,
                runner: random.below(99) as u32,
                not_before: if entries.is_empty() { 0 } else { not_before },
                entries: entries.map(|_| entry(random)).collect(),
            }
        },
        encode: InFlight::encode,
        decode: InFlight::decode,
        is_within_limits: |slot| {
            slot.entries.len() <= SLOT_ENTRIES_MAX
                && slot.entries.iter().all(|entry| entry.first <= entry.last)
        },
    }
}

fn entry(random: &mut Random) -> Entry {
    let first = random.number() >> 1;
    Entry {
        attempts: random.below(5) as u32,
        is_joined: random.once_in(2),
        cause: *random.choose(&[Cause::None, Cause::Crashed, Cause::TimedOut, Cause::OutOfMemory]),
        detail: -9,
        first_failed: random.number(),
        ..Entry::fresh(first, first + random.below(1000) as u64)
    }
}

/// Record of a mapping.
pub(crate) fn mapping() -> Slot<MappingRecord> {
    Slot {
        name: "mapping record",
        crc_at: |_| MAPPING_BYTES - 4,
        hot: 80,
        make: |random| MappingRecord {
            counter: random.number(),
            wanted_factor: 1 + random.below(FACTOR_MAX as usize) as u32,
            wants_windows: false,
            is_paused: random.once_in(2),
            start: *random.choose(&[
                Start::TrimHorizon,
                Start::Latest,
                Start::AtTimestamp(5),
                Start::AtSequence(7),
            ]),
            begun: (0..random.below(STREAMS_MAX + 1))
                .map(|n| if n % 2 == 0 { "orders".into() } else { "app.fn.redrive".into() })
                .collect(),
            replays: random.number(),
            on_failure: match random.below(3) {
                0 => OnFailure::DeadLetters,
                1 => OnFailure::Dropped,
                _ => OnFailure::Stream("bad".into()),
            },
        },
        encode: MappingRecord::encode,
        decode: MappingRecord::decode,
        is_within_limits: |record| {
            (1..=FACTOR_MAX).contains(&record.wanted_factor)
                && record.begun.len() <= STREAMS_MAX
                && record.begun.iter().all(|name| is_name(name))
        },
    }
}

/// What a replay reads.
pub(crate) fn ranges() -> Slot<Vec<RecordRange>> {
    Slot {
        name: "ranges",
        crc_at: |bytes| bytes.len().saturating_sub(4),
        hot: 64,
        make: |random| {
            let range = |shard| {
                let first = u64::from(random.number() as u32);
                let until = first + random.below(1000) as u64;
                RecordRange { shard: ShardId(shard), first, until }
            };
            (0..4).map(range).collect()
        },
        encode: |ranges| RecordRange::encode_all(ranges),
        decode: RecordRange::decode_all,
        is_within_limits: |ranges| {
            ranges.iter().all(|range| range.first <= range.until)
                && ranges.is_sorted_by(|a, b| a.shard < b.shard)
        },
    }
}

/// Window file of a lane.
pub(crate) fn window_pair() -> Slot<Pair> {
    Slot {
        name: "window pair",
        crc_at: |bytes| {
            let length = bytes.get(88..92).and_then(|length| length.try_into().ok());
            92 + (length.map_or(0, u32::from_le_bytes) as usize).min(1 << 16)
        },
        hot: 120,
        make: |random| {
            let bytes = vec![random.number() as u8; random.below(300)].into();
            let kind = *random.choose(&[StateKind::Json, StateKind::Bytes]);
            let open = OpenWindow {
                start: random.number(),
                end: random.number(),
                state: WindowState { kind, bytes },
                is_ended_early: random.once_in(2),
            };
            let open = random.once_in(2).then_some(open);
            let place = ResumePoint {
                next_seq: random.number(),
                hint: Position::from_word(random.number()),
                shard_epoch: random.number() as u32,
            };
            Pair {
                counter: random.number(),
                generation: random.number(),
                lease_epoch: random.number(),
                place,
                written: random.number(),
                windows: Windows { open, closed_to: random.number() },
            }
        },
        encode: Pair::encode,
        decode: Pair::decode,
        is_within_limits: |pair| {
            pair.windows.open.as_ref().is_none_or(|open| open.state.bytes.len() <= STATE_BYTES_MAX)
        },
    }
}

fn is_name(name: &str) -> bool {
    is_valid_name(name) || is_valid_internal_name(name)
}

/// Slot of a shard's state.
pub(crate) fn state() -> Slot<ShardState> {
    Slot {
        name: "state slot",
        crc_at: |_| 508,
        hot: 64,
        make: |random| ShardState {
            counter: random.number(),
            epoch: random.number() as u32,
            reserved: random.number(),
            trim_horizon: random.number(),
            recovery_point: Position::from_word(random.number()),
            recovery_seq: random.number(),
            recovery_crc: random.number() as u32,
            recovery_ts: random.number(),
        },
        encode: |state| state.encode().to_vec(),
        decode: ShardState::decode,
        is_within_limits: |_| true,
    }
}

/// The list of a shard's holes.
pub(crate) fn list_of_holes() -> Slot<Vec<Hole>> {
    Slot {
        name: "list of holes",
        crc_at: |bytes| bytes.len().saturating_sub(4),
        hot: 64,
        make: |random| {
            let place = |number| Position::from_word(number);
            let holes = 0..random.below(4);
            let hole = |_| {
                let first = random.number() >> 1;
                Hole {
                    first,
                    last: first + random.below(9) as u64,
                    at: place(random.number()),
                    end: place(random.number()),
                    found: random.number(),
                    is_accepted: random.once_in(2),
                }
            };
            holes.map(hole).collect()
        },
        encode: |list| holes::encode(list),
        decode: holes::decode,
        is_within_limits: |list| {
            list.len() <= holes::HOLES_MAX && list.iter().all(|hole| hole.first <= hole.last)
        },
    }
}

/// Index of a closed segment; its checksum stands in the header of its batch.
pub(crate) fn index() -> Slot<Vec<seal::IndexEntry>> {
    Slot {
        name: "index",
        crc_at: |_| usize::MAX,
        hot: 64,
        make: |random| {
            let entries = 0..random.below(5);
            let entry = |_| seal::IndexEntry {
                base_seq: random.number(),
                offset: random.number(),
                max_ts: random.number(),
            };
            entries.map(entry).collect()
        },
        encode: |entries| seal::encode(entries),
        decode: seal::decode,
        is_within_limits: |_| true,
    }
}

/// Header of a segment file.
pub(crate) fn segment_header() -> Slot<SegmentHeader> {
    Slot {
        name: "segment header",
        crc_at: |_| 4092,
        hot: 152,
        make: |random| SegmentHeader {
            log_uuid: [random.number() as u8; 16],
            shard: ShardId(random.below(SHARDS_MAX as usize) as u32),
            epoch: random.below(9) as u32,
            base_seq: random.number(),
            created: random.number(),
            prev_header_crc: random.number() as u32,
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: (random.number().into(), u128::MAX),
            parents: (0..random.below(3)).map(|n| ShardId(n as u32)).collect(),
        },
        encode: SegmentHeader::encode,
        decode: SegmentHeader::decode,
        is_within_limits: |header| header.parents.len() <= 2,
    }
}

/// `manifest.json`.
pub(crate) struct ManifestFile;

impl Decoder for ManifestFile {
    fn name(&self) -> &'static str {
        "manifest"
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        manifest(random).encode()
    }

    fn hot(&self) -> usize {
        1024
    }

    fn fix(&self, bytes: &mut [u8]) {
        let line = "crc32c:00000000\n".len();
        if let Some(at) = bytes.len().checked_sub(line) {
            let (json, place) = bytes.split_at_mut(at);
            place.copy_from_slice(format!("crc32c:{:08x}\n", crc32c(json)).as_bytes());
        }
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        let found = match Manifest::decode(bytes, Path::new("manifest.json")) {
            Ok(found) => found,
            Err(Error::UnsupportedFormat { .. }) => return Ok(Outcome::Refused("format")),
            Err(Error::Corruption { reason, .. }) => return Ok(Outcome::Refused(kind(&reason))),
            Err(other) => return Err(format!("an error of another kind: {other}")),
        };
        check_manifest(&found)?;
        match Manifest::decode(&found.encode(), Path::new("manifest.json")) {
            Ok(again) if again == found => Ok(Outcome::Accepted),
            other => Err(format!("{found:?} came back as {other:?}")),
        }
    }

    fn allocation_max(&self) -> usize {
        256 * 1024
    }
}

/// The reasons to refuse a manifest, without the places that JSON errors name.
fn kind(reason: &str) -> &'static str {
    let kinds = [
        "cut off",
        "checksum",
        "unknown value",
        "missing field",
        "invalid type",
        "invalid value",
        "expected",
        "EOF",
        "duplicate field",
        "control character",
        "number out of range",
        "escape",
        "trailing characters",
        "invalid number",
        "unicode",
        "key must be",
    ];
    kinds.into_iter().find(|kind| reason.contains(kind)).unwrap_or("another reason")
}

fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    let config = &manifest.config;
    let is_within = manifest.shards.len() <= SHARDS_MAX as usize
        && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&config.segment_bytes)
        && manifest.shards.iter().all(|shard| {
            (1..=SHARDS_MAX).contains(&shard.page) && shard.hash_range.0 <= shard.hash_range.1
        });
    is_within.then_some(()).ok_or_else(|| format!("beyond the limits: {manifest:?}"))
}

fn manifest(random: &mut Random) -> Manifest {
    let count = 1 + random.below(3) as u32;
    let shards = (0..count)
        .map(|id| ShardMeta {
            id: ShardId(id),
            page: 1 + id,
            hash_range: (u128::from(id) << 120, u128::MAX),
            parents: (0..random.below(3)).map(|n| ShardId(n as u32)).collect(),
            is_open: random.once_in(2),
            is_pending: random.once_in(4),
        })
        .collect();
    let retention = Retention {
        age_us: random.once_in(2).then(|| random.number() >> 8),
        bytes: random.once_in(2).then(|| random.number() >> 8),
        is_consumed: random.once_in(2),
    };
    let config = StreamConfig {
        shards: count,
        durability: *random.choose(&[Durability::Group, Durability::Process]),
        compression: *random.choose(&[Compression::Zstd, Compression::None]),
        retention,
        ..StreamConfig::default()
    };
    Manifest { config, created: random.number() >> 8, shards }
}
