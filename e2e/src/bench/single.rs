//! One grant alone, again and again: from the approval to the partner's first answer, and from the end to the first refusal.
//! Both are seen by the partner's own requests.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::runtime::wait::await_condition;

use super::field::{Field, Place, Set, token_of};
use super::meter::millis;
use super::ours::until;

/// How long before the end a partner begins to ask.
const BEFORE: SignedDuration = SignedDuration::from_millis(300);
/// Ends are this far apart, and the first is so far ahead.
const APART: i64 = 1;
const AHEAD: i64 = 5;

/// What was seen of grants alone, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Singles {
    /// From the approval, or the ruler's first call, to the partner's first answer.
    pub(super) usable: Vec<f64>,
    /// From the end, or the ruler's call, to the partner's first refusal.
    pub(super) refused: Vec<f64>,
}

/// Wayleave's: one after the other asked for, approved and used; then each ends at a second of its own.
pub(super) async fn singles(field: &Field<'_>, round: usize, count: usize) -> Result<Singles> {
    let mut seen = Singles::default();
    let mut live: Vec<(Set, Place, String)> = Vec::new();
    for number in 0..count {
        let set = field.ask(&format!("single-{round}-{number}"), 1, 0).await?;
        field.suspend(&set, false).await?;
        let waiting = field
            .wait_all(&set, "the wait for an approval", |grant| {
                grant["status"]["digest"].is_string()
                    && grant["status"]["conditions"].to_string().contains("AwaitingApproval")
            })
            .await?;
        let grant = waiting.first().context("nothing was asked for")?;
        super::meter::quiet(field.cp, super::field::patience(1)).await?;
        let place = set.grants[0].clone();
        let secrets: Api<Secret> = Api::namespaced(field.root.clone(), &place.namespace);
        let name = format!("{}-credential", place.name);
        let delivered =
            tokio::spawn(
                async move { await_condition(secrets, &name, |secret: Option<&Secret>| secret.is_some()).await },
            );
        let begun = Timestamp::now();
        field.approve(grant).await?;
        let secret = delivered.await??.context("the Secret is gone")?;
        let token = token_of(&secret)?;
        let usable = field.asks_until(&place.namespace, &token, false).await?;
        seen.usable.push(millis(begun, usable));
        live.push((set, place, token));
    }
    super::meter::quiet(field.cp, super::field::patience(1)).await?;
    let first = Timestamp::now().as_second() + AHEAD + i64::try_from(count / 20)?;
    let mut ends = Vec::new();
    for (number, (set, _, _)) in live.iter().enumerate() {
        let end = Timestamp::from_second(first + APART * i64::try_from(number)?)?;
        field.leaves_at(set, end).await?;
        ends.push(end);
    }
    for (end, (_, place, token)) in ends.iter().zip(&live) {
        until(end.checked_sub(BEFORE)?).await;
        let refused = field.asks_until(&place.namespace, token, true).await?;
        seen.refused.push(millis(*end, refused));
    }
    super::meter::quiet(field.cp, super::field::patience(count)).await?;
    for (set, _, _) in &live {
        field.remove(set).await?;
    }
    Ok(seen)
}
