//! Every reason for being inactive is reached, says what to do, and is left again.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, condition, create, enrolment, in_seconds, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{GROWING, cluster, tenant};

/// The conditions of a state, by the table of the design: Ready, Active, and what is there beside them.
fn is_told(grant: &Value, ready: &str, active: &str, extra: Option<&str>, words: &[&str]) -> Result<()> {
    let of = |type_: &str| text(&condition(grant, type_)["status"]);
    ensure!(
        of("Ready") == ready && of("Active") == active,
        "{}",
        grant["status"]["conditions"]
    );
    for type_ in ["Reconciling", "Stalled"] {
        let wanted = if extra == Some(type_) { "True" } else { "" };
        ensure!(of(type_) == wanted, "{type_}: {}", grant["status"]["conditions"]);
    }
    ensure!(
        !condition(grant, "Approved").is_null(),
        "{}",
        grant["status"]["conditions"]
    );
    ensure!(grant["status"]["observedGeneration"] == grant["metadata"]["generation"]);
    let said = text(&condition(grant, "Active")["message"]);
    for word in words {
        ensure!(said.contains(word), "no \"{word}\" in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn waiting_for_approval_and_issued() -> Result<()> {
    let tenant = tenant("reason-waiting").await?;
    tenant.grant("reader", json!({})).await?;
    let waiting = tenant.wait_reason("reader", "AwaitingApproval").await?;
    is_told(&waiting, "True", "False", None, &["1 approval of security asked for"])?;
    ensure!(condition(&waiting, "Approved")["status"] == "Unknown");
    let uid = text(&waiting["metadata"]["uid"]);
    ensure!(
        tenant.children(&uid).await?.is_empty(),
        "something is there before it was approved"
    );
    tenant.approve("reader", json!({})).await?;
    let issued = tenant.wait_reason("reader", "Issued").await?;
    is_told(&issued, "True", "True", None, &["access is in place until"])?;
    ensure!(condition(&issued, "Approved")["status"] == "True");
    ensure!(
        tenant.children(&uid).await?.len() == 5,
        "{:?}",
        tenant.children(&uid).await?
    );
    Ok(())
}

#[tokio::test]
async fn scheduled_until_it_starts() -> Result<()> {
    let tenant = tenant("reason-scheduled").await?;
    let start = in_seconds(12);
    tenant.grant("reader", json!({"startsAt": start})).await?;
    tenant.approve("reader", json!({})).await?;
    let scheduled = tenant.wait_reason("reader", "Scheduled").await?;
    is_told(&scheduled, "True", "False", None, &["spec.startsAt", &start])?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn not_permitted_until_a_policy_permits_it() -> Result<()> {
    let tenant = tenant("reason-not-permitted").await?;
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]);
    tenant.grant("reader", json!({"access": [{"rules": rules}]})).await?;
    let refused = tenant.wait_reason("reader", "NotPermitted").await?;
    is_told(&refused, "False", "False", Some("Stalled"), &["services", &tenant.ns])?;
    let ceiling = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]);
    let wider = json!({"spec": {"access": {"rules": ceiling}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, wider)
        .await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn not_enrolled_until_it_is() -> Result<()> {
    let tenant = tenant("reason-not-enrolled").await?;
    tenant.delete("RoleBinding", &tenant.ns, "enrolment").await?;
    tenant.grant("reader", json!({})).await?;
    tenant.approve("reader", json!({})).await?;
    let outside = tenant.wait_reason("reader", "NotEnrolled").await?;
    is_told(&outside, "False", "False", Some("Stalled"), &[&tenant.ns, "enrol"])?;
    create(
        &tenant.root,
        "RoleBinding",
        &tenant.ns,
        "again",
        enrolment("wayleave-enrolment"),
    )
    .await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn without_its_integration_until_there_is_one() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "reason-no-integration").await?;
    eventually("carol to have the right to ask", LIMIT, || async {
        tenant.grant("reader", json!({})).await.map(Some)
    })
    .await?;
    let alone = tenant.wait_reason("reader", "IntegrationMissing").await?;
    is_told(&alone, "False", "False", Some("Stalled"), &["PartnerIntegration acme"])?;
    tenant.integration("acme", json!({})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn too_short_until_it_is_prolonged_or_a_soft_end_will_do() -> Result<()> {
    let tenant = tenant("reason-too-short").await?;
    let hard = json!({"spec": {"limits": {"hardExpiry": "Required"}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, hard)
        .await?;
    tenant.grant("reader", json!({"expiresAt": in_seconds(300)})).await?;
    tenant.approve("reader", json!({})).await?;
    let short = tenant.wait_reason("reader", "TooShort").await?;
    is_told(&short, "False", "False", Some("Stalled"), &["limits.hardExpiry"])?;
    let soft = json!({"spec": {"limits": {"hardExpiry": "Preferred"}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, soft)
        .await?;
    let issued = tenant.wait_reason("reader", "Issued").await?;
    ensure!(
        issued["status"]["credential"]["hardExpiry"] == false,
        "{}",
        issued["status"]["credential"]
    );
    Ok(())
}

#[tokio::test]
async fn a_role_that_grew_ends_it_until_it_is_approved_again() -> Result<()> {
    let tenant = tenant("reason-role-grew").await?;
    let rules = |verbs: Value| json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]);
    create(
        &tenant.root,
        "ClusterRole",
        "",
        GROWING,
        json!({"rules": rules(json!(["get"]))}),
    )
    .await?;
    let allowed = json!({"spec": {"access": {"clusterRoles": [GROWING], "rules": null}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, allowed)
        .await?;
    let access = json!([{"clusterRoleRef": {"name": GROWING}}]);
    let partner = tenant.live("reader", json!({"access": access})).await?;
    let grown = json!({"rules": rules(json!(["get", "list"]))});
    let cause = std::time::Instant::now();
    tenant.patch_as(&tenant.root, "ClusterRole", "", GROWING, grown).await?;
    partner.refused_since(cause).await?;
    let grew = tenant.wait_reason("reader", "RoleGrew").await?;
    is_told(&grew, "False", "False", Some("Stalled"), &[GROWING, "list"])?;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn a_foreign_secret_of_the_name_is_left_alone() -> Result<()> {
    let tenant = tenant("reason-name-conflict").await?;
    let foreign = json!({"stringData": {"key": "value"}});
    let before = create(&tenant.root, "Secret", &tenant.ns, "reader-credential", foreign).await?;
    tenant.grant("reader", json!({})).await?;
    tenant.approve("reader", json!({})).await?;
    let conflict = tenant.wait_reason("reader", "NameConflict").await?;
    is_told(
        &conflict,
        "False",
        "False",
        Some("Stalled"),
        &["reader-credential", "secretName"],
    )?;
    let uid = text(&conflict["metadata"]["uid"]);
    tenant.wait_nothing_left(&uid).await?;
    let secrets = wayleave_e2e::tenant::api(&tenant.root, "Secret", &tenant.ns);
    let after = serde_json::to_value(secrets.get("reader-credential").await?)?;
    ensure!(before == after, "the foreign Secret was touched");
    tenant.delete("Secret", &tenant.ns, "reader-credential").await?;
    // Any change has it tried again at once.
    let nudge = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", nudge)
        .await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn more_than_the_ceiling_is_refused_by_the_api_server_and_said() -> Result<()> {
    let tenant = tenant("reason-ceiling").await?;
    // The policy permits it; the operator was not given it.
    let rules = json!([{"apiGroups": [""], "resources": ["endpoints"], "verbs": ["get"]}]);
    tenant.grant("reader", json!({"access": [{"rules": rules}]})).await?;
    tenant.approve("reader", json!({})).await?;
    let beyond = tenant.wait_reason("reader", "CeilingExceeded").await?;
    is_told(&beyond, "False", "False", Some("Stalled"), &["endpoints", "ceiling"])?;
    tenant.wait_nothing_left(&text(&beyond["metadata"]["uid"])).await?;
    let less = json!({"spec": {"access": tenant.grant_spec()["access"]}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", less)
        .await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn at_most_so_many_grants_of_an_integration_are_active() -> Result<()> {
    let tenant = tenant("reason-count").await?;
    let one = json!({"spec": {"limits": {"activeGrantsPerIntegration": 1}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, one)
        .await?;
    tenant.live("first", json!({})).await?;
    next_second().await;
    tenant.grant("second", json!({})).await?;
    tenant.approve("second", json!({})).await?;
    let surplus = tenant.wait_reason("second", "NotPermitted").await?;
    is_told(&surplus, "False", "False", Some("Stalled"), &["acme", "at most 1"])?;
    tenant.delete("AccessGrant", &tenant.ns, "first").await?;
    tenant.wait_reason("second", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn an_approval_of_a_requester_does_not_count_and_says_why() -> Result<()> {
    let tenant = tenant("reason-own-request").await?;
    // Carol holds the right to approve, and is a requester.
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carol@corp.example"}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wayleave-approver"});
    let body = json!({"roleRef": role, "subjects": subjects});
    create(&tenant.root, "RoleBinding", &tenant.ns, "carol-approves", body).await?;
    let grant = tenant.grant("reader", json!({})).await?;
    let waiting = tenant.wait_reason("reader", "AwaitingApproval").await?;
    let spec = json!({
        "subject": {"kind": "AccessGrant", "name": "reader", "uid": grant["metadata"]["uid"]},
        "decision": "Approve", "digest": waiting["status"]["digest"], "targetNamespaces": [tenant.ns],
        "decidedBy": "carol@corp.example", "submittedBy": "carol@corp.example", "reason": "my own",
    });
    wayleave_e2e::eventually("carol to have the right", wayleave_e2e::tenant::LIMIT, || async {
        create(
            &tenant.carol,
            "AccessDecision",
            &tenant.ns,
            "own",
            json!({"spec": spec}),
        )
        .await
        .map(Some)
    })
    .await?;
    let told = wayleave_e2e::eventually("the decision to be told", wayleave_e2e::tenant::LIMIT, || async {
        let decision = wayleave_e2e::tenant::api(&tenant.root, "AccessDecision", &tenant.ns)
            .get("own")
            .await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        Ok((!counted.is_null()).then_some(counted))
    })
    .await?;
    ensure!(told["status"] == "False" && told["reason"] == "OwnRequest", "{told}");
    let still = tenant.get_grant("reader").await?;
    ensure!(condition(&still, "Active")["reason"] == "AwaitingApproval");
    Ok(())
}
