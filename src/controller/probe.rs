//! Proves the admission pack by a forged decision that must be refused, and compares the clocks on the way.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, Request};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::PartialObjectMeta;
use kube::client::Body;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::watches::Patience;
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
/// So often it is repeated soon after a change: the API server goes by a changed policy only some time later.
const AFTER_CHANGE: u32 = 2;
/// Changes that are told at once are one.
const TOLD_AT_ONCE: usize = 64;

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

/// Proves for ever: now and then, and whenever an admission policy or its binding changes.
pub(crate) async fn run(context: Arc<Context>) {
    let mut changes = Box::pin(changes(&context.client));
    let mut repeat = 0_u32;
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
        let is_sound = seen.proved && seen.skew.is_none();
        let pause = if is_sound && repeat == 0 { AGAIN } else { SOON };
        repeat = repeat.saturating_sub(1);
        tokio::select! {
            Some(_) = changes.next() => repeat = AFTER_CHANGE,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells that an admission policy or a binding of one was written or deleted.
fn changes(client: &Client) -> impl Stream<Item = Vec<()>> + Send + use<> {
    let policies = changes_of::<ValidatingAdmissionPolicy>(client);
    let bindings = changes_of::<ValidatingAdmissionPolicyBinding>(client);
    futures::stream::select(policies, bindings).ready_chunks(TOLD_AT_ONCE)
}

fn changes_of<K>(client: &Client) -> impl Stream<Item = ()> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watcher(
        Api::<PartialObjectMeta<K>>::all(client.clone()),
        watcher::Config::default(),
    )
    .backoff(Patience::default())
    .inspect_err(|error| tracing::warn!(%error, "watching the admission policies failed"))
    .filter_map(|event| async move {
        // A listing too may stand for changes that nobody saw.
        let is_change = matches!(
            event,
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone)
        );
        is_change.then_some(())
    })
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
