//! SEAL: the sparse index at the end of a closed segment. It is a cache: every answer is checked
//! against the batches. Without it, or if it is damaged, only more is read.
//!
//! ```text
//! body  := kind 3 u16 | 0 u16 | count u32 | entry* | bytes of the whole batch u32 | "SEAL"
//! entry := base_seq u64 | offset u64 | max_ts u64         of a batch about every 64 KiB
//! ```
//! The last 8 bytes lead from the end of the file to the beginning of the batch.

use super::record_batch::HEADER_BYTES;
use super::{Bytes, Damage};
use crate::types::{Micros, SequenceNumber};

/// Kind of the control batch.
pub const KIND: u16 = 3;
/// What its last 8 bytes are: length of the batch, and a magic.
pub const TRAILER_BYTES: usize = 8;
const MAGIC: [u8; 4] = *b"SEAL";
const ENTRY_BYTES: usize = 24;
const FIXED_BYTES: usize = 8 + TRAILER_BYTES;

const _: () = assert!(ENTRY_BYTES.is_multiple_of(8) && FIXED_BYTES.is_multiple_of(8), "no padding");

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its first sequence number.
    pub base_seq: SequenceNumber,
    /// Its byte in the file.
    pub offset: u64,
    /// Append time of its last record, µs UTC.
    pub max_ts: Micros,
}

/// Writes the body of a SEAL.
pub fn encode(entries: &[IndexEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(FIXED_BYTES + entries.len() * ENTRY_BYTES);
    body.extend(KIND.to_le_bytes());
    body.extend([0; 2]);
    body.extend(u32::try_from(entries.len()).expect("a segment has 2 GiB at most").to_le_bytes());
    for entry in entries {
        body.extend(entry.base_seq.to_le_bytes());
        body.extend(entry.offset.to_le_bytes());
        body.extend(entry.max_ts.to_le_bytes());
    }
    let length = HEADER_BYTES + body.len() + TRAILER_BYTES;
    body.extend(u32::try_from(length).expect("one entry for 64 KiB").to_le_bytes());
    body.extend(MAGIC);
    body
}

/// Reads the body of a SEAL.
///
/// # Errors
/// [`Damage`] if it does not have this shape.
pub fn decode(body: &[u8]) -> Result<Vec<IndexEntry>, Damage> {
    let short = Damage("the index is cut off");
    let mut from = Bytes(body);
    let (kind, _, count) = (from.u16(), from.u16(), from.u32().ok_or(short)? as usize);
    if kind != Some(KIND) || body.len().checked_sub(FIXED_BYTES) != Some(count * ENTRY_BYTES) {
        return Err(Damage("it is no index of this length"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(IndexEntry {
            base_seq: from.u64().ok_or(short)?,
            offset: from.u64().ok_or(short)?,
            max_ts: from.u64().ok_or(short)?,
        });
    }
    Ok(entries)
}

/// Length of the SEAL batch that a file with these last bytes ends with, if it does.
pub fn length_at_end(trailer: [u8; TRAILER_BYTES]) -> Option<usize> {
    let mut from = Bytes(&trailer);
    let length = from.u32()? as usize;
    (from.array() == Some(MAGIC) && length >= HEADER_BYTES + FIXED_BYTES).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_as_it_was_and_its_end_says_how_long_it_is() {
        for count in [0, 1, 7] {
            let entries: Vec<IndexEntry> = (0..count)
                .map(|n| IndexEntry { base_seq: n, offset: 8 * n, max_ts: n + 5 })
                .collect();
            let body = encode(&entries);

            assert_eq!(Ok(entries), decode(&body));
            let trailer = *body.last_chunk().unwrap();
            assert_eq!(Some(HEADER_BYTES + body.len()), length_at_end(trailer));
        }
    }

    #[test]
    fn a_cut_index_is_damage_at_every_length() {
        let body = encode(&[IndexEntry { base_seq: 1, offset: 4096, max_ts: 2 }]);
        for length in 0..body.len() {
            assert!(decode(&body[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_count_that_does_not_fit_takes_no_memory() {
        let mut body = encode(&[]);
        body[4..8].fill(0xff);

        assert!(decode(&body).is_err());
    }
}
