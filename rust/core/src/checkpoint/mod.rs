//! Leases and checkpoints.

pub mod slot;
