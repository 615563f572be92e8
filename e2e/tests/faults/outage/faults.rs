//! Calls of the operator go wrong, one by one, on their way to the API server or back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::faults::Call;
use wayleave_e2e::legacy::{by_legacy, legacy, permit};
use wayleave_e2e::tenant::{LIMIT, api, condition, next_second, text};
use wayleave_e2e::{Fault, eventually};

use super::cluster::{Breakable, OPERATOR, elapsed, made, reads, uid};

const READER: &str = "reader";
/// Watches tell what follows a change well within this.
const MINUTE: Duration = Duration::from_secs(60);
/// The clocks are compared sooner than this.
const JUMPED: Duration = Duration::from_secs(5);
/// A denial that nothing holds up.
const DENIED: Duration = Duration::from_secs(5);
/// No object costs more calls a minute, whatever fails.
const MOST_CALLS: usize = 20;

fn any(_: &Call) -> bool {
    true
}

fn takes_away(call: &Call) -> bool {
    call.method == Method::DELETE
}

fn said(grant: &Value, type_: &str) -> (String, String) {
    let condition = condition(grant, type_);
    (text(&condition["status"]), text(&condition["reason"]))
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

/// The value of a counter.
fn count_of(metrics: &str, sample: &str) -> Result<u64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {sample} in\n{metrics}"))?.parse()?)
}

#[tokio::test]
async fn while_the_clocks_differ_nothing_is_issued_and_access_ends_all_the_same() -> Result<()> {
    let cluster = Breakable::start().await?;
    let live = cluster.tenant("skew-live").await?;
    let partner = live.live(READER, json!({})).await?;
    let before = live.get_grant(READER).await?;
    cluster.operator.stop().await?;

    let skewed = cluster.faults.break_calls(Fault::DateAhead(45), any);
    cluster.operator.start_again()?;
    cluster.operator.wait_ready().await?;
    let fresh = cluster.tenant("skew-fresh").await?;
    fresh.grant(READER, json!({})).await?;
    fresh.approve(READER, json!({})).await?;
    let held = fresh.wait_reason(READER, "ClockSkew").await?;
    ensure!(
        said(&held, "Ready") == is("False", "ClockSkew"),
        "{}",
        held["status"]["conditions"]
    );
    ensure!(
        said(&held, "Stalled") == is("True", "ClockSkew"),
        "{}",
        held["status"]["conditions"]
    );
    let words = text(&condition(&held, "Ready")["message"]);
    // Measured in whole seconds, from an answer that was under way.
    ensure!(words.contains("differ by -4"), "{words}");
    ensure!(fresh.children(&uid(&held)).await?.is_empty(), "something was made");
    let metrics = cluster.operator.metrics().await?;
    ensure!(metrics.contains("wayleave_clock_skew_seconds -4"), "{metrics}");

    // What is there stays as it is, without a new credential; and what must end ends.
    reads(&partner).await?;
    ensure!(made(&live.get_grant(READER).await?) == made(&before));
    let cause = Instant::now();
    live.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_since(cause).await?;
    live.wait_reason(READER, "Revoked").await?;
    live.wait_nothing_left(&uid(&before)).await?;

    drop(skewed);
    fresh.wait_reason(READER, "Issued").await?;
    reads(&fresh.partner(READER).await?).await
}

/// Waits until an idle operator has nothing due by which it would look at the clock: it proves admission every three seconds until
/// the policies have settled, and then every five minutes.
async fn wait_idle(cluster: &Breakable) -> Result<()> {
    eventually("proofs of admission to become rare", MINUTE, || async {
        let calls = cluster.faults.calls(0);
        let proofs = calls.iter().filter(|(_, call)| call.path.contains("dryRun="));
        let last = proofs.map(|(at, _)| at.elapsed()).min().context("none yet")?;
        ensure!(last > JUMPED, "the last was {last:?} ago");
        Ok(Some(()))
    })
    .await
}

