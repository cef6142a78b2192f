//! Appending to a shard, from several threads and several processes.
//!
//! Threads put their records in a queue; whoever gets the writer takes all that is queued, so the
//! next batch forms while the last is being written. Processes exclude each other with a file lock
//! for each group of batches.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Patience;
use crate::control::{Committed, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::{crc32c, crc32c_of};
use crate::format::record_batch::RECORDS_MAX;
use crate::format::{align8, BatchHeader, RecordBuilder};
use crate::fs::File;
use crate::types::{Compression, Durability, Position, SequenceNumber};

use super::segment::Segment;
use super::{ShardLog, BATCH_BYTES_TARGET, SEGMENT_START};

/// zstd level: the fastest that still finds the repetition in JSON.
const ZSTD_LEVEL: i32 = 1;
/// Bodies below this are left alone: there is nothing to find in them.
const COMPRESS_BYTES_MIN: usize = 256;
/// Numbers reserved on disk at once, before any of them is issued.
const RESERVE: u64 = 1 << 20;
static PADDING: [u8; 8] = [0; 8];

/// Where a call's records went: runs of consecutive sequence numbers, in the order of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// (first sequence number, number of records) of each run.
    pub runs: Vec<(SequenceNumber, u32)>,
}

impl Appended {
    /// The first number after the last record.
    fn end(&self) -> SequenceNumber {
        self.runs.last().map_or(0, |(first, count)| first + u64::from(*count))
    }
}

/// One caller's records in the queue.
#[derive(Debug)]
pub(crate) struct Pending {
    records: Mutex<Vec<RecordBuilder>>,
    outcome: Mutex<Option<Result<Appended>>>,
}

/// What the writing thread keeps between batches.
#[derive(Default)]
pub(crate) struct Writer {
    segment: Option<(Arc<Segment>, Arc<dyn File>)>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// A record batch that is ready but for its place in the log.
struct Prepared {
    header: BatchHeader,
    body: Body,
    /// Whose records are in it: index into the group, and how many.
    shares: Vec<(usize, u32)>,
}

enum Body {
    Records(RecordBuilder),
    Bytes(Vec<u8>),
}

impl ShardLog {
    /// Appends records and waits until they are as durable as the stream promises.
    ///
    /// Order is kept within the call and between calls of one thread. Builders should hold about
    /// [`BATCH_BYTES_TARGET`] bytes each; small ones of several threads share a record batch.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] and [`Error::LogFull`]: nothing of the failing batch was written (in a
    /// call of several batches those before it may be). [`Error::StoragePoisoned`]: a sync failed,
    /// the outcome is unknown. [`Error::Interrupted`]: the same, if it came during the sync.
    ///
    /// # Durability
    /// `process`: survives any process when it returns. `group`: survives power loss.
    pub fn append(&self, records: Vec<RecordBuilder>, patience: &Patience<'_>) -> Result<Appended> {
        self.directory.check()?;
        let appended = self.enqueue(records, patience)?;
        if self.config.durability == Durability::Group && !appended.runs.is_empty() {
            self.wait_durable(appended.end(), patience)?;
        }
        Ok(appended)
    }

    fn enqueue(&self, records: Vec<RecordBuilder>, patience: &Patience<'_>) -> Result<Appended> {
        let mine = Arc::new(Pending { records: Mutex::new(records), outcome: Mutex::default() });
        self.queue.lock().push(Arc::clone(&mine));
        let mut writer = self.writer.lock();
        if let Some(outcome) = mine.outcome.lock().take() {
            return outcome;
        }
        let group = std::mem::take(&mut *self.queue.lock());
        let written = self.write_group(&mut writer, &group, patience);
        if let Err(error) = written {
            for pending in &group {
                pending.outcome.lock().get_or_insert_with(|| Err(error.duplicate()));
            }
        }
        let outcome = mine.outcome.lock().take();
        outcome.expect("every member of a written group has its outcome")
    }

    fn write_group(
        &self,
        writer: &mut Writer,
        group: &[Arc<Pending>],
        patience: &Patience<'_>,
    ) -> Result<()> {
        let batches = self.prepare(writer, group)?;
        let mut results = vec![Appended::default(); group.len()];
        let _locked = self.append_lock.lock(patience)?;
        let tail = self.ready_to_write(writer)?;
        let mut tail = Some(tail);
        for batch in &batches {
            let next = self.write_batch(
                writer,
                tail.take().unwrap_or_else(|| self.page().committed()),
                batch,
            )?;
            let mut first = next;
            for (member, count) in &batch.shares {
                if let Some(result) = results.get_mut(*member) {
                    result.runs.push((first, *count));
                }
                first += u64::from(*count);
            }
        }
        if self.config.durability == Durability::Process {
            let page = self.page();
            page.publish(page.committed(), page.next_seq());
        }
        self.directory.control().wake();
        for (pending, result) in group.iter().zip(results) {
            *pending.outcome.lock() = Some(Ok(result));
        }
        Ok(())
    }

