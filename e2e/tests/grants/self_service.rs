//! Self-service: what only reads, and no Secrets, needs no approval where the namespace's own label says that its data is mild.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::tenant::{condition, text};

use crate::cluster::{cluster, tenant};

/// A tenant under self-service, in a namespace with this label or none, whose requester declares `declared`.
async fn under_self_service(ns: &str, label: Option<&str>, declared: &str) -> Result<Tenant<'static>> {
    let tenant = Tenant::without_integration(cluster().await?.cp, ns).await?;
    classify(&tenant, label).await?;
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["rates"]});
    let configmaps = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "update"]});
    let policy = json!({"spec": {"selfService": true, "access": {"rules": [configmaps, secrets]}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, policy)
        .await?;
    tenant
        .integration("acme", json!({"dataClassification": declared}))
        .await?;
    Ok(tenant)
}

async fn classify(tenant: &Tenant<'_>, label: Option<&str>) -> Result<()> {
    let labels = json!({"metadata": {"labels": {"wayleave.dev/classification": label}}});
    tenant
        .patch_as(&tenant.root, "Namespace", "", &tenant.ns, labels)
        .await?;
    Ok(())
}

/// Access that is not mild waits for an approval, and an approval is all that it lacks.
async fn needs_approval(tenant: &Tenant<'_>, access: Value, then: &str) -> Result<()> {
    let grant = tenant.grant("reader", json!({"access": access})).await?;
    let waiting = tenant.wait_reason("reader", "AwaitingApproval").await?;
    let said = text(&condition(&waiting, "Active")["message"]);
    ensure!(said.contains("1 approval of security asked for"), "{said}");
    let left = tenant.children(&text(&grant["metadata"]["uid"])).await?;
    ensure!(left.is_empty(), "made before it was approved: {left:?}");
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", then).await?;
    Ok(())
}

fn reading() -> Value {
    json!([{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]}])
}

#[tokio::test]
async fn reading_what_is_internal_needs_no_approval_until_it_is_no_longer() -> Result<()> {
    let tenant = under_self_service("self-service", Some("Internal"), "Public").await?;
    tenant.grant("reader", json!({"access": reading()})).await?;
    let issued = tenant.wait_reason("reader", "Issued").await?;
    ensure!(issued["status"]["approvals"].is_null(), "{}", issued["status"]);
    let partner = tenant.partner("reader").await?;
    partner.answered().await?;

    let cause = Instant::now();
    classify(&tenant, Some("Confidential")).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    classify(&tenant, Some("Public")).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let partner = tenant.partner("reader").await?;
    let cause = Instant::now();
    classify(&tenant, None).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn what_the_requester_declares_does_not_make_it_mild() -> Result<()> {
    for (ns, label) in [
        ("self-service-confidential", Some("Confidential")),
        ("self-service-unlabelled", None),
        ("self-service-misspelt", Some("internal")),
    ] {
        let tenant = under_self_service(ns, label, "Public").await?;
        needs_approval(&tenant, reading(), "Issued").await?;
    }
    // Nor does the label, where the requester knows better.
    let tenant = under_self_service("self-service-declared", Some("Internal"), "Confidential").await?;
    needs_approval(&tenant, reading(), "Issued").await
}

#[tokio::test]
async fn writing_and_secrets_need_approval_anywhere() -> Result<()> {
    let rule = |resource: &str, verb: &str, name: &str| json!([{"rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb], "resourceNames": [name]}]}]);
    for (ns, access) in [
        ("self-service-writing", rule("configmaps", "update", "feed")),
        ("self-service-secrets", rule("secrets", "get", "rates")),
    ] {
        let tenant = under_self_service(ns, Some("Internal"), "Public").await?;
        // The policy permits it, an approval lets it through, and then the operator was not given it.
        needs_approval(&tenant, access, "CeilingExceeded").await?;
    }
    Ok(())
}

#[tokio::test]
async fn self_service_is_what_every_policy_says() -> Result<()> {
    let tenant = tenant("self-service-strict").await?;
    classify(&tenant, Some("Internal")).await?;
    let public = json!({"spec": {"dataClassification": "Public"}});
    tenant
        .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", public)
        .await?;
    tenant.grant("reader", json!({})).await?;
    let mut lax = tenant.policy();
    lax["selfService"] = json!(true);
    let name = format!("{}-lax", tenant.ns);
    wayleave_e2e::tenant::create(&tenant.root, "AccessPolicy", "", &name, json!({"spec": lax})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    tenant.delete("AccessPolicy", "", &tenant.ns).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}
