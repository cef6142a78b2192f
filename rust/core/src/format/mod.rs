//! Bytes to structures and back: no files, no clock; every function is total. `docs/format.md`
//! explains every byte.

pub mod body;
pub mod checksum;
pub mod codec;
pub mod compression;
pub mod control_batch;
pub mod holes;
pub mod record_batch;
pub mod seal;
pub mod segment_header;
pub mod state;

use std::fmt;

pub use body::{DecodedBatch, Headers, RecordBuilder, SharedBytes};
pub use control_batch::Control;
pub use holes::Hole;
pub use record_batch::BatchHeader;
pub use segment_header::{Access, SegmentHeader};
pub use state::ShardState;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage(pub &'static str);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Rounds up to the next multiple of 8: batches and sections begin there.
pub const fn align8(length: usize) -> usize {
    (length + 7) & !7
}

/// Reads little-endian numbers off the front of a slice; `None` once it is too short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}
