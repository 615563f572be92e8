//! Wayleave governs partner access to Kubernetes.
//!
//! Layers, each of which may use only what stands above it:
//!
//! - [`api`]: the kinds and their schema. No behaviour.
//! - [`domain`]: the words and rules of partner access. Pure.
//! - [`plan`]: from a verdict and what is there to the one next step. Pure.
//! - `controller`: watches and reconciles: the issuing lane. A shell: may do I/O.
//! - `closing`: takes access away on time, on every replica, beside all that. A shell: may do I/O.
//! - `uninstall`: ends everything, by the controller. A shell: may do I/O.
//! - `server`: probes and metrics. A shell: may do I/O.
//! - `telemetry`: the log. A shell: may do I/O.
//! - `cli`: the kubectl plugin. A shell: may do I/O.
//!
//! The core is pure: no await, no client, no clock, no randomness; the linter (`clippy.toml`) holds it to that. It builds alone,
//! without the feature `shell`.

#![forbid(unsafe_code)]

pub mod api;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub(crate) mod closing;
#[cfg(feature = "shell")]
pub mod controller;
pub mod domain;
pub mod plan;
#[cfg(feature = "shell")]
pub mod server;
#[cfg(feature = "shell")]
pub mod telemetry;
#[cfg(feature = "shell")]
pub mod uninstall;
