//! What a partner may do beside its grant, by bindings of others, is shown, and refused where a policy says so.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, api, condition, create, text};
use wayleave_e2e::{ControlPlane, Operator, Tenant, eventually, install, operator};

const READER: &str = "reader";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A binding of a ClusterRole to a group.
fn to_group(role: &str, group: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
    })
}

async fn told(tenant: &Tenant<'_>, words: &[&str]) -> Result<()> {
    eventually("the other rights to be told", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let found = condition(&grant, "OtherRights");
        let said = text(&found["message"]);
        ensure!(found["status"] == "True", "{}", grant["status"]["conditions"]);
        ensure!(words.iter().all(|words| said.contains(words)), "{said}");
        Ok(Some(()))
    })
    .await
}

async fn not_told(tenant: &Tenant<'_>) -> Result<()> {
    eventually("no other rights to be told", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let found = condition(&grant, "OtherRights");
        ensure!(found.is_null(), "{found}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn rights_from_elsewhere_are_shown_and_refused_where_a_policy_says_so() -> Result<()> {
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let _operator = Operator::ready(&cp).await?;
    let tenant = Tenant::new(&cp, "other-rights").await?;
    let partner = tenant.live(READER, json!({})).await?;
    not_told(&tenant).await?;
    ensure!(partner.get("Service", "any").await? == 403);

    // Somebody is generous to every ServiceAccount, and the partner's identity is one.
    let open = to_group("view", "system:serviceaccounts");
    create(&tenant.root, "RoleBinding", &tenant.ns, "open", open).await?;
    let words =
        "ClusterRole view in namespace other-rights, by RoleBinding other-rights/open to group system:serviceaccounts";
    told(&tenant, &[words, "take it out"]).await?;
    eventually("the partner to have it", LIMIT, || async {
        let code = partner.get("Service", "any").await?;
        ensure!(code == 404, "answered with {code}");
        Ok(Some(()))
    })
    .await?;
    let everybody = to_group("view", "system:authenticated");
    create(&tenant.root, "ClusterRoleBinding", "", "too-open", everybody).await?;
    let more = "ClusterRole view in every namespace, by ClusterRoleBinding too-open to group system:authenticated";
    told(&tenant, &[words, more]).await?;

    // A policy may say that nobody gets access who has more than that. What is live is not taken away by a third party's binding.
    let refuse = json!({"spec": {"access": {"onOtherRights": "Refuse"}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, refuse)
        .await?;
    tenant.grant("second", json!({})).await?;
    tenant.approve("second", json!({})).await?;
    let refused = tenant.wait_reason("second", "NotPermitted").await?;
    let said = text(&condition(&refused, "Ready")["message"]);
    ensure!(said.contains(words) && said.contains("onOtherRights"), "{said}");
    ensure!(partner.read().await? == 200, "what is live is kept");
    // Which bindings there are is the operator's to see: its word is what is explained.
    let plugin = operator::program("kubectl-wayleave").await?;
    let explain = cp.tool(plugin, &cp.admin_kubeconfig());
    let told = explain
        .args(["explain", "second", "-n", &tenant.ns])
        .run()
        .await?
        .stdout;
    ensure!(told.contains("now: NotPermitted\n") && told.contains(words), "{told}");

    tenant.delete("RoleBinding", &tenant.ns, "open").await?;
    tenant.delete("ClusterRoleBinding", "", "too-open").await?;
    not_told(&tenant).await?;
    tenant.wait_reason("second", "Issued").await?;
    what_kubernetes_gives_everybody_is_told_once_it_is_more(&tenant).await
}

async fn what_kubernetes_gives_everybody_is_told_once_it_is_more(tenant: &Tenant<'_>) -> Result<()> {
    const ROLE: &str = "system:discovery";
    let before = api(&tenant.root, "ClusterRole", "").get(ROLE).await?.data;
    let mut rules = before["rules"].as_array().cloned().unwrap_or_default();
    rules.push(json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}));
    let more = json!({"rules": rules});
    tenant.patch_as(&tenant.root, "ClusterRole", "", ROLE, more).await?;
    let words = "ClusterRole system:discovery in every namespace, by ClusterRoleBinding system:discovery to group system:authenticated";
    told(tenant, &[words]).await?;
    let before = json!({"rules": before["rules"]});
    tenant.patch_as(&tenant.root, "ClusterRole", "", ROLE, before).await?;
    not_told(tenant).await
}
