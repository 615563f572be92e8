//! A ClusterRole that is put together from others holds whatever they hold: it grows by somebody else's deed.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, api, condition, create, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{AGGREGATED, tenant};

const READER: &str = "reader";
/// What makes a ClusterRole a part of it.
const PART: &str = "e2e.example/part-of-aggregated";

/// A part, as whoever installs something brings it.
async fn part(tenant: &Tenant<'_>, name: &str, verb: &str) -> Result<()> {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]);
    let body = json!({"metadata": {"labels": {PART: "true"}}, "rules": rules});
    create(&tenant.root, "ClusterRole", "", name, body).await.map(drop)
}

/// Waits until the controller manager has put it together so that it holds this verb.
async fn holds(tenant: &Tenant<'_>, verb: &str) -> Result<()> {
    eventually(&format!("the ClusterRole to hold {verb}"), LIMIT, || async {
        let role = api(&tenant.root, "ClusterRole", "").get(AGGREGATED).await?;
        let rules = role.data["rules"].as_array().cloned().unwrap_or_default();
        let held = |rule: &Value| {
            rule["verbs"]
                .as_array()
                .is_some_and(|verbs| verbs.contains(&json!(verb)))
        };
        Ok(rules.iter().any(held).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_role_that_another_role_adds_to_has_grown() -> Result<()> {
    let tenant = tenant("role-aggregated").await?;
    let selected = json!({"clusterRoleSelectors": [{"matchLabels": {PART: "true"}}]});
    let role = json!({"aggregationRule": selected, "rules": []});
    create(&tenant.root, "ClusterRole", "", AGGREGATED, role).await?;
    part(&tenant, "aggregated-first-part", "get").await?;
    holds(&tenant, "get").await?;
    let allowed = json!({"spec": {"access": {"clusterRoles": [AGGREGATED], "rules": null}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, allowed)
        .await?;
    let access = json!([{"clusterRoleRef": {"name": AGGREGATED}}]);
    let partner = tenant.live(READER, json!({"access": access})).await?;
    let uid = text(&tenant.get_grant(READER).await?["metadata"]["uid"]);

    part(&tenant, "aggregated-second-part", "list").await?;
    holds(&tenant, "list").await?;
    // How long the controller manager takes is not ours.
    partner.refused_since(Instant::now()).await?;
    let grew = tenant.wait_reason(READER, "RoleGrew").await?;
    let said = text(&condition(&grew, "Active")["message"]);
    let words = format!("ClusterRole {AGGREGATED} holds more than was approved: list configmaps");
    ensure!(said.starts_with(&words), "{said}");
    ensure!(condition(&grew, "Stalled")["status"] == "True", "{grew}");
    tenant.wait_nothing_left(&uid).await?;

    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    tenant.partner(READER).await?.answered().await
}
