//! The 96 bytes before every record batch.
//!
//! Header and body have their own checksums. Each header holds the checksum of the one before it,
//! so that an old tail from an earlier life of the file never fits.

use std::fmt;

use super::checksum::crc32c;
use super::{codec, Bytes, Damage};
use crate::types::{Micros, Position, SequenceNumber};

/// Length of a batch header.
pub const HEADER_BYTES: usize = 96;
/// First four bytes of a batch; zeros there mean that nothing was written.
pub const MAGIC: [u8; 4] = *b"SFB1";
/// Largest stored body.
pub const BODY_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Largest body after decompression; checked before memory is taken.
pub const RAW_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Most records in one record batch.
pub const RECORDS_MAX: u32 = 1_048_576;

const VERSION: u8 = 1;
/// [`HEADER_BYTES`] in units of 8, as the header says it.
const HEADER_WORDS: u8 = 12;
/// Where the dictionary's number stands.
const DICTIONARY_AT: usize = 68;
const CODEC_MASK: u16 = 0x000f;
const CODEC_LAST: u16 = codec::ZSTD_PACKED as u16;
const FLAG_CONTROL: u16 = 1 << 4;
const FLAG_PRODUCER: u16 = 1 << 5;
const FLAG_KEYS: u16 = 1 << 9;
const FLAGS_KNOWN: u16 = CODEC_MASK | FLAG_CONTROL | FLAG_PRODUCER | FLAG_KEYS;
/// Bits 8 to 15 describe; only bits 0 to 7 change how the body is read.
const FLAGS_COMPATIBLE: u16 = 0xff00;

const _: () = assert!(HEADER_BYTES == 8 * HEADER_WORDS as usize, "batches are 8-byte aligned");
const _: () = assert!(
    BODY_BYTES_MAX as usize
        > crate::types::RECORD_BYTES_MAX + crate::types::DEAD_LETTER_BYTES_EXTRA
);

/// A decoded batch header. Numbers are little-endian on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BatchHeader {
    /// See [`codec`](super::codec).
    pub codec: u8,
    /// A control batch: its body is a [`super::Control`], not records.
    pub is_control: bool,
    /// Whether any record has a partition key.
    pub has_keys: bool,
    /// Bytes of the body as stored, padding not counted.
    pub body_len: u32,
    /// Bytes of the body after decompression.
    pub raw_len: u32,
    /// Sequence number of the first record.
    pub base_seq: SequenceNumber,
    /// Records, or sequence numbers taken by a control batch (1; 0 for SEAL).
    pub record_count: u32,
    /// CRC-32C of the stored body.
    pub body_crc: u32,
    /// Append time of the first record, µs UTC.
    pub base_ts: Micros,
    /// Append time of the last record, µs UTC.
    pub max_ts: Micros,
    /// Epoch of the shard: rises at every unclean stop.
    pub shard_epoch: u32,
    /// First sequence number that was not known to be synced when this header was built.
    pub durable_end: SequenceNumber,
    /// `header_crc` of the batch physically before.
    pub prev_header_crc: u32,
    /// The position at which the batch was written; a copy of it inside a record has another one. 0
    /// in batches of versions that did not store it.
    pub place: Position,
}

/// What a header's bytes turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRead {
    /// A valid header, and its own checksum for the chain.
    Valid(BatchHeader, u32),
    /// Zeros where the magic belongs: the end of the written area.
    Empty,
    /// Neither.
    Damaged(Damage),
    /// Valid, but it asks for something that changes how the batch is read and is not known here.
    Unsupported(Unknown),
}

/// What a valid header asks for that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Another version of the header.
    Version(u8),
    /// A header of so many times 8 bytes.
    HeaderWords(u8),
    /// A flag among those that change how the body is read, or a codec; all flags of the header.
    Flags(u16),
    /// A compression dictionary, by its number.
    Dictionary(u32),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "a record batch of version {version}"),
            Self::HeaderWords(words) => {
                write!(f, "a record batch with a header of {} bytes", u32::from(*words) * 8)
            }
            Self::Flags(flags) => write!(f, "a record batch with flags {flags:#06x}"),
            Self::Dictionary(id) => write!(f, "a record batch compressed with dictionary {id}"),
        }
    }
}

