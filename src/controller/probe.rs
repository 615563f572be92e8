//! Proves the admission pack by a forged decision that must be refused, and compares the clocks on the way.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;

use super::{Context, lock, now};

/// How far local time and the API server's may differ, in seconds.
const SKEW: i64 = 30;
/// How often the proof is repeated once it holds.
const AGAIN: Duration = Duration::from_mins(5);
/// The longest that one proof may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// What the refusal must say: the words of our own policy, not of any other.
const OUR_WORDS: [&str; 2] = ["ValidatingAdmissionPolicy", "people decide, ServiceAccounts don't"];
/// How soon it is repeated while it doesn't.
const SOON: Duration = Duration::from_secs(3);

/// What the last proof showed.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Seen>);

/// See [`Probe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) proved: bool,
    pub(crate) skew: Option<i64>,
    /// By how many seconds the API server's clock is ahead of ours; 0 where it is not.
    pub(crate) server_ahead: i64,
}

impl Probe {
    pub(crate) fn seen(&self) -> Seen {
        *lock(&self.0)
    }
}

pub(crate) async fn run(context: Arc<Context>) {
    loop {
        let proof = tokio::time::timeout(DEADLINE, prove(&context)).await;
        let proof = proof.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        let seen = proof.unwrap_or_else(|error| {
            tracing::warn!(%error, "the admission policies could not be proved");
            Seen::default()
        });
        context.metrics.proof(seen.proved, seen.skew);
        let changed = {
            let mut last = lock(&context.probe.0);
            let before = std::mem::replace(&mut *last, seen);
            (before.proved, before.skew) != (seen.proved, seen.skew)
        };
        if changed {
            tracing::info!(proved = seen.proved, skew = ?seen.skew, "admission proved");
            context.cache.enqueue_all();
        }
        tokio::time::sleep(if seen.proved && seen.skew.is_none() {
            AGAIN
        } else {
            SOON
        })
        .await;
    }
}

async fn prove(context: &Context) -> anyhow::Result<Seen> {
    let forged = serde_json::json!({
        "apiVersion": "wayleave.dev/v1alpha1",
        "kind": "AccessDecision",
        "metadata": {"name": "wayleave-admission-proof", "namespace": context.settings.identities},
        "spec": {
            "subject": {"kind": "AccessGrant", "name": "wayleave-admission-proof"},
            "decision": "Deny",
            "decidedBy": "wayleave:forged-by-the-proof",
            "reason": "a forged decision, which must be refused",
        },
    });
    let uri = format!(
        "/apis/wayleave.dev/v1alpha1/namespaces/{}/accessdecisions?dryRun=All&fieldManager=wayleave",
        context.settings.identities
    );
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&forged)?))?;
    let response = context.client.send(request).await?;
    let date = response
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    let server = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let ahead = server.map_or(0, |server| server.timestamp().as_second() - now().as_second());
    let skew = Some(-ahead).filter(|skew| skew.abs() > SKEW);
    let status = response.status();
    let body = response.into_body().collect_bytes().await?;
    let body = String::from_utf8_lossy(&body);
    Ok(Seen {
        proved: status.is_client_error() && OUR_WORDS.iter().all(|words| body.contains(words)),
        skew,
        server_ahead: ahead.max(0),
    })
}
