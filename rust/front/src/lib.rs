//! The front of a worker: it takes calls from other processes, hands them to the seats of function
//! runners, and asks the supervisor for runners. docs/front.md is its specification.

pub mod control;
pub mod errors;
pub mod frame;
mod server;
pub mod state;

pub use server::run;