/// What this version can read, for messages beside an [`Unknown`].
pub const SUPPORTED: &str = "version 1, codecs 0 to 2, no dictionary, no encryption";

impl BatchHeader {
    /// The first sequence number after this batch.
    pub fn next_seq(&self) -> SequenceNumber {
        self.base_seq.saturating_add(u64::from(self.record_count))
    }

    /// The previous checksum of the next batch, `crc` being the checksum of this header: a batch
    /// that takes no number (SEAL) is not part of the chain.
    pub fn chain_crc(&self, crc: u32) -> u32 {
        if self.record_count == 0 {
            self.prev_header_crc
        } else {
            crc
        }
    }

    /// Whether the batch may be at a place: its header names this place, or none.
    pub fn is_at(&self, place: Position) -> bool {
        self.place == Position::default() || self.place == place
    }

    /// The place that the bytes of a header name, also in a header of a newer version.
    pub fn place_in(head: &[u8]) -> Option<Position> {
        Self::decode_fields(head).map(|header| header.place)
    }

    /// Bytes the batch takes in the file, header and padding included.
    pub fn stored_bytes(&self) -> u64 {
        (HEADER_BYTES + super::align8(self.body_len as usize)) as u64
    }

    /// Writes the 96 bytes; returns them with their checksum, which the next batch chains to.
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut flags = u16::from(self.codec);
        if self.is_control {
            flags |= FLAG_CONTROL;
        }
        if self.has_keys {
            flags |= FLAG_KEYS;
        }
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |piece: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + piece.len()) {
                place.copy_from_slice(piece);
            }
            at += piece.len();
        };
        put(&MAGIC);
        put(&[VERSION, HEADER_WORDS]);
        put(&flags.to_le_bytes());
        put(&self.body_len.to_le_bytes());
        put(&self.raw_len.to_le_bytes());
        put(&self.base_seq.to_le_bytes());
        put(&self.record_count.to_le_bytes());
        put(&self.body_crc.to_le_bytes());
        put(&self.base_ts.to_le_bytes());
        put(&self.max_ts.to_le_bytes());
        put(&[0; 16]); // producer id, epoch and sequence: reserved for idempotent producers
        put(&self.shard_epoch.to_le_bytes());
        put(&[0; 4]); // dictionary id: none
        put(&self.durable_end.to_le_bytes());
        put(&self.prev_header_crc.to_le_bytes());
        put(&self.place.to_word().to_le_bytes());
        assert_eq!(at, HEADER_BYTES - 4, "docs/format.md draws 92 bytes before the checksum");
        let (head, tail) = bytes.split_at_mut(HEADER_BYTES - 4);
        let crc = crc32c(head);
        tail.copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads 96 bytes (fewer count as damaged).
    pub fn decode(bytes: &[u8]) -> HeaderRead {
        match bytes.get(..4) {
            None | Some([0, 0, 0, 0]) => return HeaderRead::Empty,
            Some(magic) if magic != MAGIC => {
                return HeaderRead::Damaged(Damage("no batch begins here"))
            }
            Some(_) => {}
        }
        let Some((head, crc)) = bytes.get(..HEADER_BYTES).and_then(|b| b.split_last_chunk::<4>())
        else {
            return HeaderRead::Damaged(Damage("the header is cut off"));
        };
        let crc = u32::from_le_bytes(*crc);
        if crc32c(head) != crc {
            return HeaderRead::Damaged(Damage("the header's checksum does not match"));
        }
        // WHY not damage: its checksum says that somebody meant it so. What a newer version wrote is
        // refused; to take it for a torn tail would be to cut it.
        if let Some(unknown) = Self::unknown(head) {
            return HeaderRead::Unsupported(unknown);
        }
        match Self::decode_fields(head) {
            Some(header) => match header.check() {
                Some(damage) => HeaderRead::Damaged(damage),
                None => HeaderRead::Valid(header, crc),
            },
            None => HeaderRead::Damaged(Damage("the header is cut off")),
        }
    }

    /// What the header asks for that is not known here.
    fn unknown(head: &[u8]) -> Option<Unknown> {
        let mut from = Bytes(head);
        from.take(MAGIC.len())?;
        let (version, words, flags) = (from.u8()?, from.u8()?, from.u16()?);
        from.take(DICTIONARY_AT - 8)?;
        let dictionary = from.u32()?;
        let is_flag_unknown =
            flags & !(FLAGS_KNOWN | FLAGS_COMPATIBLE) != 0 || flags & CODEC_MASK > CODEC_LAST;
        match () {
            () if version != VERSION => Some(Unknown::Version(version)),
            () if words != HEADER_WORDS => Some(Unknown::HeaderWords(words)),
            () if is_flag_unknown => Some(Unknown::Flags(flags)),
            () if dictionary != 0 => Some(Unknown::Dictionary(dictionary)),
            () => None,
        }
    }

    fn decode_fields(head: &[u8]) -> Option<Self> {
        let mut from = Bytes(head);
        from.take(MAGIC.len() + 2)?;
        let flags = from.u16()?;
        let mut header = Self {
            codec: u8::try_from(flags & CODEC_MASK).ok()?,
            is_control: flags & FLAG_CONTROL != 0,
            has_keys: flags & FLAG_KEYS != 0,
            body_len: from.u32()?,
            raw_len: from.u32()?,
            base_seq: from.u64()?,
            record_count: from.u32()?,
            body_crc: from.u32()?,
            base_ts: from.u64()?,
            max_ts: from.u64()?,
            ..Self::default()
        };
        from.take(16)?;
        header.shard_epoch = from.u32()?;
        from.take(4)?;
        header.durable_end = from.u64()?;
        header.prev_header_crc = from.u32()?;
        header.place = Position::from_word(from.u64()?);
        Some(header)
    }

    fn check(&self) -> Option<Damage> {
        if self.body_len > BODY_BYTES_MAX || self.raw_len > RAW_BYTES_MAX {
            return Some(Damage("the body is longer than any writer makes it"));
        }
        if self.record_count > RECORDS_MAX || (self.record_count == 0 && !self.is_control) {
            return Some(Damage("the record count is outside 1 … 1,048,576"));
        }
        if self.base_seq.checked_add(u64::from(self.record_count)).is_none() {
            return Some(Damage("the sequence numbers overflow"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            codec: 1,
            has_keys: true,
            body_len: 1_234,
            raw_len: 5_678,
            base_seq: 42,
            record_count: 7,
            body_crc: 0xdead_beef,
            base_ts: 1_000,
            max_ts: 2_000,
            shard_epoch: 3,
            durable_end: 40,
            prev_header_crc: 9,
            place: Position { segment: 1, offset: 4096 },
            ..BatchHeader::default()
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        let (bytes, crc) = header().encode();

        assert_eq!(HeaderRead::Valid(header(), crc), BatchHeader::decode(&bytes));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, crc) = header().encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);

            assert_ne!(
                HeaderRead::Valid(header(), crc),
                BatchHeader::decode(&damaged),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn zeros_are_the_end_and_a_short_rest_is_damage() {
        let (bytes, _) = header().encode();

        assert_eq!(HeaderRead::Empty, BatchHeader::decode(&[0; HEADER_BYTES]));
        assert_eq!(HeaderRead::Empty, BatchHeader::decode(&[]));
        assert!(matches!(BatchHeader::decode(&bytes[..95]), HeaderRead::Damaged(_)));
    }

    /// The header with other bytes at a place, and the checksum that fits them.
    fn with(at: usize, piece: &[u8]) -> [u8; HEADER_BYTES] {
        let (mut bytes, _) = header().encode();
        bytes[at..at + piece.len()].copy_from_slice(piece);
        let crc = crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_not_guessed_at() {
        for (bytes, unknown) in [
            (with(4, &[2]), Unknown::Version(2)),
            (with(5, &[13]), Unknown::HeaderWords(13)),
            (with(6, &[3, 2]), Unknown::Flags(0x0203)),
            (with(6, &[1 << 6, 0]), Unknown::Flags(1 << 6)),
            (with(6, &[1 << 7, 0]), Unknown::Flags(1 << 7)),
            (with(68, &[7]), Unknown::Dictionary(7)),
        ] {
            assert_eq!(HeaderRead::Unsupported(unknown), BatchHeader::decode(&bytes));
        }
    }

    #[test]
    fn flags_that_only_describe_may_be_new() {
        let bytes = with(7, &[0xff]);

        assert!(matches!(BatchHeader::decode(&bytes), HeaderRead::Valid(..)));
    }
}
