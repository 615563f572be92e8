//! Reasons that are left again: what is mended gives access again, on a new approval where the old one is void.

use anyhow::{Result, ensure};
use serde_json::json;
use wayleave_e2e::Tenant;
use wayleave_e2e::tenant::{condition, in_seconds, text};

use crate::cluster::{cluster, tenant};

const READER: &str = "reader";

/// Access is back, under another identity where there was one.
async fn is_back(tenant: &Tenant<'_>) -> Result<()> {
    tenant.wait_reason(READER, "Issued").await?;
    tenant.partner(READER).await?.answered().await
}

#[tokio::test]
async fn an_integration_that_is_no_longer_suspended_needs_no_new_approval() -> Result<()> {
    let tenant = tenant("returns-integration").await?;
    let old = tenant.live(READER, json!({})).await?;
    let suspend = |suspended: bool| json!({"spec": {"suspend": suspended}});
    tenant.patch("PartnerIntegration", "acme", suspend(true)).await?;
    let grant = tenant.wait_reason(READER, "IntegrationSuspended").await?;
    ensure!(condition(&grant, "Approved")["status"] == "True", "{grant}");
    tenant.patch("PartnerIntegration", "acme", suspend(false)).await?;
    is_back(&tenant).await?;
    ensure!(old.read().await? != 200, "the old credential works again");
    old.wait_unauthorized().await
}

#[tokio::test]
async fn a_revoke_is_outdone_by_an_approval_after_it_alone() -> Result<()> {
    let tenant = tenant("returns-revoked").await?;
    tenant.live(READER, json!({})).await?;
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let revoked = tenant.wait_reason(READER, "Revoked").await?;
    // Deleted and asked for again: the Revoke is of the name.
    tenant.delete("AccessGrant", &tenant.ns, READER).await?;
    let grants = wayleave_e2e::tenant::api(&tenant.root, "AccessGrant", &tenant.ns);
    wayleave_e2e::eventually("the grant to be gone", wayleave_e2e::tenant::LIMIT, || async {
        Ok(grants.get_opt(READER).await?.is_none().then_some(()))
    })
    .await?;
    tenant.grant(READER, json!({})).await?;
    let again = tenant.wait_reason(READER, "Revoked").await?;
    ensure!(text(&again["metadata"]["uid"]) != text(&revoked["metadata"]["uid"]));
    // Of the second of the Revoke, nobody can tell which came first.
    let at = text(&again["status"]["revokedAt"]);
    wayleave_e2e::eventually(
        "the second of the Revoke to pass",
        wayleave_e2e::tenant::LIMIT,
        || async { Ok((in_seconds(0) > at).then_some(())) },
    )
    .await?;
    tenant.approve(READER, json!({})).await?;
    is_back(&tenant).await
}

#[tokio::test]
async fn an_owner_who_is_replaced_gives_it_back_on_a_new_approval() -> Result<()> {
    let tenant = tenant("returns-owner").await?;
    tenant.live(READER, json!({})).await?;
    tenant.delete("AccessOwner", "", &tenant.owner_name("bob")).await?;
    let removed = tenant.wait_reason(READER, "OwnerRemoved").await?;
    ensure!(condition(&removed, "Ready")["status"] == "True", "{removed}");
    tenant.owner("frank").await?;
    let handover = json!({"spec": {"owners": {"technicalRef": {"name": tenant.owner_name("frank")}}}});
    tenant
        .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", handover)
        .await?;
    let waiting = tenant.wait_reason(READER, "AwaitingApproval").await?;
    ensure!(
        text(&condition(&waiting, "Active")["message"]).contains("owners"),
        "the changed section is not named: {waiting}"
    );
    let at = text(&waiting["status"]["ownerRemovedAt"]);
    wayleave_e2e::eventually(
        "the second of the removal to pass",
        wayleave_e2e::tenant::LIMIT,
        || async { Ok((in_seconds(0) > at).then_some(())) },
    )
    .await?;
    tenant.approve(READER, json!({})).await?;
    is_back(&tenant).await
}

#[tokio::test]
async fn an_agreement_that_ended_and_is_renewed_gives_access_on_a_new_approval() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "returns-agreement").await?;
    let ended = json!({"agreement": {"endsAt": in_seconds(-60)}});
    tenant.integration("acme", ended).await?;
    tenant.grant(READER, json!({})).await?;
    let grant = tenant.wait_reason(READER, "AgreementEnded").await?;
    let said = text(&condition(&grant, "Ready")["message"]);
    ensure!(said.contains("CTR-2026-114"), "{said}");
    let renewed = json!({"spec": {"agreement": {"endsAt": in_seconds(86_400)}}});
    tenant
        .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", renewed)
        .await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    tenant.approve(READER, json!({})).await?;
    is_back(&tenant).await
}

#[tokio::test]
async fn an_expired_grant_that_is_prolonged_gives_access_on_a_new_approval() -> Result<()> {
    let tenant = tenant("returns-expired").await?;
    tenant.grant(READER, json!({"expiresAt": in_seconds(-60)})).await?;
    tenant.approve(READER, json!({})).await?;
    let grant = tenant.wait_reason(READER, "Expired").await?;
    let said = text(&condition(&grant, "Ready")["message"]);
    ensure!(said.contains("spec.expiresAt"), "the field is not named: {said}");
    let longer = json!({"spec": {"expiresAt": in_seconds(7_200)}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, longer)
        .await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    tenant.approve(READER, json!({})).await?;
    is_back(&tenant).await
}