async fn jumps(name: &str, ahead: i64) -> Result<()> {
    let cluster = Breakable::start().await?;
    let live = cluster.tenant(&format!("{name}-live")).await?;
    let partner = live.live(READER, json!({})).await?;
    let fresh = cluster.tenant(&format!("{name}-fresh")).await?;
    fresh.grant(READER, json!({})).await?;
    fresh.wait_reason(READER, "AwaitingApproval").await?;
    wait_idle(&cluster).await?;

    let jumped = cluster.faults.break_calls(Fault::DateAhead(ahead), any);
    elapsed(Instant::now(), JUMPED).await?;
    fresh.approve(READER, json!({})).await?;
    let held = fresh.wait_reason(READER, "ClockSkew").await?;
    ensure!(
        said(&held, "Stalled") == is("True", "ClockSkew"),
        "{}",
        held["status"]["conditions"]
    );
    ensure!(fresh.children(&uid(&held)).await?.is_empty(), "something was made");
    reads(&partner).await.context("what was there before")?;
    let cause = Instant::now();
    live.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_within(cause, DENIED).await?;
    live.wait_reason(READER, "Revoked").await?;

    drop(jumped);
    fresh.wait_reason(READER, "Issued").await?;
    reads(&fresh.partner(READER).await?).await
}

