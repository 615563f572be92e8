//! Grants on a real API server, with the operator running as the chart's ServiceAccount.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

mod aggregated;
mod altered;
mod cluster;
mod contributors;
mod cost;
mod credential;
mod delegates;
mod drift;
mod ends;
mod gitops;
mod lives;
mod reasons;
mod refusals;
mod renewal;
mod reported;
mod returns;
mod review;
mod self_service;
mod several_people;
mod several_policies;
mod static_credential;
mod static_refusals;
mod whole_run;
