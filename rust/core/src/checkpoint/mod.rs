//! What a mapping stores: positions, batches in flight, leases; and the live workers.
//!
//! ```text
//! mappings/lock                              flock EX while a mapping's record or a new lanes file is made
//! mappings/<name>/mapping                    wanted factor, paused, start            mapping.rs
//! mappings/<name>/<stream>/<shard>.lanes     positions and batches in flight         lanes.rs
//! mappings/<name>/<stream>/<shard>.window.a .b   position and state of a windowed lane window.rs
//! mappings/<name>/<stream>/<shard>.N.lease   flock EX while lane N's owner lives     lease.rs
//! workers/<uuid>.lock                        flock EX while a worker lives           membership.rs
//! ```
//! `slot/` has the bytes. Kernel locks show which processes live; epochs in the checkpoint slots
//! show whose writes count; clocks decide nothing.

pub mod lanes;
pub mod lease;
pub mod mapping;
pub mod membership;
mod operating;
pub mod removal;
pub mod rename;
mod replay;
mod resume_point;
pub mod retention;
pub mod slot;
pub mod window;

pub use lanes::{LaneView, LanesFile};
pub use lease::Lease;
pub use mapping::{LaneStatus, Mapping};
pub use membership::Membership;
pub use resume_point::ResumePoint;
pub use slot::{Cause, Entry, InFlight, LaneLayout, OnFailure, RecordRange, SLOT_ENTRIES_MAX};
pub use window::{OpenWindow, StateKind, WindowState, Windows};