    /// Forms record batches: large builders as they are, small ones of several callers together.
    fn prepare(&self, writer: &mut Writer, group: &[Arc<Pending>]) -> Result<Vec<Prepared>> {
        let mut batches: Vec<(RecordBuilder, Vec<(usize, u32)>)> = Vec::new();
        for (member, pending) in group.iter().enumerate() {
            for records in std::mem::take(&mut *pending.records.lock()) {
                if records.count() == 0 {
                    continue;
                }
                let share = (member, records.count());
                match batches.last_mut() {
                    Some((batch, shares))
                        if batch.payload_bytes() + records.payload_bytes()
                            <= BATCH_BYTES_TARGET
                            && batch.count() + records.count() <= RECORDS_MAX =>
                    {
                        batch.append(&records);
                        shares.push(share);
                    }
                    _ => batches.push((records, vec![share])),
                }
            }
        }
        let epoch = self.page().epoch();
        batches
            .into_iter()
            .map(|(records, shares)| self.encode(writer, records, shares, epoch))
            .collect()
    }

    fn encode(
        &self,
        writer: &mut Writer,
        records: RecordBuilder,
        shares: Vec<(usize, u32)>,
        epoch: u32,
    ) -> Result<Prepared> {
        let (raw_len, raw_crc) = match self.config.compression {
            Compression::None => records.with_body(|parts| (length_of(parts), crc32c_of(parts))),
            Compression::Zstd => (records.with_body(length_of), 0),
        };
        let mut header = BatchHeader {
            has_keys: records.has_keys(),
            body_len: raw_len,
            raw_len,
            record_count: records.count(),
            body_crc: raw_crc,
            shard_epoch: epoch,
            ..BatchHeader::default()
        };
        if self.config.compression == Compression::None {
            return Ok(Prepared { header, body: Body::Records(records), shares });
        }
        let raw = records.with_body(|parts| parts.concat());
        let bytes = match self.compress(writer, &raw)? {
            Some(packed) => {
                header.codec = 1;
                packed
            }
            None => raw,
        };
        header.body_len = u32::try_from(bytes.len()).expect("not longer than raw");
        header.body_crc = crc32c(&bytes);
        Ok(Prepared { header, body: Body::Bytes(bytes), shares })
    }

    /// The compressed bytes, or `None` where compression does not pay.
    fn compress(&self, writer: &mut Writer, raw: &[u8]) -> Result<Option<Vec<u8>>> {
        if raw.len() < COMPRESS_BYTES_MIN {
            return Ok(None);
        }
        if writer.compressor.is_none() {
            writer.compressor = Some(zstd::bulk::Compressor::new(ZSTD_LEVEL).at(&self.folder)?);
        }
        let Some(compressor) = &mut writer.compressor else { return Ok(None) };
        let packed = compressor.compress(raw).at(&self.folder)?;
        Ok((packed.len() < raw.len()).then_some(packed))
    }

    /// Under `append.lock`: looks at what the last writer left, and opens the active segment.
    fn ready_to_write(&self, writer: &mut Writer) -> Result<Position> {
        let page = self.page();
        page.check(&self.folder)?;
        if page.state() == WriterState::Writing {
            self.repair_tail()?;
        }
        let tail = page.committed();
        let file = self.active_segment(writer, tail.segment)?;
        // WHY: the page is a hint. Bytes where the next batch belongs mean that it is stale.
        let mut first = [0; 4];
        file.read_at(&mut first, tail.offset).at(&self.path_of_active(writer))?;
        if first != [0; 4] {
            self.repair_tail()?;
            let tail = page.committed();
            self.active_segment(writer, tail.segment)?;
            return Ok(tail);
        }
        Ok(tail)
    }

    fn active_segment(&self, writer: &mut Writer, ordinal: u32) -> Result<Arc<dyn File>> {
        if let Some((segment, file)) = &writer.segment {
            if segment.ordinal == ordinal {
                return Ok(Arc::clone(file));
            }
        }
        let segment = self.segments.get(ordinal)?.ok_or_else(|| Error::Corruption {
            path: self.folder.clone(),
            position: 0,
            first: self.page().next_seq(),
            last: self.page().next_seq(),
            reason: format!("segment {ordinal:08x}, the one being written, is missing"),
        })?;
        let file = segment.open(self.directory.fs())?;
        writer.segment = Some((segment, Arc::clone(&file)));
        Ok(file)
    }

    fn path_of_active(&self, writer: &Writer) -> std::path::PathBuf {
        writer
            .segment
            .as_ref()
            .map_or_else(|| self.folder.clone(), |(segment, _)| segment.path().to_owned())
    }

