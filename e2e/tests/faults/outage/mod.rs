//! What holds while the operator or the API server is away, and after. These tests stop and break things, so they take
//! turns at a control plane of their own.

mod admission;
mod cluster;
mod faults;
mod operator;
mod reading;
mod replicas;
mod server;
mod stuck;
mod unreadable;