#[tokio::test]
async fn a_clock_that_falls_behind_while_it_runs_stops_issuing_and_no_end() -> Result<()> {
    jumps("jump-behind", 45).await
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_while_it_runs_stops_issuing_and_no_end() -> Result<()> {
    jumps("jump-ahead", -45).await
}

#[tokio::test]
async fn an_end_that_can_not_be_made_is_the_loudest_thing_and_is_made_when_it_can() -> Result<()> {
    let cluster = Breakable::start().await?;
    let tenant = cluster.tenant("revocation-fails").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let broken = cluster.faults.break_calls(Fault::Refused(500), takes_away);
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let failed = tenant.wait_reason(READER, "RevocationFailed").await?;
    for (type_, status) in [("Ready", "False"), ("Active", "True"), ("Stalled", "True")] {
        ensure!(
            said(&failed, type_) == is(status, "RevocationFailed"),
            "{}",
            failed["status"]["conditions"]
        );
    }
    let words = text(&condition(&failed, "Active")["message"]);
    ensure!(words.contains("may still work"), "{words}");
    reads(&partner).await?;
    eventually("an event that warns", LIMIT, || async {
        let events = api(&tenant.root, "Event", &tenant.ns)
            .list(&ListParams::default())
            .await?;
        let warns = events
            .iter()
            .any(|event| event.data["reason"] == "RevocationFailed" && event.data["type"] == "Warning");
        Ok(warns.then_some(()))
    })
    .await?;
    let metrics = cluster.operator.metrics().await?;
    ensure!(metrics.contains("wayleave_overdue_grants 1"), "{metrics}");

    // Tried again by itself: nothing touches the grant.
    drop(broken);
    let mended = Instant::now();
    eventually("the partner to be refused", MINUTE, || async {
        let code = partner.read().await?;
        ensure!(code == 403 || code == 401, "answered with {code}");
        Ok(Some(()))
    })
    .await?;
    wayleave_e2e::progress(&format!("refused {:?} after deletions worked again", mended.elapsed()));
    let revoked = tenant.wait_reason(READER, "Revoked").await?;
    ensure!(said(&revoked, "Active") == is("False", "Revoked"));
    tenant.wait_nothing_left(&uid(&revoked)).await?;
    partner.wait_unauthorized().await?;
    let metrics = cluster.operator.metrics().await?;
    ensure!(metrics.contains("wayleave_overdue_grants 0"));
    ensure!(count_of(&metrics, "wayleave_closing_failures_total")? > 0, "{metrics}");
    Ok(())
}

#[tokio::test]
async fn of_a_static_credential_a_binding_that_is_left_is_a_failed_revocation_by_itself() -> Result<()> {
    let cluster = Breakable::start().await?;
    let tenant = cluster.tenant("static-revocation-fails").await?;
    let partner = legacy(&tenant).await?;
    let controls = json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false});
    permit(&tenant, controls).await?;
    tenant.grant(READER, by_legacy()).await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    // A binding without its Role gives nothing.
    let unbinds = |call: &Call| {
        ["rolebindings", "roles"]
            .iter()
            .any(|it| call.writes(&Method::DELETE, it))
    };
    for code in [403, 500] {
        let broken = cluster.faults.break_calls(Fault::Refused(code), unbinds);
        tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
        let failed = tenant.wait_reason(READER, "RevocationFailed").await?;
        ensure!(said(&failed, "Active") == is("True", "RevocationFailed"), "{code}");
        reads(&partner).await?;
        drop(broken);
        let revoked = tenant.wait_reason(READER, "Revoked").await?;
        partner.refused_since(Instant::now()).await?;
        tenant.wait_nothing_left(&uid(&revoked)).await?;
        next_second().await;
        tenant.approve(READER, json!({})).await?;
        tenant.wait_reason(READER, "Issued").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_that_lasts_makes_no_hot_loop_and_leaves_nothing_behind() -> Result<()> {
    let cluster = Breakable::start().await?;
    let binds = |call: &Call| call.writes(&Method::POST, "rolebindings");
    let broken = cluster.faults.break_calls(Fault::Refused(503), binds);
    let tenant = cluster.tenant("hot-loop").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.approve(READER, json!({})).await?;
    let before = cluster.faults.met();
    // The first attempts follow soon, for what passes; what lasts is tried ever more rarely.
    eventually("the fourth attempt to fail", LIMIT, || async {
        Ok((cluster.faults.met() >= before + 4).then_some(()))
    })
    .await?;
    let failures = "wayleave_issue_failures_total{action=\"issue\",reason=\"ServerError\"}";
    let counted = count_of(&cluster.operator.metrics().await?, failures)?;
    ensure!(counted >= 3, "four attempts failed, and {counted} were counted");
    let (audit, begun) = (cluster.cp.audit()?, Instant::now());
    let mark = audit.mark()?;
    eventually("a minute to pass", MINUTE + LIMIT, || async {
        Ok((begun.elapsed() >= MINUTE).then_some(()))
    })
    .await?;
    let calls = audit.since(mark)?.by_user(OPERATOR);
    let of_grant: Vec<String> = calls
        .iter()
        .filter(|call| call.object_ref.as_ref().is_some_and(|it| it.resource != "leases") && call.verb != "watch")
        .map(|call| format!("{} {}", call.verb, call.request_uri))
        .collect();
    ensure!(
        of_grant.len() <= MOST_CALLS,
        "{} calls in a minute: {of_grant:#?}",
        of_grant.len()
    );
    ensure!(
        cluster.faults.met() > before + 4,
        "it was not tried again in that minute"
    );
    let grant = tenant.get_grant(READER).await?;
    ensure!(tenant.children(&uid(&grant)).await?.is_empty(), "something was left");

    drop(broken);
    // A change of the grant ends the pause.
    tenant
        .patch("AccessGrant", READER, json!({"spec": {"suspend": true}}))
        .await?;
    tenant.wait_reason(READER, "Suspended").await?;
    tenant
        .patch("AccessGrant", READER, json!({"spec": {"suspend": false}}))
        .await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}

#[tokio::test]
async fn tokens_whose_answers_were_lost_die_and_the_grant_gets_another() -> Result<()> {
    let cluster = Breakable::start().await?;
    let mints = |call: &Call| call.writes(&Method::POST, "token");
    let broken = cluster.faults.break_calls(Fault::AnswerLost, mints);
    let tenant = cluster.tenant("lost-token").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.approve(READER, json!({})).await?;
    let before = cluster.faults.met();
    eventually("two answers to be lost", LIMIT, || async {
        Ok((cluster.faults.met() >= before + 2).then_some(()))
    })
    .await?;
    drop(broken);
    let issued = eventually("the grant to be issued", MINUTE, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok((said(&grant, "Active") == is("True", "Issued")).then_some(grant))
    })
    .await?;
    ensure!(
        issued["status"]["activations"].as_i64() >= Some(3),
        "{}",
        issued["status"]
    );
    // Of the activations whose token nobody got nothing is left, the anchors least of all.
    ensure!(
        tenant.children(&uid(&issued)).await?.len() == 5,
        "{:?}",
        tenant.children(&uid(&issued)).await?
    );
    reads(&tenant.partner(READER).await?).await
}