    /// Writes one batch at `tail` and commits it; returns its first sequence number.
    fn write_batch(
        &self,
        writer: &mut Writer,
        tail: Position,
        batch: &Prepared,
    ) -> Result<SequenceNumber> {
        let page = self.page();
        let base_seq = page.next_seq();
        let mut header = batch.header;
        header.base_seq = base_seq;
        self.reserve(header.next_seq())?;
        let tail = self.roll_if_full(writer, tail, header.stored_bytes())?;
        header.base_ts = self.directory.clock().now().max(page.max_ts());
        header.max_ts = header.base_ts;
        header.durable_end = page.durable_end();
        header.prev_header_crc = page.last_crc();
        let (head, crc) = header.encode();
        let file = self.active_segment(writer, tail.segment)?;
        page.set_state(WriterState::Writing);
        let written = batch.body.with_parts(|body| {
            let mut parts = Vec::with_capacity(body.len() + 2);
            parts.push(&head[..]);
            parts.extend_from_slice(body);
            let length = header.body_len as usize;
            parts.extend(PADDING.get(..align8(length) - length));
            file.write_at(&parts, tail.offset)
        });
        if let Err(error) = written {
            // Nobody was shown these bytes; without them the state is as before the call.
            if file.truncate(tail.offset).is_ok() {
                page.set_state(WriterState::Clean);
            }
            return Err(Error::io(&self.path_of_active(writer), error));
        }
        let end = Position { offset: tail.offset + header.stored_bytes(), ..tail };
        page.commit(&Committed {
            at: tail,
            end,
            next_seq: header.next_seq(),
            header_crc: crc,
            max_ts: header.max_ts,
        });
        page.set_state(WriterState::Clean);
        Ok(base_seq)
    }

    /// Makes sure that no number below `end` can be issued again after a crash.
    fn reserve(&self, end: SequenceNumber) -> Result<()> {
        let page = self.page();
        if end <= page.reserved() {
            return Ok(());
        }
        let reserved = end.next_multiple_of(RESERVE) + RESERVE;
        self.state
            .update(|state| state.reserved = reserved)
            .map_err(|error| self.fail_stop(&error))?;
        page.set_reserved(reserved);
        Ok(())
    }

    /// Begins a new segment if the batch would make this one too large. The old one is synced first,
    /// so at most one segment is ever unsynced.
    fn roll_if_full(&self, writer: &mut Writer, tail: Position, bytes: u64) -> Result<Position> {
        if tail.offset == SEGMENT_START || tail.offset + bytes <= self.config.segment_bytes {
            return Ok(tail);
        }
        let page = self.page();
        self.sync_now()?;
        let ordinal = tail.segment + 1;
        let header = Self::segment_header(
            &self.directory,
            &self.config,
            page.epoch(),
            page.next_seq(),
            page.last_crc(),
        );
        let segment = self.segments.create(ordinal, page.next_seq(), &header)?;
        let file = segment.open(self.directory.fs())?;
        let start = Position { segment: ordinal, offset: SEGMENT_START };
        self.state
            .update(|state| {
                state.recovery_point = start;
                state.recovery_seq = page.next_seq();
                state.recovery_crc = page.last_crc();
                state.recovery_ts = page.max_ts();
            })
            .map_err(|error| self.fail_stop(&error))?;
        page.set_segment_identity(Self::identity_of(&file, segment.path())?);
        writer.segment = Some((segment, file));
        Ok(start)
    }

    /// Under `append.lock`, after a writer died between two states: walks the batches from the last
    /// one announced, adopts what is whole (nobody was told it failed) and cuts the rest (nobody was
    /// told it is there).
    fn repair_tail(&self) -> Result<()> {
        let page = self.page();
        let found = super::recovery::walk_from_page(&page, &self.segments, self.directory.fs())?;
        if found.position < page.committed() {
            // More is missing than a dead writer can explain; a person has to look.
            page.set_state(WriterState::Failed(libc::EIO));
            return Err(Error::Corruption {
                path: self.folder.clone(),
                position: found.position.offset,
                first: found.next_seq,
                last: page.next_seq().saturating_sub(1),
                reason: "committed batches are no longer whole".into(),
            });
        }
        super::recovery::cut(&found, &self.segments, self.directory.fs())?;
        page.commit(&Committed {
            at: found.last_position,
            end: found.position,
            next_seq: found.next_seq,
            header_crc: found.prev_crc,
            max_ts: found.max_ts,
        });
        if self.config.durability == Durability::Process {
            page.publish(found.position, found.next_seq);
        }
        page.set_state(WriterState::Clean);
        Ok(())
    }
}

impl Body {
    fn with_parts<T>(&self, write: impl FnOnce(&[&[u8]]) -> T) -> T {
        match self {
            Self::Records(records) => records.with_body(write),
            Self::Bytes(bytes) => write(&[bytes]),
        }
    }
}

fn length_of(parts: &[&[u8]]) -> u32 {
    u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>())
        .expect("a batch is far below 4 GiB")
}
