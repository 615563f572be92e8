//! The admission policies of the chart, attacked on a real API server by people whom RBAC lets through; and the ordinary work
//! of a cluster, which must go on.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

mod decisions;
mod identities;
mod operator;
mod ordinary;
mod policies;
mod requests;
mod restart;
mod stating;
mod world;
