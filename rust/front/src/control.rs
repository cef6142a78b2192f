//! Messages between the front and its supervisor, one JSON object a line: docs/front.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a supervisor says.
#[derive(Debug, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Command {
    /// The first message.
    Settings(Settings),
    /// The functions of the app; they take the place of those before.
    Functions {
        /// All of them.
        functions: Vec<FunctionSpec>,
    },
    /// A process was started that will connect.
    RunnerStarted {
        /// Its number in this worker.
        runner: u64,
        /// The functions that it can run.
        group: String,
        /// What it has to show.
        token: String,
        /// It is in a call of a front before this one, and connects after it.
        #[serde(default)]
        busy: bool,
    },
    /// A process has exited.
    RunnerEnded {
        /// Its number.
        runner: u64,
        /// How.
        #[serde(flatten)]
        end: End,
    },
    /// No process of a group can start.
    StartFailed {
        /// The group.
        group: String,
        /// Type of the error that waiting calls get.
        error_type: String,
        /// Its message.
        error_message: String,
    },
    /// Take no more calls, finish those that run, end the runners.
    Drain {},
}

/// How a worker is set up.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Settings {
    /// UUID of the worker.
    pub worker: String,
    /// Most runners of all groups together.
    pub runners_max: usize,
    /// Most runners that start at once.
    pub starts_max: usize,
    /// How long a runner without a call stays.
    pub idle_seconds: f64,
    /// Process id of the supervisor.
    pub supervisor: u32,
}

/// What the front knows of a function.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionSpec {
    /// `<app>.<function>`.
    pub name: String,
    /// The runners that can run it.
    pub group: String,
    /// Longest call, in seconds.
    pub timeout: f64,
    /// Most calls at once; `None`: no limit.
    pub concurrency: Option<usize>,
    /// Calls that one runner runs at once.
    pub per_process: usize,
}

/// How a runner ended.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// Exit code, number of the signal, or the limit of memory in bytes.
    #[serde(default)]
    pub detail: i64,
    /// Seats whose calls are past their time-outs.
    #[serde(default)]
    pub late: Vec<usize>,
}

/// Why a runner ended.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It exited.
    Exit,
    /// A signal killed it.
    Signal,
    /// It was killed because calls were late.
    Timeout,
    /// It was killed because it used too much memory.
    Memory,
    /// It was told to leave.
    Drain,
}

/// What the front says.
#[derive(Debug, Serialize, PartialEq)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Report {
    /// It takes calls.
    FrontReady {},
    /// A runner is needed.
    StartRunner {
        /// In this group.
        group: String,
    },
    /// The front has told a runner to leave.
    RunnerDismissed {
        /// Its number.
        runner: u64,
    },
    /// What runs and waits.
    Load {
        /// By name of the function.
        functions: BTreeMap<String, Load>,
    },
}

/// What runs and waits of one function.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub struct Load {
    /// Calls in seats.
    pub running: usize,
    /// Calls that wait for one.
    pub queued: usize,
    /// Calls taken since the front started.
    pub calls: u64,
    /// Calls refused since then, because of limits.
    pub throttled: u64,
}
