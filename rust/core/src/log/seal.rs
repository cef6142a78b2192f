//! Seals closed segments with a sparse index, and finds places with it.
//!
//! The housekeeper of any process does it: two that seal the same segment write the same bytes.
//! Nothing waits for it, and only speed depends on it.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::error::{IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::record_batch::{HeaderRead, HEADER_BYTES};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{seal, BatchHeader, SegmentHeader};
use crate::fs::File;
use crate::types::{Position, SequenceNumber};

use super::cursor::{Cursor, Next};
use super::read_buffer::ReadBuffer;
use super::segment::Segment;
use super::{ShardLog, SEGMENT_START};

/// Bytes of a segment for one entry of its index.
const ENTRY_EVERY: u64 = 64 * 1024;
/// Segments looked at in one tick; at most one of them is read and sealed.
const LOOKS_MAX: u32 = 16;

/// What a scan over a closed segment found.
struct Scanned {
    entries: Vec<seal::IndexEntry>,
    last: BatchHeader,
    last_crc: u32,
    /// Where the index belongs.
    end: u64,
}

impl ShardLog {
    /// Looks for a closed segment without an index, and writes one. A segment that is damaged, or
    /// that there is no space for, is left as it is.
    pub(super) fn seal_next(&self) -> Result<()> {
        let active = self.page().committed().segment;
        for _ in 0..LOOKS_MAX {
            let ordinal = self.sealed.load(Ordering::Relaxed);
            if ordinal >= active {
                return Ok(());
            }
            let (segment, next) = (self.segments.get(ordinal)?, self.segments.get(ordinal + 1)?);
            let (Some(segment), Some(next)) = (segment, next) else {
                let next = self.segments.after(ordinal)?.map_or(active, |next| next.ordinal);
                self.sealed.store(next, Ordering::Relaxed);
                continue;
            };
            self.sealed.store(ordinal + 1, Ordering::Relaxed);
            if self.index_of(&segment, &next).is_none() {
                return self.seal(&segment, &next);
            }
        }
        Ok(())
    }

    fn seal(&self, segment: &Segment, next: &Segment) -> Result<()> {
        segment.check_writable(self.directory.fs())?;
        let Some(scanned) = self.scan(segment)? else { return Ok(()) };
        let body = seal::encode(&scanned.entries);
        let length = u32::try_from(body.len()).expect("one entry for 64 KiB");
        let header = BatchHeader {
            is_control: true,
            body_len: length,
            raw_len: length,
            base_seq: next.base_seq,
            record_count: 0,
            body_crc: crc32c(&body),
            base_ts: scanned.last.max_ts,
            max_ts: scanned.last.max_ts,
            shard_epoch: scanned.last.shard_epoch,
            // A segment is synced before the next one is begun.
            durable_end: next.base_seq,
            prev_header_crc: scanned.last_crc,
            place: Position { segment: segment.ordinal, offset: scanned.end },
            ..BatchHeader::default()
        };
        let (head, _) = header.encode();
        self.directory.check()?;
        let file = segment.open(self.directory.fs())?;
        if let Err(error) = file.write_at(&[&head, &body], scanned.end) {
            let _ = file.truncate(scanned.end);
            return Err(error).at(segment.path());
        }
        let end = scanned.end + header.stored_bytes();
        if file.length().at(segment.path())? > end {
            file.truncate(end).at(segment.path())?;
        }
        Ok(())
    }

