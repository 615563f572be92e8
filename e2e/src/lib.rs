//! A real Kubernetes control plane for tests, started in seconds and gone with the process that started it.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`control_plane`] | [`ControlPlane`]: etcd, API server and controller manager; pause, stop and restart each |
//! | [`clients`] | clients and kubeconfig files for the administrator, users, service accounts, tokens and nobody |
//! | [`audit`] | [`AuditLog`]: what the API server recorded of every call |
//! | [`tools`] | runs kubectl, helm or any other command against the control plane |
//! | [`operator`] | [`Operator`]: runs the operator's program, waits for it, stops it, reads its logs and metrics |
//! | [`mod@install`] | the charts, as a platform team would install them |
//! | [`tenant`] | [`Tenant`]: a namespace with people, owners, a policy and an integration, and a partner's requests |
//! | [`demo`] | the story that `make demo` plays |
//! | [`faults`] | [`Faults`]: breaks calls between the operator and the API server, or kills it at one |
//! | [`bench`](mod@bench) | what `make bench` measures |
//! | [`tokens`] | [`Tokens`]: every token delivered in a run, to be looked for where none may be |
//! | [`mod@eventually`] | waits for a condition, never for time |
//! | [`process`] | child processes that never outlive us |
//! | [`existing`], [`kubeconfig`], [`pki`], [`workdir`] | what the above stand on |
//!
//! Environment: `KUBERNETES_VERSION`, `WAYLEAVE_CACHE` and `KUBEBUILDER_ASSETS` choose the programs (see
//! `controlplane/build.sh`), `WAYLEAVE_KEEP=1` keeps the working directories, `WAYLEAVE_BIN` names the operator's
//! program, `WAYLEAVE_E2E_KUBECONFIG` uses a cluster that runs already, and `WAYLEAVE_TEST_LONG=1` has tests try everything where
//! they would try a selection.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

pub mod audit;
pub mod bench;
pub mod clients;
pub mod control_plane;
pub mod demo;
pub mod eventually;
pub mod existing;
pub mod faults;
pub mod install;
pub mod kubeconfig;
pub mod legacy;
pub mod operator;
pub mod pki;
pub mod plugin;
pub mod process;
pub mod tenant;
pub mod tokens;
pub mod tools;
pub mod workdir;

pub use audit::{AuditEvent, AuditEvents, AuditLog, Mark};
pub use control_plane::{ControlPlane, Part};
pub use eventually::{eventually, settled};
pub use faults::{Fault, Faults, Moment};
pub use install::{InstallOptions, install, install_with};

pub use operator::{Operator, OperatorOptions};
pub use process::Process;
pub use tenant::Tenant;
pub use tokens::Tokens;
pub use tools::{Output, Tool};

/// Whether everything is tried, not a selection.
const LONG_VARIABLE: &str = "WAYLEAVE_TEST_LONG";

/// Whether everything is to be tried, however long it takes.
pub fn is_long() -> bool {
    std::env::var(LONG_VARIABLE).is_ok_and(|value| value == "1")
}

/// Writes one line of progress to standard error; tests show it with `--nocapture` and always when they fail.
pub fn progress(line: &str) {
    use std::io::Write as _;
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr().lock(), "e2e: {line}");
}
