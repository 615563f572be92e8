//! A model check of the operator: two replicas with caches that lag, a leadership that can be lost in the middle of a
//! batch, crashes between any two writes, answers that are lost, a clock, and the people around it.
//!
//! What is decided is decided by the operator's own `decide`, `plan`, `issued`, `rotated`, `must_close` and `deadline`. The
//! order of its calls is written down again in `replica.rs`, and the API server in `server.rs`. Every state within the bounds
//! is visited.
#![cfg(test)]

mod bounds;
mod checks;
#[path = "../../src/domain/fixtures.rs"]
#[allow(dead_code, reason = "shared with the unit tests, which need more of them")]
mod fixtures;

mod histories;
mod mutants;
mod objects;
mod properties;
mod replica;
mod server;
mod world;

use wayleave::api;

/// Ways to get it wrong, each of which the model must find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    /// A missing binding is put back under its own name.
    BindingPutBack,
    /// Anchors go before the bindings.
    AnchorsFirst,
    /// Anchors stay.
    AnchorsLeft,
    /// The claim is written whatever became of the grant since.
    UnguardedClaim,
    /// Only the leader closes.
    LeaderCloses,
    /// Another activation begins without asking the API server about decisions and owners.
    NoFreshRead,
    /// What the API server says is compared with the cache of that moment, not with what was judged by.
    StaleFreshRead,
    /// Deletions name no UID.
    DeletedByName,
    /// Tokens are asked for that live for two minutes more than planned.
    LongTokens,
    /// A token is delivered whoever delivered another since.
    UnguardedDelivery,
    /// Bindings don't say which Deny or Revoke was known.
    NothingNoted,
}
