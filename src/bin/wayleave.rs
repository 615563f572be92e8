//! The operator: flags, logs, the server, the election and the controller, until a signal comes.
#![expect(clippy::disallowed_types, reason = "imperative shell")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, Parser, Subcommand};
use k8s_openapi::ByteString;
use kube::client::ClientBuilder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower::timeout::TimeoutLayer;
use wayleave::api::names::IDENTITY_NAMESPACE;
use wayleave::controller::leader::{Alone, Election, Leadership, LeaseSettings};
use wayleave::controller::metrics::Metrics;
use wayleave::controller::{Cache, MakeClient, Operator, Settings};
use wayleave::server::{self, Shown};
use wayleave::telemetry::{Log, LogFormat, log_level};
use wayleave::uninstall::{self, Uninstall};

/// Every object that is seen is many small pieces of memory: the C library's own allocator took a fifth of the operator's processor
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a graceful stop waits for what is under way.
const GRACE: Duration = Duration::from_secs(20);
/// The longest until an answer begins: the API server itself gives a call up after a minute. One that is never answered must not
/// keep a list, and with it every decision, waiting for ever.
const ANSWER_DEADLINE: Duration = Duration::from_secs(65);
/// The longest that nothing comes on a connection: a watch ends sooner by itself.
const SILENCE: Duration = Duration::from_secs(295);
/// The longest that a call about the lease may take.
const ELECTION_DEADLINE: Duration = Duration::from_secs(4);
/// The exit code after a second signal, as a shell gives it to what was interrupted.
const INTERRUPTED: i32 = 130;

/// Governs partner access: issues what was approved, rotates it, and takes it away on time.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Address of /live, /ready and /metrics.
    #[arg(
        long,
        env = "WAYLEAVE_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8080"
    )]
    listen: SocketAddr,

    /// The operator's own namespace, where its lease is.
    #[arg(
        long,
        env = "WAYLEAVE_NAMESPACE",
        global = true,
        default_value = "wayleave-system",
        help_heading = "Who and where"
    )]
    namespace: String,
    /// The operator's own ServiceAccount; a RoleBinding to it enrols a namespace.
    #[arg(
        long,
        env = "WAYLEAVE_SERVICE_ACCOUNT",
        global = true,
        value_name = "NAME",
        default_value = "wayleave",
        help_heading = "Who and where"
    )]
    service_account: String,
    /// The namespace of the partners' identities.
    #[arg(long, env = "WAYLEAVE_IDENTITY_NAMESPACE", global = true, value_name = "NAMESPACE", default_value = IDENTITY_NAMESPACE, help_heading = "Who and where")]
    identity_namespace: String,
    /// The API server's URL as partners reach it, for the kubeconfigs delivered to them; by default as the operator does.
    #[arg(
        long,
        env = "WAYLEAVE_PARTNER_SERVER",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        value_parser = partner_server,
        help_heading = "Who and where"
    )]
    partner_server: String,

    /// Let one replica at a time issue, by a Lease. Every replica ends access on time.
    #[arg(long, env = "WAYLEAVE_LEADER_ELECTION", action = ArgAction::Set, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, help_heading = "Election")]
    leader_election: bool,
    /// The lease's name.
    #[arg(
        long,
        env = "WAYLEAVE_LEASE_NAME",
        global = true,
        value_name = "NAME",
        default_value = "wayleave",
        help_heading = "Election"
    )]
    lease_name: String,
    /// For how many seconds a renewal of the lease is good: a replica that dies is replaced after as long.
    #[arg(long, env = "WAYLEAVE_LEASE_DURATION", global = true, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=300), help_heading = "Election")]
    lease_duration: u64,
    /// The name by which this replica holds the lease: its own alone. By default the pod's name, else one that is made up.
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "Election"
    )]
    identity: String,

    /// How many grants are reconciled at once.
    #[arg(long, env = "WAYLEAVE_CONCURRENCY", value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// The form of the log.
    #[arg(long, env = "WAYLEAVE_LOG_FORMAT", global = true, value_enum, default_value_t = LogFormat::Json, help_heading = "Log")]
    log_format: LogFormat,
    /// What to log: a level (error, warn, info, debug, trace), or directives such as `info,kube=debug`.
    #[arg(
        long,
        env = "WAYLEAVE_LOG_LEVEL", global = true,
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level,
        help_heading = "Log"
    )]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ends all access, takes our finalizers off, and says what is left: before the chart and the kinds are removed.
    ///
    /// Sets the drain marker, a ConfigMap in the operator's namespace, by which every replica ends everything and issues nothing
    /// until it is taken away. Where no operator runs, this command does the work. Run it as the operator's ServiceAccount, as
    /// the chart's hook does, or as a cluster administrator, who then impersonates the operator.
    Uninstall {
        /// For how many seconds it may go on.
        #[arg(long, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        /// Take the drain marker away instead, so that what is approved and in order is issued again.
        #[arg(long)]
        undo: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let log = Log::start(args.log_format, &args.log_level);
    if let Err(error) = log.follow_signal() {
        tracing::warn!(%error, "SIGUSR1 can't be received: what is logged stays as it is");
    }
    let (failed, outcome) = match args.command {
        Some(Command::Uninstall { timeout, undo }) => {
            ("the uninstallation failed", end_all(&args, timeout, undo).await)
        }
        None => ("the operator ends", run(args).await),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{failed}");
            ExitCode::FAILURE
        }
    }
}

