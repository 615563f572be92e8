//! Proves the admission pack by a forged decision that must be refused, and compares the clocks on the way.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::clock::{date, too_much};
use super::pack::{self, Ended, Pack, Standing};
use super::{Context, lock, now};
use crate::api::v1alpha1::Instant;
use crate::domain::admission::{Proof, Proofs, SETTLING};

/// How often the proof is repeated once it holds.
const AGAIN: Duration = Duration::from_mins(5);
/// The longest that one proof may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// What refusals must say: the words of our own policies, not of any other.
const OF_DECISIONS: [&str; 2] = ["ValidatingAdmissionPolicy", "people decide, ServiceAccounts don't"];
const OF_REQUESTS: [&str; 2] = [
    "ValidatingAdmissionPolicy",
    "people ask for access, ServiceAccounts don't",
];
/// What is forged is called so, and is never there.
const FORGED: &str = "wayleave-admission-proof";
/// How soon it is repeated while it doesn't, or while the API server may not go by a change yet.
const SOON: Duration = Duration::from_secs(3);
/// How often it is repeated where the policies are not there: one that comes is seen when it does.
const UNPROVED: Duration = Duration::from_secs(30);

/// What the last proof showed.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Seen>);

/// See [`Probe`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A proof was tried, whatever came of it. Before that nothing is known, and nothing is said of it.
    pub(crate) tried: bool,
    pub(crate) proved: bool,
    /// By how many seconds the API server's clock is ahead of ours; less than 0 where it is behind.
    pub(crate) server_ahead: i64,
    /// When the policies held; none before that was read.
    pub(crate) proofs: Option<Arc<Proofs>>,
}

impl Seen {
    /// Local time less the API server's, in seconds, where they differ by too much.
    pub(crate) fn skew(&self) -> Option<i64> {
        too_much(-self.server_ahead)
    }
}

/// What the API server answered.
struct Answer {
    /// It refused what was forged, in our words.
    refused: bool,
    /// When, by its own clock.
    at: Instant,
    /// By how many seconds that is ahead of ours.
    ahead: i64,
}

impl Probe {
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.0).clone()
    }
}

/// Proves for ever: now and then, and whenever an admission policy, its binding or the leadership changes.
pub(crate) async fn run(context: Arc<Context>) {
    let (pack, changed) = (Mutex::new(Pack::new()), Notify::new());
    tokio::join!(
        follow(&context, &pack, &changed),
        prove_again(&context, &pack, &changed)
    );
}

/// Takes changes in when they come, whatever a proof is waiting for: until another proof nothing is counted that might have
/// been made since.
async fn follow(context: &Context, pack: &Mutex<Pack>, changed: &Notify) {
    let mut changes = std::pin::pin!(pack::changes(&context.client));
    while let Some(change) = changes.next().await {
        let mut pack = lock(pack);
        if pack.take(change) {
            lock(&context.probe.0).proofs = None;
        }
        drop(pack);
        changed.notify_one();
    }
}

