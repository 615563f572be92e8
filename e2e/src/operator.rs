//! The operator's program, run outside of the cluster against one control plane.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::control_plane::{ControlPlane, free_port};
use crate::eventually::eventually;
use crate::process::Process;
use crate::progress;
use crate::tools::http_get;

/// Names the operator's program; without it, the program is built from this workspace.
pub const BINARY_VARIABLE: &str = "WAYLEAVE_BIN";
/// The namespace of the operator.
pub const NAMESPACE: &str = "wayleave-system";
/// The operator's ServiceAccount in [`NAMESPACE`].
pub const SERVICE_ACCOUNT: &str = "wayleave";
/// The namespace of the partners' identities.
pub const IDENTITY_NAMESPACE: &str = "wayleave-identities";
/// How long the operator may take until it is ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);

const BINARY: &str = "wayleave";
const LOG_LINES: usize = 40;
/// How variables begin that cargo sets for the package that it runs.
const OUR_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];

/// How to run the operator.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// Whom it speaks as; by default the ServiceAccount [`SERVICE_ACCOUNT`] in [`NAMESPACE`], as in production.
    pub kubeconfig: Option<PathBuf>,
    /// More flags. One that the harness sets too replaces it: write `--flag=value` or two words.
    pub args: Vec<OsString>,
    /// More environment variables.
    pub env: Vec<(OsString, OsString)>,
    /// Where it writes its log; by default a new file in the control plane's working directory.
    pub log: Option<PathBuf>,
    /// The port it listens on; by default a free one.
    pub port: Option<u16>,
    /// The server that partners' kubeconfigs name; by default the URL of the control plane.
    pub partner_server: Option<String>,
}

/// A running operator; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    port: u16,
}

impl Operator {
    /// Starts the operator and does not wait: see [`Operator::wait_ready`].
    pub async fn start(cp: &ControlPlane, options: OperatorOptions) -> Result<Self> {
        let program = binary().await?;
        let kubeconfig = match options.kubeconfig {
            Some(path) => path,
            None => cp.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT).await?,
        };
        let port = options.port.map_or_else(free_port, Ok)?;
        let log = options
            .log
            .unwrap_or_else(|| cp.dir().join(format!("operator-{}.log", cp.next_number())));
        let server = options.partner_server.unwrap_or_else(|| cp.server_url().to_owned());
        let listen = format!("127.0.0.1:{port}");
        let ours = [
            ("--listen", listen.as_str()),
            ("--namespace", NAMESPACE),
            ("--service-account", SERVICE_ACCOUNT),
            ("--identity-namespace", IDENTITY_NAMESPACE),
            ("--partner-server", &server),
            ("--log-format", "json"),
        ];
        let replaced = |flag: &str| {
            options
                .args
                .iter()
                .filter_map(|arg| arg.to_str())
                .any(|arg| arg.split('=').next() == Some(flag))
        };
        let kept = ours
            .into_iter()
            .filter(|(flag, _)| !replaced(flag))
            .flat_map(|(flag, value)| [flag, value]);
        let mut process = Process::new("the operator", program, log)
            .args(kept)
            .args(&options.args)
            .env("KUBECONFIG", kubeconfig);
        for (name, value) in &options.env {
            process = process.env(name, value);
        }
        process.start()?;
        Ok(Self { process, port })
    }

    /// Starts the operator as in production and waits until it is ready.
    pub async fn ready(cp: &ControlPlane) -> Result<Self> {
        let operator = Self::start(cp, OperatorOptions::default()).await?;
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// The port of its metrics and probes.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until it says that it is ready. One that has ended is an error at once.
    pub async fn wait_ready(&self) -> Result<()> {
        eventually("the operator to be ready", READY_TIMEOUT, || async {
            if let Some(status) = self.process.exit_status() {
                return Ok(Some(Err(anyhow!("the operator has ended: {status}"))));
            }
            self.get("/ready").await?;
            Ok(Some(Ok(())))
        })
        .await
        .and_then(|outcome| outcome)
        .with_context(|| self.process.log_tail(LOG_LINES))
    }

    /// Its metrics, in the text format.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// The body of a path it serves; anything but a 200 is an error that holds the answer.
    pub async fn get(&self, path: &str) -> Result<String> {
        http_get(self.port, path)
            .await?
            .ok()
            .with_context(|| format!("GET {path}"))
    }

    /// Everything it has logged.
    pub fn logs(&self) -> Result<String> {
        self.process.logs()
    }

    /// SIGTERM, then waits for the end.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.process.stop().await
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// SIGSTOP: it keeps its connections and does nothing.
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Starts it again after [`Operator::stop`] or [`Operator::kill`], with the same flags and port.
    pub fn start_again(&self) -> Result<()> {
        self.process.start()
    }
}

/// The operator's program: `WAYLEAVE_BIN`, or built once from this workspace into the target directory of the tests.
pub async fn binary() -> Result<PathBuf> {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_try_init(|| program(BINARY)).await.cloned()
}

/// A program of this workspace, such as the operator or the kubectl plugin, built if needed.
pub async fn program(name: &str) -> Result<PathBuf> {
    if name == BINARY
        && let Some(path) = std::env::var_os(BINARY_VARIABLE)
    {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("{BINARY_VARIABLE} is {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let ourselves = std::env::current_exe()?;
    let is_profile = |path: &&Path| matches!(path.file_name().and_then(|n| n.to_str()), Some("debug" | "release"));
    let profile = ourselves.ancestors().find(is_profile).with_context(|| {
        format!(
            "{} is in no target directory: set {BINARY_VARIABLE}",
            ourselves.display()
        )
    })?;
    let target = profile.parent().context("the target directory has no parent")?;
    progress(&format!("building {name} ..."));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--locked",
            "--quiet",
            // With the features of all, or half of what is built already would be built again.
            "--workspace",
            "--bin",
            name,
            "--target-dir",
        ])
        .arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    // What cargo tells a test of its own package. Build scripts that look at it (ring's does) would run anew here, and
    // again in the next run of the tests, with everything that stands on them.
    let of_our_package = |name: &str| name == "OUT_DIR" || OUR_PACKAGE.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_our_package) {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(workspace())
        .kill_on_drop(true)
        .status()
        .await
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build --bin {name} failed: {status}");
    }
    Ok(profile.join(name))
}

/// The root of this workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
