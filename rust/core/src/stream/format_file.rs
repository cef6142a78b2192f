//! The file `FORMAT`: it marks a folder as a log, with its format version and uuid.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::checksum::crc32c;
use crate::format::segment_header::{FORMAT_MAJOR, FORMAT_MINOR};

const FORMAT_MAGIC: [u8; 8] = *b"STREAMFN";
const FORMAT_BYTES: usize = 64;

/// FORMAT: magic, format major and minor u16, 4 zeros, uuid, zeros, CRC-32C of the first 60 bytes.
pub(crate) fn encode_format(uuid: [u8; 16]) -> Vec<u8> {
    let mut bytes = FORMAT_MAGIC.to_vec();
    bytes.extend(FORMAT_MAJOR.to_le_bytes());
    bytes.extend(FORMAT_MINOR.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(uuid);
    bytes.resize(FORMAT_BYTES - 4, 0);
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

pub(crate) fn decode_format(bytes: &[u8], path: &Path) -> Result<[u8; 16]> {
    let damaged = |reason: &str| Error::Corruption {
        path: path.to_owned(),
        position: 0,
        first: 0,
        last: 0,
        reason: reason.into(),
    };
    let (head, crc) = bytes
        .get(..FORMAT_BYTES)
        .and_then(|bytes| bytes.split_last_chunk::<4>())
        .ok_or_else(|| damaged("the FORMAT file is cut off"))?;
    if crc32c(head) != u32::from_le_bytes(*crc) {
        return Err(damaged("the FORMAT file's checksum does not match"));
    }
    let mut from = crate::format::Bytes(head);
    let magic: Option<[u8; 8]> = from.array();
    let (major, _, _) = (from.u16(), from.u16(), from.u32());
    if magic != Some(FORMAT_MAGIC) || major != Some(FORMAT_MAJOR) {
        return Err(Error::UnsupportedFormat {
            path: path.to_owned(),
            found: format!("format {}", major.unwrap_or(0)),
            supported: FORMAT_MAJOR.to_string(),
        });
    }
    from.array().ok_or_else(|| damaged("the FORMAT file is cut off"))
}
