//! The front's connections: its supervisor, callers and runners. One thread, one task a connection.

mod caller;
mod connection;
mod outbox;
mod runner;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, Notify};
use tokio::task::{spawn_local, LocalSet};
use tokio::time::Instant;

use self::connection::greet;
use self::outbox::{Outbox, Outgoing};
use crate::control::{Command, Report};
use crate::frame::{self, Frame, Kind};
use crate::state::{Answer, Effect, Peer, State};

/// Shortest time between two reports of what runs and waits.
const LOAD_EVERY: Duration = Duration::from_millis(250);
/// Pause after the system had no descriptor for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long answers may take to be written after a drain.
const WRITE_OUT: Duration = Duration::from_secs(2);

/// The payload of a call or an answer, in the frame that brought it.
#[derive(Debug)]
pub(crate) struct Payload {
    frame: Frame,
    /// What a caller says about itself; it is passed on to the function.
    client_context: Option<Box<RawValue>>,
    /// The end of what a call printed.
    log: Option<String>,
}

/// What all tasks share.
struct Front {
    state: RefCell<State<Payload>>,
    outboxes: RefCell<HashMap<Peer, Outbox>>,
    next_peer: Cell<Peer>,
    supervisor: Cell<u32>,
    worker: RefCell<String>,
    reports: mpsc::UnboundedSender<Vec<u8>>,
    /// Something is due before the next look at the time.
    due_sooner: Notify,
    /// When what runs and waits may be reported again.
    next_load: Cell<Duration>,
    /// All is done after a drain.
    over: Notify,
    began: Instant,
}

/// Runs the front until it is drained.
///
/// # Arguments
/// `listener` listens on the worker's socket; `control` is the connection to the supervisor.
///
/// # Errors
/// What the system reports for these two descriptors.
pub fn run(listener: OwnedFd, control: OwnedFd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = StdListener::from(listener);
        listener.set_nonblocking(true)?;
        let control = StdStream::from(control);
        control.set_nonblocking(true)?;
        serve(UnixListener::from_std(listener)?, UnixStream::from_std(control)?).await
    })
}

