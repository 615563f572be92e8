//! Whoever decides on a grant of a ClusterRole sees what that holds, or is told that it could not be read.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::plugin::has;
use wayleave_e2e::tenant::create;

use super::{RBAC, User, cluster, dave};

/// A ClusterRole of this test, which the operator may bind.
pub const READER: &str = "cli-reader";

/// Approves like dave, and may read ClusterRoles.
const ERIN: &str = "erin@corp.example";

fn rules(resource: &str, verbs: &[&str]) -> Value {
    json!({"rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]})
}

async fn change(tenant: &Tenant<'_>, kind: &str, name: &str, patch: Value) -> Result<()> {
    tenant.patch_as(&tenant.root, kind, "", name, patch).await.map(drop)
}

#[tokio::test]
async fn what_a_cluster_role_holds_is_shown_and_what_became_of_it() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = Tenant::new(&cluster().await?.cp, "cli-roles").await?;
    let (root, ns) = (&tenant.root, tenant.ns.as_str());
    create(root, "ClusterRole", "", READER, rules("configmaps", &["get"])).await?;
    let allowed =
        |growth: &str| json!({"spec": {"access": {"clusterRoles": [READER], "rules": null, "onRoleGrowth": growth}}});
    change(&tenant, "AccessPolicy", ns, allowed("Report")).await?;
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "wayleave-explainer"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": ERIN}],
    });
    create(root, "ClusterRoleBinding", "", "cli-roles-explainers", binding).await?;
    let access = json!([{"clusterRoleRef": {"name": READER}}]);
    tenant.grant("reader", json!({"access": access})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;

    let (dave, erin) = (dave().await?, User::new(ERIN, &["security"]).await?);
    let approve = ["approve", "reader", "-n", ns, "--reason", "reads ConfigMaps"];
    has(
        &dave.fails(&approve, 1).await?,
        &[
            "  access      ClusterRole cli-reader in cli-roles\n",
            "  role        cli-reader: its rules could not be read, so what it gives is not known here",
        ],
    )?;
    let done = erin.works(&[&approve[..], &["--yes"]].concat()).await?;
    let held = "  role        cli-reader holds now:\n              get configmaps (core)\n";
    has(
        &done.stderr,
        &["  access      ClusterRole cli-reader in cli-roles\n", held],
    )?;
    tenant.wait_reason("reader", "Issued").await?;

    let certify = [
        "certify",
        "acme",
        "-n",
        ns,
        "--reason",
        "Q4",
        "--keep",
        "reader",
        "--dry-run",
    ];
    let kept = "  role        cli-reader held, when it was approved (you may not read what it holds now):\n              \
                get configmaps (core)\n";
    has(&dave.works(&certify).await?.stderr, &["  state       Issued\n", kept])?;
    let same = erin.works(&certify).await?.stderr;
    has(&same, &[held])?;
    ensure!(!same.contains("grew") && !same.contains("shrank"), "{same}");

    change(&tenant, "ClusterRole", READER, rules("endpoints", &["get", "list"])).await?;
    has(
        &erin.works(&certify).await?.stderr,
        &[
            "  role        cli-reader holds now:\n              get, list endpoints (core)\n",
            "  grew        cli-reader holds more than was approved: get endpoints, list endpoints\n",
            "  shrank      cli-reader no longer holds what was approved: get configmaps\n",
        ],
    )?;
    // Who may not read it goes by the operator's word, once the policy has that ended.
    change(&tenant, "AccessPolicy", ns, allowed("End")).await?;
    tenant.wait_reason("reader", "RoleGrew").await?;
    has(
        &dave.works(&certify).await?.stderr,
        &[
            "  state       RoleGrew: ClusterRole cli-reader holds more than was approved: get endpoints",
            kept,
        ],
    )?;
    let again = erin.works(&[&approve[..], &["--yes"]].concat()).await?;
    has(
        &again.stderr,
        &[
            &format!("approving as {ERIN}:"),
            "  grew        cli-reader holds more than was approved",
        ],
    )?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}
