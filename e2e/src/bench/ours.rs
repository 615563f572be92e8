//! What Wayleave makes of a set: issued all at once, rotated, ended in one instant. Told from the audit log afterwards, whose
//! writing is the same for the ruler: nothing of ours asks anything while it is measured, a few partners apart.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::field::{Field, Set, each, patience};
use super::meter::{Calls, cpu_seconds, grants_with, millis, number, quiet, wait_grants};
use super::report::quantile;
use crate::audit::Mark;
use crate::operator::Operator;
use crate::tenant::api;

/// So many partners of a set go on asking while it ends: enough to see that the audit log tells the truth, and few enough
/// not to be in the way.
const PARTNERS: usize = 4;
/// How often each of them asks.
const ASKS_EVERY: Duration = Duration::from_millis(10);

/// How a set was issued.
pub(super) struct Issued {
    /// From the release to the last status.
    pub(super) per_second: f64,
    /// From the release to the last binding.
    pub(super) usable_per_second: f64,
    pub(super) cpu_per_grant: f64,
    pub(super) calls: Calls,
}

/// How a set ended.
pub(super) struct Ended {
    /// From the instant to each binding's deletion, in milliseconds.
    pub(super) denied_after: Vec<f64>,
    /// From the instant to each sampled partner's first refusal.
    pub(super) refused_after: Vec<f64>,
    pub(super) calls: Calls,
    /// What was called while bindings were still to go.
    pub(super) meanwhile: Calls,
}

impl Ended {
    pub(super) fn per_second(&self) -> f64 {
        let last = quantile(&self.denied_after, 1.0).unwrap_or(f64::INFINITY);
        number(self.denied_after.len()) / last * 1_000.0
    }

    pub(super) fn quantile(&self, share: f64) -> Result<f64> {
        quantile(&self.denied_after, share).context("nothing ended")
    }

    pub(super) fn last_refused(&self) -> Result<f64> {
        quantile(&self.refused_after, 1.0).context("no partner was asked")
    }
}

/// Releases an approved set and waits until all of it is issued.
pub(super) async fn issue(field: &Field<'_>, operator: &Operator, set: &Set) -> Result<Issued> {
    let before = grants_with(operator, "Issued").await?;
    let (mark, cpu) = (field.cp.audit()?.mark()?, cpu_seconds(operator)?);
    let begun = field.suspend(set, false).await?;
    let count = set.grants.len();
    wait_grants(operator, "Issued", before + count, patience(count)).await?;
    quiet(field.cp, patience(count)).await?;
    let calls = Calls::since(field.cp, mark)?;
    let bindings = calls.times("create rolebindings");
    ensure!(bindings.len() == count, "{} bindings of {count} grants", bindings.len());
    let usable = bindings.last().copied().context("nothing was issued")?;
    let statuses = calls.times("patch accessgrants/status");
    let told = statuses.last().copied().context("no status was written")?;
    Ok(Issued {
        per_second: number(count) / millis(begun, told) * 1_000.0,
        usable_per_second: number(count) / millis(begun, usable) * 1_000.0,
        cpu_per_grant: (cpu_seconds(operator)? - cpu) / number(count),
        calls,
    })
}

/// Asks for another credential for each grant of a set; gives the operator's calls.
pub(super) async fn rotate(field: &Field<'_>, set: &Set) -> Result<Calls> {
    let mark = field.cp.audit()?.mark()?;
    let asked = &json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
    each(&set.grants, |place| async move {
        let api = api(&field.carol, "AccessGrant", &place.namespace);
        let patched = api
            .patch(&place.name, &PatchParams::default(), &Patch::Merge(asked))
            .await;
        patched.map(drop).context("asking for a rotation")
    })
    .await?;
    field
        .wait_all(set, "the second credentials", |grant| {
            grant["status"]["credential"]["deliveredGeneration"] == 2
        })
        .await?;
    quiet(field.cp, patience(set.grants.len())).await?;
    Calls::since(field.cp, mark)
}

/// Has the owner of a set leave at an instant, which is far enough ahead for every status to say so, and gives that instant.
pub(super) async fn doom(field: &Field<'_>, set: &Set) -> Result<Timestamp> {
    let count = set.grants.len();
    let lead = 5 + i64::try_from(count / 40)?;
    let at = Timestamp::from_second(Timestamp::now().as_second() + lead)?;
    field.leaves_at(set, at).await?;
    field
        .wait_all(set, "every end to be known", |grant| {
            grant["status"]["activeUntil"] == at.to_string()
        })
        .await?;
    quiet(field.cp, patience(count)).await?;
    let left = millis(Timestamp::now(), at);
    ensure!(
        left > 0.0,
        "it took {lead} s until {count} statuses knew of an end: this machine is too busy for so many"
    );
    Ok(at)
}

/// Partners of a set who ask until they are refused, from now on.
pub(super) struct Partners<'f> {
    field: &'f Field<'f>,
    tokens: Vec<(String, String)>,
}

impl<'f> Partners<'f> {
    /// Some of a set, which is issued.
    pub(super) async fn of(field: &'f Field<'f>, set: &Set) -> Result<Self> {
        let step = set.grants.len().div_ceil(PARTNERS).max(1);
        let mut tokens = Vec::new();
        for place in set.grants.iter().step_by(step) {
            let token = field.token(place).await?;
            ensure!(
                field.asks(&place.namespace, &token).await? == 200,
                "a partner is refused before the end"
            );
            tokens.push((place.namespace.clone(), token));
        }
        Ok(Self { field, tokens })
    }

    /// When each was refused first.
    pub(super) async fn refused(&self) -> Result<Vec<Timestamp>> {
        futures::stream::iter(&self.tokens)
            .map(|(namespace, token)| async move {
                let mut tick = tokio::time::interval(ASKS_EVERY);
                loop {
                    tick.tick().await;
                    if matches!(self.field.asks(namespace, token).await?, 401 | 403) {
                        return anyhow::Ok(Timestamp::now());
                    }
                }
            })
            .buffer_unordered(PARTNERS)
            .try_collect()
            .await
    }
}

/// Waits for an instant of the wall clock.
pub(super) async fn until(at: Timestamp) {
    let left = at.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left.max(SignedDuration::ZERO)).unwrap_or_default()).await;
}

/// Waits until a set has ended for its owner's going, which was at `at`; `mark` was set before.
pub(super) async fn ended(
    field: &Field<'_>,
    operator: &Operator,
    set: &Set,
    at: Timestamp,
    mark: Mark,
    partners: &Partners<'_>,
) -> Result<Ended> {
    let count = set.grants.len();
    let refused = tokio::time::timeout(patience(count), partners.refused());
    let refused = refused.await.context("a partner was never refused")??;
    wait_grants(operator, "OwnerRemoved", count, patience(count)).await?;
    quiet(field.cp, patience(count)).await?;
    let calls = Calls::since(field.cp, mark)?;
    let bindings = calls.times("delete rolebindings");
    ensure!(bindings.len() == count, "{} bindings of {count} went", bindings.len());
    let last = bindings.last().copied().context("nothing ended")?;
    let meanwhile = calls.until(last);
    Ok(Ended {
        meanwhile,
        denied_after: bindings.into_iter().map(|gone| millis(at, gone)).collect(),
        refused_after: refused.into_iter().map(|refused| millis(at, refused)).collect(),
        calls,
    })
}
