//! What a static credential is refused for, in words; and what it never gets without an approval.

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::legacy::{TOKEN, by_legacy, legacy, permit};
use wayleave_e2e::tenant::{create, enrolment, merge, text};

use crate::cluster::{cluster, tenant};
use crate::refusals::{is_told, rule, two_hours};

const READER: &str = "reader";
const NS: &str = "static-rules";
const OTHER: &str = "static-rules-other";
const AT_ONCE: usize = 4;
const RBAC: &str = "rbac.authorization.k8s.io";

fn controls() -> Value {
    json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false})
}

/// Waits until that alone is said against a grant that nobody approved, and nothing is made for it.
async fn refused(tenant: &Tenant<'_>, name: &str, words: &str) -> Result<()> {
    let words = format!("{words}; 1 approval asked for");
    is_told(tenant, name, "NotPermitted", &words).await?;
    let uid = text(&tenant.get_grant(name).await?["metadata"]["uid"]);
    let made = tenant.children(&uid).await?;
    ensure!(made.is_empty(), "{name}: {made:?}");
    Ok(())
}

#[tokio::test]
async fn whatever_policies_permit_it_leads_out_of_nothing() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, NS).await?;
    let root = &tenant.root;
    legacy(&tenant).await?;
    let labels = json!({"metadata": {"labels": {"tenant": NS}}});
    create(root, "Namespace", "", OTHER, labels).await?;
    create(root, "RoleBinding", OTHER, "enrolment", enrolment("wayleave-enrolment")).await?;
    let at = "spec.access[0].rules[0]: ";
    let hands_on = format!("{at}writing roles and bindings is never granted to a static credential");
    let beyond = json!({"rules": [rule("", "configmaps", &["get"], &["feed"])], "namespaces": [NS, OTHER]});
    let of = |rule: Value| json!({"rules": [rule]});
    let rows = [
        (
            "beyond",
            json!({}),
            beyond,
            "spec.credential.static: reaches other namespaces, the grant's own namespace only".to_owned(),
        ),
        (
            "roles",
            json!({}),
            of(rule(RBAC, "roles", &["update"], &[])),
            hands_on.clone(),
        ),
        (
            "bindings",
            json!({}),
            of(rule(RBAC, "rolebindings", &["patch"], &["any"])),
            hands_on,
        ),
        (
            "token",
            json!({}),
            of(rule("", "secrets", &["get"], &[TOKEN])),
            format!("{at}the Secret {TOKEN} in namespace {NS} delivers a credential and is never granted"),
        ),
        (
            "grace",
            json!({"review": {"interval": "20d", "grace": "25d"}}),
            of(rule("", "configmaps", &["get"], &["feed"])),
            format!("integration spec.review.grace: 25d, at most 20d (policy {NS})"),
        ),
    ];
    let ceiling = [
        rule("", "configmaps", &["get"], &[]),
        rule("", "secrets", &["get"], &[]),
        rule(RBAC, "roles", &["update"], &[]),
        rule(RBAC, "rolebindings", &["patch"], &[]),
    ];
    let access = json!({"rules": ceiling, "targetNamespaces": {"matchLabels": {"tenant": NS}}});
    tenant
        .patch_as(root, "AccessPolicy", "", NS, json!({"spec": {"access": access}}))
        .await?;
    permit(&tenant, controls()).await?;
    let ask = async |name: &'static str, integration: Value, access: Value| {
        tenant.integration(name, integration).await?;
        let mut grant = by_legacy();
        merge(
            &mut grant,
            json!({"integrationRef": {"name": name}, "access": [access]}),
        );
        tenant.grant(name, grant).await.map(drop)
    };
    stream::iter(&rows)
        .map(|(name, integration, access, _)| ask(name, integration.clone(), access.clone()))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    for (name, _, _, words) in &rows {
        refused(&tenant, name, words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lax_policy_beside_a_strict_one_loosens_no_control() -> Result<()> {
    let tenant = tenant("static-lax").await?;
    let partner = legacy(&tenant).await?;
    permit(&tenant, controls()).await?;
    let mut strict = tenant.policy();
    merge(
        &mut strict,
        json!({"credentials": ["Static"], "staticCredentials": {"duration": "1h", "reviewInterval": "30d"}}),
    );
    let name = "a-strict-policy-on-static-credentials";
    create(&tenant.root, "AccessPolicy", "", name, json!({ "spec": strict })).await?;
    let mut grant = by_legacy();
    grant["credential"]["static"]["replacement"] = Value::Null;
    merge(&mut grant, two_hours()?);
    tenant.grant(READER, grant).await?;
    let words = [
        "spec.expiresAt: 2h after the start, at most 1h",
        "integration spec.review.interval: 90d, at most 30d",
        "integration spec.allowedSources: empty, addresses are required of a static credential",
        "spec.credential.static.replacement: missing, what replaces a static credential is required",
    ]
    .map(|words| format!("{words} (policy {name})"))
    .join("; ");
    refused(&tenant, READER, &words).await?;

    // One that permits none at all: the other's controls make up for nothing.
    let none = json!({"spec": {"credentials": ["Token"], "staticCredentials": null}});
    tenant.patch_as(&tenant.root, "AccessPolicy", "", name, none).await?;
    let replaced = json!({"spec": by_legacy()});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, replaced)
        .await?;
    let words = format!(
        "spec.credential.type: Static is not among credentials (policy {name}); \
         spec.credential.type: Static needs staticCredentials, the compensating controls (policy {name})"
    );
    refused(&tenant, READER, &words).await?;
    tenant.approve(READER, json!({})).await?;
    ensure!(partner.read().await? == 403, "approved, and not permitted");
    Ok(())
}

#[tokio::test]
async fn self_service_gives_a_static_credential_nothing() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "static-self-service").await?;
    let partner = legacy(&tenant).await?;
    let labels = json!({"metadata": {"labels": {"wayleave.dev/classification": "Internal"}}});
    tenant
        .patch_as(&tenant.root, "Namespace", "", &tenant.ns, labels)
        .await?;
    permit(&tenant, controls()).await?;
    let self_service = json!({"spec": {"selfService": true}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, self_service)
        .await?;
    tenant
        .integration("acme", json!({"dataClassification": "Public"}))
        .await?;
    tenant.grant(READER, by_legacy()).await?;
    // The same by a token is had without asking.
    tenant.grant("by-token", json!({})).await?;
    tenant.wait_reason("by-token", "Issued").await?;
    tenant.partner("by-token").await?.answered().await?;
    is_told(&tenant, READER, "AwaitingApproval", "1 approval of security asked for").await?;
    ensure!(partner.read().await? == 403, "given without an approval");
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    partner.answered().await
}
