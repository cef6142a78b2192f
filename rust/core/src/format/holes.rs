//! The `holes` file of a shard: places whose record batches can no longer be read.
//!
//! ```text
//! file := "SFHOLES\x01" | count u32 | 0 u32 | count × hole | crc u32
//! hole := at u64 | end u64 | first u64 | last u64 | found µs u64 | flags u32 | 0 u32        48 bytes
//! ```
//! It informs people and tools; reading the shard does not need it.

use super::checksum::crc32c;
use super::{Bytes, Damage};
use crate::types::{Micros, Position, SequenceNumber};

const MAGIC: [u8; 8] = *b"SFHOLES\x01";
const FLAG_ACCEPTED: u32 = 1;
/// Most holes that are listed; if a shard has more, the oldest stay.
pub const HOLES_MAX: usize = 65_536;

/// A damaged place between whole record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// First sequence number that cannot be read.
    pub first: SequenceNumber,
    /// Last sequence number that cannot be read.
    pub last: SequenceNumber,
    /// Where the damage begins.
    pub at: Position,
    /// Where the next whole batch begins.
    pub end: Position,
    /// When it was found, µs UTC.
    pub found: Micros,
    /// Whether a person has taken note of the loss (`fsck --repair`).
    pub is_accepted: bool,
}

impl Hole {
    /// Whether the two have sequence numbers in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Writes the whole file.
pub fn encode(holes: &[Hole]) -> Vec<u8> {
    let holes = holes.get(..HOLES_MAX).unwrap_or(holes);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(holes.len()).expect("bounded").to_le_bytes());
    bytes.extend([0; 4]);
    for hole in holes {
        for word in [hole.at.to_word(), hole.end.to_word(), hole.first, hole.last, hole.found] {
            bytes.extend(word.to_le_bytes());
        }
        let flags = if hole.is_accepted { FLAG_ACCEPTED } else { 0 };
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

/// Reads the whole file.
///
/// # Errors
/// [`Damage`] if the bytes are not what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Vec<Hole>, Damage> {
    let (head, crc) =
        bytes.split_last_chunk::<4>().ok_or(Damage("the list of holes is cut off"))?;
    if crc32c(head) != u32::from_le_bytes(*crc) {
        return Err(Damage("the checksum of the list of holes does not match"));
    }
    decode_fields(Bytes(head)).ok_or(Damage("the list of holes has another format"))
}

fn decode_fields(mut from: Bytes<'_>) -> Option<Vec<Hole>> {
    if from.array::<8>()? != MAGIC {
        return None;
    }
    let count = from.u32()? as usize;
    from.u32()?;
    if count > HOLES_MAX {
        return None;
    }
    (0..count).map(|_| decode_hole(&mut from)).collect()
}

fn decode_hole(from: &mut Bytes<'_>) -> Option<Hole> {
    let (at, end) = (Position::from_word(from.u64()?), Position::from_word(from.u64()?));
    let (first, last, found) = (from.u64()?, from.u64()?, from.u64()?);
    let is_accepted = from.u32()? & FLAG_ACCEPTED != 0;
    from.u32()?;
    (first <= last).then_some(Hole { first, last, at, end, found, is_accepted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holes() -> Vec<Hole> {
        let hole = Hole {
            first: 7,
            last: 9,
            at: Position { segment: 1, offset: 4096 },
            end: Position { segment: 1, offset: 8192 },
            found: 5,
            is_accepted: false,
        };
        vec![hole, Hole { first: 20, last: 20, is_accepted: true, ..hole }]
    }

    #[test]
    fn a_list_of_holes_comes_back_as_it_was() {
        assert_eq!(Ok(holes()), decode(&encode(&holes())));
        assert_eq!(Ok(vec![]), decode(&encode(&[])));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&holes());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
