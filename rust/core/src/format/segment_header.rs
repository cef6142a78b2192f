//! The first 4096 bytes of a segment file: what the file is, for people and tools. Reading batches
//! needs none of it, so a damaged segment header loses no batch.

use super::checksum::crc32c;
use super::{Bytes, Damage};
use crate::types::{Micros, SequenceNumber, ShardId};

/// Length of the header; the first batch begins here.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"STRMSEG\x01";
/// Version of everything in the log directory.
pub const FORMAT_MAJOR: u16 = 1;
/// Additions that older readers of the same major version may ignore.
pub const FORMAT_MINOR: u16 = 0;
const CHECKSUM_CRC32C: u8 = 1;
/// Where the kind of checksum stands; encryption and dictionary follow.
const CHECKSUM_AT: usize = 68;
const PARENTS_MAX: usize = 2;
/// Features of either kind that this version knows.
const INCOMPATIBLE_KNOWN: u32 = 0;
const READ_ONLY_KNOWN: u32 = 0;

/// What may be done with a segment, by the format and the features its header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything; also where the header is damaged, because batches carry all that reading needs.
    Full,
    /// Reading only: these features have to be known for writing.
    ReadOnly(u32),
    /// Nothing; what was found instead of what is known here.
    Refused(String),
}

/// A decoded segment header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log the file belongs to.
    pub log_uuid: [u8; 16],
    /// The shard.
    pub shard: ShardId,
    /// The shard's epoch when the file was made.
    pub epoch: u32,
    /// First sequence number the file may hold.
    pub base_seq: SequenceNumber,
    /// When it was made, µs UTC.
    pub created: Micros,
    /// `header_crc` of the last batch of the segment before; 0 in the first.
    pub prev_header_crc: u32,
    /// Features without which a version may not even read past the segment (none yet).
    pub incompatible: u32,
    /// Features without which a version may read past the segment, but not write beside it (none yet).
    pub read_only_compatible: u32,
    /// Features that may be ignored (none yet).
    pub compatible: u32,
    /// First and last hash key of the shard.
    pub hash_range: (u128, u128),
    /// Parents of the shard, none, one (split) or two (merge).
    pub parents: Vec<ShardId>,
}

