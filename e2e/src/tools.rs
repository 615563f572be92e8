//! The programs of the control plane, and commands run against it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::control_plane::ControlPlane;

/// How long one command may take, unless said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(120);

const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The folder with etcd, kube-apiserver, kube-controller-manager, kubectl and helm. Built at first use: minutes.
pub async fn programs() -> Result<PathBuf> {
    static PROGRAMS: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane/build.sh");
        let output = Command::new("bash")
            .arg(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!("{} failed ({}); its output is above", script.display(), output.status);
        }
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    };
    PROGRAMS.get_or_try_init(build).await.cloned()
}

impl ControlPlane {
    /// kubectl as the user of this kubeconfig file.
    pub async fn kubectl(&self, kubeconfig: &Path) -> Result<Tool> {
        Ok(self.tool(programs().await?.join("kubectl"), kubeconfig))
    }

    /// helm as the user of this kubeconfig file.
    pub async fn helm(&self, kubeconfig: &Path) -> Result<Tool> {
        Ok(self.tool(programs().await?.join("helm"), kubeconfig))
    }

    /// Any command as the user of this kubeconfig file. Home and helm directories are in our working directory.
    pub fn tool(&self, program: impl Into<PathBuf>, kubeconfig: &Path) -> Tool {
        let home = self.dir().join("home");
        Tool::new(program)
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", &home)
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_DATA_HOME", home.join("helm/data"))
    }
}

/// A command that is run to its end, with its output read.
#[derive(Debug, Clone)]
#[must_use]
pub struct Tool {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<String>,
    timeout: Duration,
}

/// How a command ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that succeeded; otherwise an error that holds what it complained about.
    pub fn ok(self) -> Result<String> {
        if !self.status.success() {
            bail!(
                "{} failed ({}): {}{}",
                self.command,
                self.status,
                self.stderr.trim(),
                self.stdout.trim()
            );
        }
        Ok(self.stdout)
    }
}

impl Tool {
    /// A command.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            stdin: None,
            timeout: TIMEOUT,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The folder that it runs in; by default ours.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What the command reads on standard input; without it, nothing.
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// How long it may take instead of [`TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end. That it fails is no error here: see [`Output::ok`].
    pub async fn run(self) -> Result<Output> {
        let line = self.line();
        let timeout = self.timeout;
        let finished = tokio::time::timeout(timeout, self.finish()).await;
        let output = finished
            .with_context(|| format!("{line} took longer than {} s", timeout.as_secs()))?
            .with_context(|| format!("cannot run {line}"))?;
        Ok(Output {
            command: line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn finish(self) -> Result<std::process::Output> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let Some(text) = self.stdin else {
            return Ok(command.stdin(Stdio::null()).output().await?);
        };
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("the command has no standard input")?;
        let write = async move {
            // A command that does not read to the end says why itself.
            let _ = stdin.write_all(text.as_bytes()).await;
        };
        let ((), output) = futures::future::join(write, child.wait_with_output()).await;
        Ok(output?)
    }

    fn line(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let words: Vec<_> = std::iter::once(program)
            .chain(self.args.iter().map(OsString::as_os_str))
            .map(OsStr::to_string_lossy)
            .collect();
        words.join(" ")
    }
}

/// The answer to a plain HTTP request.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// The body of a 200; otherwise an error that holds code and body.
    pub fn ok(self) -> Result<String> {
        if self.code != 200 {
            bail!("answered {}: {}", self.code, self.body.trim());
        }
        Ok(self.body)
    }
}

/// GET over plain HTTP from a port of the loopback address.
pub async fn http_get(port: u16, path: &str) -> Result<HttpAnswer> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        // HTTP 1.0: the body ends with the connection and is never in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        anyhow::Ok(bytes)
    };
    let bytes = tokio::time::timeout(HTTP_TIMEOUT, exchange)
        .await
        .context("no answer in time")??;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let code = head
        .split(' ')
        .nth(1)
        .context("no status code in the answer")?
        .parse()?;
    Ok(HttpAnswer {
        code,
        body: body.to_owned(),
    })
}
