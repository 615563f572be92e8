//! Recertification: a Review prolongs what was approved, ahead of its lapse it is spoken of, and without one access ends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{CAROL, END, LIMIT, Partner, api, condition, create, enrolment, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::cluster;

const READER: &str = "reader";
const RBAC: &str = "rbac.authorization.k8s.io";
/// The hand of a clock that is waited for.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// A tenant whose integration is reviewed so often.
async fn tenant(ns: &str, review: Value) -> Result<Tenant<'static>> {
    let tenant = Tenant::without_integration(cluster().await?.cp, ns).await?;
    tenant.integration("acme", json!({"review": review})).await?;
    Ok(tenant)
}

/// What a Review lists of a grant.
async fn entry(tenant: &Tenant<'_>, name: &str) -> Result<Value> {
    let grant = tenant.get_grant(name).await?;
    Ok(json!({"name": name, "uid": grant["metadata"]["uid"], "digest": grant["status"]["digest"]}))
}

/// Dave reviews; gives the decision's name and when it was written.
async fn review(tenant: &Tenant<'_>, grants: Value) -> Result<(String, Timestamp)> {
    let made = tenant
        .decide("PartnerIntegration", "acme", "Review", json!({"grants": grants}))
        .await?;
    let at = text(&made["metadata"]["creationTimestamp"]).parse()?;
    Ok((text(&made["metadata"]["name"]), at))
}

/// Waits until a decision is told whether it counts; gives its reason and the words.
async fn told(tenant: &Tenant<'_>, name: &str, reason: &str) -> Result<String> {
    eventually(&format!("{name} to be told {reason}"), LIMIT, || async {
        let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(name).await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        ensure!(counted["reason"] == reason, "{counted}");
        Ok(Some(text(&counted["message"])))
    })
    .await
}

async fn wait_active_until(tenant: &Tenant<'_>, end: Timestamp) -> Result<Value> {
    eventually(&format!("access until {end}"), LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let until = text(&grant["status"]["activeUntil"]);
        ensure!(until == end.to_string(), "until {until}");
        Ok(Some(grant))
    })
    .await
}

/// Waits until the integration says so of its review; gives the words.
async fn wait_review(tenant: &Tenant<'_>, integration: &str, reason: &str, limit: Duration) -> Result<String> {
    eventually(
        &format!("the review of {integration} to be {reason}"),
        limit,
        || async {
            let found = api(&tenant.root, "PartnerIntegration", &tenant.ns)
                .get(integration)
                .await?;
            let review = condition(&serde_json::to_value(found)?, "ReviewCurrent");
            ensure!(review["reason"] == reason, "{review}");
            Ok(Some(text(&review["message"])))
        },
    )
    .await
}

/// The one event of a reason about an integration: its type, and when it was published.
async fn event(tenant: &Tenant<'_>, integration: &str, reason: &str) -> Result<(String, Timestamp)> {
    eventually(&format!("an event {reason}"), LIMIT, || async {
        let all = api(&tenant.root, "Event", &tenant.ns)
            .list(&ListParams::default())
            .await?;
        let found: Vec<&Value> = all
            .iter()
            .map(|event| &event.data)
            .filter(|event| event["regarding"]["name"] == integration && event["reason"] == reason)
            .collect();
        ensure!(found.len() <= 1, "told more than once: {found:?}");
        let Some(event) = found.first() else { return Ok(None) };
        ensure!(event["series"].is_null(), "told more than once: {event}");
        Ok(Some((text(&event["type"]), text(&event["eventTime"]).parse()?)))
    })
    .await
}

