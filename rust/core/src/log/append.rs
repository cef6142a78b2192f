//! Appending to a shard, from several threads and several processes.
//!
//! Threads put their records in a queue. The thread that gets the writer takes everything in the
//! queue, so the next batch forms while the last one is being written. Processes exclude each other
//! with a file lock for each group of batches.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use crate::clock::Patience;
use crate::control::{Committed, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::{crc32c, crc32c_of};
use crate::format::compression::{self, compress, decompress};
use crate::format::record_batch::RECORDS_MAX;
use crate::format::{align8, BatchHeader, Control, DecodedBatch, RecordBuilder, SharedBytes};
use crate::fs::File;
use crate::types::{Durability, Position, SequenceNumber, ShardId};

use super::segment::Segment;
use super::{recovery, scan, ShardLog, BATCH_BYTES_TARGET, SEGMENT_START};

/// Builders of this many bytes or more become a batch of their own.
const SHARE_BYTES_MAX: usize = 32 * 1024;
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

/// What became of a call's records.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// They are in the log.
    Appended(Appended),
    /// The shard is closed. Nothing was written; here they are again, in their order.
    Closed(Vec<DecodedBatch>),
}

/// One caller's records in the queue.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Taken when they are written; if the shard is closed, they stay with their owner.
    items: Mutex<Vec<Item>>,
    records: u32,
    outcome: Mutex<Option<Result<Written>>>,
}

/// What the writer of a group reports to a member.
#[derive(Debug)]
enum Written {
    Appended(Appended),
    Closed,
}

/// A caller's records: the caller itself encodes large builders, in parallel with other callers;
/// small ones wait to share a record batch.
#[derive(Debug)]
enum Item {
    Ready(Prepared),
    Small(RecordBuilder),
}

/// What the writing thread keeps between batches.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    segment: Option<(Arc<Segment>, Arc<dyn File>)>,
}

impl Writer {
    /// Closes the open segment, unless it is this one. A segment is synced before the next one
    /// begins.
    pub(super) fn close_unless(&mut self, active: Option<u32>) {
        self.segment.take_if(|(segment, _)| Some(segment.ordinal) != active);
    }
}

/// A record batch that is complete except for its place in the log.
#[derive(Debug)]
struct Prepared {
    header: BatchHeader,
    body: Body,
}

/// A batch, and whose records it holds: index into the group, and how many.
type Shared = (Prepared, Vec<(usize, u32)>);

