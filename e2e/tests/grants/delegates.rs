//! A GitOps controller applies for others what was reviewed in Git: its word is known as one, and a policy says whether it is
//! enough.

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use wayleave_e2e::install::can_stamp;
use wayleave_e2e::tenant::{CAROL, DAVE, LIMIT, api, binding, condition, create, in_seconds, merge, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{DECISIONS, GITOPS, REQUESTS, cluster, delegate, tenant};
use crate::refusals::{is_told, not_counted};

/// The remedies that a requester is told.
const REMEDY: &str = "ask the policy's author for requires.delegatedRequests: Allow";

/// A ServiceAccount of the GitOps controller that may write requests and decisions in the namespace, as far as RBAC goes.
pub async fn may_write(tenant: &Tenant<'_>, name: &str) -> Result<Client> {
    let account = json!([{"kind": "ServiceAccount", "name": name, "namespace": GITOPS}]);
    for role in ["wayleave-requester", "wayleave-approver"] {
        let binding = binding(role, account.clone());
        create(
            &tenant.root,
            "RoleBinding",
            &tenant.ns,
            &format!("{name}-{role}"),
            binding,
        )
        .await?;
    }
    tenant.cp.service_account(GITOPS, name).await
}

/// What a writer has to say of himself, which Git leaves to the cluster where the cluster says it.
async fn stated(tenant: &Tenant<'_>, names: Value) -> Result<Value> {
    Ok(if can_stamp(&tenant.root).await? {
        json!({})
    } else {
        names
    })
}

/// Applies a manifest as the controller does; gives the object.
pub async fn apply(tenant: &Tenant<'_>, who: &Client, kind: &str, manifest: &Value) -> Result<Value> {
    let name = text(&manifest["metadata"]["name"]);
    let applied = api(who, kind, &tenant.ns)
        .patch(&name, &PatchParams::apply("gitops"), &Patch::Apply(manifest))
        .await;
    let applied = applied.with_context(|| format!("applying {kind} {name}"))?;
    Ok(serde_json::to_value(applied)?)
}

/// The same, as soon as the rights that were given just now are heard of.
async fn applied(tenant: &Tenant<'_>, who: &Client, kind: &str, manifest: &Value) -> Result<Value> {
    eventually("the delegate to have the right", LIMIT, || async {
        apply(tenant, who, kind, manifest).await.map(Some)
    })
    .await
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "wayleave.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The integration and the grant, as they lie in Git.
pub async fn in_git(tenant: &Tenant<'_>, by: &str) -> Result<(Value, Value)> {
    let mut integration = tenant.integration_spec();
    let mut grant = tenant.grant_spec();
    for spec in [&mut integration, &mut grant] {
        merge(spec, stated(tenant, json!({"contributors": [delegate(by)]})).await?);
    }
    Ok((
        manifest("PartnerIntegration", "acme", integration),
        manifest("AccessGrant", "reader", grant),
    ))
}

pub async fn allow(tenant: &Tenant<'_>) -> Result<()> {
    let allow = json!({"spec": {"requires": {"delegatedRequests": "Allow"}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, allow)
        .await?;
    Ok(())
}

/// The delegate's word for dave, or whomever `more` names, as it lies in Git.
async fn decision_in_git(tenant: &Tenant<'_>, by: &str, more: Value) -> Result<Value> {
    let grant = tenant.wait_reason("reader", "AwaitingApproval").await?;
    let mut spec = json!({
        "subject": {"kind": "AccessGrant", "name": "reader", "uid": grant["metadata"]["uid"]},
        "decision": "Approve",
        "digest": grant["status"]["digest"],
        "decidedBy": DAVE,
        "decidedByGroups": ["security"],
        "decidedAt": in_seconds(0),
        "reason": "reviewed in Git",
    });
    merge(&mut spec, stated(tenant, json!({"submittedBy": delegate(by)})).await?);
    merge(&mut spec, more);
    Ok(manifest("AccessDecision", "reader-approved", spec))
}

#[tokio::test]
async fn what_a_delegate_asks_for_is_refused_unless_every_policy_allows_it() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "delegate-requests").await?;
    let gitops = may_write(&tenant, REQUESTS).await?;
    let (integration, grant) = in_git(&tenant, REQUESTS).await?;
    for (kind, manifest) in [("PartnerIntegration", &integration), ("AccessGrant", &grant)] {
        let object = applied(&tenant, &gitops, kind, manifest).await?;
        let spec = &object["spec"];
        ensure!(
            spec["requestedBy"] == CAROL && spec["contributors"] == json!([delegate(REQUESTS)]),
            "whose word it is: {spec}"
        );
    }
    let refused = tenant.wait_reason("reader", "NotPermitted").await?;
    let said = text(&condition(&refused, "Ready")["message"]);
    let whose = format!("spec.contributors: written by {} for others", delegate(REQUESTS));
    ensure!(said.contains(&whose) && said.contains(REMEDY), "{said}");
    ensure!(
        condition(&refused, "Stalled")["status"] == "True",
        "{}",
        refused["status"]["conditions"]
    );

    allow(&tenant).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    tenant.partner("reader").await?.answered().await
}

#[tokio::test]
async fn an_integration_that_a_delegate_applied_is_a_delegates_word_too() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "delegate-integration").await?;
    let gitops = may_write(&tenant, REQUESTS).await?;
    let (integration, _) = in_git(&tenant, REQUESTS).await?;
    applied(&tenant, &gitops, "PartnerIntegration", &integration).await?;
    let grant = tenant.grant("reader", json!({})).await?;
    ensure!(grant["spec"].get("contributors").is_none(), "{grant}");
    let refused = tenant.wait_reason("reader", "NotPermitted").await?;
    let said = text(&condition(&refused, "Ready")["message"]);
    ensure!(
        said.contains("integration spec.contributors") && said.contains(REMEDY),
        "{said}"
    );
    // The remedy is one.
    tenant.delete("PartnerIntegration", &tenant.ns, "acme").await?;
    tenant.integration("acme", json!({})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn what_a_delegate_changes_becomes_a_delegates_word() -> Result<()> {
    let tenant = tenant("delegate-changes").await?;
    let gitops = may_write(&tenant, REQUESTS).await?;
    let partner = tenant.live("reader", json!({})).await?;
    let mut change = json!({"ticket": "CHG-2"});
    merge(
        &mut change,
        stated(&tenant, json!({"contributors": [delegate(REQUESTS)]})).await?,
    );
    let cause = std::time::Instant::now();
    let changed = tenant
        .patch_as(&gitops, "AccessGrant", &tenant.ns, "reader", json!({"spec": change}))
        .await?;
    ensure!(
        changed["spec"]["contributors"] == json!([delegate(REQUESTS)]),
        "{changed}"
    );
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "NotPermitted").await?;
    Ok(())
}

#[tokio::test]
async fn a_delegates_word_for_a_decider_counts_only_where_the_installer_says_so() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "delegate-decisions").await?;
    let (requests, decisions) = (
        may_write(&tenant, REQUESTS).await?,
        may_write(&tenant, DECISIONS).await?,
    );
    allow(&tenant).await?;
    let (integration, grant) = in_git(&tenant, DECISIONS).await?;
    applied(&tenant, &decisions, "PartnerIntegration", &integration).await?;
    apply(&tenant, &decisions, "AccessGrant", &grant).await?;
    let forged = decision_in_git(&tenant, REQUESTS, json!({})).await?;
    let answer = apply(&tenant, &requests, "AccessDecision", &forged).await;
    let answer = answer.map_or_else(
        |error| format!("{error:#}"),
        |made| format!("it was let through: {made}"),
    );
    ensure!(
        answer.contains("spec.decidedBy: people decide, ServiceAccounts don't"),
        "{answer}"
    );
    let still = tenant.get_grant("reader").await?;
    ensure!(condition(&still, "Active")["reason"] == "AwaitingApproval", "{still}");

    let decision = decision_in_git(&tenant, DECISIONS, json!({})).await?;
    let made = apply(&tenant, &decisions, "AccessDecision", &decision).await?;
    let spec = &made["spec"];
    ensure!(
        spec["decidedBy"] == DAVE && spec["submittedBy"] == delegate(DECISIONS),
        "whose word it is: {spec}"
    );
    let issued = tenant.wait_reason("reader", "Issued").await?;
    let approvals = &issued["status"]["approvals"];
    ensure!(
        approvals[0]["by"] == DAVE && approvals[0]["groups"] == json!(["security"]) && approvals[1].is_null(),
        "{approvals}"
    );
    tenant.partner("reader").await?.answered().await?;

    // All that is to be said of them has been.
    let manifests = [
        ("PartnerIntegration", integration),
        ("AccessGrant", grant),
        ("AccessDecision", decision),
    ];
    let before = eventually("everything to be told", LIMIT, || async {
        let mut all = Vec::new();
        for (kind, manifest) in &manifests {
            let name = text(&manifest["metadata"]["name"]);
            let object = api(&tenant.root, kind, &tenant.ns).get(&name).await?;
            all.push(serde_json::to_value(object)?);
        }
        let settled = all[0]["status"]["summary"]["grants"] == "1/1"
            && all[0]["status"]["nextReviewAt"].is_string()
            && condition(&all[1], "Active")["reason"] == "Issued"
            && condition(&all[2], "Counted")["status"] == "True";
        Ok(settled.then_some(all))
    })
    .await?;
    for ((kind, manifest), before) in manifests.iter().zip(before) {
        let after = apply(&tenant, &decisions, kind, manifest).await?;
        ensure!(before == after, "applied again: {before} became {after}");
    }
    ensure!(tenant.partner("reader").await?.read().await? == 200);
    Ok(())
}

/// Whose word is stated is asked about, whatever the delegate itself may do.
#[tokio::test]
async fn a_delegates_word_for_somebody_who_may_not_approve_does_not_count() -> Result<()> {
    let tenant = tenant("delegate-no-right").await?;
    let decisions = may_write(&tenant, DECISIONS).await?;
    tenant.grant("reader", json!({})).await?;
    let stated = json!({"decidedBy": "eve@corp.example", "decidedByGroups": []});
    let decision = decision_in_git(&tenant, DECISIONS, stated).await?;
    let made = applied(&tenant, &decisions, "AccessDecision", &decision).await?;
    let said = not_counted(&tenant, &made, "NotAllowed").await?;
    let words = "eve@corp.example may not approve in namespace delegate-no-right";
    ensure!(said == words, "{said}");
    let whole = format!("1 approval of security asked for; AccessDecision reader-approved does not count: {words}");
    is_told(&tenant, "reader", "AwaitingApproval", &whole).await?;
    let waiting = tenant.get_grant("reader").await?;
    let left = tenant.children(&text(&waiting["metadata"]["uid"])).await?;
    ensure!(left.is_empty(), "made without an approval: {left:?}");
    Ok(())
}
