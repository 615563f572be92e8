//! The cluster that these tests share.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wayleave_e2e::plugin::Plugin;
use wayleave_e2e::tenant::{create, wait_allowed};
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Tenant, install_with};

const RBAC: &str = "rbac.authorization.k8s.io";

struct Cluster {
    cp: &'static ControlPlane,
    _operator: Operator,
}

pub async fn cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async {
        // For the life of the process, whose end ends it.
        let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
        let ceiling = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
        let options = InstallOptions {
            values: json!({"replicas": 0, "ceiling": {"rules": ceiling}}),
            ..InstallOptions::default()
        };
        install_with(cp, options).await?;
        let operator = Operator::ready(cp).await?;
        Ok::<_, anyhow::Error>(Cluster {
            cp,
            _operator: operator,
        })
    };
    Ok(CLUSTER.get_or_try_init(start).await?.cp)
}

/// A tenant whose integration `acme` differs from the usual one in `more`.
pub async fn tenant(ns: &str, more: Value) -> Result<Tenant<'static>> {
    let tenant = Tenant::without_integration(cluster().await?, ns).await?;
    tenant.integration("acme", more).await?;
    Ok(tenant)
}

/// What a role of the chart lets somebody do.
fn right_of(cluster_role: &str) -> [&str; 4] {
    match cluster_role {
        "wayleave-approver" => ["approve", "wayleave.dev", "accessgrants", "approval"],
        "wayleave-requester" => ["create", "wayleave.dev", "accessgrants", ""],
        "wayleave-policy-admin" => ["create", "wayleave.dev", "accessowners", ""],
        _ => ["list", "wayleave.dev", "accessgrants", ""],
    }
}

/// The plugin of a user who holds a role of the chart for all of the cluster.
pub async fn plugin(user: &str, cluster_role: &str) -> Result<Plugin<'static>> {
    let cp = cluster().await?;
    let root = cp.user("root@corp.example", &["system:masters"]).await?;
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    });
    let name = format!("{cluster_role}-{}", user.replace('@', "-"));
    create(&root, "ClusterRoleBinding", "", &name, binding).await?;
    wait_allowed(&root, user, right_of(cluster_role), "").await?;
    Plugin::of(cp, user, &[]).await
}

/// Binds a role of the chart to a user in the tenant's namespace.
pub async fn bind(tenant: &Tenant<'_>, user: &str, cluster_role: &str) -> Result<()> {
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    });
    let name = format!("{cluster_role}-{}", user.replace('@', "-"));
    create(&tenant.root, "RoleBinding", &tenant.ns, &name, binding).await?;
    wait_allowed(&tenant.root, user, right_of(cluster_role), &tenant.ns).await
}
