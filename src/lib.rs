//! Wayleave governs partner access to Kubernetes.
//!
//! Layers, each of which may use only what stands above it:
//!
//! - [`api`]: the kinds and their schema. No behaviour.
//! - [`domain`]: the words and rules of partner access. Pure.
//! - [`plan`]: from a verdict and what is there to the one next step. Pure.
//! - [`controller`]: watches and reconciles: the issuing lane. A shell: may do I/O.
//! - `closing`: takes access away on time, on every replica, beside all that. A shell: may do I/O.
//! - [`uninstall`]: ends everything, by the controller. A shell: may do I/O.
//! - [`server`]: probes and metrics. A shell: may do I/O.
//! - [`cli`]: the kubectl plugin. A shell: may do I/O.
//!
//! The core is pure: no await, no client, no clock, no randomness; the linter (`clippy.toml`) holds it to that.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub(crate) mod closing;
pub mod controller;
pub mod domain;
pub mod plan;
pub mod server;
pub mod uninstall;