/// `wayleave uninstall`.
async fn end_all(args: &Args, timeout: u64, undo: bool) -> anyhow::Result<()> {
    check_namespaces(args)?;
    let mut config = config().await?;
    let mut out = std::io::stdout();
    if undo {
        let client = kube::Client::try_from(config).context("making a client")?;
        return uninstall::undo(&client, &args.namespace, &mut out).await;
    }
    let mut settings = settings(args, &config)?;
    if let Some(user) = uninstall::speak_as_operator(&mut config, &mut settings).await? {
        tracing::info!(
            user,
            "speaking as the operator, with the rights of a cluster administrator"
        );
    }
    let metrics = Metrics::default();
    let identity = format!("uninstall-{}-{}", std::process::id(), nonce());
    let uninstall = Uninstall {
        election_client: election_client(config.clone(), &metrics)?,
        closing_client: closing_client(&config, &metrics),
        client: client(config, &metrics)?,
        lease: lease(args, &identity),
        settings,
        metrics,
        limit: Duration::from_secs(timeout),
    };
    uninstall.run(&mut out).await
}

fn check_namespaces(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.namespace != args.identity_namespace,
        "--namespace and --identity-namespace are both {}: partners' identities need a namespace of their own",
        args.namespace
    );
    Ok(())
}

fn client(config: kube::Config, metrics: &Metrics) -> anyhow::Result<kube::Client> {
    let builder = ClientBuilder::try_from(config).context("making a client")?;
    let builder = builder.with_layer(&TimeoutLayer::new(ANSWER_DEADLINE));
    Ok(builder.with_layer(&metrics.layer()).build())
}

/// Makes the closing lane's client, whenever it needs another.
fn closing_client(config: &kube::Config, metrics: &Metrics) -> MakeClient {
    let (config, metrics) = (config.clone(), metrics.clone());
    Arc::new(move || client(config.clone(), &metrics))
}

/// How the API server is reached.
async fn config() -> anyhow::Result<kube::Config> {
    let mut config = kube::Config::infer().await.context("finding the API server")?;
    // A token must not be asked for twice behind our back.
    config.default_retry = false;
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    Ok(config)
}

