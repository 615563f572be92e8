//! Several policies that select one grant: each permits by itself or not at all, and of every limit and requirement the
//! strictest counts, whichever policy sets it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::tenant::{binding, condition, create, merge, text};

use crate::cluster::tenant;
use crate::refusals::{is_told, rule, two_hours};

const READER: &str = "reader";
const LENA: &str = "lena@corp.example";
const LEADS: &str = "payments-leads";

/// A tenant's policy as its spec is changed, and a second one, called as given, with another change.
async fn two(ns: &str, own: Value, name: &str, other: Value) -> Result<Tenant<'static>> {
    let tenant = tenant(ns).await?;
    let root = &tenant.root;
    let mut spec = tenant.policy();
    merge(&mut spec, other);
    create(root, "AccessPolicy", "", name, json!({ "spec": spec })).await?;
    tenant
        .patch_as(root, "AccessPolicy", "", ns, json!({ "spec": own }))
        .await?;
    Ok(tenant)
}

#[tokio::test]
async fn a_lax_policy_beside_a_strict_one_loosens_nothing() -> Result<()> {
    // Each is lax where the other is strict; neither comes first in all.
    let watching = json!([rule("", "configmaps", &["get", "watch"], &[])]);
    let own = json!({
        "limits": {"duration": "1h"},
        "access": {"rules": watching, "longRunning": true},
        "requires": {"ticket": true, "approvals": [{"count": 1, "groups": ["security"]}]},
    });
    let other = json!({
        "limits": {"credentialLifetime": "30m"},
        "access": {"rules": watching},
        "requires": {"approvals": [{"count": 1, "groups": [LEADS]}]},
    });
    let tenant = two("policies-strict", own, "policies-also", other).await?;
    let access = json!([{"rules": [rule("", "configmaps", &["get", "watch"], &["feed"])]}]);
    let mut asked_for = json!({ "access": access });
    merge(&mut asked_for, two_hours()?);
    tenant.grant(READER, asked_for).await?;
    let words = "spec.access[0].rules[0]: watch outlives a revocation and access.longRunning is false (policy policies-also); \
                 spec.credential.token.lifetime: 1h, at most 30m (policy policies-also); \
                 spec.expiresAt: 2h after the start, at most 1h (policy policies-strict); \
                 spec.ticket: missing, a ticket is required (policy policies-strict); 1 approval asked for";
    is_told(&tenant, READER, "NotPermitted", words).await?;

    // What meets both is asked for approvals by both.
    let leads = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": LEADS}]);
    create(
        &tenant.root,
        "RoleBinding",
        &tenant.ns,
        "leads",
        binding("wayleave-approver", leads),
    )
    .await?;
    let met = json!({
        "ticket": "CHG-1", "access": tenant.grant_spec()["access"], "credential": {"token": {"lifetime": "30m"}},
        "startsAt": null, "expiresAt": wayleave_e2e::tenant::in_seconds(3_000),
    });
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, json!({"spec": met}))
        .await?;
    let asked = "1 approval of payments-leads; and, for another policy, 1 approval of security asked for";
    is_told(&tenant, READER, "AwaitingApproval", asked).await?;
    tenant.approve(READER, json!({})).await?;
    let counted = wayleave_e2e::eventually("dave's approval to count", wayleave_e2e::tenant::LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok(grant["status"]["approvals"][0].is_object().then_some(grant))
    })
    .await?;
    let active = condition(&counted, "Active");
    ensure!(
        active["reason"] == "AwaitingApproval" && text(&active["message"]) == asked,
        "one policy's approval was enough: {active}"
    );
    let lena = tenant.cp.user(LENA, &[LEADS]).await?;
    let hers = json!({"decidedBy": LENA, "submittedBy": LENA, "decidedByGroups": [LEADS]});
    tenant.approve_as(&lena, READER, hers).await?;
    let issued = tenant.wait_reason(READER, "Issued").await?;
    ensure!(
        issued["status"]["policies"] == json!(["policies-also", "policies-strict"]),
        "{}",
        issued["status"]["policies"]
    );
    tenant.partner(READER).await?.answered().await
}

#[tokio::test]
async fn what_two_policies_permit_a_part_of_each_is_permitted_by_none() -> Result<()> {
    let own = json!({"access": {"rules": [rule("", "configmaps", &["get"], &[])]}});
    let two_of_three = [
        rule("", "endpoints", &["get"], &[]),
        rule("", "services", &["get"], &[]),
    ];
    let other = json!({"access": {"rules": two_of_three}});
    let tenant = two("policies-a-part", own, "policies-most-of-it", other).await?;
    let all = [
        rule("", "configmaps", &["get"], &["feed"]),
        rule("", "endpoints", &["get"], &[]),
        rule("", "services", &["get"], &[]),
    ];
    tenant.grant(READER, json!({"access": [{"rules": all}]})).await?;
    let nearest = "spec.access[0].rules[0]: get configmaps \"feed\" not within access.rules (policy policies-most-of-it); \
                   1 approval asked for";
    is_told(&tenant, READER, "NotPermitted", nearest).await?;
    // Nor where each part stands in an entry of its own; an approval changes nothing.
    let entries: Vec<Value> = all.iter().map(|rule| json!({"rules": [rule]})).collect();
    let spread = json!({"spec": {"access": entries}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, spread)
        .await?;
    tenant.approve(READER, json!({})).await?;
    let nearest = nearest.trim_end_matches("; 1 approval asked for");
    is_told(&tenant, READER, "NotPermitted", nearest).await?;
    let uid = text(&tenant.get_grant(READER).await?["metadata"]["uid"]);
    let made = tenant.children(&uid).await?;
    ensure!(made.is_empty(), "{made:?}");
    // One that permits all of it does.
    let whole = json!({"spec": {"access": {"rules": [
        rule("", "configmaps", &["get"], &[]), rule("", "endpoints", &["get"], &[]), rule("", "services", &["get"], &[]),
    ]}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, whole)
        .await?;
    // The operator itself was given less.
    tenant.wait_reason(READER, "CeilingExceeded").await?;
    Ok(())
}
