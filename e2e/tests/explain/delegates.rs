//! What a delegate applied is checked as such, though the files in Git don't say who applied them.

use anyhow::{Result, ensure};
use serde_json::json;
use wayleave_e2e::Tenant;
use wayleave_e2e::plugin::Plugin;
use wayleave_e2e::tenant::{CAROL, create};

use super::{DELEGATE, GITOPS, User, cluster, grant, has, kept};

#[tokio::test]
async fn what_a_delegate_applied_is_checked_as_the_operator_judges_it() -> Result<()> {
    let cp = &cluster().await?.cp;
    let tenant = Tenant::new(cp, "check-delegate").await?;
    let ns = tenant.ns.as_str();
    create(&tenant.root, "Namespace", "", GITOPS, json!({})).await?;
    create(&tenant.root, "ServiceAccount", GITOPS, "applier", json!({})).await?;
    let binding = json!({
        "roleRef": {"apiGroup": super::RBAC, "kind": "ClusterRole", "name": "wayleave-requester"},
        "subjects": [{"kind": "ServiceAccount", "name": "applier", "namespace": GITOPS}],
    });
    create(&tenant.root, "RoleBinding", ns, "applier", binding).await?;
    let root = User(Plugin::with(cp, cp.admin_kubeconfig()).await?);
    // As it lies in Git.
    let mut spec = tenant.grant_spec();
    spec["requestedBy"] = json!(CAROL);
    let in_git = kept(&grant(ns, "reader", spec.clone()));
    root.file("reader.yaml", std::slice::from_ref(&in_git))?;
    let check = ["check", "-f", "reader.yaml", "-n", ns];
    root.run(&check, 0).await?;

    let applier = cp.service_account(GITOPS, "applier").await?;
    spec["contributors"] = json!([DELEGATE]);
    create(&applier, "AccessGrant", ns, "reader", json!({ "spec": spec })).await?;
    tenant.wait_reason("reader", "NotPermitted").await?;
    let said = root.run(&check, 1).await?.stdout;
    has(&said, &["refused", &format!("written by {DELEGATE} for others")])?;

    // The same of an integration that it changed.
    let integration = json!({"spec": {"purpose": "Reconcile invoices weekly", "contributors": [DELEGATE]}});
    let changed = tenant
        .patch_as(&applier, "PartnerIntegration", ns, "acme", integration)
        .await?;
    let mut in_git = kept(&changed);
    in_git["spec"]["contributors"] = json!([]);
    let second = grant(ns, "second", tenant.grant_spec());
    root.file("both.yaml", &[in_git, second])?;
    let said = root.run(&["check", "-f", "both.yaml", "-n", ns], 1).await?.stdout;
    has(
        &said,
        &["second: refused", &format!("written by {DELEGATE} for others")],
    )?;
    tenant.grant("second", json!({})).await?;
    tenant.wait_reason("second", "NotPermitted").await?;
    ensure!(tenant.get_grant("second").await?["spec"]["contributors"].is_null());
    Ok(())
}
