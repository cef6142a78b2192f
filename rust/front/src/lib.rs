//! The front of a worker: it takes calls from other processes, hands them to the seats of function
//! runners, and asks the supervisor for runners. docs/front.md is its specification.
