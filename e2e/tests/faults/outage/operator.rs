//! The operator is away, is killed in the middle of its work, or loses its leader.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use wayleave_e2e::tenant::{END, LIMIT, api, condition, in_seconds, next_second, text};
use wayleave_e2e::{Operator, eventually};

use super::cluster::{closed_first, made, of_operator, options, passed, reads, uid};

const READER: &str = "reader";

#[tokio::test]
async fn what_came_due_while_it_was_down_is_closed_before_anything_is_issued() -> Result<()> {
    let cluster = of_operator().await?;
    let kept = cluster.tenant("down-kept").await?;
    let kept_partner = kept.live(READER, json!({})).await?;
    let revoked = cluster.tenant("down-revoked").await?;
    let revoked_partner = revoked.live(READER, json!({})).await?;
    let orphaned = cluster.tenant("down-orphaned").await?;
    let orphaned_partner = orphaned.live(READER, json!({})).await?;
    let approved = cluster.tenant("down-approved").await?;
    approved.grant(READER, json!({})).await?;
    approved.wait_reason(READER, "AwaitingApproval").await?;
    let expired = cluster.tenant("down-expired").await?;
    let end = in_seconds(80);
    let expired_partner = expired.live(READER, json!({"expiresAt": end})).await?;
    let before = kept.get_grant(READER).await?;
    let (revoked_uid, expired_uid) = (
        uid(&revoked.get_grant(READER).await?),
        uid(&expired.get_grant(READER).await?),
    );

    cluster.operator.kill()?;
    let orphan = orphaned.get_grant(READER).await?;
    // Only the operator may take its finalizer off: somebody who got hold of its credential does.
    let thief = cluster
        .cp
        .service_account("wayleave-system", "wayleave")
        .await
        .context("a client that speaks as the operator")?;
    let forced = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api(&thief, "AccessGrant", &orphaned.ns)
        .patch(READER, &PatchParams::default(), &forced)
        .await
        .context("taking the finalizer off")?;
    orphaned.delete("AccessGrant", &orphaned.ns, READER).await?;
    revoked.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    approved.approve(READER, json!({})).await?;
    passed(&end).await?;
    reads(&expired_partner).await.context("nobody closed it meanwhile")?;
    reads(&revoked_partner).await.context("nobody closed it meanwhile")?;
    let left = orphaned.children(&uid(&orphan)).await?;
    ensure!(!left.is_empty(), "nothing is left of the orphan to be swept");

    let mark = cluster.cp.audit()?.mark()?;
    cluster.operator.start_again()?;
    cluster.operator.wait_ready().await?;
    expired.wait_reason(READER, "Expired").await?;
    revoked.wait_reason(READER, "Revoked").await?;
    expired.wait_nothing_left(&expired_uid).await?;
    revoked.wait_nothing_left(&revoked_uid).await?;
    orphaned
        .wait_nothing_left(&uid(&orphan))
        .await
        .context("the orphan is swept")?;
    approved.wait_reason(READER, "Issued").await?;
    for partner in [&expired_partner, &revoked_partner, &orphaned_partner] {
        partner.wait_unauthorized().await?;
    }
    reads(&kept_partner).await?;
    reads(&approved.partner(READER).await?).await?;
    ensure!(
        made(&kept.get_grant(READER).await?) == made(&before),
        "what was in order was made anew"
    );
    closed_first(&cluster.calls(mark)?, &[&expired.ns, &revoked.ns])
}

/// Nobody saw the owner go: who stands there under the name is another object, and vouched for nothing.
#[tokio::test]
async fn an_owner_who_was_replaced_while_it_was_down_takes_the_access_along() -> Result<()> {
    let cluster = of_operator().await?;
    let tenant = cluster.tenant("down-owner").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let before = tenant.get_grant(READER).await?;
    let approval = text(&before["status"]["approvals"][0]["decisionRef"]);
    cluster.operator.kill()?;
    next_second().await;
    tenant.delete("AccessOwner", "", &tenant.owner_name("bob")).await?;
    tenant.owner("bob").await?;
    reads(&partner).await.context("nobody closed it meanwhile")?;
    cluster.operator.start_again()?;
    cluster.operator.wait_ready().await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    // At first it is told by the owners that were noted, and then, as they are noted no more, by the day of each.
    let words = format!("it was made before AccessOwner {} was there", tenant.owner_name("bob"));
    eventually("it to be told, by the grant and by the decision", LIMIT, || async {
        let said = text(&condition(&tenant.get_grant(READER).await?, "Active")["message"]);
        ensure!(
            said.ends_with(&format!("AccessDecision {approval} does not count: {words}")),
            "{said}"
        );
        let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(&approval).await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        ensure!(
            counted["reason"] == "OwnersChanged" && counted["message"] == words.as_str(),
            "{counted}"
        );
        Ok(Some(()))
    })
    .await?;
    tenant.wait_nothing_left(&uid(&before)).await?;
    partner.wait_unauthorized().await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}

