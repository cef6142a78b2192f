//! Finds where a log ends: at its last batch, at a torn tail, or behind damage that is no torn
//! tail.

use super::{LogEnd, Recovering};
use crate::error::Result;
use crate::format::record_batch::HEADER_BYTES;
use crate::format::{Hole, ShardState};
use crate::log::resync::{Candidate, Resync};
use crate::log::scan::{recovery_tail, walk, Scan, Stop, Tail, CHUNK};
use crate::log::SEGMENT_START;
use crate::types::Position;

impl Recovering<'_> {
    /// Walks from the recovery point to the end of the log; says whether a torn tail lies behind it.
    pub(super) fn find_end(&self, state: &ShardState) -> Result<LogEnd> {
        let fs = self.directory.fs();
        let mut scan = Scan::new(self.segments, fs);
        scan.begun = state.recovery_point.segment;
        let start = recovery_tail(state);
        scan.synced.end = start.end();
        let (mut tail, mut stop) = walk(&mut scan, start, true)?;
        let mut found = Vec::new();
        let is_torn = loop {
            match stop {
                Stop::End if !Self::has_rest(&mut scan, &tail)? => break false,
                Stop::End | Stop::Invalid => {}
            }
            let later = self.later_proof(&mut scan, &tail, state)?;
            let Some(resumed) = later else { break true };
            // WHY: something after the damage was written when the damaged part was already synced.
            // That is rot, not a torn write; cutting here would throw good records away.
            if resumed.next_seq > tail.next_seq {
                found.push(Hole {
                    first: tail.next_seq,
                    last: resumed.next_seq - 1,
                    at: tail.position,
                    end: resumed.position,
                    found: self.directory.clock().now(),
                    is_accepted: false,
                });
            }
            (tail, stop) = walk(&mut scan, resumed, false)?;
        };
        let synced = scan.synced.end;
        Ok(LogEnd { tail, synced, is_torn, holes: found })
    }

    /// Whether anything but zeros lies behind a tail in its file.
    fn has_rest(scan: &mut Scan<'_>, tail: &Tail) -> Result<bool> {
        scan.open(tail.position.segment)?;
        let mut offset = tail.position.offset;
        while offset < scan.length() {
            let length = usize::try_from(scan.length() - offset).unwrap_or(CHUNK).min(CHUNK);
            let bytes = scan.at(offset, length)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(!bytes.is_empty());
            }
            offset += bytes.len() as u64;
        }
        Ok(false)
    }

    /// Where a walk goes on behind a damaged place, if something behind the place proves that it was
    /// once synced: at the next whole batch, else at the header that proves it.
    fn later_proof(
        &self,
        scan: &mut Scan<'_>,
        tail: &Tail,
        state: &ShardState,
    ) -> Result<Option<Tail>> {
        // A segment is synced before the next one is made.
        let next = self.segments.after(tail.position.segment)?;
        let next = next.filter(|segment| segment.base_seq > tail.next_seq);
        let mut is_proven = next.is_some();
        let (mut first_whole, mut torn_proof) = (None, None);
        let mut synced = tail.next_seq;
        scan.open(tail.position.segment)?;
        let mut resync = Resync {
            at: tail.position,
            next_seq: tail.next_seq,
            prev_crc: Some(tail.prev_crc),
            max_ts: tail.max_ts,
            reserved: state.reserved,
            epoch: state.epoch,
            copy: None,
        };
        let mut offset = resync.search_from(scan.at(tail.position.offset, HEADER_BYTES)?);
        while offset + HEADER_BYTES as u64 <= scan.length() {
            let place = Position { offset, ..tail.position };
            let header = match resync.look(place, scan.at(offset, HEADER_BYTES)?) {
                Candidate::Ours(header) => header,
                Candidate::Newer(unknown) => return Err(scan.unsupported(unknown)),
                Candidate::Other => {
                    offset += 8;
                    continue;
                }
            };
            let is_whole = scan.is_whole(offset, &header)?;
            if !is_whole && header.place != place {
                offset += 8;
                continue;
            }
            let resumed = Tail { position: place, next_seq: header.base_seq, ..*tail };
            is_proven |= header.durable_end > tail.next_seq;
            if is_whole {
                first_whole = first_whole.or(Some(resumed));
            } else if header.durable_end > synced {
                synced = header.durable_end;
                // What is written in its place follows what it followed.
                let (prev_crc, last_position) = (header.prev_header_crc, Position::default());
                torn_proof = Some(Tail { prev_crc, last_position, ..resumed });
            }
            if is_proven && first_whole.is_some() {
                return Ok(first_whole);
            }
            // What looks like a batch inside of it is part of a record.
            offset += header.stored_bytes();
        }
        let next = next.map(|segment| Tail {
            position: Position { segment: segment.ordinal, offset: SEGMENT_START },
            next_seq: segment.base_seq,
            ..*tail
        });
        Ok(next.or(torn_proof))
    }
}