    /// Reads the headers of a closed segment; `None` if it has no batch.
    fn scan(&self, segment: &Segment) -> Result<Option<Scanned>> {
        let start = Position { segment: segment.ordinal, offset: SEGMENT_START };
        let mut cursor = Cursor::at(start, segment.base_seq);
        let mut buffer = ReadBuffer::default();
        let mut entries = Vec::new();
        let mut last = None;
        let mut mark = SEGMENT_START;
        while let Next::Batch(header, crc) = self.next_header(&cursor, &mut buffer)? {
            if header.record_count == 0 {
                break; // an index whose body is damaged
            }
            let offset = cursor.position.offset;
            if offset >= mark {
                let (base_seq, max_ts) = (header.base_seq, header.max_ts);
                entries.push(seal::IndexEntry { base_seq, offset, max_ts });
                mark = offset + ENTRY_EVERY;
            }
            last = Some((header, crc));
            cursor = cursor.after(&header, crc);
        }
        let end = cursor.position.offset;
        Ok(last.map(|(last, last_crc)| Scanned { entries, last, last_crc, end }))
    }

    /// The place of the last batch in the index of a closed segment of which `is_before` is true, if
    /// there is an index and the batch is where it says.
    pub(super) fn indexed_place(
        &self,
        segment: &Arc<Segment>,
        is_before: impl Fn(&seal::IndexEntry) -> bool,
    ) -> Option<(Position, SequenceNumber)> {
        if segment.ordinal >= self.page().visible().segment {
            return None;
        }
        let next = self.segments.get(segment.ordinal + 1).ok()??;
        let entries = self.index_of(segment, &next)?;
        let found = entries.partition_point(is_before).checked_sub(1)?;
        let entry = entries.get(found)?;
        let mut bytes = [0; HEADER_BYTES];
        self.segments.open(segment.ordinal).ok()??.1.read_at(&mut bytes, entry.offset).ok()?;
        let position = Position { segment: segment.ordinal, offset: entry.offset };
        match BatchHeader::decode(&bytes) {
            HeaderRead::Valid(header, _)
                if header.record_count > 0
                    && (header.base_seq, header.max_ts) == (entry.base_seq, entry.max_ts) =>
            {
                Some((position, entry.base_seq))
            }
            _ => None,
        }
    }

    /// The index of a closed segment, if it has one that is whole and made for it.
    fn index_of(&self, segment: &Segment, next: &Segment) -> Option<Vec<seal::IndexEntry>> {
        let file = segment.open(self.directory.fs()).ok()?;
        let length = file.length().ok()?;
        let mut trailer = [0; seal::TRAILER_BYTES];
        read_whole(&file, &mut trailer, length.checked_sub(seal::TRAILER_BYTES as u64)?)?;
        let size = seal::length_at_end(trailer)?;
        let at = length.checked_sub(size as u64).filter(|at| *at >= SEGMENT_START)?;
        let mut bytes = vec![0; size];
        read_whole(&file, &mut bytes, at)?;
        let HeaderRead::Valid(header, _) = BatchHeader::decode(&bytes) else { return None };
        let body = bytes.get(HEADER_BYTES..)?;
        let is_seal = header.is_control
            && header.record_count == 0
            && header.body_len as usize == body.len()
            && header.body_crc == crc32c(body);
        // INVARIANT: the next segment names the same end of the chain, so it was made from these
        // very batches and no others.
        let is_ours = header.base_seq == next.base_seq
            && Some(header.prev_header_crc) == self.crc_before(next);
        let entries = seal::decode(body).ok().filter(|_| is_seal && is_ours)?;
        let is_inside = |entry: &seal::IndexEntry| {
            entry.offset.is_multiple_of(8) && (SEGMENT_START..at).contains(&entry.offset)
        };
        entries.iter().all(is_inside).then_some(entries)
    }

    /// Header checksum of the batch before a segment, as its header says.
    fn crc_before(&self, segment: &Segment) -> Option<u32> {
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        read_whole(&segment.open(self.directory.fs()).ok()?, &mut bytes, 0)?;
        SegmentHeader::decode(&bytes).ok().map(|header| header.prev_header_crc)
    }
}

fn read_whole(file: &Arc<dyn File>, buffer: &mut [u8], offset: u64) -> Option<()> {
    (file.read_at(buffer, offset).ok()? == buffer.len()).then_some(())
}
