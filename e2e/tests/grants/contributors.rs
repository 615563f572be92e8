//! Whoever had a hand in a request does not approve it, though RBAC gives the right: neither what was changed nor what the grant
//! hangs on.

use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{CAROL, LIMIT, binding, create, merge, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{cluster, tenant};
use crate::refusals::{is_told, not_counted};

/// May ask and approve.
const CORA: &str = "cora@corp.example";
const READER: &str = "reader";
const WORDS: &str = "cora@corp.example requested this or had a hand in it: somebody else must approve";

/// Cora, who holds both rights in the tenant's namespace: one by her name, one by her group.
async fn cora(tenant: &Tenant<'_>) -> Result<Client> {
    let subject = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CORA}]);
    let asks = binding("wayleave-requester", subject);
    create(&tenant.root, "RoleBinding", &tenant.ns, "cora-asks", asks).await?;
    tenant.cp.user(CORA, &["security"]).await
}

/// She changes something that an approval covers, and is listed for it.
async fn changes(tenant: &Tenant<'_>, cora: &Client, kind: &str, name: &str, spec: Value) -> Result<()> {
    let mut spec = json!({ "spec": spec });
    // What the cluster states for her, where it does.
    merge(&mut spec, json!({"spec": {"contributors": [CORA]}}));
    let changed = eventually("cora to have the right", LIMIT, || async {
        let changed = tenant.patch_as(cora, kind, &tenant.ns, name, spec.clone()).await?;
        Ok(Some(changed))
    })
    .await?;
    let spec = &changed["spec"];
    ensure!(
        spec["requestedBy"] == CAROL && spec["contributors"] == json!([CORA]),
        "{spec}"
    );
    Ok(())
}

/// Her approval does not count, and both it and the grant say why; dave's does.
async fn only_another_approves(tenant: &Tenant<'_>, cora: &Client) -> Result<()> {
    let hers = json!({"decidedBy": CORA, "submittedBy": CORA});
    let approval = tenant.approve_as(cora, READER, hers).await?;
    let said = not_counted(tenant, &approval, "OwnRequest").await?;
    ensure!(said == WORDS, "{said}");
    let name = text(&approval["metadata"]["name"]);
    let whole = format!("1 approval of security asked for; AccessDecision {name} does not count: {WORDS}");
    is_told(tenant, READER, "AwaitingApproval", &whole).await?;
    let waiting = tenant.get_grant(READER).await?;
    let made = tenant.children(&text(&waiting["metadata"]["uid"])).await?;
    ensure!(made.is_empty(), "{made:?}");
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn who_changed_the_grant_does_not_approve_it() -> Result<()> {
    let tenant = tenant("contributors-grant").await?;
    let cora = cora(&tenant).await?;
    tenant.grant(READER, json!({"ticket": "CHG-1"})).await?;
    changes(&tenant, &cora, "AccessGrant", READER, json!({"ticket": "CHG-2"})).await?;
    // Put back as it was: she is listed all the same.
    changes(&tenant, &cora, "AccessGrant", READER, json!({"ticket": "CHG-1"})).await?;
    // What was replaced within a second is approved by nobody in it.
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    next_second().await;
    only_another_approves(&tenant, &cora).await
}

#[tokio::test]
async fn who_changed_the_integration_does_not_approve_its_grants() -> Result<()> {
    let tenant = tenant("contributors-integration").await?;
    let cora = cora(&tenant).await?;
    tenant.grant(READER, json!({})).await?;
    let before = tenant.wait_reason(READER, "AwaitingApproval").await?;
    let purpose = json!({"purpose": "Read whatever is there"});
    changes(&tenant, &cora, "PartnerIntegration", "acme", purpose).await?;
    eventually("the change to be seen", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok((grant["status"]["digest"] != before["status"]["digest"]).then_some(()))
    })
    .await?;
    only_another_approves(&tenant, &cora).await
}

#[tokio::test]
async fn who_asked_for_the_integration_does_not_approve_what_another_asks_for_under_it() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "contributors-requester").await?;
    let cora = cora(&tenant).await?;
    let mut spec = tenant.integration_spec();
    merge(&mut spec, json!({"requestedBy": CORA}));
    eventually("cora to have the right", LIMIT, || async {
        let body = json!({ "spec": spec });
        create(&cora, "PartnerIntegration", &tenant.ns, "acme", body)
            .await
            .map(Some)
    })
    .await?;
    let grant = tenant.grant(READER, json!({})).await?;
    ensure!(grant["spec"]["requestedBy"] == CAROL, "{grant}");
    only_another_approves(&tenant, &cora).await
}
