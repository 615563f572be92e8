//! The kubectl plugin `kubectl-wayleave`: decisions and credentials from the command line. A shell: does I/O, reads the
//! clock.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use args::{Args, Command, Global, OutputFormat};

pub mod access;
pub mod args;
pub mod carried;
pub mod certify;
pub mod checked;
pub mod command;
pub mod decision;
pub mod directory;
pub mod documents;
pub mod explanation;
pub mod failure;
pub mod handover;
pub mod output;
pub mod reader;
pub mod stop;
pub mod world;

/// Exit code of a command that was refused or failed.
const FAILED: u8 = 1;
/// Exit code of wrong usage.
const USAGE: u8 = 2;
/// Exit code of a command that was done in part.
const INCOMPLETE: u8 = 3;
/// Exit code of a check that could not be made.
const UNJUDGED: u8 = 2;

/// How a command that was carried out ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Yes,
    /// What was asked about is refused.
    No,
    /// What was asked about can't be judged.
    Unknown,
}

/// What a command reads and writes besides the cluster.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Explanations, warnings and questions.
    pub err: &'a mut dyn Write,
    /// Answers; none where nobody can be asked.
    pub answers: Option<&'a mut dyn BufRead>,
    /// The time of the call.
    pub now: Timestamp,
}

impl Io<'_> {
    /// Asks a question; true only for `y` or `yes`. None where nobody can be asked.
    ///
    /// # Errors
    ///
    /// When the question can't be written or the answer can't be read.
    pub fn confirm(&mut self, question: &str) -> anyhow::Result<Option<bool>> {
        let answer = self.ask(&format!("{question} [y/N]"))?;
        Ok(answer.map(|answer| answer == "y" || answer == "yes"))
    }

    /// Asks a question; gives the answer in lower case, empty where there was none. None where nobody can be asked.
    ///
    /// # Errors
    ///
    /// When the question can't be written or the answer can't be read.
    pub fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        let Some(answers) = self.answers.as_mut() else {
            return Ok(None);
        };
        write!(self.err, "{} ", output::escape(question))?;
        self.err.flush()?;
        let mut answer = String::new();
        answers.read_line(&mut answer).context("reading the answer")?;
        Ok(Some(answer.trim().to_ascii_lowercase()))
    }
}

/// The cluster that a command speaks to, and how.
pub struct Session {
    /// The client.
    pub client: Client,
    /// The namespace given, or the context's.
    pub namespace: String,
    /// The namespace given; none where the context's is meant.
    pub named_namespace: Option<String>,
    /// The form of the result.
    pub output: OutputFormat,
}

/// Runs the plugin with the arguments of the process.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Nothing is left to be told where the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let stdin = std::io::stdin();
    let mut input = stdin.is_terminal().then(|| stdin.lock());
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        answers: input.as_mut().map(|input| input as &mut dyn BufRead),
        now: Timestamp::now(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime");
    let done = runtime.and_then(|runtime| runtime.block_on(dispatch(&args, &mut io)));
    match done {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(FAILED),
        Ok(Answer::Unknown) => ExitCode::from(UNJUDGED),
        Err(error) => {
            let told = failure::explain(&error);
            let _ = writeln!(io.err, "error: {}", output::escape(&told.message));
            if let Some(hint) = told.hint {
                let _ = writeln!(io.err, "hint: {hint}");
            }
            ExitCode::from(if error.is::<failure::Incomplete>() {
                INCOMPLETE
            } else if matches!(args.command, Command::Check(_)) {
                UNJUDGED
            } else {
                FAILED
            })
        }
    }
}

async fn dispatch(args: &Args, io: &mut Io<'_>) -> anyhow::Result<Answer> {
    match &args.command {
        Command::Version(version) if !version.server => {
            command::version::client(&args.global, io)?;
            return Ok(Answer::Yes);
        }
        Command::Check(check) if !check.policies.is_empty() => return command::check::offline(check, &args.global, io),
        Command::Digest(digest) if digest.offline => {
            command::digest::offline(digest, &args.global, io)?;
            return Ok(Answer::Yes);
        }
        _ => {}
    }
    let session = connect(&args.global).await?;
    match &args.command {
        Command::Check(args) => return command::check::run(args, io, &session).await,
        Command::Version(args) => command::version::run(args, io, &session).await,
        Command::List(args) => command::list::run(args, io, &session).await,
        Command::Explain(args) => command::explain::run(args, io, &session).await,
        Command::Digest(args) => command::digest::run(args, io, &session).await,
        Command::Approve(args) => command::approve::run(args, io, &session).await,
        Command::Deny(args) => command::deny::run(args, io, &session).await,
        Command::Revoke(args) => command::revoke::run(args, io, &session).await,
        Command::Stop(args) => command::stop::run(args, io, &session).await,
        Command::Owner(args) => command::owner::run(args, io, &session).await,
        Command::Certify(args) => command::certify::run(args, io, &session).await,
        Command::Kubeconfig(args) => command::kubeconfig::run(args, io, &session).await,
        Command::Rotate(args) => command::rotate::run(args, io, &session).await,
    }?;
    Ok(Answer::Yes)
}

async fn connect(global: &Global) -> anyhow::Result<Session> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match (&global.kubeconfig, &global.context) {
        (Some(path), _) => from_file(path, &options).await?,
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .with_context(|| format!("reading context {context} of the kubeconfig"))?,
        (None, None) => Config::infer()
            .await
            .context("finding a cluster: give --kubeconfig or set KUBECONFIG")?,
    };
    let namespace = global
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok(Session {
        client: Client::try_from(config).context("making a client of the kubeconfig")?,
        namespace,
        named_namespace: global.namespace.clone(),
        output: global.output,
    })
}

async fn from_file(path: &Path, options: &KubeConfigOptions) -> anyhow::Result<Config> {
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
    Config::from_custom_kubeconfig(kubeconfig, options)
        .await
        .with_context(|| format!("using {}", path.display()))
}
