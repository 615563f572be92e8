//! What a grant costs in calls, counted from the audit log, and that no token is anywhere but in its Secret.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::ListParams;
use serde_json::json;
use wayleave_e2e::operator::{NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::{LIMIT, api, text};
use wayleave_e2e::{AuditEvent, ControlPlane, Mark, Operator, Tenant, eventually, install, settled};

/// An integration counts its grants once a second at the most.
const REST: Duration = Duration::from_secs(2);

/// What the operator did since a mark, apart from its lease, the rare proof of admission, and watches that end.
fn calls(cp: &ControlPlane, since: Mark) -> Result<Vec<String>> {
    let operator = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    let events = cp.audit()?.since(since)?.by_user(&operator);
    let events = events.only(|event| {
        let forged = event.is_resource("accessdecisions") || event.is_resource("accessgrants");
        let is_proof = forged && event.verb == "create" && event.request_uri.contains("dryRun=All");
        // The record of proofs is read and written where policies are first seen, or change.
        let is_record = event.is_resource("configmaps");
        !event.is_resource("leases") && event.verb != "watch" && !is_proof && !is_record
    });
    Ok(events.iter().map(|event| event.to_string()).collect())
}

/// The words to the decision and the integration, and the first look into a namespace's Secrets, are of other objects than
/// the grant: those first.
fn apart(calls: Vec<String>) -> (Vec<String>, Vec<String>) {
    let of_others = [
        "patch accessdecisions/status",
        "patch partnerintegrations/status",
        "list secrets",
    ];
    calls
        .into_iter()
        .partition(|call| of_others.iter().any(|words| call.starts_with(words)))
}

/// Waits until the operator has called nothing for a while: a call is recorded a moment after what it did is there.
async fn wait_rest(cp: &ControlPlane) -> Result<()> {
    let begun = cp.audit()?.mark()?;
    settled("the operator to rest", LIMIT, REST, || async { calls(cp, begun) })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_life_costs_what_it_may_and_shows_no_token() -> Result<()> {
    // Alone on its control plane: everything that the operator does is for this grant.
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let operator = Operator::ready(&cp).await?;
    let tenant = Tenant::new(&cp, "cost").await?;
    tenant.grant("reader", json!({})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;

    let settled = |text: &'static str| {
        let (cp, operator) = (&cp, &operator);
        async move {
            eventually("the event to be published", LIMIT, || async {
                let events = api(&cp.admin().await?, "Event", "cost")
                    .list(&ListParams::default())
                    .await?;
                let published = events.iter().any(|event| event.data["reason"] == text);
                ensure!(operator.process().is_running(), "the operator is gone");
                Ok(published.then_some(()))
            })
            .await
        }
    };
    // What is due before: a new installation's policies are proved, and the record says so; the event of the wait follows its status, and the enrolment is held for all grants at once.
    eventually("the record of proofs", LIMIT, || async {
        let record = api(&tenant.root, "ConfigMap", NAMESPACE)
            .get("wayleave-admission-proofs")
            .await?;
        Ok(text(&record.data["data"]["proofs.json"])
            .contains("since")
            .then_some(()))
    })
    .await?;
    settled("AwaitingApproval").await?;
    eventually("the enrolment to be held", LIMIT, || async {
        let binding = api(&tenant.root, "RoleBinding", "cost").get("enrolment").await?;
        let held = binding.metadata.finalizers.unwrap_or_default();
        Ok(held
            .iter()
            .any(|name| name == "wayleave.dev/close-access")
            .then_some(()))
    })
    .await?;

    wait_rest(&cp).await?;
    let mark = cp.audit()?.mark()?;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    settled("Issued").await?;
    wait_told(&tenant).await?;
    // It waits for nobody, and nobody who issues waits for it.
    let is_first_look = |event: &AuditEvent| event.to_string().starts_with("list secrets cost/");
    cp.audit()?
        .wait_for(
            mark,
            "the first look into the namespace's Secrets",
            LIMIT,
            is_first_look,
        )
        .await?;
    let (beside, issue) = apart(calls(&cp, mark)?);
    ensure!(
        issue.len() <= 11,
        "{} calls to issue:\n{}",
        issue.len(),
        issue.join("\n")
    );
    ensure!(
        beside.len() <= 4,
        "{} calls beside:\n{}",
        beside.len(),
        beside.join("\n")
    );

    let first = tenant.partner("reader").await?.token;
    wait_rest(&cp).await?;
    let mark = cp.audit()?.mark()?;
    let asked = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", "cost", "reader", asked)
        .await?;
    settled("Rotated").await?;
    eventually("the old anchor to be retired", LIMIT, || async {
        let anchors = tenant.identities("Secret").await?;
        Ok((anchors.len() == 1 && anchors[0].ends_with("-g2")).then_some(()))
    })
    .await?;
    let rotate = calls(&cp, mark)?;
    ensure!(
        rotate.len() <= 7,
        "{} calls to rotate:\n{}",
        rotate.len(),
        rotate.join("\n")
    );
    let second = tenant.partner("reader").await?.token;

    // A minute in which nothing happens: nothing is written.
    eventually("the integration to count its grant", LIMIT, || async {
        let integration = api(&tenant.root, "PartnerIntegration", "cost").get("acme").await?;
        Ok((integration.data["status"]["grants"]["active"] == 1).then_some(()))
    })
    .await?;
    wait_rest(&cp).await?;
    let mark = cp.audit()?.mark()?;
    tokio::time::timeout(Duration::from_secs(65), std::future::pending::<()>())
        .await
        .ok();
    let idle = calls(&cp, mark)?;
    ensure!(idle.is_empty(), "an idle minute:\n{}", idle.join("\n"));

    let mark = cp.audit()?.mark()?;
    tenant.decide("AccessGrant", "reader", "Revoke", json!({})).await?;
    let grant = tenant.wait_reason("reader", "Revoked").await?;
    tenant.wait_nothing_left(&text(&grant["metadata"]["uid"])).await?;
    settled("Revoked").await?;
    let (_, revoke) = apart(calls(&cp, mark)?);
    ensure!(
        revoke.len() <= 10,
        "{} calls to revoke:\n{}",
        revoke.len(),
        revoke.join("\n")
    );
    wayleave_e2e::progress(&format!(
        "calls: issue {}, rotate {}, revoke {}",
        issue.len(),
        rotate.len(),
        revoke.len()
    ));

    // No token, and no part of one, is in anything that is shown.
    let shown = shown(&tenant, &operator).await?;
    for token in [first, second] {
        let parts: BTreeSet<&str> = token.split('.').skip(1).chain([token.as_str()]).collect();
        for part in parts {
            ensure!(part.len() > 40, "a part of a token is too short to be looked for");
            ensure!(!shown.contains(part), "a token, or a part of one, is shown");
        }
    }
    Ok(())
}

/// The approval knows that it counts.
async fn wait_told(tenant: &Tenant<'_>) -> Result<()> {
    eventually("the approval to be told that it counts", LIMIT, || async {
        Ok(tenant.all_decisions_count().await?.then_some(()))
    })
    .await
}

/// Everything that somebody could see: logs, metrics, events, every object but the data of Secrets, and the audit log.
async fn shown(tenant: &Tenant<'_>, operator: &Operator) -> Result<String> {
    let mut shown = operator.logs()? + &operator.metrics().await?;
    for kind in [
        "Event",
        "AccessGrant",
        "AccessDecision",
        "PartnerIntegration",
        "RoleBinding",
        "Role",
        "ServiceAccount",
    ] {
        let all = api(&tenant.root, kind, "").list(&ListParams::default()).await?;
        shown += &serde_json::to_string(&all.items)?;
    }
    for mut secret in api(&tenant.root, "Secret", "").list(&ListParams::default()).await? {
        secret.data = json!({});
        shown += &serde_json::to_string(&secret)?;
    }
    ensure!(
        shown.contains("\"reason\":\"AwaitingApproval\"") && shown.contains("wayleave_grants"),
        "something is missing"
    );
    Ok(shown)
}
