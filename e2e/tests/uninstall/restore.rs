//! The store is put back to an earlier day: one start of the operator makes right what can be known.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::install::wait_installed;
use wayleave_e2e::tenant::{LIMIT, api, in_seconds, text};
use wayleave_e2e::{Tenant, eventually};

use crate::stage::{READER, Stage};

/// The partner reads what was granted, once the API server's authorizer knows what was restored.
async fn reads(partner: &wayleave_e2e::tenant::Partner) -> Result<()> {
    eventually("the partner to read", LIMIT, || async {
        let code = partner.read().await?;
        ensure!(code == 200, "answered with {code}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn after_a_restore_one_start_makes_right_what_can_be_known() -> Result<()> {
    let stage = Stage::new().await?;
    let end = in_seconds(150);
    let expired = stage.tenant("expired").await?;
    let expired_partner = expired.live(READER, json!({"expiresAt": end})).await?;
    let rotated = stage.tenant("rotated").await?;
    let first_token = rotated.live(READER, json!({})).await?;
    let deleted = stage.tenant("deleted").await?;
    let deleted_partner = deleted.live(READER, json!({})).await?;
    let revoked = stage.tenant("revoked").await?;
    let revoked_partner = revoked.live(READER, json!({})).await?;
    let ended = stage.tenant("ended").await?;
    let ended_partner = ended.live(READER, json!({})).await?;
    ended.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    ended.wait_reason(READER, "Revoked").await?;
    let foreign = stage.foreign().await?;

    stage.operator.kill()?;
    let copy = stage.cp.snapshot().await?;
    wait_installed(&stage.cp).await?;
    stage.operator.start_again()?;
    stage.operator.wait_ready().await?;

    // What happens since, the restored store knows nothing of.
    let since = stage.tenant("since").await?;
    let since_partner = since.live(READER, json!({})).await?;
    let asked = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
    rotated.patch("AccessGrant", READER, asked).await?;
    eventually("the rotation", LIMIT, || async {
        let grant = rotated.get_grant(READER).await?;
        Ok((grant["status"]["credential"]["deliveredGeneration"] == 2).then_some(()))
    })
    .await?;
    let second_token = rotated.partner(READER).await?;
    reads(&second_token).await?;
    deleted.delete("AccessGrant", "deleted", READER).await?;
    revoked.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    revoked.wait_reason(READER, "Revoked").await?;
    deleted_partner.wait_unauthorized().await?;
    let last: Timestamp = end.parse()?;
    let left = std::time::Duration::try_from(last.duration_since(Timestamp::now())).unwrap_or_default();
    eventually("the end to pass", left + LIMIT, || async {
        Ok((Timestamp::now() > last).then_some(()))
    })
    .await?;
    expired.wait_reason(READER, "Expired").await?;
    stage.operator.kill()?;

    stage.cp.restore(&copy).await?;
    // Nobody has looked yet: whoever was let in then is let in again.
    reads(&expired_partner).await.context("the binding of then is back")?;
    let cause = Instant::now();
    stage.operator.start_again()?;
    eventually("the restored binding of an expired grant to go", LIMIT, || async {
        let code = expired_partner.read().await?;
        ensure!(code == 403 || code == 401, "answered with {code}");
        Ok(Some(()))
    })
    .await?;
    wayleave_e2e::progress(&format!("closed {:?} after the operator's start", cause.elapsed()));
    stage.operator.wait_ready().await?;
    expired.wait_reason(READER, "Expired").await?;
    let uid = |grant: &serde_json::Value| text(&grant["metadata"]["uid"]);
    expired
        .wait_nothing_left(&uid(&expired.get_grant(READER).await?))
        .await?;
    for partner in [&expired_partner, &ended_partner] {
        partner.wait_unauthorized().await?;
    }
    // Tokens of since are bound to what does not exist.
    for partner in [&since_partner, &second_token] {
        partner.wait_unauthorized().await?;
    }
    ensure!(api(&stage.root, "Namespace", "").get_opt("since").await?.is_none());

    // What was in order then is in order, and its status says what is there.
    wait_installed(&stage.cp).await?;
    let grant = rotated.wait_reason(READER, "Issued").await?;
    ensure!(grant["status"]["credential"]["deliveredGeneration"] == 1, "{grant}");
    reads(&first_token).await?;
    ensure!(stage.foreign().await? == foreign, "something of others was touched");
    let ended_grant = ended.wait_reason(READER, "Revoked").await?;
    ended.wait_nothing_left(&uid(&ended_grant)).await?;

    // A Revoke and a deletion of since are lost with the store: nothing can know of them. They are done again.
    for partner in [&revoked_partner, &deleted_partner] {
        reads(partner).await.context("what the store forgot")?;
    }
    revoked.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let grants = api(&stage.root, "AccessGrant", "deleted");
    grants.delete(READER, &DeleteParams::default()).await?;
    for partner in [&revoked_partner, &deleted_partner] {
        partner.wait_unauthorized().await?;
    }
    // A credential of then is replaced on request, as all of them should be after a restore.
    rotate_anew(&rotated).await?;
    first_token.wait_unauthorized().await?;
    second_token.wait_unauthorized().await?;
    reads(&rotated.partner(READER).await?).await
}

async fn rotate_anew(tenant: &Tenant<'_>) -> Result<()> {
    let asked = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "after the restore"}}});
    tenant.patch("AccessGrant", READER, asked).await?;
    eventually("the rotation", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok((grant["status"]["credential"]["deliveredGeneration"] == 2).then_some(()))
    })
    .await
}
