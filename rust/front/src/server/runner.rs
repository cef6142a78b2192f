//! What the front and a function runner say to each other.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connection::Reader;
use super::{Front, Payload};
use crate::frame::{self, Frame, Kind};
use crate::state::Peer;

/// Most seats of a runner.
const SEATS_MAX: usize = 256;

#[derive(Deserialize)]
struct RunnerHeader {
    runner: u64,
    token: String,
    seats: usize,
    #[serde(default)]
    busy: Vec<usize>,
}

/// The header of a call for a runner.
#[derive(Serialize)]
pub(super) struct CallHeader<'a> {
    pub(super) seat: usize,
    pub(super) function: &'a str,
    pub(super) request_id: &'a str,
    pub(super) timeout: f64,
    pub(super) tail: bool,
    pub(super) client_context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AnswerHeader {
    seat: usize,
    failed: bool,
    #[serde(default)]
    log: Option<String>,
}

impl Front {
    /// Takes the answers of a runner until it has closed.
    pub(super) async fn talk_to_runner(
        &self,
        peer: Peer,
        first: &Frame,
        reader: &mut Reader,
    ) -> io::Result<()> {
        let header: RunnerHeader = serde_json::from_slice(first.header())?;
        let RunnerHeader { runner, token, seats, busy } = header;
        let mut is_welcome = false;
        let at = (peer, self.now());
        self.change(|state| {
            is_welcome = (1..=SEATS_MAX).contains(&seats)
                && state.runner_connected(runner, &token, (seats, &busy), at);
        });
        if !is_welcome {
            return Ok(());
        }
        let ended = self.take_answers(runner, reader).await;
        self.change(|state| state.runner_disconnected(runner, peer, self.now()));
        ended
    }

    async fn take_answers(&self, runner: u64, reader: &mut Reader) -> io::Result<()> {
        while let Some(frame) = frame::read(reader).await? {
            match frame.kind {
                Kind::Result => {}
                Kind::Leave => {
                    self.change(|state| state.runner_leaves(runner));
                    continue;
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            let header: AnswerHeader = serde_json::from_slice(frame.header())?;
            let AnswerHeader { seat, failed, log } = header;
            let payload = Payload { frame, client_context: None, log };
            let now = self.now();
            self.change(|state| state.answered(runner, seat, failed, payload, now));
        }
        Ok(())
    }
}
