//! What is lost ends the activation, and another begins under names that were never used; a binding is never put back.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{LIMIT, api, condition, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::tenant;

async fn lost(ns: &str, kind: &str) -> Result<()> {
    let tenant = tenant(ns).await?;
    let partner = tenant.live("reader", json!({})).await?;
    let before = tenant.get_grant("reader").await?;
    let namespace = match kind {
        "ServiceAccount" | "anchor" => IDENTITY_NAMESPACE,
        _ => &tenant.ns,
    };
    let wanted = |name: &str| match kind {
        "anchor" => name.ends_with("-g1"),
        "Secret" => name == "reader-credential",
        _ => name.starts_with("wlg-"),
    };
    let uid = text(&before["metadata"]["uid"]);
    let kind_of_api = if kind == "anchor" { "Secret" } else { kind };
    let objects = api(&tenant.root, kind_of_api, namespace);
    let all = objects.list(&ListParams::default()).await?;
    let of_grant = all.iter().filter(|it| {
        let annotations = it.metadata.annotations.clone().unwrap_or_default();
        annotations.get("wayleave.dev/grant-uid").is_some_and(|of| *of == uid)
    });
    let name = of_grant
        .filter_map(|it| it.metadata.name.clone())
        .find(|name| wanted(name));
    let name = name.unwrap_or_default();
    ensure!(!name.is_empty(), "no {kind} of the grant");
    objects.delete(&name, &DeleteParams::default()).await?;
    let ended = ended_and_waits(&tenant).await?;
    let said = text(&condition(&ended, "Active")["message"]);
    ensure!(said.contains("is gone") || said.contains("before its time"), "{said}");
    partner.refused_since(std::time::Instant::now()).await?;
    tenant.wait_nothing_left(&uid).await?;
    Ok(())
}

/// The activation is younger than a minute: the next one waits.
async fn ended_and_waits(tenant: &Tenant<'_>) -> Result<Value> {
    eventually("the activation to end", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        let waits = condition(&grant, "Active")["reason"] == "Issuing" && grant["status"]["notBefore"].is_string();
        Ok(waits.then_some(grant))
    })
    .await
}

#[tokio::test]
async fn a_lost_binding_ends_the_activation_and_the_next_has_another_name() -> Result<()> {
    lost("drift-binding", "RoleBinding").await?;
    let cluster = crate::cluster::cluster().await?;
    let root = cluster.cp.admin().await?;
    let grants = api(&root, "AccessGrant", "drift-binding");
    let next = eventually("the next activation", std::time::Duration::from_secs(75), || async {
        let grant = serde_json::to_value(grants.get("reader").await?)?;
        Ok((condition(&grant, "Active")["reason"] == "Issued").then_some(grant))
    })
    .await?;
    ensure!(next["status"]["identity"]["activation"] == 2);
    ensure!(text(&next["status"]["identity"]["serviceAccount"]).ends_with("-2"));
    Ok(())
}

#[tokio::test]
async fn a_lost_role_ends_the_activation() -> Result<()> {
    lost("drift-role", "Role").await
}

#[tokio::test]
async fn a_lost_identity_ends_the_activation() -> Result<()> {
    lost("drift-identity", "ServiceAccount").await
}

#[tokio::test]
async fn a_lost_anchor_ends_the_activation() -> Result<()> {
    lost("drift-anchor", "anchor").await
}

#[tokio::test]
async fn a_lost_delivery_ends_the_activation() -> Result<()> {
    lost("drift-delivery", "Secret").await
}

#[tokio::test]
async fn a_delivery_secret_that_lost_its_label_is_taken_away_by_its_record() -> Result<()> {
    let tenant = tenant("drift-label").await?;
    tenant.live("reader", json!({})).await?;
    let unlabelled = json!({"metadata": {"labels": {"wayleave.dev/managed": null}}});
    tenant.patch("Secret", "reader-credential", unlabelled).await?;
    ended_and_waits(&tenant).await?;
    let gone = api(&tenant.root, "Secret", &tenant.ns)
        .get_opt("reader-credential")
        .await?;
    ensure!(gone.is_none(), "the old credential is still there");
    Ok(())
}
