//! The hot loop of a lane.

pub mod selection;
