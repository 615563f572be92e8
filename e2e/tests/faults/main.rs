//! What breaks, for a moment or for long: the operator, the API server, single calls. Most of it is waiting, so that all of it is one
//! program, whose tests wait at the same time.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

mod outage;
mod positions;