async fn run(args: Args) -> anyhow::Result<()> {
    check_namespaces(&args)?;
    let signals = Signals::new().context("signals can't be received")?;
    let listener = server::bind(args.listen).await?;
    let config = config().await?;
    let metrics = Metrics::default();
    // Connections of its own for the closing lane: nothing queues before a denial.
    let closing_client = closing_client(&config, &metrics);
    let settings = settings(&args, &config)?;
    let election_client = election_client(config.clone(), &metrics)?;
    let client = client(config, &metrics)?;
    let (cache, pending, queues) = Cache::new();
    let registry = metrics.registry(Arc::clone(&cache));
    let shown = Shown {
        cache: Arc::clone(&cache),
        metrics: metrics.clone(),
        registry,
    };
    let serving = tokio::spawn(server::serve(listener, shown));
    let identity = identity(&args);
    let election = args
        .leader_election
        .then(|| Election::start(&election_client, &client, lease(&args, &identity)));
    let leadership: Arc<dyn Leadership> = match &election {
        Some(election) => election.leadership.clone(),
        None => Arc::new(Alone::default()),
    };
    let operator = Operator {
        client,
        closing_client,
        settings,
        cache,
        pending,
        queues,
        identity,
        leadership,
        metrics,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut running = tokio::spawn(operator.run(async {
        // An error means that the sender is gone: that is a stop too.
        let _ = stopped.await;
    }));
    let outcome = tokio::select! {
        ended = &mut running => ended.context("the operator broke off").and_then(|ended| ended),
        ended = serving => ended.context("the server broke off").and_then(|ended| ended),
        () = signals.first() => {
            tracing::info!("stopping: what is under way is finished");
            let _ = stop.send(());
            match tokio::time::timeout(GRACE, &mut running).await {
                Ok(ended) => ended.context("the operator broke off").and_then(|ended| ended),
                Err(_) => {
                    running.abort();
                    tracing::warn!("what was under way took too long: the next run takes it up");
                    Ok(())
                }
            }
        }
    };
    // Given back in any case: the next leader need not wait for its end.
    if let Some(election) = election {
        election.stop().await;
    }
    outcome
}

/// A client that gives every call up in time for another before the lease ends.
fn election_client(config: kube::Config, metrics: &Metrics) -> anyhow::Result<kube::Client> {
    let builder = ClientBuilder::try_from(config).context("making a client")?;
    let builder = builder.with_layer(&TimeoutLayer::new(ELECTION_DEADLINE));
    Ok(builder.with_layer(&metrics.layer()).build())
}

fn partner_server(text: &str) -> Result<String, String> {
    let is_server =
        |url: &http::Uri| url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty());
    let parsed = text.parse().ok().filter(|url| is_server(url) && url.query().is_none());
    if text.is_empty() || parsed.is_some() {
        return Ok(text.to_owned());
    }
    Err("not an https URL such as https://api.example:6443".to_owned())
}

fn settings(args: &Args, config: &kube::Config) -> anyhow::Result<Settings> {
    let roots = config.root_cert.iter().flatten();
    let partner_server = if args.partner_server.is_empty() {
        config.cluster_url.to_string()
    } else {
        args.partner_server.clone()
    };
    Ok(Settings {
        namespace: args.namespace.clone(),
        service_account: args.service_account.clone(),
        identities: args.identity_namespace.clone(),
        partner_server,
        ca: roots.map(|der| pem(der)).collect::<anyhow::Result<String>>()?,
        concurrency: args.concurrency,
        everywhere: false,
    })
}

fn lease(args: &Args, identity: &str) -> LeaseSettings {
    LeaseSettings {
        name: args.lease_name.clone(),
        namespace: args.namespace.clone(),
        identity: identity.to_owned(),
        duration: args.lease_duration,
        renew_before: args.lease_duration / 3,
    }
}

/// The name of this replica: given, or made up.
fn identity(args: &Args) -> String {
    if args.identity.is_empty() {
        format!("wayleave-{}-{}", std::process::id(), nonce())
    } else {
        args.identity.clone()
    }
}

/// Sets two replicas on one machine apart, and one from its own past.
fn nonce() -> u32 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.subsec_nanos())
}

/// SIGTERM and SIGINT.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }

    /// Returns at the first signal; the second ends the process at once.
    async fn first(mut self) {
        self.any().await;
        tokio::spawn(async move {
            self.any().await;
            std::process::exit(INTERRUPTED);
        });
    }
}

/// A certificate as text. The JSON form of a ByteString is the base64 that PEM needs, in lines of 64.
fn pem(der: &[u8]) -> anyhow::Result<String> {
    let encoded = serde_json::to_value(ByteString(der.to_vec()))?;
    let encoded = encoded.as_str().context("a certificate was not written as text")?;
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    Ok(format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    ))
}
