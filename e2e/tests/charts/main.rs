//! The charts: what they render, what they refuse, how they are installed and taken away, and what the operator is given.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

mod install;
mod least_privilege;
mod manifests;
mod partners;
mod reference;
mod render;
mod rules;
mod values;
