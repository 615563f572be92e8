//! Owners who leave, are handed over from and come from a directory, and the stop of a partner: by the kubectl plugin of named
//! users, against the real API server.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

mod cluster;
mod groups;
mod owners;
mod stop;
mod sync;
