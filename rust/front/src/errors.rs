//! What callers are told when a call was not made, or when its runner ended. The types and texts are
//! AWS Lambda's (facts I-4, I-5, I-8 to I-10 of the conformance table) where it has one.

use std::time::Duration;

use serde::Serialize;

use crate::control::{End, Reason};

/// Longest payload of a call.
pub const REQUEST_BYTES_MAX: usize = 6_291_456;

/// Why a call was not made.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Refusal {
    /// The status that HTTP would have.
    pub status: u16,
    /// Name of the exception in AWS's interface.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// AWS's reason, where it has one.
    pub reason: Option<&'static str>,
    /// One sentence.
    pub message: String,
    /// Seconds after which it may work.
    pub retry_after: Option<u32>,
}

impl Refusal {
    fn new(status: u16, kind: &'static str, message: String) -> Self {
        Self { status, kind, reason: None, message, retry_after: None }
    }

    /// There is no such function, or a short name that several have.
    pub fn not_found(name: &str) -> Self {
        Self::new(404, "ResourceNotFoundException", format!("Function not found: {name}"))
    }

    /// The payload is longer than [`REQUEST_BYTES_MAX`].
    pub fn too_large(bytes: usize) -> Self {
        let message =
            format!("Request must be smaller than {REQUEST_BYTES_MAX} bytes, it has {bytes}");
        Self::new(413, "RequestTooLargeException", message)
    }

    /// The payload is not JSON.
    pub fn not_json(error: &serde_json::Error) -> Self {
        let message = format!("Could not parse request body into json: {error}");
        Self::new(400, "InvalidRequestContentException", message)
    }

    /// The header of the call cannot be used.
    pub fn invalid(message: String) -> Self {
        Self::new(400, "InvalidParameterValueException", message)
    }

    /// The function runs as many calls as it may.
    pub fn over_concurrency() -> Self {
        Self::throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
    }

    /// No seat was free in time.
    pub fn no_seat() -> Self {
        Self::throttled("ConcurrentInvocationLimitExceeded")
    }

    fn throttled(reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            retry_after: Some(1),
            ..Self::new(429, "TooManyRequestsException", "Rate Exceeded.".into())
        }
    }

    /// The worker ends.
    pub fn draining() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(503, "ServiceUnavailableException", "The worker is stopping.".into())
        }
    }
}

/// An error object as AWS's runtime makes it, without a stack.
#[derive(Serialize)]
struct ErrorObject<'a> {
    #[serde(rename = "errorType")]
    kind: &'a str,
    #[serde(rename = "errorMessage")]
    message: String,
}

/// Returns an error object.
pub fn error_object(kind: &str, message: String) -> Vec<u8> {
    serde_json::to_vec(&ErrorObject { kind, message }).unwrap_or_default()
}

/// Returns the error object of a call whose runner ended.
pub fn died(request_id: &str, end: Option<&End>, seat: usize, timeout: Duration) -> Vec<u8> {
    let (kind, message) = match end {
        Some(End { reason: Reason::Timeout, late, .. }) if late.contains(&seat) => (
            "Sandbox.Timedout",
            format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()),
        ),
        Some(End { reason: Reason::Memory, detail, .. }) => (
            "Runtime.OutOfMemory",
            format!("Runtime exceeded its memory limit of {} MiB", detail >> 20),
        ),
        Some(End { reason: Reason::Exit, detail, .. }) if *detail != 0 => {
            ("Runtime.ExitError", format!("Runtime exited with error: exit status {detail}"))
        }
        Some(End { reason: Reason::Signal | Reason::Timeout, detail, .. }) if *detail != 0 => (
            "Runtime.ExitError",
            format!("Runtime exited with error: signal: {}", name_of(*detail)),
        ),
        _ => ("Runtime.ExitError", "Runtime exited without providing a reason".to_owned()),
    };
    error_object(kind, format!("RequestId: {request_id} Error: {message}"))
}

/// Returns the words that Lambda uses for a signal, which are those of Go.
fn name_of(signal: i64) -> String {
    match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return format!("signal {signal}"),
    }
    .to_owned()
}
