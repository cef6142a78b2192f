//! The bytes of one segment file, read in large pieces, and the whole batches in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::compression::{self, decompress};
use crate::format::record_batch::{HeaderRead, Unknown, HEADER_BYTES, SUPPORTED};
use crate::format::{BatchHeader, Control, DecodedBatch, SharedBytes};
use crate::fs::{File, Fs, Open};
use crate::log::{Candidate, Resync};
use crate::types::{Position, SequenceNumber, ShardId};

/// Bytes read at once while headers are looked at.
const CHUNK: usize = 256 * 1024;
/// Size of the pieces that are read one by one where the disk returns an error.
const PIECE: usize = 4096;

/// One segment file being examined.
pub(super) struct SegmentBytes {
    pub(super) path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes that are examined; at most the file's length.
    pub(super) length: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// A batch found behind a damaged place.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundBatch {
    pub(super) offset: u64,
    pub(super) header: BatchHeader,
    /// Whether its body is the one that was written.
    pub(super) is_whole: bool,
}

impl FoundBatch {
    /// The byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.header.stored_bytes()
    }
}

impl SegmentBytes {
    pub(super) fn open(fs: &Arc<dyn Fs>, path: &Path, limit: u64) -> Result<Self> {
        let file = fs.open(path, Open::Read).at(path)?;
        let length = file.length().at(path)?.min(limit);
        Ok(Self { path: path.to_owned(), file, length, start: 0, bytes: Vec::new() })
    }

    /// `length` bytes at `offset`, fewer where the file ends.
    pub(super) fn at(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            self.fill(offset, length.max(CHUNK))?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let end = from.saturating_add(length).min(self.bytes.len());
        Ok(self.bytes.get(from..end).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, length: usize) -> Result<()> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.bytes.resize(length.min(left), 0);
        self.start = offset;
        match self.file.read_at(&mut self.bytes, offset) {
            Ok(got) => self.bytes.truncate(got),
            // WHY: a bad sector is the damage that is looked for, not the end of the search.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                for (piece, place) in self.bytes.chunks_mut(PIECE).zip((offset..).step_by(PIECE)) {
                    if self.file.read_at(piece, place).is_err() {
                        piece.fill(0xff);
                    }
                }
            }
            Err(error) => return Err(Error::io(&self.path, error)),
        }
        Ok(())
    }

    pub(super) fn header(&mut self, offset: u64) -> Result<HeaderRead> {
        Ok(BatchHeader::decode(self.at(offset, HEADER_BYTES)?))
    }

    /// Why the stored body is not the one that was written; `None` if it is.
    pub(super) fn body_damage(
        &mut self,
        offset: u64,
        header: &BatchHeader,
    ) -> Result<Option<&'static str>> {
        let body = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        if body.len() < header.body_len as usize {
            return Ok(Some("the body is cut off"));
        }
        Ok((crc32c(body) != header.body_crc).then_some("the body's checksum does not match"))
    }

    /// As [`SegmentBytes::body_damage`], and whether what is in it has the structure of a body.
    pub(super) fn deep_damage(
        &mut self,
        offset: u64,
        header: &BatchHeader,
    ) -> Result<Option<&'static str>> {
        if let Some(damage) = self.body_damage(offset, header)? {
            return Ok(Some(damage));
        }
        let stored = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        let raw = match header.codec {
            compression::NONE => stored.to_vec(),
            codec => match decompress(codec, stored, header.raw_len) {
                Ok(raw) => raw,
                Err(damage) => return Ok(Some(damage.0)),
            },
        };
        let (place, body) = (Position::default(), SharedBytes::whole(raw));
        let decoded = DecodedBatch::new(*header, place, "".into(), ShardId(0), body);
        Ok(decoded.err().map(|damage| damage.0))
    }

    /// The first number that is not lost, of a batch found behind numbers from `least` on: EPOCH
    /// jumps over numbers that were never in the log.
    pub(super) fn first_number(
        &mut self,
        found: &FoundBatch,
        least: SequenceNumber,
    ) -> Result<SequenceNumber> {
        let header = &found.header;
        let body = self.at(found.offset + HEADER_BYTES as u64, header.body_len as usize)?;
        let is_epoch =
            header.is_control && matches!(Control::decode(body), Ok(Control::Epoch { .. }));
        Ok(if is_epoch { header.durable_end.max(least) } else { header.base_seq })
    }

    /// Whether a control batch is CLOSE.
    pub(super) fn is_close(&mut self, offset: u64, header: &BatchHeader) -> Result<bool> {
        let body = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        Ok(matches!(Control::decode(body), Ok(Control::Close { .. })))
    }

    /// The next whole batch from `offset` on that is one of those `resync` a damaged place, with
    /// numbers up to `bound`.
    pub(super) fn next_whole(
        &mut self,
        mut offset: u64,
        resync: &mut Resync,
        bound: SequenceNumber,
    ) -> Result<Option<FoundBatch>> {
        while let Some(found) = self.next_standing(offset, resync, bound)? {
            if found.is_whole {
                return Ok(Some(found));
            }
            offset = found.end();
        }
        Ok(None)
    }

    /// As [`SegmentBytes::next_whole`], or one with a damaged body whose header says that it stands there.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`]: what a newer version wrote there is no damage.
    pub(super) fn next_standing(
        &mut self,
        mut offset: u64,
        resync: &mut Resync,
        bound: SequenceNumber,
    ) -> Result<Option<FoundBatch>> {
        while offset + HEADER_BYTES as u64 <= self.length {
            let place = Position { offset, ..resync.at };
            match resync.look(place, self.at(offset, HEADER_BYTES)?) {
                Candidate::Newer(unknown) => return Err(self.unsupported(unknown)),
                Candidate::Ours(header) if header.next_seq() <= bound => {
                    let is_whole = self.body_damage(offset, &header)?.is_none();
                    if is_whole || header.place == place {
                        return Ok(Some(FoundBatch { offset, header, is_whole }));
                    }
                }
                Candidate::Ours(_) | Candidate::Other => {}
            }
            offset += 8;
        }
        Ok(None)
    }

    pub(super) fn unsupported(&self, unknown: Unknown) -> Error {
        let (found, supported) = (unknown.to_string(), SUPPORTED.into());
        Error::UnsupportedFormat { path: self.path.clone(), found, supported }
    }

    /// Where the first byte that is not zero lies, from `offset` on.
    pub(super) fn next_used(&mut self, mut offset: u64) -> Result<Option<u64>> {
        while offset < self.length {
            let bytes = self.at(offset, CHUNK)?;
            if let Some(found) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(offset + found as u64));
            }
            offset += bytes.len().max(1) as u64;
        }
        Ok(None)
    }
}