#[tokio::test]
async fn a_new_process_makes_nothing_anew_and_writes_nothing() -> Result<()> {
    let cluster = of_operator().await?;
    let mut lives = Vec::new();
    for name in ["again-one", "again-two"] {
        let tenant = cluster.tenant(name).await?;
        let partner = tenant.live(READER, json!({})).await?;
        // Events and numbers are told a moment after the status; what is counted begins after them.
        eventually("the issue to be told", LIMIT, || async {
            let events = api(&tenant.root, "Event", &tenant.ns).list(&Default::default()).await?;
            let told = events.iter().any(|event| event.data["reason"] == "Issued");
            let integration = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
            let counted = integration.data["status"]["grants"]["active"] == 1;
            let weighed = tenant.all_decisions_count().await?;
            Ok((told && counted && weighed).then_some(()))
        })
        .await?;
        let before = tenant.get_grant(READER).await?;
        lives.push((tenant, partner, before));
    }
    let mark = cluster.cp.audit()?.mark()?;
    cluster.restart_operator().await?;
    // It leads and issues again: by now it has judged the others.
    let fresh = cluster.tenant("again-fresh").await?;
    fresh.live(READER, json!({})).await?;
    for (tenant, partner, before) in &lives {
        reads(partner).await?;
        let after = tenant.get_grant(READER).await?;
        ensure!(&after == before, "{} was written to: {after}", tenant.ns);
        let calls = cluster.calls(mark)?.only(|call| {
            let object = call.object_ref.clone().unwrap_or_default();
            let identity = text(&before["status"]["identity"]["serviceAccount"]);
            object.namespace == tenant.ns || object.name.starts_with(&identity)
        });
        let ours: Vec<String> = calls
            .iter()
            .filter(|call| !matches!(call.verb.as_str(), "list" | "watch"))
            .map(|call| format!("{} {}", call.verb, call.request_uri))
            .collect();
        ensure!(ours.is_empty(), "a restart costs lists and watches only, not {ours:?}");
    }
    Ok(())
}

#[tokio::test]
async fn killed_in_the_middle_of_an_issue_it_leaves_one_activation_and_one_credential() -> Result<()> {
    let cluster = of_operator().await?;
    for resource in ["serviceaccounts", "token", "rolebindings"] {
        let tenant = cluster.tenant(&format!("killed-at-{resource}")).await?;
        tenant.grant(READER, json!({})).await?;
        tenant.wait_reason(READER, "AwaitingApproval").await?;
        let audit = cluster.cp.audit()?;
        let mark = audit.mark()?;
        tenant.approve(READER, json!({})).await?;
        audit
            .wait_for(mark, &format!("a create of {resource}"), LIMIT, |call| {
                let object = call.object_ref.clone().unwrap_or_default();
                let is_it = object.resource == resource || object.subresource == resource;
                call.verb == "create" && is_it && object.name.starts_with("wlg-")
            })
            .await?;
        cluster.restart_operator().await?;
        let grant = tenant.wait_reason(READER, "Issued").await?;
        reads(&tenant.partner(READER).await?).await?;
        let identity = text(&grant["status"]["identity"]["serviceAccount"]);
        let delivery = format!("Secret {}/{READER}-credential", tenant.ns);
        eventually("one activation to be left", LIMIT, || async {
            let children = tenant.children(&uid(&grant)).await?;
            let surplus: Vec<&String> = children
                .iter()
                .filter(|child| {
                    let name = child.split('/').next_back().unwrap_or_default();
                    **child != delivery && name != identity && !name.starts_with(&format!("{identity}-"))
                })
                .collect();
            ensure!(surplus.is_empty(), "of an activation that is over: {surplus:?}");
            let of_kind = |kind: &str| children.iter().filter(|child| child.starts_with(kind)).count();
            let counts = ["ServiceAccount ", "Role ", "RoleBinding ", "Secret "].map(of_kind);
            ensure!(
                counts == [1, 1, 1, 2],
                "one of each, an anchor and the delivery: {children:?}"
            );
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// Whether a replica holds the lease: its name tells its process.
async fn leads(root: &kube::Client, replica: &Operator) -> Result<bool> {
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(root.clone(), "wayleave-system");
    let lease = leases.get("wayleave").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    let pid = replica.process().pid().context("the replica does not run")?;
    Ok(holder.contains(&format!("-{pid}-")))
}

#[tokio::test]
async fn an_end_does_not_wait_for_another_leader() -> Result<()> {
    let cluster = of_operator().await?;
    let tenant = cluster.tenant("leader-killed").await?;
    eventually("the first replica to lead", LIMIT, || async {
        Ok(leads(&tenant.root, &cluster.operator).await?.then_some(()))
    })
    .await?;
    let second = Operator::start(&cluster.cp, options()).await?;
    second.wait_ready().await?;
    let end = in_seconds(80);
    let partner = tenant.live(READER, json!({"expiresAt": end})).await?;
    let revoked = cluster.tenant("leader-killed-revoked").await?;
    let revoked_partner = revoked.live(READER, json!({})).await?;
    let last: Timestamp = end.parse()?;
    let just_before = last - Duration::from_secs(2);
    passed(&just_before.to_string()).await?;
    reads(&partner).await?;
    ensure!(leads(&tenant.root, &cluster.operator).await?, "another replica leads");
    cluster.operator.kill()?;
    let cause = Instant::now();
    revoked.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let took = revoked_partner.refused_since(cause).await?;
    ensure!(took <= END, "revoked after {took:?} without a leader");
    while partner.read().await? == 200 {
        let late = Timestamp::now().duration_since(last);
        ensure!(late < END.try_into()?, "answered {late:?} after the end");
    }
    ensure!(
        Timestamp::now() >= last,
        "refused {:?} early",
        last.duration_since(Timestamp::now())
    );
    // The second takes the lease over and clears up.
    tenant.wait_reason(READER, "Expired").await?;
    revoked.wait_reason(READER, "Revoked").await?;
    tenant.wait_nothing_left(&uid(&tenant.get_grant(READER).await?)).await?;
    ensure!(
        leads(&tenant.root, &second).await?,
        "it was cleared up by nobody who leads"
    );
    let deleted = api(&tenant.root, "AccessGrant", &tenant.ns)
        .delete(READER, &DeleteParams::default())
        .await;
    deleted.context("deleting the grant")?;
    cluster.operator.start_again()?;
    second.stop().await?;
    cluster.operator.wait_ready().await
}
