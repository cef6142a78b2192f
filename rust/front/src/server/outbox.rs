//! The frames of a connection that wait to be written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::connection::watch;
use crate::frame::Frame;

/// Bytes of a caller's calls and answers that are held here before no more calls are read.
pub(super) const HELD_BYTES_MAX: usize = 64 << 20;
/// Calls of a connection without an answer that was written, before no more are read.
pub(super) const HELD_CALLS_MAX: usize = 1000;

/// A frame to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// All of it, or what comes before the body.
    pub(super) start: Vec<u8>,
    /// The frame whose body it has.
    pub(super) body: Option<Frame>,
}

impl Outgoing {
    fn body(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], Frame::body)
    }

    fn len(&self) -> usize {
        self.start.len() + self.body().len()
    }

    /// Writes what is there after the first `written` bytes, as much as the system takes.
    fn write(&self, mut to: &StdStream, written: usize) -> io::Result<usize> {
        let start = self.start.get(written..).unwrap_or_default();
        let of_body = written.saturating_sub(self.start.len());
        let body = self.body().get(of_body..).unwrap_or_default();
        to.write_vectored(&[IoSlice::new(start), IoSlice::new(body)])
    }
}

/// The frames of one connection that wait to be written.
#[derive(Clone)]
pub(super) struct Outbox(Rc<Shared>);

struct Shared {
    stream: Rc<StdStream>,
    frames: RefCell<VecDeque<Outgoing>>,
    /// Bytes of the first frame that were written.
    written: Cell<usize>,
    /// Bytes of all frames.
    bytes: Cell<usize>,
    /// Calls read from the connection whose answers were not written yet, and their bytes.
    calls: Cell<usize>,
    call_bytes: Cell<usize>,
    is_closed: Cell<bool>,
    /// Whether a task waits until the system takes more.
    is_blocked: Cell<bool>,
    closed: Notify,
    emptied: Notify,
}

impl Outbox {
    pub(super) fn new(stream: Rc<StdStream>) -> Self {
        Self(Rc::new(Shared {
            stream,
            frames: RefCell::default(),
            written: Cell::default(),
            bytes: Cell::default(),
            calls: Cell::default(),
            call_bytes: Cell::default(),
            is_closed: Cell::default(),
            is_blocked: Cell::default(),
            closed: Notify::new(),
            emptied: Notify::new(),
        }))
    }

    /// Writes a frame, now if the system takes it.
    pub(super) fn put(&self, outgoing: Outgoing) {
        if self.0.is_closed.get() {
            return;
        }
        self.0.bytes.set(self.0.bytes.get() + outgoing.len());
        self.0.frames.borrow_mut().push_back(outgoing);
        if self.0.is_blocked.get() {
            return;
        }
        match self.write() {
            Ok(true) => {}
            Ok(false) => {
                self.0.is_blocked.set(true);
                let waiting = self.clone();
                spawn_local(async move { waiting.write_later().await });
            }
            Err(_) => self.close(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_closed.get() || self.0.bytes.get() == 0
    }

    /// Closes the connection for writing; what was read before is still handled.
    pub(super) fn close(&self) {
        if self.0.is_closed.replace(true) {
            return;
        }
        self.0.frames.borrow_mut().clear();
        self.0.bytes.set(0);
        let _ = self.0.stream.shutdown(Shutdown::Write);
        self.0.closed.notify_waiters();
        self.0.emptied.notify_one();
    }

    /// Notes that a call was read.
    pub(super) fn call_read(&self, bytes: usize) {
        self.0.calls.set(self.0.calls.get() + 1);
        self.0.call_bytes.set(self.0.call_bytes.get() + bytes);
    }

    /// Waits until another call may be read.
    pub(super) async fn room(&self) {
        while !self.0.is_closed.get()
            && (self.0.calls.get() >= HELD_CALLS_MAX
                || self.0.bytes.get() + self.0.call_bytes.get() >= HELD_BYTES_MAX)
        {
            self.0.emptied.notified().await;
        }
    }

    /// Completes when the connection was closed from here.
    pub(super) async fn closed(&self) {
        while !self.0.is_closed.get() {
            self.0.closed.notified().await;
        }
    }

    /// Writes as much as the system takes; returns whether that was all.
    fn write(&self) -> io::Result<bool> {
        let mut frames = self.0.frames.borrow_mut();
        while let Some(first) = frames.front() {
            match first.write(&self.0.stream, self.0.written.get()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => self.0.written.set(self.0.written.get() + more),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            let length = first.len();
            if self.0.written.get() == length {
                frames.pop_front();
                self.0.written.set(0);
                self.0.bytes.set(self.0.bytes.get().saturating_sub(length));
                self.answer_written();
                self.0.emptied.notify_one();
            }
        }
        Ok(true)
    }

    /// Writes the rest, each time that the system takes more.
    async fn write_later(self) {
        if self.write_when_possible().await.is_err() {
            self.close();
        }
        self.0.is_blocked.set(false);
    }

    async fn write_when_possible(&self) -> io::Result<()> {
        // WHY another descriptor: the first one is watched for reading, and can be watched once.
        let watched = watch(self.0.stream.try_clone()?, Interest::WRITABLE)?;
        while !self.0.is_closed.get() {
            tokio::select! {
                ready = watched.writable() => {
                    let mut ready = ready?;
                    if self.write()? {
                        return Ok(());
                    }
                    ready.clear_ready();
                }
                () = self.closed() => {}
            }
        }
        Ok(())
    }

    /// An answer was written; which one does not matter, for only sums are bounded.
    fn answer_written(&self) {
        let (calls, bytes) = (self.0.calls.get(), self.0.call_bytes.get());
        if let Some(average) = bytes.checked_div(calls) {
            self.0.call_bytes.set(bytes - average);
            self.0.calls.set(calls - 1);
        }
    }
}
