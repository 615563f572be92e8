//! Every cause of an end: the partner is refused soon after it, nothing is left, and the grant says why.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{END, LIMIT, Partner, api, condition, create, enrolment, in_seconds, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{OTHER_ENROLMENT, tenant};

const LONG: Duration = Duration::from_secs(120);

/// After the cause: refused at once, then dead; nothing left; the reason said.
async fn ended(tenant: &Tenant<'_>, partner: &Partner, cause: Instant, reason: &str) -> Result<Value> {
    let uid = text(&tenant.get_grant("reader").await?["metadata"]["uid"]);
    partner.refused_since(cause).await?;
    let grant = tenant.wait_reason("reader", reason).await?;
    tenant.wait_nothing_left(&uid).await?;
    ensure!(condition(&grant, "Active")["status"] == "False", "{grant}");
    ensure!(grant["status"]["identity"].is_null() && grant["status"]["credential"].is_null());
    Ok(grant)
}

#[tokio::test]
async fn a_suspended_grant_ends_and_comes_back_under_another_name() -> Result<()> {
    let tenant = tenant("end-suspend").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let before = tenant.get_grant("reader").await?;
    let cause = Instant::now();
    tenant
        .patch_as(
            &tenant.carol,
            "AccessGrant",
            &tenant.ns,
            "reader",
            json!({"spec": {"suspend": true}}),
        )
        .await?;
    ended(&tenant, &partner, cause, "Suspended").await?;
    partner.wait_unauthorized().await?;
    tenant
        .patch_as(
            &tenant.carol,
            "AccessGrant",
            &tenant.ns,
            "reader",
            json!({"spec": {"suspend": false}}),
        )
        .await?;
    let after = tenant.wait_reason("reader", "Issued").await?;
    let name = |grant: &Value| text(&grant["status"]["identity"]["serviceAccount"]);
    ensure!(name(&before) != name(&after), "a name came back: {}", name(&after));
    ensure!(partner.read().await? == 401, "the old token works again");
    tenant.partner("reader").await?.answered().await
}

