//! A ClusterRole that changes under a policy which has its growth reported: access goes on, and what is other than it was
//! approved is told.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, condition, create, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{REPORTED, tenant};
use crate::refusals::rule;

const READER: &str = "reader";

async fn holds(tenant: &Tenant<'_>, rules: Value) -> Result<()> {
    let role = json!({ "rules": rules });
    let changed = tenant.patch_as(&tenant.root, "ClusterRole", "", REPORTED, role).await;
    changed.map(drop)
}

/// Waits until the grant says just that of its ClusterRole, or nothing of it; it is issued all the while.
async fn told(tenant: &Tenant<'_>, words: &str) -> Result<()> {
    eventually("the change to be told", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let (active, found) = (condition(&grant, "Active"), condition(&grant, "RolesChanged"));
        ensure!(active["status"] == "True" && active["reason"] == "Issued", "{active}");
        ensure!(
            condition(&grant, "Ready")["status"] == "True" && condition(&grant, "Stalled").is_null(),
            "{grant}"
        );
        ensure!(text(&found["message"]) == words, "{found}");
        let is_told = found["status"] == "True" && found["reason"] == "Found";
        ensure!(is_told || words.is_empty(), "{found}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn what_a_role_holds_more_or_less_is_told_where_growth_is_reported() -> Result<()> {
    let tenant = tenant("role-reported").await?;
    let one = rule("", "configmaps", &["get"], &[]);
    let role = json!({"rules": [one]});
    create(&tenant.root, "ClusterRole", "", REPORTED, role).await?;
    let access = json!({"clusterRoles": [REPORTED], "rules": null, "onRoleGrowth": "Report"});
    let policy = json!({"spec": {"access": access}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, policy)
        .await?;
    let access = json!([{"clusterRoleRef": {"name": REPORTED}}]);
    let partner = tenant.live(READER, json!({"access": access})).await?;
    told(&tenant, "").await?;
    let before = tenant.get_grant(READER).await?;

    holds(&tenant, json!([rule("", "configmaps", &["get", "list"], &[])])).await?;
    let grown = format!("ClusterRole {REPORTED} holds more than was approved: list configmaps");
    told(&tenant, &grown).await?;
    ensure!(partner.read().await? == 200, "it was only to be reported");

    holds(&tenant, json!([rule("", "configmaps", &["get"], &["feed"])])).await?;
    let shrunk = format!("ClusterRole {REPORTED} holds less than was approved: get configmaps");
    told(&tenant, &shrunk).await?;
    ensure!(partner.read().await? == 200);

    let both = json!([
        rule("", "configmaps", &["list"], &[]),
        rule("", "configmaps", &["get"], &["feed"])
    ]);
    holds(&tenant, both).await?;
    told(&tenant, &format!("{grown}; {shrunk}")).await?;
    let after = tenant.get_grant(READER).await?;
    ensure!(
        after["status"]["identity"] == before["status"]["identity"],
        "another activation: {}",
        after["status"]["identity"]
    );
    // Approved as it is by now, there is nothing left to tell.
    tenant.approve(READER, json!({})).await?;
    told(&tenant, "").await?;
    ensure!(partner.read().await? == 200);
    // A policy beside it that has growth end grants: the stricter one counts.
    holds(&tenant, json!([rule("", "configmaps", &["get", "list"], &[])])).await?;
    told(
        &tenant,
        &format!("ClusterRole {REPORTED} holds more than was approved: get configmaps"),
    )
    .await?;
    let mut strict = tenant.policy();
    strict["access"] = json!({"clusterRoles": [REPORTED]});
    let cause = std::time::Instant::now();
    let name = format!("{}-strict", tenant.ns);
    create(&tenant.root, "AccessPolicy", "", &name, json!({"spec": strict})).await?;
    partner.refused_since(cause).await?;
    let grew = tenant.wait_reason(READER, "RoleGrew").await?;
    let said = text(&condition(&grew, "Active")["message"]);
    ensure!(
        said.starts_with(&format!(
            "ClusterRole {REPORTED} holds more than was approved: get configmaps; approve again, or shrink it"
        )),
        "{said}"
    );
    Ok(())
}
