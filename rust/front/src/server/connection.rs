//! A connection: who is at its other end, and what it sends.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::outbox::{Outbox, Outgoing};
use super::Front;
use crate::frame::{self, Frame, Kind};

/// How often a front without a supervisor that runs looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) type Reader = BufReader<Receiver>;

/// What a peer sends.
///
/// WHY not `tokio::net::UnixStream`: that is also woken whenever the peer has received something, so
/// twice for each call.
pub(super) struct Receiver(AsyncFd<Rc<StdStream>>);

impl AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let most = room.len();
            match guard.try_io(|stream| (&**stream.get_ref()).read(room)) {
                Ok(Ok(received)) => {
                    if (1..most).contains(&received) {
                        guard.clear_ready(); // that was all: spares a call that finds nothing
                    }
                    buffer.advance(received);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_nothing_there) => {}
            }
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
    let stream = Rc::new(stream.into_std().ok()?);
    let receiver = watch(Rc::clone(&stream), Interest::READABLE).ok()?;
    let outbox = Outbox::new(stream);
    let hello = serde_json::json!({ "version": 1, "worker": &*front.worker.borrow() });
    let start = frame::start(Kind::Hello, hello.to_string().as_bytes(), 0);
    outbox.put(Outgoing { start, body: None });
    Some((BufReader::new(Receiver(receiver)), outbox))
}

/// Waits for a stream in one direction only.
#[expect(deprecated, reason = "the new one is unsafe; its demand is met: the stream stays open")]
pub(super) fn watch<S: AsRawFd>(stream: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(stream, interest)
}

fn is_closed(stream: &UnixStream) -> bool {
    // A peer says nothing before it was greeted, so what can be read is the end.
    !matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
