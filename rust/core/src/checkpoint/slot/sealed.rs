//! What all slots have in common: the checksum that ends them.

use crate::format::checksum::crc32c;
use crate::format::{Bytes, Damage};

/// Length of the checksum.
pub(in crate::checkpoint) const CRC_BYTES: usize = 4;
/// Of bytes whose checksum is right and that are no slot of this version.
pub(in crate::checkpoint) const OTHER_FORMAT: Damage = Damage("the slot has another format");

/// Puts the checksum behind the bytes of a slot.
pub(in crate::checkpoint) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The bytes before the checksum, if it matches.
pub(in crate::checkpoint) fn unseal(bytes: Option<&[u8]>) -> Result<Bytes<'_>, Damage> {
    let (head, crc) = bytes
        .and_then(|bytes| bytes.split_last_chunk::<CRC_BYTES>())
        .ok_or(Damage("the slot is cut off"))?;
    if crc32c(head) != u32::from_le_bytes(*crc) {
        return Err(Damage("the slot's checksum does not match"));
    }
    Ok(Bytes(head))
}
