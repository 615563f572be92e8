//! The operator: flags, logs, the health server, and the controller until a signal comes.
#![expect(clippy::disallowed_types, reason = "imperative shell")]

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::StatusCode;
use axum::routing::get;
use clap::{Parser, ValueEnum};
use k8s_openapi::ByteString;
use wayleave::controller::{self, Cache, Settings};

/// Governs partner access: issues what was approved, rotates it, and takes it away on time.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of /live and /ready.
    #[arg(long, env = "WAYLEAVE_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The operator's own namespace.
    #[arg(long, env = "WAYLEAVE_NAMESPACE", default_value = "wayleave-system")]
    namespace: String,
    /// The operator's own ServiceAccount.
    #[arg(long, env = "WAYLEAVE_SERVICE_ACCOUNT", default_value = "wayleave")]
    service_account: String,
    /// The namespace of the partners' identities.
    #[arg(long, env = "WAYLEAVE_IDENTITY_NAMESPACE", default_value = wayleave::api::names::IDENTITY_NAMESPACE)]
    identity_namespace: String,
    /// The API server's URL as partners reach it; by default as the operator does.
    #[arg(long, env = "WAYLEAVE_PARTNER_SERVER", default_value = "")]
    partner_server: String,
    /// Accepted for the chart; there is no election yet, so run one replica.
    #[arg(long, env = "WAYLEAVE_LEADER_ELECTION")]
    leader_election: bool,
    /// How many grants are reconciled at once.
    #[arg(long, env = "WAYLEAVE_CONCURRENCY", default_value_t = 64)]
    concurrency: u16,
    /// The form of the log.
    #[arg(long, env = "WAYLEAVE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// What to log: a level, or directives such as `info,kube=debug`.
    #[arg(long, env = "WAYLEAVE_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level)
        .with_context(|| format!("--log-level {:?} is neither a level nor directives", args.log_level))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
    let mut config = kube::Config::infer().await.context("finding the API server")?;
    // A token must not be asked for twice behind our back.
    config.default_retry = false;
    let roots = config.root_cert.iter().flatten();
    let ca = roots.map(|der| pem(der)).collect::<anyhow::Result<String>>()?;
    let partner_server = if args.partner_server.is_empty() {
        config.cluster_url.to_string()
    } else {
        args.partner_server
    };
    // Connections of its own for the closing lane: nothing queues before a denial.
    let closing_client = kube::Client::try_from(config.clone()).context("making a client")?;
    let client = kube::Client::try_from(config).context("making a client")?;
    let settings = Settings {
        namespace: args.namespace,
        service_account: args.service_account,
        identities: args.identity_namespace,
        partner_server,
        ca,
        concurrency: args.concurrency,
    };
    let (cache, pending, queues) = Cache::new();
    tokio::spawn(serve(args.listen, Arc::clone(&cache)));
    controller::run(client, closing_client, settings, cache, pending, queues, shutdown()).await
}

async fn serve(listen: SocketAddr, cache: Arc<Cache>) {
    let ready = move || async move {
        let missing = cache.unsynced();
        if missing.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not read yet: {}\n", missing.join(", ")),
            )
        }
    };
    let app = axum::Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready));
    let served = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => axum::serve(listener, app).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, %listen, "the health server ended");
    }
}

async fn shutdown() {
    let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match terminated {
        Ok(mut terminated) => tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(error) => tracing::error!(%error, "signals can't be received: shutting down"),
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
