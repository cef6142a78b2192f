//! The bytes of a lanes file and of a mapping's record: structures to slots and back, total functions.
//!
//! Everything is little-endian; every slot ends with the CRC-32C of the bytes before it.
//!
//! ```text
//! head        "SFLANES\x01" | counter u64 | generation u64 | factor u16 | flags u16 | crc        32 bytes
//! checkpoint  "SFCHKPT\x01" | counter u64 | generation u64 | lease epoch u64 | next seq u64
//!             | position hint u64 | written µs u64 | shard epoch u32 | crc                       64 bytes
//! in-flight   "SFFLGHT\x01" | boot id 16 | worker 16 | generation u64 | formed at u64 | end u64
//!             | runner u32 | worker deaths u32 | exponent u32 | flags u8 | n u8 | 0 u16
//!             | n × entry | crc                                                     84 + 40 n bytes
//! entry       first u64 | last u64 | first failed µs u64 | attempts u32 | detail i32 | cause u8
//!             | flags u8 | not before u48 (of the first entry)                                40 bytes
//! ranges      "SFREPLY\x01" | n u32 | 0 u32 | n × { shard u32 | 0 u32 | first u64 | end u64 } | crc
//! mapping     "SFMAPNG\x01" | counter u64 | wanted factor u32 | flags u16 | n u16 | start kind u32
//!             | start value u64 | n × { length u16 | stream name } | replays u64
//!             | on-failure kind u32 | length u16 | stream name | zeros | crc                   4096 bytes
//! ```

mod checkpoint;
mod head;
mod in_flight;
mod mapping_record;
mod replay_range;
mod sealed;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CHECKPOINT_BYTES};
pub use head::{Head, LaneLayout, HEAD_BYTES};
pub use in_flight::{shorten, Cause, Entry, InFlight, IN_FLIGHT_BYTES_MAX, SLOT_ENTRIES_MAX};
pub use mapping_record::{MappingRecord, OnFailure, MAPPING_BYTES, STREAMS_MAX};
pub(super) use replay_range::replay_name;
pub use replay_range::{replayed, RecordRange, REPLAY_MARK};
pub(super) use sealed::{seal, unseal, CRC_BYTES, OTHER_FORMAT};
