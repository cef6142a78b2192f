//! What the front and a caller say to each other.

use std::io;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connection::{drain, read, Reader};
use super::outbox::Outbox;
use super::{Front, Payload};
use crate::errors::{Refusal, REQUEST_BYTES_MAX};
use crate::frame::{Frame, Kind};
use crate::state::{Peer, Request};

#[derive(Deserialize)]
struct CallHeader {
    id: u64,
    function: String,
    #[serde(default, rename = "type")]
    kind: CallType,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    tail: bool,
    #[serde(default)]
    client_context: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
enum CallType {
    #[default]
    RequestResponse,
    DryRun,
}

/// The header of an answer.
#[derive(Serialize)]
pub(super) struct ResultHeader<'a> {
    pub(super) id: u64,
    pub(super) failed: bool,
    pub(super) log: Option<&'a str>,
    pub(super) request_id: &'a str,
}

/// The header that says why a call was not made.
#[derive(Serialize)]
pub(super) struct RefusedHeader<'a> {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) refusal: &'a Refusal,
}

#[derive(Deserialize, Serialize)]
struct PingHeader {
    id: u64,
}

impl Front {
    /// Takes the calls of a caller until it has closed.
    pub(super) async fn talk_to_caller(
        &self,
        peer: Peer,
        first: Frame,
        reader: &mut Reader,
        outbox: &Outbox,
    ) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(frame) = next {
            match frame.kind {
                Kind::Ping => {
                    let ping: PingHeader = serde_json::from_slice(frame.header())?;
                    if self.has_supervisor() {
                        self.send(peer, Kind::Pong, &ping, None);
                    }
                }
                Kind::Call => {
                    outbox.call_read(frame.body().len());
                    self.take_call(peer, frame)?;
                }
                _ => {
                    outbox.close();
                    drain(reader).await;
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            outbox.room().await;
            next = read(reader, outbox).await?;
        }
        Ok(())
    }

    fn take_call(&self, peer: Peer, frame: Frame) -> io::Result<()> {
        let header: CallHeader = serde_json::from_slice(frame.header())?;
        if let Some(refusal) = refused(frame.body()) {
            let header = RefusedHeader { id: header.id, refusal: &refusal };
            self.send(peer, Kind::Refused, &header, None);
            return Ok(());
        }
        let request_id = match header.request_id {
            Some(given) => given,
            None => uuid()?,
        };
        let request = Request {
            caller: peer,
            id: header.id,
            function: header.function,
            is_dry_run: header.kind == CallType::DryRun,
            request_id,
            tail: header.tail,
            payload: Payload { frame, client_context: header.client_context, log: None },
        };
        let now = self.now();
        self.change(|state| state.call(request, now));
        Ok(())
    }
}

/// Returns why a payload is refused.
fn refused(body: &[u8]) -> Option<Refusal> {
    if body.len() > REQUEST_BYTES_MAX {
        return Some(Refusal::too_large(body.len()));
    }
    match serde_json::from_slice::<IgnoredAny>(body) {
        Err(error) if !body.is_empty() => Some(Refusal::not_json(&error)),
        _ => None,
    }
}

fn uuid() -> io::Result<String> {
    let hex = streamfn_core::sys::hex(&streamfn_core::sys::random_uuid()?);
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts = parts.map(|(from, to)| hex.get(from..to).unwrap_or_default());
    Ok(parts.join("-"))
}
