//! The words and rules of partner access, as pure functions: no I/O, no clock, no randomness.

pub mod permission;
pub mod policy;