#[derive(Debug)]
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
    /// call of several batches those before it may be). [`Error::StreamClosed`]: the shard was split
    /// or merged, nothing was written. [`Error::StoragePoisoned`]: a sync failed, the outcome is
    /// unknown. [`Error::Interrupted`]: the same, if it came during the sync.
    ///
    /// # Durability
    /// `process`: survives any process when it returns. `group`: survives power loss.
    pub fn append(&self, records: Vec<RecordBuilder>, patience: &Patience<'_>) -> Result<Appended> {
        match self.try_append(records, patience)? {
            Attempt::Appended(appended) => Ok(appended),
            Attempt::Closed(_) => Err(self.closed()),
        }
    }

    /// As [`ShardLog::append`], but returns the records if the shard is closed.
    pub(crate) fn try_append(
        &self,
        records: Vec<RecordBuilder>,
        patience: &Patience<'_>,
    ) -> Result<Attempt> {
        self.directory.check()?;
        let attempt = self.enqueue(records, patience)?;
        if let Attempt::Appended(appended) = &attempt {
            if self.config.durability == Durability::Group && !appended.runs.is_empty() {
                self.wait_durable(appended.end(), patience)?;
            }
        }
        Ok(attempt)
    }

    /// Ends the shard: appends CLOSE, which names the shards that go on, and syncs it, whatever the
    /// stream's durability. A shard that has one already keeps that.
    ///
    /// # Errors
    /// As [`ShardLog::append`]. After [`Error::StoragePoisoned`] it is not known whether it is closed.
    pub(crate) fn close(&self, children: &[ShardId], patience: &Patience<'_>) -> Result<()> {
        self.directory.check()?;
        {
            let mut writer = self.exclude_writers();
            let _locked = self.append_lock.lock(patience)?;
            // WHY a segment of its own: retention never takes the last one, so what remains of a
            // closed shard is its CLOSE; and the recovery point, which a new segment moves to its
            // start, stays before it, so that every recovery meets it.
            self.roll(&mut writer)?;
            if !self.page().is_closed() {
                let children = children.iter().map(|child| child.0).collect();
                let close = Prepared::control(&Control::Close { children }, self.page().epoch());
                let tail = self.ready_to_write(&mut writer)?;
                self.write_batch(&mut writer, tail, &close)?;
            }
        }
        self.sync_now()
    }

    /// Whether the shard has a CLOSE. Repairs what a dead writer left first, as a writer does.
    pub(crate) fn is_closed(&self, patience: &Patience<'_>) -> Result<bool> {
        self.directory.check()?;
        let mut writer = self.exclude_writers();
        let _locked = self.append_lock.lock(patience)?;
        self.ready_to_write(&mut writer)?;
        Ok(self.page().is_closed())
    }

    /// Ends all use of the shard, in every process, because its stream is being removed.
    pub(crate) fn remove(&self, patience: &Patience<'_>) -> Result<()> {
        self.directory.check()?;
        let _writer = self.exclude_writers();
        let _locked = self.append_lock.lock(patience)?;
        self.directory.control().retire(self.config.page);
        self.page().set_removed();
        Ok(())
    }

    /// Whether its stream was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.page().is_removed()
    }

    fn closed(&self) -> Error {
        Error::StreamClosed { name: format!("{}/{}", self.config.stream, self.config.id) }
    }

    /// As [`ShardLog::exclude_writers`], if no thread is writing now.
    pub(crate) fn try_exclude_writers(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock()
    }

    /// Keeps the threads of this process from writing until the guard is dropped.
    pub(crate) fn exclude_writers(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    fn enqueue(&self, records: Vec<RecordBuilder>, patience: &Patience<'_>) -> Result<Attempt> {
        let count = records.iter().map(RecordBuilder::count).sum();
        let items: Result<Vec<Item>> = records
            .into_iter()
            .filter(|records| records.count() > 0)
            .map(|records| match records.payload_bytes() {
                SHARE_BYTES_MAX.. => self.encode(records).map(Item::Ready),
                _ => Ok(Item::Small(records)),
            })
            .collect();
        let items = Mutex::new(items?);
        let mine = Arc::new(Pending { items, records: count, outcome: Mutex::default() });
        self.queue.lock().push(Arc::clone(&mine));
        let mut writer = self.writer.lock();
        if let Some(outcome) = mine.outcome.lock().take() {
            return Ok(self.attempt(&mine, outcome?));
        }
        if let Err(closed) = self.directory.check() {
            self.queue.lock().retain(|pending| !Arc::ptr_eq(pending, &mine));
            return Err(closed);
        }
        // Only this caller's patience counts here: the others wait for the writer, each with its own.
        let locked = self.append_lock.lock(patience).inspect_err(|_| {
            self.queue.lock().retain(|pending| !Arc::ptr_eq(pending, &mine));
        })?;
        let group = std::mem::take(&mut *self.queue.lock());
        self.write_group(&mut writer, &group);
        drop(locked);
        let outcome = mine.outcome.lock().take();
        let written = outcome.expect("every member of a written group has its outcome")?;
        drop(writer);
        Ok(self.attempt(&mine, written))
    }

    fn attempt(&self, mine: &Pending, written: Written) -> Attempt {
        match written {
            Written::Appended(appended) => Attempt::Appended(appended),
            Written::Closed => {
                let items = std::mem::take(&mut *mine.items.lock());
                Attempt::Closed(items.into_iter().map(|item| self.unpack(item)).collect())
            }
        }
    }

    /// The records of an item that was not written.
    fn unpack(&self, item: Item) -> DecodedBatch {
        let (stream, shard) = (Arc::clone(&self.config.stream), self.config.id);
        match item {
            Item::Small(records) | Item::Ready(Prepared { body: Body::Records(records), .. }) => {
                DecodedBatch::in_memory(&records, 0, 0, stream, shard)
            }
            Item::Ready(Prepared { header, body: Body::Bytes(bytes) }) => {
                let raw = match header.codec {
                    compression::NONE => bytes,
                    codec => {
                        decompress(codec, &bytes, header.raw_len).expect("it was just compressed")
                    }
                };
                let body = SharedBytes::whole(raw);
                DecodedBatch::new(header, Position::default(), stream, shard, body)
                    .expect("the builder makes valid bodies")
            }
        }
    }

    /// Under `append.lock`: writes the records of a group of callers, and reports the result to
    /// each.
    fn write_group(&self, writer: &mut Writer, group: &[Arc<Pending>]) {
        let mut results = vec![Appended::default(); group.len()];
        let written = self.write_batches(writer, group, &mut results);
        if self.config.durability == Durability::Process {
            let page = self.page();
            page.publish(page.committed(), page.next_seq());
            // In a group stream there is nothing to see before the sync, which wakes.
            self.directory.control().wake();
        }
        for (pending, result) in group.iter().zip(results) {
            let got: u32 = result.runs.iter().map(|(_, count)| count).sum();
            *pending.outcome.lock() = Some(match &written {
                Err(error) if got < pending.records => Err(error.duplicate()),
                Ok(false) => Ok(Written::Closed),
                _ => Ok(Written::Appended(result)),
            });
        }
    }

    /// False if the shard is closed: the group keeps its records.
    fn write_batches(
        &self,
        writer: &mut Writer,
        group: &[Arc<Pending>],
        results: &mut [Appended],
    ) -> Result<bool> {
        let mut tail = self.ready_to_write(writer)?;
        if self.page().is_closed() {
            return Ok(false);
        }
        let batches = self.share(group)?;
        for (batch, shares) in batches {
            let mut first = self.write_batch(writer, tail, &batch)?;
            tail = self.page().committed();
            for (member, count) in shares {
                if let Some(result) = results.get_mut(member) {
                    result.runs.push((first, count));
                }
                first += u64::from(count);
            }
            batch.body.recycle();
        }
        Ok(true)
    }

    /// Puts small builders of several callers together into one batch; large ones are batches already.
    fn share(&self, group: &[Arc<Pending>]) -> Result<Vec<Shared>> {
        let mut batches: Vec<Shared> = Vec::new();
        let mut open: Option<(RecordBuilder, Vec<(usize, u32)>)> = None;
        let close = |open: &mut Option<(RecordBuilder, _)>, batches: &mut Vec<Shared>| {
            open.take().map_or(Ok(()), |(records, shares)| {
                self.encode(records).map(|batch| batches.push((batch, shares)))
            })
        };
        for (member, pending) in group.iter().enumerate() {
            for item in std::mem::take(&mut *pending.items.lock()) {
                match (item, &mut open) {
                    (Item::Ready(batch), open) => {
                        close(open, &mut batches)?;
                        let share = (member, batch.header.record_count);
                        batches.push((batch, vec![share]));
                    }
                    (Item::Small(records), Some((batch, shares)))
                        if batch.payload_bytes() + records.payload_bytes()
                            <= BATCH_BYTES_TARGET
                            && batch.count() + records.count() <= RECORDS_MAX =>
                    {
                        batch.append(&records);
                        shares.push((member, records.count()));
                    }
                    (Item::Small(records), open) => {
                        close(open, &mut batches)?;
                        let share = (member, records.count());
                        *open = Some((records, vec![share]));
                    }
                }
            }
        }
        close(&mut open, &mut batches)?;
        Ok(batches)
    }

    fn encode(&self, records: RecordBuilder) -> Result<Prepared> {
        let is_compressing = self.is_compressing.load(Ordering::Relaxed);
        let (raw_len, raw_crc) = if is_compressing {
            (records.with_body(length_of), 0)
        } else {
            records.with_body(|parts| (length_of(parts), crc32c_of(parts)))
        };
        let mut header = BatchHeader {
            has_keys: records.has_keys(),
            body_len: raw_len,
            raw_len,
            record_count: records.count(),
            body_crc: raw_crc,
            shard_epoch: self.page().epoch(),
            ..BatchHeader::default()
        };
        if !is_compressing {
            return Ok(Prepared { header, body: Body::Records(records) });
        }
        let bytes = match compress(&records, raw_len).at(&self.folder)? {
            Some(stored) => {
                header.codec = compression::ZSTD_PACKED;
                stored
            }
            None => records.with_body(|parts| parts.concat()),
        };
        records.recycle();
        header.body_len = u32::try_from(bytes.len()).expect("not longer than raw");
        header.body_crc = crc32c(&bytes);
        Ok(Prepared { header, body: Body::Bytes(bytes) })
    }

    /// Under `append.lock`: looks at what the last writer left, and opens the active segment.
    fn ready_to_write(&self, writer: &mut Writer) -> Result<Position> {
        let page = self.page();
        page.check(&self.folder)?;
        self.active_segment(writer, page.committed().segment)?;
        match page.state() {
            WriterState::Writing => self.repair_tail()?,
            WriterState::Unrecovered => self.finish_recovery()?,
            WriterState::Clean | WriterState::Failed(_) => {}
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
        let (segment, file) = self.segments.open(ordinal)?.ok_or_else(|| Error::Corruption {
            path: self.folder.clone(),
            position: 0,
            first: self.page().next_seq(),
            last: self.page().next_seq(),
            reason: format!("segment {ordinal:08x}, the one being written, is missing"),
        })?;
        segment.check_writable(self.directory.fs())?;
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
        header.place = tail;
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
            if self.cut_at(&file, tail.offset).is_ok() {
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
        if header.is_control {
            // The only mark that a writer appends is CLOSE.
            page.set_closed(true);
        }
        page.set_state(WriterState::Clean);
        Ok(base_seq)
    }

    fn cut_at(&self, file: &Arc<dyn File>, end: u64) -> std::io::Result<()> {
        // WHY not always: a cut also gives back the room that is kept behind the end.
        if file.length()? > end {
            self.room.store(0, Ordering::Relaxed);
            file.truncate(end)?;
        }
        Ok(())
    }

    /// Makes sure that no number below `end` can be issued again after a crash.
    fn reserve(&self, end: SequenceNumber) -> Result<()> {
        let page = self.page();
        if end <= page.reserved() {
            return Ok(());
        }
        let reserved = end.next_multiple_of(RESERVE) + RESERVE;
        self.update_state(|state| state.reserved = state.reserved.max(reserved))?;
        page.set_reserved(reserved);
        Ok(())
    }

    /// Begins a new segment if the batch would make this one too large.
    fn roll_if_full(&self, writer: &mut Writer, tail: Position, bytes: u64) -> Result<Position> {
        if tail.offset == SEGMENT_START || tail.offset + bytes <= self.config.segment_bytes {
            return Ok(tail);
        }
        self.begin_segment(writer, tail)
    }

    /// Under `append.lock`: begins a new segment now; the next batch goes there.
    pub(super) fn roll(&self, writer: &mut Writer) -> Result<()> {
        let tail = self.ready_to_write(writer)?;
        if tail.offset != SEGMENT_START && !self.page().is_closed() {
            self.begin_segment(writer, tail)?;
        }
        Ok(())
    }

    /// The old segment is synced first, so at most one segment is ever unsynced.
    fn begin_segment(&self, writer: &mut Writer, tail: Position) -> Result<Position> {
        let page = self.page();
        self.sync_now()?;
        // WHY: from here on the recovery point may lie in the new segment while the page still points
        // into the old one. A process that finds this mark looks for the end itself.
        page.set_state(WriterState::Writing);
        let begun = self.make_segment(writer, tail);
        if let Ok(start) = begun {
            page.move_end(start);
        }
        // Without a new segment all is as it was: an empty file that is left is not stepped into.
        page.set_state(WriterState::Clean);
        begun
    }

    fn make_segment(&self, writer: &mut Writer, tail: Position) -> Result<Position> {
        let page = self.page();
        let ordinal = tail.segment + 1;
        let header = Self::segment_header(
            &self.directory,
            &self.config,
            page.epoch(),
            page.next_seq(),
            page.last_crc(),
        );
        let fail = |error: Error| self.fail_stop(&error);
        let segment = self.segments.create(ordinal, page.next_seq(), &header, fail)?;
        let file = segment.open(self.directory.fs())?;
        let identity = Self::identity_of(&file, segment.path())?;
        let start = Position { segment: ordinal, offset: SEGMENT_START };
        // INVARIANT: once the recovery point lies in the new segment, nothing may be written to the old
        // one: so nothing below this fails.
        self.update_state(|state| {
            state.recovery_point = start;
            state.recovery_seq = page.next_seq();
            state.recovery_crc = page.last_crc();
            state.recovery_ts = page.max_ts();
        })?;
        page.set_segment_identity(identity);
        writer.segment = Some((segment, file));
        Ok(start)
    }

    /// Under `append.lock`: does what the opening could not do for want of room.
    fn finish_recovery(&self) -> Result<()> {
        recovery::Recovering {
            directory: &self.directory,
            folder: &self.folder,
            config: &self.config,
            segments: &self.segments,
            state_file: &self.state,
        }
        .resume()
    }

    /// Under `append.lock`, after a writer died between two states: walks the batches after the
    /// last announced one. It adopts whole batches (no caller was told that they failed) and cuts
    /// the rest (no caller was told that it is there).
    pub(super) fn repair_tail(&self) -> Result<()> {
        let page = self.page();
        let state = self.state.load()?;
        let found = scan::walk_from_page(&page, &state, &self.segments, self.directory.fs())?;
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
        scan::cut(&found, &self.segments, self.directory.fs())?;
        let sync = self.directory.fs().sync_dir(&self.folder).at(&self.folder);
        sync.map_err(|error| self.fail_stop(&error))?;
        page.commit(&found.committed());
        if self.config.durability == Durability::Process {
            page.publish(found.position, found.next_seq);
        }
        page.set_closed(found.is_closed);
        page.set_state(WriterState::Clean);
        Ok(())
    }
}

impl Prepared {
    fn control(mark: &Control, epoch: u32) -> Self {
        let bytes = mark.encode();
        let length = u32::try_from(bytes.len()).expect("a few bytes");
        let header = BatchHeader {
            is_control: true,
            body_len: length,
            raw_len: length,
            record_count: 1,
            body_crc: crc32c(&bytes),
            shard_epoch: epoch,
            ..BatchHeader::default()
        };
        Self { header, body: Body::Bytes(bytes) }
    }
}

impl Body {
    fn with_parts<T>(&self, write: impl FnOnce(&[&[u8]]) -> T) -> T {
        match self {
            Self::Records(records) => records.with_body(write),
            Self::Bytes(bytes) => write(&[bytes]),
        }
    }

    fn recycle(self) {
        if let Self::Records(records) = self {
            records.recycle();
        }
    }
}

fn length_of(parts: &[&[u8]]) -> u32 {
    u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>())
        .expect("a batch is far below 4 GiB")
}