async fn serve(listener: UnixListener, control: UnixStream) -> io::Result<()> {
    let (reading, mut writing) = control.into_split();
    let (reports, mut reported) = mpsc::unbounded_channel::<Vec<u8>>();
    spawn_local(async move {
        while let Some(line) = reported.recv().await {
            if writing.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let front = Rc::new(Front {
        state: RefCell::default(),
        outboxes: RefCell::default(),
        next_peer: Cell::new(0),
        supervisor: Cell::new(0),
        worker: RefCell::default(),
        reports,
        due_sooner: Notify::new(),
        next_load: Cell::default(),
        over: Notify::new(),
        began: Instant::now(),
    });
    let mut commands = BufReader::new(reading);
    for _ in ["settings", "functions"] {
        front.obey_next(&mut commands).await?; // nobody is greeted before
    }
    let told = Rc::clone(&front);
    let commands = spawn_local(async move { told.obey(commands).await });
    let timed = Rc::clone(&front);
    spawn_local(async move { timed.keep_time().await });
    front.report(&Report::FrontReady {});
    let accepting = Rc::clone(&front);
    let accepts = spawn_local(async move { accepting.accept(listener).await });
    let ended = commands.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    accepts.abort();
    ended?;
    let deadline = Instant::now() + WRITE_OUT;
    while front.outboxes.borrow().values().any(|each| !each.is_empty()) && Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

impl Front {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Carries out the supervisor's commands until all is done after a drain.
    async fn obey(self: Rc<Self>, mut commands: BufReader<OwnedReadHalf>) -> io::Result<()> {
        loop {
            tokio::select! {
                // The supervisor's death is seen on the life-line, too.
                more = self.obey_next(&mut commands) => if !more? { return Ok(()) },
                () = self.drained() => return Ok(()),
            }
        }
    }

    async fn drained(&self) {
        while !self.state.borrow().is_over() {
            self.over.notified().await;
        }
    }

    /// Carries out the next command; returns false at the end.
    async fn obey_next(&self, commands: &mut BufReader<OwnedReadHalf>) -> io::Result<bool> {
        let mut line = Vec::new();
        // INVARIANT: `select` may drop this in `read_until`, which then loses nothing only because
        // the wait for a drain is the end of all commands.
        if commands.read_until(b'\n', &mut line).await? == 0 {
            return Ok(false);
        }
        self.obey_one(serde_json::from_slice(&line)?);
        Ok(true)
    }

    fn obey_one(&self, command: Command) {
        let now = self.now();
        self.change(|state| match command {
            Command::Settings(settings) => {
                self.supervisor.set(settings.supervisor);
                settings.worker.clone_into(&mut self.worker.borrow_mut());
                state.set(settings);
            }
            Command::Functions { functions } => state.set_functions(functions),
            Command::RunnerStarted { runner, group, token, busy: false } => {
                state.runner_started(runner, group, token);
            }
            Command::RunnerStarted { runner, group, token, busy: true } => {
                state.runner_is_busy(runner, group, token);
            }
            Command::RunnerEnded { runner, end } => state.runner_ended(runner, end, now),
            Command::StartFailed { group, error_type, error_message } => {
                state.start_failed(&group, &error_type, &error_message);
            }
            Command::Drain {} => state.drain(),
        });
    }

    /// Ticks when something is due, and reports what runs and waits.
    async fn keep_time(&self) {
        loop {
            let now = self.now();
            let due = self.state.borrow().due(now);
            let pause = due.map_or(LOAD_EVERY, |due| due.saturating_sub(now));
            let pause = pause.clamp(Duration::from_millis(1), LOAD_EVERY);
            self.state.borrow_mut().will_look(now + pause);
            if tokio::time::timeout(pause, self.due_sooner.notified()).await.is_err() {
                let now = self.now();
                self.change(|state| state.tick(now));
            }
            let now = self.now();
            if self.next_load.get() <= now {
                self.next_load.set(now + LOAD_EVERY);
                let load = self.state.borrow_mut().take_load();
                if let Some(functions) = load {
                    self.report(&Report::Load { functions });
                }
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let front = Rc::clone(&self);
                    spawn_local(async move { front.welcome(stream).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }

    /// Greets a peer, and talks to it until one of both has closed.
    async fn welcome(self: Rc<Self>, stream: UnixStream) {
        let peer = self.next_peer.get();
        self.next_peer.set(peer + 1);
        let Some((mut reader, outbox)) = greet(&self, stream).await else { return };
        self.outboxes.borrow_mut().insert(peer, outbox.clone());
        if let Ok(Some(first)) = frame::read(&mut reader).await {
            let _ = match first.kind {
                Kind::Runner => self.talk_to_runner(peer, &first, &mut reader).await,
                _ => self.talk_to_caller(peer, first, &mut reader, &outbox).await,
            };
        }
        self.outboxes.borrow_mut().remove(&peer);
        outbox.close();
    }

    /// Changes the state, and does what follows.
    fn change(&self, change: impl FnOnce(&mut State<Payload>)) {
        let (effects, is_due_sooner, is_over) = {
            let mut state = self.state.borrow_mut();
            change(&mut state);
            let is_load_due = state.is_load_changed() && self.next_load.get() <= self.now();
            (state.take_effects(), state.is_due_sooner() || is_load_due, state.is_over())
        };
        for effect in effects {
            self.carry_out(effect);
        }
        if is_due_sooner {
            self.due_sooner.notify_one();
        }
        if is_over {
            self.over.notify_one();
        }
    }

    fn carry_out(&self, effect: Effect<Payload>) {
        match effect {
            Effect::Call { runner, seat, function, request_id, timeout, tail, payload } => {
                let header = runner::CallHeader {
                    seat,
                    function: &function,
                    request_id: &request_id,
                    timeout: timeout.as_secs_f64(),
                    tail,
                    client_context: payload.client_context.as_deref(),
                };
                self.send(runner, Kind::Call, &header, Some(payload.frame));
            }
            Effect::Answer { caller, id, request_id, is_failed, answer } => {
                let (log, body) = match answer {
                    Answer::OfRunner(payload) => (payload.log, Body::Frame(payload.frame)),
                    Answer::OfFront(bytes) => (None, Body::Bytes(bytes)),
                    Answer::Empty => (None, Body::Bytes(Vec::new())),
                };
                let log = log.as_deref();
                let header =
                    caller::ResultHeader { id, failed: is_failed, log, request_id: &request_id };
                match body {
                    Body::Frame(frame) => self.send(caller, Kind::Result, &header, Some(frame)),
                    Body::Bytes(bytes) => self.send_bytes(caller, Kind::Result, &header, &bytes),
                }
            }
            Effect::Refuse { caller, id, refusal } => {
                let header = caller::RefusedHeader { id, refusal: &refusal };
                self.send(caller, Kind::Refused, &header, None);
            }
            Effect::Leave { runner } => {
                self.send(runner, Kind::Leave, &serde_json::json!({}), None);
            }
            Effect::Close { peer } => {
                if let Some(outbox) = self.outboxes.borrow_mut().remove(&peer) {
                    outbox.close();
                }
            }
            Effect::Report(report) => self.report(&report.into()),
        }
    }

    fn send(&self, peer: Peer, kind: Kind, header: &impl Serialize, body: Option<Frame>) {
        let bytes = body.as_ref().map_or(0, |frame| frame.body().len());
        self.put(peer, Outgoing { start: started(kind, header, bytes), body });
    }

    fn send_bytes(&self, peer: Peer, kind: Kind, header: &impl Serialize, body: &[u8]) {
        let mut start = started(kind, header, body.len());
        start.extend_from_slice(body);
        self.put(peer, Outgoing { start, body: None });
    }

    /// Hands a frame to the writer of a connection; for one that has ended it is dropped.
    fn put(&self, peer: Peer, outgoing: Outgoing) {
        if let Some(outbox) = self.outboxes.borrow().get(&peer) {
            outbox.put(outgoing);
        }
    }

    fn report(&self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let _ = self.reports.send(line);
    }

    /// Whether the supervisor runs: it is there, and nobody has stopped it.
    fn has_supervisor(&self) -> bool {
        connection::runs(self.supervisor.get())
    }
}

enum Body {
    Frame(Frame),
    Bytes(Vec<u8>),
}

fn started(kind: Kind, header: &impl Serialize, body_bytes: usize) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap_or_default();
    frame::start(kind, &header, body_bytes)
}