#[tokio::test]
async fn a_review_prolongs_what_was_approved_and_nothing_else_does() -> Result<()> {
    let tenant = tenant("review", json!({"interval": "20m", "grace": "10m"})).await?;
    let minutes = SignedDuration::from_mins;
    let partner = tenant.live(READER, json!({})).await?;
    let before = tenant.get_grant(READER).await?;
    let approval = &before["status"]["approvals"][0];
    let approved: Timestamp = text(&approval["at"]).parse()?;
    ensure!(
        text(&before["status"]["activeUntil"]) == (approved + minutes(30)).to_string(),
        "{approval}"
    );
    ensure!(
        text(&before["status"]["nextReviewAt"]) == (approved + minutes(20)).to_string(),
        "{approval}"
    );
    let integration = || async {
        let found = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        anyhow::Ok(serde_json::to_value(found)?)
    };
    wait_review(&tenant, "acme", "Current", LIMIT).await?;
    ensure!(integration().await?["status"]["nextReviewAt"] == before["status"]["nextReviewAt"]);

    let listed = entry(&tenant, READER).await?;
    next_second().await;
    let (good, at) = review(&tenant, json!([listed])).await?;
    let renewed = wait_active_until(&tenant, at + minutes(30)).await?;
    ensure!(at > approved, "{at}");
    let message = told(&tenant, &good, "Counted").await?;
    ensure!(
        message == format!("reader: renewed until {}", at + minutes(30)),
        "{message}"
    );
    let renewal = &renewed["status"]["approvals"][0]["renewedBy"][0];
    ensure!(
        renewal["decisionRef"] == good.as_str() && renewal["by"] == "dave@corp.example",
        "{renewal}"
    );
    ensure!(
        renewed["status"]["identity"] == before["status"]["identity"],
        "a review is no new activation"
    );
    ensure!(partner.read().await? == 200);
    eventually("the next review of the integration", LIMIT, || async {
        let next = text(&integration().await?["status"]["nextReviewAt"]);
        Ok((next == (at + minutes(20)).to_string()).then_some(()))
    })
    .await?;

    // Of something else, or by who asked for it: nothing.
    next_second().await;
    let mut of_another = listed.clone();
    of_another["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let (wrong, _) = review(&tenant, json!([of_another])).await?;
    told(&tenant, &wrong, "DigestNotCurrent").await?;
    let mut of_another = listed.clone();
    of_another["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let (wrong, _) = review(&tenant, json!([of_another])).await?;
    told(&tenant, &wrong, "AnotherUID").await?;
    let (wrong, _) = review(
        &tenant,
        json!([{"name": "nobody", "uid": listed["uid"], "digest": listed["digest"]}]),
    )
    .await?;
    told(&tenant, &wrong, "SubjectMissing").await?;
    let own = own_review(&tenant, &cluster().await?.cp.user(CAROL, &["security"]).await?, &listed).await?;
    let message = told(&tenant, &own, "OwnRequest").await?;
    ensure!(message.contains(CAROL), "{message}");
    wait_active_until(&tenant, at + minutes(30)).await?;

    // One that is taken back takes its renewal along.
    tenant.delete("AccessDecision", &tenant.ns, &good).await?;
    let back = wait_active_until(&tenant, approved + minutes(30)).await?;
    ensure!(back["status"]["identity"] == before["status"]["identity"]);
    ensure!(partner.read().await? == 200);

    // A no is not reviewed away.
    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason(READER, "Revoked").await?;
    next_second().await;
    let (after, _) = review(&tenant, json!([listed])).await?;
    told(&tenant, &after, "NothingToRenew").await?;
    tenant.wait_reason(READER, "Revoked").await?;
    Ok(())
}

async fn own_review(tenant: &Tenant<'_>, carol: &Client, listed: &Value) -> Result<String> {
    let spec = json!({
        "subject": {"kind": "PartnerIntegration", "name": "acme"},
        "decision": "Review",
        "grants": [listed],
        "decidedBy": CAROL, "submittedBy": CAROL, "decidedByGroups": ["security"],
        "reason": "mine is fine",
    });
    create(carol, "AccessDecision", &tenant.ns, "own", json!({"spec": spec})).await?;
    Ok("own".to_owned())
}

/// What the decision doesn't name the operator asks about all the same: the right to review in every namespace reached.
#[tokio::test]
async fn a_review_counts_only_with_the_right_to_review_wherever_the_grant_reaches() -> Result<()> {
    let tenant = tenant("review-reach", json!({"interval": "20m", "grace": "10m"})).await?;
    let (root, other) = (&tenant.root, "review-reach-other");
    let labels = json!({"metadata": {"labels": {"tenant": tenant.ns}}});
    create(root, "Namespace", "", other, labels).await?;
    create(root, "ConfigMap", other, "feed", json!({"data": {"latest": "INV-7"}})).await?;
    create(root, "RoleBinding", other, "enrolment", enrolment("wayleave-enrolment")).await?;
    let rules = |verbs: Value, resource: &str| json!({"rules": [{"apiGroups": ["wayleave.dev"], "resources": [resource], "verbs": verbs}]});
    let group = json!([{"apiGroup": RBAC, "kind": "Group", "name": "security"}]);
    let bound = |role: &str| json!({"roleRef": {"apiGroup": RBAC, "kind": "Role", "name": role}, "subjects": group});
    let approving = rules(json!(["approve"]), "accessgrants/approval");
    create(root, "Role", other, "approving", approving).await?;
    create(root, "RoleBinding", other, "approving", bound("approving")).await?;
    let targets = json!({"spec": {"access": {"targetNamespaces": {"matchLabels": {"tenant": tenant.ns}}}}});
    tenant.patch_as(root, "AccessPolicy", "", &tenant.ns, targets).await?;
    let rule = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["feed"]}]);
    let access = json!([{"rules": rule, "namespaces": [tenant.ns, other]}]);
    let private = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
    tenant.grant(READER, private).await?;
    tenant
        .approve(READER, json!({"targetNamespaces": [tenant.ns, other]}))
        .await?;
    let before = tenant.wait_reason(READER, "Issued").await?;

    next_second().await;
    let listed = json!([entry(&tenant, READER).await?]);
    let (unnamed, at) = review(&tenant, listed.clone()).await?;
    let message = told(&tenant, &unnamed, "NotAllowed").await?;
    ensure!(
        message.contains(&format!("may not review in namespace {other}")),
        "{message}"
    );
    let now = tenant.get_grant(READER).await?;
    ensure!(now["status"]["activeUntil"] == before["status"]["activeUntil"], "{now}");

    // Who named it would not even be let write it; with the right, it counts.
    let named = json!({"grants": listed, "targetNamespaces": [other]});
    let refused = tenant
        .decide("PartnerIntegration", "acme", "Review", named.clone())
        .await;
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(refused.contains("you lack the verb review"), "{refused}");
    let reviewing = rules(json!(["review"]), "partnerintegrations/approval");
    create(root, "Role", other, "reviewing", reviewing).await?;
    create(root, "RoleBinding", other, "reviewing", bound("reviewing")).await?;
    // A refusal is remembered for a minute: the right is known before the operator asks for it.
    eventually("the right to be known", LIMIT, || async {
        let named = tenant.decide("PartnerIntegration", "acme", "Review", named.clone());
        named.await.map(Some)
    })
    .await?;
    let (good, later) = review(&tenant, listed).await?;
    ensure!(later >= at, "{later}");
    told(&tenant, &good, "Counted").await?;
    wait_active_until(&tenant, later + SignedDuration::from_mins(30)).await?;
    Ok(())
}