async fn prove_again(context: &Arc<Context>, pack: &Mutex<Pack>, changed: &Notify) {
    let mut leadership = context.leadership.changes();
    let mut known = Known::default();
    loop {
        let Some(standing) = lock(pack).standing() else {
            if tokio::time::timeout(DEADLINE, changed.notified()).await.is_err() {
                give_up_waiting(context);
            }
            continue;
        };
        let before = context.probe.seen();
        let outcome = look(context, &standing, &mut known).await;
        let is_answered = outcome.is_ok();
        let mut seen = outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, "the admission policies could not be proved");
            Seen {
                proofs: before.proofs.clone(),
                ..Seen::default()
            }
        });
        seen.tried = true;
        context.metrics.proof(seen.proved, -seen.server_ahead);
        let settled = now().seconds_since(standing.dated.max(standing.seen)) > 2 * SETTLING;
        let pause = match (is_answered && settled && seen.skew().is_none(), seen.proved) {
            (true, true) => AGAIN,
            (true, false) => UNPROVED,
            (false, _) => SOON,
        };
        {
            let mut pack = lock(pack);
            if !pack.is(&standing) {
                // They changed meanwhile: the next look, which follows at once, is of what they are now.
                seen.proofs = None;
            } else if is_answered {
                pack.proved();
            }
            *lock(&context.probe.0) = seen.clone();
        }
        if (before.tried, before.proved, before.skew(), &before.proofs)
            != (true, seen.proved, seen.skew(), &seen.proofs)
        {
            tracing::info!(proved = seen.proved, skew = ?seen.skew(), "admission proved");
            context.cache.enqueue_all();
        }
        tokio::select! {
            () = changed.notified() => {}
            () = context.metrics.clock().changed() => {}
            // Another replica may write the record while this one doesn't lead.
            Ok(()) = leadership.changed() => known = Known::default(),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The policies can't be read: what follows from that is said of every grant.
fn give_up_waiting(context: &Context) {
    let was_tried = std::mem::replace(&mut lock(&context.probe.0).tried, true);
    if !was_tried {
        context.cache.enqueue_all();
    }
}

/// What one proof leaves for the next, while this replica leads.
#[derive(Default)]
struct Known {
    /// Which policies were last seen to hold, and when.
    held: Option<(String, Instant)>,
    /// The record as it was written last.
    record: Option<Arc<Proofs>>,
}

/// Proves once, and notes what it means for the decisions made since the last time.
async fn look(context: &Context, standing: &Standing, known: &mut Known) -> anyhow::Result<Seen> {
    let proof = tokio::time::timeout(DEADLINE, prove(context)).await;
    let mut answer = proof.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))?;
    if !standing.missing.is_empty() {
        tracing::warn!(policies = ?standing.missing, "admission policies are missing, or not enforced");
        answer.refused = false;
    }
    let mut seen = Seen {
        tried: true,
        proved: answer.refused,
        server_ahead: answer.ahead,
        proofs: None,
    };
    if !context.is_leader() {
        // Who doesn't lead judges nothing, and what it saw is not on record.
        *known = Known::default();
        return Ok(seen);
    }
    // Decisions have dates of the API server. Both clocks are read in whole seconds: one is no difference.
    let ahead = if answer.ahead.abs() > 1 { answer.ahead } else { 0 };
    let until = |last: Instant| match standing.ended {
        // It was made a moment before, in whole seconds of two clocks.
        Ended::At(told) => last.max(told.plus(ahead - 2)),
        Ended::NotYet | Ended::Unknown => last,
    };
    let held = known.held.clone();
    let proof = Proof {
        at: answer.at,
        refused: answer.refused,
        fingerprint: &standing.fingerprint,
        dated: standing.dated,
        seen: standing.seen.plus(ahead),
        before: held
            .as_ref()
            .map(|(fingerprint, last)| (fingerprint.as_str(), until(*last))),
    };
    let known_record = known.record.take();
    let is_news = known_record.as_ref().is_none_or(|record| {
        let mut after = Proofs::clone(record);
        after.take(&proof);
        after != **record
    });
    let record = match known_record.filter(|_| !is_news) {
        Some(record) => record,
        None => {
            let namespace = &context.settings.namespace;
            pack::record(&context.client, namespace, |proofs| proofs.take(&proof)).await?
        }
    };
    known.record = Some(Arc::clone(&record));
    known.held = answer.refused.then(|| (standing.fingerprint.clone(), answer.at));
    // Policies that are not yet settled may turn out to have held for long: until then nothing is said of decisions.
    seen.proofs = Some(record).filter(|record| record.is_open() || !answer.refused);
    Ok(seen)
}

/// Who approves and who asks is checked by two policies: both are tried.
async fn prove(context: &Context) -> anyhow::Result<Answer> {
    let decision = json!({
        "subject": {"kind": "AccessGrant", "name": FORGED},
        "decision": "Deny",
        "decidedBy": "wayleave:forged-by-the-proof",
        "reason": "a forged decision, which must be refused",
    });
    let request = json!({
        "integrationRef": {"name": FORGED},
        "requestedBy": "wayleave:forged-by-the-proof",
        "access": [{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": [FORGED]}]}],
        "credential": {"type": "Token", "token": {"lifetime": "1h"}},
        "expiresAt": "2000-01-01T00:00:00Z",
    });
    let decided = forge(context, "AccessDecision", decision, OF_DECISIONS).await?;
    let asked = forge(context, "AccessGrant", request, OF_REQUESTS).await?;
    Ok(Answer {
        refused: decided.refused && asked.refused,
        // As long as both held: what happened after the first answer is not known of it.
        ..decided
    })
}

/// Tries, without writing, to make an object in somebody else's name.
async fn forge(context: &Context, kind: &str, spec: Value, words: [&str; 2]) -> anyhow::Result<Answer> {
    let namespace = &context.settings.identities;
    let forged = json!({
        "apiVersion": "wayleave.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": FORGED, "namespace": namespace},
        "spec": spec,
    });
    let plural = format!("{}s", kind.to_lowercase());
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!(
            "/apis/wayleave.dev/v1alpha1/namespaces/{namespace}/{plural}?dryRun=All&fieldManager=wayleave"
        ))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&forged)?))?;
    let response = context.client.send(request).await?;
    let here = now();
    let at = date(response.headers()).unwrap_or(here);
    let status = response.status();
    let body = response.into_body().collect_bytes().await?;
    let body = String::from_utf8_lossy(&body);
    let refused = status.is_client_error() && words.iter().all(|words| body.contains(words));
    // Anything else but a yes says nothing about our policies: too many calls, a right that is missing, another policy's no.
    anyhow::ensure!(
        refused || status.is_success(),
        "a forged {kind} was answered with {status}"
    );
    Ok(Answer {
        refused,
        at,
        ahead: at.seconds_since(here),
    })
}
