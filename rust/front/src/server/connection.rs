//! A connection: who is at its other end, and the frames that wait to be written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::Front;
use crate::frame::{self, Frame, Kind};

/// Bytes of a caller's calls and answers that are held here before no more calls are read.
pub(super) const HELD_BYTES_MAX: usize = 64 << 20;
/// Calls of a connection without an answer that was written, before no more are read.
pub(super) const HELD_CALLS_MAX: usize = 1000;
/// How often a front without a supervisor that runs looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) type Reader = BufReader<OwnedReadHalf>;

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
}

/// The frames of one connection that wait to be written.
#[derive(Clone)]
pub(super) struct Outbox(Rc<Shared>);

#[derive(Default)]
struct Shared {
    frames: RefCell<VecDeque<Outgoing>>,
    bytes: Cell<usize>,
    /// Calls read from the connection whose answers were not written yet, and their bytes.
    calls: Cell<usize>,
    call_bytes: Cell<usize>,
    is_closed: Cell<bool>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    fn new() -> Self {
        Self(Rc::new(Shared::default()))
    }

    pub(super) fn put(&self, outgoing: Outgoing) {
        if !self.0.is_closed.get() {
            self.0.bytes.set(self.0.bytes.get() + outgoing.len());
            self.0.frames.borrow_mut().push_back(outgoing);
            self.0.filled.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_closed.get() || self.0.bytes.get() == 0
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        self.0.is_closed.set(true);
        self.0.frames.borrow_mut().clear();
        self.0.bytes.set(0);
        self.0.filled.notify_one();
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
            self.0.emptied.notified().await;
        }
    }

    /// Writes frames until the connection is closed.
    async fn write(&self, mut writing: OwnedWriteHalf) {
        loop {
            let next = self.0.frames.borrow_mut().pop_front();
            let Some(next) = next else {
                if self.0.is_closed.get() {
                    return;
                }
                self.0.filled.notified().await;
                continue;
            };
            if write_all(&mut writing, &next).await.is_err() {
                self.close();
                return;
            }
            self.0.bytes.set(self.0.bytes.get().saturating_sub(next.len()));
            self.answer_written();
            self.0.emptied.notify_one();
        }
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

/// Checks who connects and greets; `None`: it is not let in, or has gone.
pub(super) async fn greet(front: &Front, stream: UnixStream) -> Option<(Reader, Outbox)> {
    let own = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
        return None;
    }
    while !front.has_supervisor() {
        // WHY silence: a caller that hears nothing takes another worker.
        tokio::time::sleep(LOOK_AGAIN).await;
        if is_closed(&stream) {
            return None;
        }
    }
    let (reading, writing) = stream.into_split();
    let outbox = Outbox::new();
    let hello = serde_json::json!({ "version": 1, "worker": &*front.worker.borrow() });
    let start = frame::start(Kind::Hello, hello.to_string().as_bytes(), 0);
    outbox.put(Outgoing { start, body: None });
    let writer = outbox.clone();
    spawn_local(async move { writer.write(writing).await });
    Some((BufReader::new(reading), outbox))
}

fn is_closed(stream: &UnixStream) -> bool {
    // A peer says nothing before it was greeted, so what can be read is the end.
    !matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn write_all(writing: &mut OwnedWriteHalf, outgoing: &Outgoing) -> io::Result<()> {
    let (mut start, mut body) = (outgoing.start.as_slice(), outgoing.body());
    while !start.is_empty() {
        let parts = [IoSlice::new(start), IoSlice::new(body)];
        let written = writing.write_vectored(&parts).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_start = written.min(start.len());
        start = start.get(of_start..).unwrap_or_default();
        body = body.get(written - of_start..).unwrap_or_default();
    }
    writing.write_all(body).await
}

/// Reads a frame, unless the connection is closed from here.
pub(super) async fn read(reader: &mut Reader, outbox: &Outbox) -> io::Result<Option<Frame>> {
    tokio::select! {
        frame = frame::read(reader) => frame,
        () = outbox.closed() => Ok(None),
    }
}

/// Reads to the end what a peer sends, and forgets it.
pub(super) async fn drain(reader: &mut Reader) {
    let mut bytes = [0; 4096];
    while matches!(reader.read(&mut bytes).await, Ok(1..)) {}
}

/// Whether a process is there and neither stopped nor dead.
pub(super) fn runs(process: u32) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a file of the kernel, not of a log")]
    let Ok(text) = std::fs::read(format!("/proc/{process}/stat")) else {
        return false;
    };
    // The name of the program comes before, in parentheses, and may have any bytes.
    let end = text.iter().rposition(|byte| *byte == b')').unwrap_or(text.len());
    let state = text.get(end + 2);
    !matches!(state, None | Some(b'T' | b't' | b'Z' | b'X' | b'x'))
}
