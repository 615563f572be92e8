//! The rules of partner access: words, sets and decisions. Pure: no I/O, no clock, no randomness.

pub mod admission;
pub mod approval;
pub mod closing;
pub mod conditions;
pub mod digest;
pub mod elsewhere;
pub mod lifetime;
pub mod names;
pub mod ownership;
pub mod permission;
pub mod policy;
pub mod static_credential;
pub mod text;
pub mod verdict;

#[cfg(test)]
pub(crate) mod fixtures;
