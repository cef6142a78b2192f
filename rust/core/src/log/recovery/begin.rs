//! Admits readers and writers to a shard whose end is known; a torn tail is cut first.

use std::sync::Arc;

use super::{LogEnd, Recovering};
use crate::control::{End, PageValues, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::record_batch::HEADER_BYTES;
use crate::format::{align8, BatchHeader, Control, ShardState};
use crate::fs::{File, Open};
use crate::log::failure::FailedSync;
use crate::log::scan::{after, cut, Tail};
use crate::log::segment::Segment;
use crate::log::sync::fail_stop;
use crate::log::SEGMENT_START;
use crate::sys;
use crate::types::{Durability, SequenceNumber};

impl Recovering<'_> {
    /// Syncs what is there, and only then shows it to readers. Needs no space on the disk.
    pub(super) fn begin_reading(&self, state: &ShardState, tail: Tail) -> Result<()> {
        let (segment, file) = self.last_segment(&tail)?;
        // INVARIANT: EPOCH says that everything before it is on disk. After the death of a process, in a
        // boot that goes on, what was found may be in memory only.
        self.sync(&file, &segment)?;
        self.sync_folder()?;
        let identity = file.identity().at(segment.path())?;
        self.begin_page(state, &tail, identity, tail.end(), tail.end());
        self.directory.control().page(self.config.page).set_state(WriterState::Unrecovered);
        Ok(())
    }

    fn last_segment(&self, tail: &Tail) -> Result<(Arc<Segment>, Arc<dyn File>)> {
        self.segments.open(tail.position.segment)?.ok_or_else(|| Error::Corruption {
            path: self.folder.to_owned(),
            position: tail.position.offset,
            first: tail.next_seq,
            last: tail.next_seq,
            reason: "the segment at the recovery point is missing".into(),
        })
    }

    /// Cuts a torn tail, begins a new epoch if numbers may have been issued that are not in the log,
    /// and lets writers in.
    pub(super) fn begin_writing(
        &self,
        state: &ShardState,
        mut tail: Tail,
        is_torn: bool,
    ) -> Result<()> {
        let fs = self.directory.fs();
        let (segment, file) = self.last_segment(&tail)?;
        segment.check_writable(fs)?;
        if is_torn {
            self.quarantine(&segment, &file, tail.position.offset)?;
            cut(&tail, self.segments, fs)?;
            self.sync(&file, &segment)?;
        }
        let (mut epoch, mut reserved) = (state.epoch, state.reserved);
        let close = self.lost_close(&tail);
        // CLOSE begins its segment: there it has the number that it had.
        let is_in_place = close.is_some()
            && (tail.position.offset, tail.next_seq) == (SEGMENT_START, segment.base_seq);
        let jumps = !tail.is_closed && !is_in_place && reserved > tail.next_seq;
        let jump = jumps.then_some(Control::Epoch { reason: 1 });
        // WHY first: on a full disk each append tries this again, and would use up epochs.
        let room: u64 = jump.iter().chain(&close).map(stored_bytes).sum();
        file.allocate(tail.position.offset + room).at(segment.path())?;
        if let Some(jump) = &jump {
            epoch += 1;
            // INVARIANT: numbers up to `reserved` may have been issued; none of them is issued again.
            // The ceiling is raised and synced before the EPOCH batch takes the first one above it.
            let base = reserved;
            reserved = base + (1 << 20);
            self.update(|state| {
                state.epoch = epoch;
                state.reserved = reserved;
            })?;
            tail = self.write_mark(&file, &segment, tail, jump, base, epoch)?;
        }
        if let Some(close) = &close {
            tail = self.write_mark(&file, &segment, tail, close, tail.next_seq, epoch)?;
            tail.is_closed = true;
        }
        if tail.is_closed {
            // No number is issued any more; an EPOCH would only hide that.
            reserved = tail.next_seq;
        }
        self.sync(&file, &segment)?;
        self.sync_folder()?;
        self.update(|state| {
            state.reserved = reserved;
            // That of a closed shard stays before its CLOSE: see `ShardLog::close`.
            if !tail.is_closed {
                state.recovery_point = tail.position;
                state.recovery_seq = tail.next_seq;
                state.recovery_crc = tail.prev_crc;
                state.recovery_ts = tail.max_ts;
            }
        })?;
        let page = self.directory.control().page(self.config.page);
        page.set_epoch(epoch);
        page.set_reserved(reserved);
        page.commit(&tail.committed());
        page.after_sync(tail.position, tail.next_seq);
        page.set_closed(tail.is_closed);
        page.set_state(WriterState::Clean);
        page.set_recovered();
        Ok(())
    }

    fn sync(&self, file: &Arc<dyn File>, segment: &Segment) -> Result<()> {
        file.sync_data().at(segment.path()).map_err(|error| self.fail_stop(&error))
    }

    fn sync_folder(&self) -> Result<()> {
        let synced = self.directory.fs().sync_dir(self.folder).at(self.folder);
        synced.map_err(|error| self.fail_stop(&error))
    }

    fn update(&self, change: impl FnOnce(&mut ShardState)) -> Result<()> {
        match self.state_file.update(change) {
            // It was not written, so nothing was synced.
            Err(full @ Error::LogFull { .. }) => Err(full),
            updated => updated.map(drop).map_err(|error| self.fail_stop(&error)),
        }
    }

    /// A sync failed: nothing is written any more. A second sync of the same pages would report success
    /// without writing them. A full disk is no excuse: what the kernel could not place is lost.
    fn fail_stop(&self, error: &Error) -> Error {
        let page = self.directory.control().page(self.config.page);
        fail_stop(self.directory, self.folder, &page, error)
    }

    /// Which part of a log is on disk although a sync failed.
    ///
    /// What another boot wrote and this one reads comes from the disk, and nothing is written after
    /// a failure. In the same boot, or if the boot is unknown, the data may be in memory only. Then
    /// only what the log itself says about its syncs counts.
    fn durable(&self, end: &LogEnd, failure: FailedSync) -> End {
        let (control, now) = (self.directory.control(), self.directory.boot_id());
        let written_in = || control.is_of(self.directory.uuid()).then(|| control.boot_id());
        match failure.boot_id.or_else(written_in) {
            Some(boot) if boot != now => end.tail.end(),
            _ => end.synced,
        }
    }

    /// A sync failed, now or earlier: what is on disk can be read, but nothing is synced, cut or written,
    /// and nothing counts as durable that is not known to be. `fsck --repair` ends that.
    pub(super) fn stay_failed(&self, state: &ShardState, end: &LogEnd, failure: FailedSync) {
        let durable = self.durable(end, failure);
        let visible = match self.config.durability {
            // An acknowledgement was never about the disk.
            Durability::Process => end.tail.end(),
            Durability::Group => durable,
        };
        self.begin_page(state, &end.tail, (0, 0), durable, visible);
        let page = self.directory.control().page(self.config.page);
        page.set_state(WriterState::Unrecovered);
        page.set_state(WriterState::Failed(libc::EIO));
    }

    fn begin_page(
        &self,
        state: &ShardState,
        tail: &Tail,
        segment_identity: (u64, u64),
        durable: End,
        visible: End,
    ) {
        self.directory.control().page(self.config.page).initialise(&PageValues {
            owner: self.config.owner(),
            segment_identity,
            committed: tail.end(),
            durable,
            visible,
            last_crc: tail.prev_crc,
            last_position: tail.last_position,
            epoch: state.epoch,
            max_ts: tail.max_ts,
            reserved: state.reserved,
            is_closed: tail.is_closed,
        });
    }

    /// The CLOSE of a shard that its manifest says is closed, if it is not there: it was synced before
    /// the manifest said so, and has rotted.
    fn lost_close(&self, tail: &Tail) -> Option<Control> {
        let children: Vec<u32> = self.config.successors.iter().map(|child| child.0).collect();
        (!tail.is_closed && !children.is_empty()).then_some(Control::Close { children })
    }

    /// Writes a mark behind a tail.
    fn write_mark(
        &self,
        file: &Arc<dyn File>,
        segment: &Segment,
        tail: Tail,
        mark: &Control,
        base_seq: SequenceNumber,
        epoch: u32,
    ) -> Result<Tail> {
        let body = mark.encode();
        let length = u32::try_from(body.len()).expect("a few bytes");
        let now = self.directory.clock().now().max(tail.max_ts);
        let header = BatchHeader {
            is_control: true,
            body_len: length,
            raw_len: length,
            base_seq,
            record_count: 1,
            body_crc: crc32c(&body),
            base_ts: now,
            max_ts: now,
            shard_epoch: epoch,
            durable_end: tail.next_seq,
            prev_header_crc: tail.prev_crc,
            place: tail.position,
            ..BatchHeader::default()
        };
        let (head, crc) = header.encode();
        let mut bytes = [&head[..], &body].concat();
        bytes.resize(HEADER_BYTES + align8(body.len()), 0);
        if let Err(error) = file.write_at(&[&bytes], tail.position.offset) {
            // Nothing but this was behind the tail.
            let _ = file.truncate(tail.position.offset);
            return Err(Error::io(segment.path(), error));
        }
        Ok(after(&tail, &header, crc))
    }

    /// Keeps the bytes that are about to be cut, under `quarantine/`.
    fn quarantine(&self, segment: &Segment, file: &Arc<dyn File>, from: u64) -> Result<()> {
        let fs = self.directory.fs();
        let length =
            usize::try_from(file.length().at(segment.path())?.saturating_sub(from)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let got = file.read_at(&mut bytes, from).at(segment.path())?;
        bytes.truncate(got);
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let folder = self.directory.root().join("quarantine");
        fs.create_dir(&folder).at(&folder)?;
        let token = sys::hex(&sys::random_uuid().at(&folder)?);
        let name = format!(
            "{}.{}.{:08x}-{from}.{}.torn",
            self.config.stream,
            self.config.id,
            segment.ordinal,
            token.get(..8).unwrap_or_default(),
        );
        let path = folder.join(name);
        let copy = fs.open(&path, Open::CreateNew).at(&path)?;
        if let Err(error) = copy.write_at(&[&bytes], 0).and_then(|()| copy.sync_data()) {
            // Half a copy keeps nothing, and takes room where there is none.
            let _ = fs.remove(&path);
            return Err(Error::io(&path, error));
        }
        fs.sync_dir(&folder).at(&folder)
    }
}

fn stored_bytes(mark: &Control) -> u64 {
    (HEADER_BYTES + align8(mark.encode().len())) as u64
}