#[tokio::test]
async fn a_suspended_integration_ends_its_grants() -> Result<()> {
    let tenant = tenant("end-integration-suspended").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant
        .patch("PartnerIntegration", "acme", json!({"spec": {"suspend": true}}))
        .await?;
    ended(&tenant, &partner, cause, "IntegrationSuspended").await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_integration_ends_its_grants() -> Result<()> {
    let tenant = tenant("end-integration-deleted").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant.delete("PartnerIntegration", &tenant.ns, "acme").await?;
    ended(&tenant, &partner, cause, "IntegrationMissing").await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_who_is_deleted_takes_the_access_along_and_does_not_bring_it_back() -> Result<()> {
    let tenant = tenant("end-owner-deleted").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant.delete("AccessOwner", "", &tenant.owner_name("bob")).await?;
    let grant = ended(&tenant, &partner, cause, "OwnerRemoved").await?;
    let said = condition(&grant, "Active")["message"].to_string();
    ensure!(said.contains(&tenant.owner_name("bob")), "{said}");
    tenant.owner("bob").await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_who_is_inactive_takes_the_access_along() -> Result<()> {
    let tenant = tenant("end-owner-inactive").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    let (owner, inactive) = (tenant.owner_name("alice"), json!({"spec": {"active": false}}));
    tenant
        .patch_as(&tenant.root, "AccessOwner", "", &owner, inactive)
        .await?;
    let grant = ended(&tenant, &partner, cause, "OwnerRemoved").await?;
    let said = text(&condition(&grant, "Active")["message"]);
    ensure!(
        said.starts_with(&format!("AccessOwner {owner} is inactive; ")),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_deny_ends_it_until_it_is_approved_again() -> Result<()> {
    let tenant = tenant("end-deny").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant.decide("AccessGrant", "reader", "Deny", json!({})).await?;
    let grant = ended(&tenant, &partner, cause, "Denied").await?;
    ensure!(condition(&grant, "Stalled")["status"] == "True" && condition(&grant, "Ready")["status"] == "False");
    next_second().await;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn a_revoke_ends_it() -> Result<()> {
    let tenant = tenant("end-revoke").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant.decide("AccessGrant", "reader", "Revoke", json!({})).await?;
    let grant = ended(&tenant, &partner, cause, "Revoked").await?;
    ensure!(
        condition(&grant, "Ready")["status"] == "True",
        "settled, not broken: {grant}"
    );
    Ok(())
}

#[tokio::test]
async fn a_revoke_of_the_integration_ends_its_grants() -> Result<()> {
    let tenant = tenant("end-revoke-all").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    tenant.decide("PartnerIntegration", "acme", "Revoke", json!({})).await?;
    ended(&tenant, &partner, cause, "Revoked").await?;
    Ok(())
}

#[tokio::test]
async fn a_withdrawn_approval_ends_it() -> Result<()> {
    let tenant = tenant("end-withdrawn").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let name = text(&tenant.get_grant("reader").await?["status"]["approvals"][0]["decisionRef"]);
    let cause = Instant::now();
    tenant.delete("AccessDecision", &tenant.ns, &name).await?;
    ended(&tenant, &partner, cause, "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_request_ends_it_and_says_what_changed() -> Result<()> {
    let tenant = tenant("end-changed").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    let change = json!({"spec": {"ticket": "CHG-2"}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", change)
        .await?;
    let grant = ended(&tenant, &partner, cause, "AwaitingApproval").await?;
    let said = condition(&grant, "Active")["message"].to_string();
    ensure!(said.contains("ticket"), "the changed section is not named: {said}");
    Ok(())
}

#[tokio::test]
async fn a_policy_that_no_longer_permits_it_ends_it() -> Result<()> {
    let tenant = tenant("end-policy").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let cause = Instant::now();
    let narrower = json!({"spec": {"dataClassifications": ["Public"]}});
    let name = tenant.ns.clone();
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &name, narrower)
        .await?;
    ended(&tenant, &partner, cause, "NotPermitted").await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_grant_is_gone_when_nothing_is_left() -> Result<()> {
    let tenant = tenant("end-deleted").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let uid = text(&tenant.get_grant("reader").await?["metadata"]["uid"]);
    let grants = api(&tenant.root, "AccessGrant", &tenant.ns);
    let cause = Instant::now();
    grants.delete("reader", &DeleteParams::default()).await?;
    partner.refused_since(cause).await?;
    eventually("the grant to be gone", wayleave_e2e::tenant::LIMIT, || async {
        Ok(grants.get_opt("reader").await?.is_none().then_some(()))
    })
    .await?;
    ensure!(
        tenant.children(&uid).await?.is_empty(),
        "it was let go with something left"
    );
    // The same again, at once: another grant, which nobody approved.
    tenant.grant("reader", json!({})).await?;
    let anew = tenant.wait_reason("reader", "AwaitingApproval").await?;
    ensure!(text(&anew["metadata"]["uid"]) != uid);
    partner.wait_unauthorized().await
}

#[tokio::test]
async fn a_withdrawn_enrolment_ends_it_and_can_not_be_withdrawn_by_accident() -> Result<()> {
    let tenant = tenant("end-enrolment").await?;
    let (root, ns) = (&tenant.root, &tenant.ns);
    let chart = api(root, "ClusterRole", "").get("wayleave-enrolment").await?;
    let rules = chart.data["rules"].clone();
    let labelled = json!({"metadata": {"labels": {"wayleave.dev/enrolment": "true"}}, "rules": rules});
    create(root, "ClusterRole", "", OTHER_ENROLMENT, labelled).await?;
    create(root, "RoleBinding", ns, "other", enrolment(OTHER_ENROLMENT)).await?;
    tenant.delete("RoleBinding", ns, "enrolment").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let refusal = eventually(
        "the live grant to keep its enrolment",
        wayleave_e2e::tenant::LIMIT,
        || async {
            let dry = DeleteParams {
                dry_run: true,
                ..DeleteParams::default()
            };
            let answer = api(root, "RoleBinding", ns).delete("other", &dry).await;
            Ok(answer.err().map(|error| error.to_string()))
        },
    )
    .await?;
    ensure!(
        refusal.contains("the AccessGrant reader is active in this namespace"),
        "{refusal}"
    );
    let cause = Instant::now();
    let unlabelled = json!({"metadata": {"labels": {"wayleave.dev/enrolment": null}}});
    tenant
        .patch_as(root, "ClusterRole", "", OTHER_ENROLMENT, unlabelled)
        .await?;
    let grant = ended(&tenant, &partner, cause, "NotEnrolled").await?;
    ensure!(
        condition(&grant, "Active")["message"].to_string().contains(ns.as_str()),
        "{grant}"
    );
    Ok(())
}

/// The three run side by side: each is a minute of waiting.
#[tokio::test]
async fn what_ends_by_date_ends_at_the_instant() -> Result<()> {
    tokio::try_join!(
        an_expired_grant_gives_nothing_when_it_is_applied_again(),
        the_end_of_the_agreement_ends_it(),
        an_approval_that_lapses_ends_it_until_it_is_approved_again(),
    )?;
    is_measured(&["end-expiry", "end-agreement", "end-lapse"]).await
}

async fn an_expired_grant_gives_nothing_when_it_is_applied_again() -> Result<()> {
    let tenant = tenant("end-expiry").await?;
    let end = in_seconds(90);
    let partner = tenant.live("reader", json!({"expiresAt": end})).await?;
    let grant = tenant.get_grant("reader").await?;
    ensure!(grant["status"]["credential"]["hardExpiry"] == false && grant["status"]["activeUntil"] == end.as_str());
    partner.refused_at(&end).await?;
    ended(&tenant, &partner, Instant::now(), "Expired").await?;
    partner.wait_unauthorized().await?;
    tenant.delete("AccessGrant", &tenant.ns, "reader").await?;
    eventually("the grant to be gone", LONG, || async {
        let grants = api(&tenant.root, "AccessGrant", &tenant.ns);
        Ok(grants.get_opt("reader").await?.is_none().then_some(()))
    })
    .await?;
    let again = tenant.grant("reader", json!({"expiresAt": end})).await?;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Expired").await?;
    ensure!(tenant.children(&text(&again["metadata"]["uid"])).await?.is_empty());
    Ok(())
}

/// How late access ended at its date is in the log, and among what is measured; of one of these tenants at least, since the other
/// lane may be quicker.
async fn is_measured(tenants: &[&str]) -> Result<()> {
    let operator = &crate::cluster::cluster().await?.operator;
    let logs = operator.logs()?;
    let is_it = |line: &&str| line.contains("access closed") && tenants.iter().any(|ns| line.contains(ns));
    let closed: Value = serde_json::from_str(logs.lines().find(is_it).context("the log has no word of it")?)?;
    let lag = closed["fields"]["lag_seconds"].as_f64();
    ensure!(
        lag.is_some_and(|lag| (0.0..END.as_secs_f64()).contains(&lag)),
        "{closed}"
    );
    let metrics = operator.metrics().await?;
    let sample = "wayleave_revocation_lag_seconds_count{cause=\"deadline\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(sample));
    ensure!(count.is_some_and(|count| count != "0"), "{metrics}");
    Ok(())
}

async fn the_end_of_the_agreement_ends_it() -> Result<()> {
    let tenant = Tenant::without_integration(crate::cluster::cluster().await?.cp, "end-agreement").await?;
    let end = in_seconds(90);
    tenant
        .integration("acme", json!({"agreement": {"endsAt": end}}))
        .await?;
    let partner = tenant.live("reader", json!({})).await?;
    partner.refused_at(&end).await?;
    ended(&tenant, &partner, Instant::now(), "AgreementEnded").await?;
    Ok(())
}

/// Waits until the integration says so of its review; gives the words.
async fn review_is(tenant: &Tenant<'_>, reason: &str) -> Result<String> {
    eventually("the integration to say so", LIMIT, || async {
        let found = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        let review = condition(&serde_json::to_value(found)?, "ReviewCurrent");
        ensure!(review["reason"] == reason, "{review}");
        Ok(Some(text(&review["message"])))
    })
    .await
}

async fn an_approval_that_lapses_ends_it_until_it_is_approved_again() -> Result<()> {
    let tenant = tenant("end-lapse").await?;
    tenant.grant("reader", json!({})).await?;
    let end = in_seconds(90);
    tenant.approve("reader", json!({"validUntil": end})).await?;
    let live = tenant.wait_reason("reader", "Issued").await?;
    ensure!(live["status"]["nextReviewAt"] == end, "{}", live["status"]);
    let partner = tenant.partner("reader").await?;
    partner.answered().await?;
    let message = review_is(&tenant, "DueIn1Day").await?;
    ensure!(
        message.contains(&format!("an approval ends at {end}")) && message.contains("approve again"),
        "{message}"
    );
    partner.refused_at(&end).await?;
    ended(&tenant, &partner, Instant::now(), "ApprovalEnded").await?;
    let message = review_is(&tenant, "Lapsed").await?;
    ensure!(
        message.starts_with("ended on a date that its approval set"),
        "{message}"
    );
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}