impl SegmentHeader {
    /// Writes the 4096 bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.parents.len() <= PARENTS_MAX);
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_MAJOR.to_le_bytes());
        bytes.extend(FORMAT_MINOR.to_le_bytes());
        bytes.extend(self.incompatible.to_le_bytes());
        bytes.extend(self.read_only_compatible.to_le_bytes());
        bytes.extend(self.compatible.to_le_bytes());
        bytes.extend(self.log_uuid);
        bytes.extend(self.shard.0.to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.base_seq.to_le_bytes());
        bytes.extend(self.created.to_le_bytes());
        bytes.extend(self.prev_header_crc.to_le_bytes());
        bytes.extend([CHECKSUM_CRC32C, 0]); // encryption: none
        bytes.extend([0; 2]);
        bytes.extend([0; 4]); // default dictionary: none
        bytes.extend(u32::try_from(self.parents.len()).expect("<= 2").to_le_bytes());
        bytes.extend(self.hash_range.0.to_le_bytes());
        bytes.extend(self.hash_range.1.to_le_bytes());
        for index in 0..PARENTS_MAX {
            let parent = self.parents.get(index).map_or(0, |parent| parent.0);
            bytes.extend(parent.to_le_bytes());
        }
        assert_eq!(bytes.len(), 120, "docs/format.md draws 120 bytes before the writer's name");
        let mut writer = [0; 32];
        let name = concat!("streamfn ", env!("CARGO_PKG_VERSION")).as_bytes();
        writer.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte);
        bytes.extend(writer);
        bytes.resize(SEGMENT_HEADER_BYTES - 4, 0);
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`Damage`] if the bytes are not a header this version can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let (head, crc) = bytes
            .get(..SEGMENT_HEADER_BYTES)
            .and_then(|bytes| bytes.split_last_chunk::<4>())
            .ok_or(Damage("the segment header is cut off"))?;
        if crc32c(head) != u32::from_le_bytes(*crc) {
            return Err(Damage("the segment header's checksum does not match"));
        }
        Self::decode_fields(head).ok_or(Damage("the segment header has another format"))
    }

    /// What may be done with a segment that begins with `bytes`; `None` if that is no whole header.
    pub fn access(bytes: &[u8]) -> Option<Access> {
        let (head, crc) = bytes.get(..SEGMENT_HEADER_BYTES)?.split_last_chunk::<4>()?;
        let mut from = Bytes(head);
        let magic = from.array::<8>()?;
        if magic.get(..7) != MAGIC.get(..7) || crc32c(head) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (major, _minor) = (from.u16()?, from.u16()?);
        let (incompatible, read_only, _compatible) = (from.u32()?, from.u32()?, from.u32()?);
        let mut kinds = Bytes(head.get(CHECKSUM_AT..)?);
        let (checksum, encryption) = (kinds.u8()?, kinds.u8()?);
        kinds.take(2)?;
        let dictionary = kinds.u32()?;
        Some(match () {
            () if magic != MAGIC || major != FORMAT_MAJOR => {
                Access::Refused(format!("a segment of format {major}"))
            }
            () if incompatible & !INCOMPATIBLE_KNOWN != 0 => {
                Access::Refused(format!("a segment with features {incompatible:#x}"))
            }
            () if checksum != CHECKSUM_CRC32C || encryption != 0 || dictionary != 0 => {
                Access::Refused(format!(
                    "a segment with checksum {checksum}, encryption {encryption}, dictionary {dictionary}"
                ))
            }
            () if read_only & !READ_ONLY_KNOWN != 0 => Access::ReadOnly(read_only),
            () => Access::Full,
        })
    }

    fn decode_fields(head: &[u8]) -> Option<Self> {
        let mut from = Bytes(head);
        if from.array::<8>()? != MAGIC || from.u16()? != FORMAT_MAJOR {
            return None;
        }
        from.u16()?;
        let (incompatible, read_only_compatible, compatible) =
            (from.u32()?, from.u32()?, from.u32()?);
        let mut header = Self {
            log_uuid: from.array()?,
            shard: ShardId(from.u32()?),
            epoch: from.u32()?,
            base_seq: from.u64()?,
            created: from.u64()?,
            prev_header_crc: from.u32()?,
            incompatible,
            read_only_compatible,
            compatible,
            hash_range: (0, 0),
            parents: Vec::new(),
        };
        if from.u8()? != CHECKSUM_CRC32C {
            return None;
        }
        from.take(7)?;
        let parents = from.u32()? as usize;
        header.hash_range = (from.u128()?, from.u128()?);
        if parents > PARENTS_MAX {
            return None;
        }
        for _ in 0..parents {
            header.parents.push(ShardId(from.u32()?));
        }
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_uuid: [7; 16],
            shard: ShardId(3),
            epoch: 2,
            base_seq: 1 << 40,
            created: 5,
            prev_header_crc: 6,
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: (1, u128::MAX),
            parents: vec![ShardId(1)],
        }
    }

    #[test]
    fn a_segment_header_comes_back_as_it_was() {
        let bytes = header().encode();

        assert_eq!(SEGMENT_HEADER_BYTES, bytes.len());
        assert_eq!(Ok(header()), SegmentHeader::decode(&bytes));
    }

    #[test]
    fn a_shard_with_three_parents_is_damage() {
        let mut bytes = header().encode();
        bytes[76] = 3;
        let crc = crc32c(&bytes[..SEGMENT_HEADER_BYTES - 4]);
        bytes[SEGMENT_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());

        assert!(SegmentHeader::decode(&bytes).is_err());
    }

    #[test]
    fn features_say_what_may_be_done() {
        let access = |header: SegmentHeader| SegmentHeader::access(&header.encode());
        let refused = |found: &str| Some(Access::Refused(found.into()));

        assert_eq!(Some(Access::Full), access(header()));
        assert_eq!(Some(Access::Full), access(SegmentHeader { compatible: 5, ..header() }));
        let read_only = SegmentHeader { read_only_compatible: 5, ..header() };
        assert_eq!(Some(Access::ReadOnly(5)), access(read_only));
        let incompatible = SegmentHeader { incompatible: 4, ..header() };
        assert_eq!(refused("a segment with features 0x4"), access(incompatible));
    }

    #[test]
    fn another_major_version_is_refused_and_a_minor_one_is_not() {
        let with = |at: usize, value: u8| {
            let mut bytes = header().encode();
            bytes[at] = value;
            let crc = crc32c(&bytes[..SEGMENT_HEADER_BYTES - 4]);
            bytes[SEGMENT_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
            SegmentHeader::access(&bytes)
        };

        assert_eq!(Some(Access::Refused("a segment of format 2".into())), with(8, 2));
        assert_eq!(Some(Access::Full), with(10, 9));
        assert!(matches!(with(CHECKSUM_AT, 2), Some(Access::Refused(_))));
    }

    #[test]
    fn a_damaged_header_refuses_nothing() {
        let mut bytes = SegmentHeader { incompatible: 4, ..header() }.encode();
        bytes[100] ^= 1;

        assert_eq!(None, SegmentHeader::access(&bytes));
        assert_eq!(None, SegmentHeader::access(&[]));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().encode();
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);

            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