/// Reads until an instant: the partner is answered all along.
async fn answered_until(partner: &Partner, end: Timestamp) -> Result<()> {
    while Timestamp::now() < end {
        let code = partner.read().await?;
        ensure!(code == 200, "answered with {code}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The two run side by side: both are minutes of waiting.
#[tokio::test]
async fn reviews_are_spoken_of_ahead_and_what_is_not_reviewed_ends() -> Result<()> {
    tokio::try_join!(
        an_overdue_review_keeps_access_and_a_lapsed_one_ends_it(),
        every_step_ahead_is_told_once_at_its_instant(),
    )?;
    Ok(())
}

async fn an_overdue_review_keeps_access_and_a_lapsed_one_ends_it() -> Result<()> {
    let tenant = tenant("review-lapse", json!({"interval": "1m", "grace": "1m"})).await?;
    let partner = tenant.live(READER, json!({})).await?;
    let before = tenant.get_grant(READER).await?;
    let approved: Timestamp = text(&before["status"]["approvals"][0]["at"]).parse()?;
    let (due, lapse) = (SignedDuration::from_mins(1), SignedDuration::from_mins(2));
    let listed = entry(&tenant, READER).await?;

    answered_until(&partner, approved + due).await?;
    let (kind, at) = event(&tenant, "acme", "ReviewOverdue").await?;
    ensure!(
        kind == "Warning" && at >= approved + due && at <= approved + due + LATE,
        "{at}"
    );
    let message = wait_review(&tenant, "acme", "Overdue", LIMIT).await?;
    ensure!(
        message.contains(&(approved + lapse).to_string()) && message.contains(READER),
        "{message}"
    );

    // In the grace it is reviewed: the end that was is passed without a gap, under the same identity.
    let (_, reviewed) = review(&tenant, json!([listed])).await?;
    wait_active_until(&tenant, reviewed + lapse).await?;
    let (kind, _) = event(&tenant, "acme", "ReviewCurrent").await?;
    ensure!(kind == "Normal", "{kind}");
    answered_until(&partner, approved + lapse + SignedDuration::from_secs(3)).await?;
    let renewed = tenant.get_grant(READER).await?;
    ensure!(
        renewed["status"]["identity"] == before["status"]["identity"],
        "{renewed}"
    );

    // And then not any more.
    answered_until(&partner, reviewed + lapse - SignedDuration::from_secs(1)).await?;
    let refused = loop {
        let (asked, code) = (Timestamp::now(), partner.read().await?);
        if code != 200 {
            ensure!(code == 403, "answered with {code}");
            break asked;
        }
    };
    let late = refused.duration_since(reviewed + lapse);
    ensure!(late.unsigned_abs() <= END, "refused {late} late");
    ensure!(Timestamp::now() >= reviewed + lapse, "refused early");
    let ended = tenant.wait_reason(READER, "ReviewLapsed").await?;
    ensure!(condition(&ended, "Approved")["reason"] == "ReviewLapsed", "{ended}");
    tenant.wait_nothing_left(&text(&ended["metadata"]["uid"])).await?;
    let (kind, _) = event(&tenant, "acme", "ReviewLapsed").await?;
    ensure!(kind == "Warning", "{kind}");
    let message = wait_review(&tenant, "acme", "Lapsed", LIMIT).await?;
    ensure!(message.contains("to be approved again: reader"), "{message}");

    // What lapsed is approved again, not reviewed.
    let (late, _) = review(&tenant, json!([listed])).await?;
    let message = told(&tenant, &late, "Lapsed").await?;
    ensure!(message.contains("approve again"), "{message}");
    tenant.wait_reason(READER, "ReviewLapsed").await?;
    next_second().await;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    wait_review(&tenant, "acme", "Current", LIMIT).await?;
    Ok(())
}

async fn every_step_ahead_is_told_once_at_its_instant() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "review-steps").await?;
    let steps = [(14, "DueIn14Days"), (7, "DueIn7Days"), (1, "DueIn1Day")];
    let mut first = Vec::new();
    for (days, _) in steps {
        // A minute before the step.
        let (integration, grant) = (format!("acme-{days}"), format!("reader-{days}"));
        let interval = format!("{days}d1m");
        tenant
            .integration(&integration, json!({"review": {"interval": interval, "grace": "7d"}}))
            .await?;
        tenant
            .grant(&grant, json!({"integrationRef": {"name": integration}}))
            .await?;
        tenant.approve(&grant, json!({})).await?;
        let live = tenant.wait_reason(&grant, "Issued").await?;
        first.push(text(&live["status"]["approvals"][0]["at"]).parse::<Timestamp>()?);
    }
    for ((days, reason), approved) in steps.into_iter().zip(first) {
        let integration = format!("acme-{days}");
        let limit = Duration::from_secs(90);
        wait_review(&tenant, &integration, reason, limit).await?;
        let (kind, at) = event(&tenant, &integration, &format!("Review{reason}")).await?;
        ensure!((kind == "Warning") == (days == 1), "{kind}");
        let step = approved + SignedDuration::from_mins(1);
        ensure!(at >= step && at <= step + LATE, "{reason}: {at}, not {step}");
        let found = api(&tenant.root, "PartnerIntegration", &tenant.ns)
            .get(&integration)
            .await?;
        let next = found.data["status"]["nextReviewAt"]
            .as_str()
            .context("no next review")?;
        let expected = step + SignedDuration::from_hours(24 * days);
        ensure!(next == expected.to_string(), "{next}, not {expected}");
    }
    Ok(())
}
