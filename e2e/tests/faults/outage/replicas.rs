//! Two replicas, and one that stands still: a lease is no fence, and who comes back from a pause finds another who leads.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use jiff::Timestamp;
use kube::Client;
use kube::api::DeleteParams;
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wayleave_e2e::faults::Call;
use wayleave_e2e::operator::NAMESPACE;
use wayleave_e2e::tenant::{LIMIT, api, create, text};
use wayleave_e2e::{Fault, Faults, eventually, is_long, progress};

use super::cluster::{Breakable, Replica, elapsed, made, reads, uid};

const READER: &str = "reader";
/// A denial that somebody else's failures do not hold up.
const DENIED: Duration = Duration::from_secs(5);
/// So long nothing is called about a grant before its end state is looked at: numbers are written once a second.
const QUIET: Duration = Duration::from_millis(2_500);
/// The authenticator keeps a success for ten seconds.
const CACHED: Duration = Duration::from_secs(14);
/// The first attempts follow soon, for what passes: what lasts is counted after them.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// No object costs more calls a minute, whatever fails, and however many replicas there are.
const MOST_CALLS: usize = 20;

/// Where a leader stands still while it issues: the API server has done what it was asked for. In a short run one before the
/// bindings are there, and one after.
const POSITIONS: [&str; 5] = ["token", "rolebindings", "serviceaccounts", "secrets", "roles"];
const SELECTION: usize = 2;

fn unbinds(call: &Call) -> bool {
    call.writes(&Method::DELETE, "rolebindings")
}

async fn wait_leads(replica: &Replica) -> Result<()> {
    eventually("the replica to lead", LIMIT, || async {
        Ok(replica.leads().await?.then_some(()))
    })
    .await
}

/// The code that says whether a token is anybody's.
async fn known(anybody: &Client, token: &str) -> Result<u16> {
    let whoami = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&whoami)?))?;
    let answer = anybody.send(ask).await.context("asking who a token is")?;
    Ok(answer.status().as_u16())
}

/// What all names of a grant's objects of ours begin with, whichever activation they are of.
fn prefix(grant: &Value) -> Result<String> {
    let identity = text(&grant["status"]["identity"]["serviceAccount"]);
    let (prefix, _) = identity.rsplit_once('-').context("no identity")?;
    Ok(format!("{prefix}-"))
}

/// The calls about a grant, each with its time. A proxy knows of the grants only that went through it.
fn calls_about(faults: &Faults, since: usize, ns: &str, prefix: &str) -> Vec<(Instant, Call)> {
    let mut calls = faults.calls(since);
    calls.retain(|(_, call)| !call.is_watch() && (call.tenant == ns || call.name.starts_with(prefix)));
    calls
}

/// A leader is stopped in the middle of an issue, another takes over and issues; then the first goes on.
async fn pauses_at(cluster: &Breakable, position: &'static str) -> Result<()> {
    // The one that waits for the lease is the one that started last.
    wait_leads(cluster).await?;
    let another = cluster.another().await?;
    let tenant = cluster.tenant(&format!("paused-at-{position}")).await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    let leader = Arc::clone(&cluster.operator);
    cluster.faults.kill_with(move || {
        if let Err(error) = leader.pause() {
            progress(&format!("the leader was not stopped: {error:#}"));
        }
    });
    let (ns, met) = (tenant.ns.clone(), AtomicBool::new(false));
    let stopped = cluster.faults.break_calls(Fault::Stopped, move |call| {
        let is_it = call.tenant == ns && call.is_write() && call.writes(&Method::POST, position);
        is_it && !met.swap(true, Ordering::SeqCst)
    });
    let (before, before_another) = (cluster.faults.minted().len(), another.faults.minted().len());
    tenant.approve(READER, json!({})).await?;
    eventually("the leader to stand still", LIMIT, || async {
        Ok(stopped.has_killed().then_some(()))
    })
    .await?;
    let paused = Instant::now();
    let issued = tenant.wait_reason(READER, "Issued").await?;
    wait_leads(&another).await?;
    let partner = tenant.partner(READER).await?;
    reads(&partner).await.context("what the other issued")?;
    progress(&format!(
        "{position}: the other issued {:?} after the pause began",
        paused.elapsed()
    ));

    cluster.operator.resume()?;
    let (since, since_another) = (cluster.faults.count(), another.faults.count());
    eventually("the first to see that it leads no more", LIMIT, || async {
        Ok(cluster.shows("wayleave_leader 0").await?.then_some(()))
    })
    .await?;
    let resumed = Instant::now();
    let prefix = prefix(&issued)?;
    eventually("both to have come to rest", LIMIT, || async {
        let mut calls = calls_about(&cluster.faults, since, &tenant.ns, &prefix);
        calls.extend(calls_about(&another.faults, since_another, &tenant.ns, &prefix));
        let last = calls.iter().map(|(at, _)| *at).max().unwrap_or(resumed).max(resumed);
        ensure!(last.elapsed() >= QUIET, "the last call was {:?} ago", last.elapsed());
        Ok(Some(()))
    })
    .await?;
    let after = tenant.get_grant(READER).await?;
    ensure!(
        made(&after) == made(&issued),
        "was {}, is {}",
        made(&issued),
        made(&after)
    );
    ensure!(
        after["status"]["credential"]["generation"] == 1,
        "another generation was delivered: {}",
        after["status"]["credential"]
    );
    let children = tenant.children(&uid(&after)).await?;
    let of_kind = |kind: &str| children.iter().filter(|child| child.starts_with(kind)).count();
    let counts = ["ServiceAccount ", "Role ", "RoleBinding ", "Secret "].map(of_kind);
    ensure!(
        counts == [1, 1, 1, 2],
        "one of each, an anchor and the delivery: {children:?}"
    );
    ensure!(
        tenant.partner(READER).await?.token == partner.token,
        "another credential was delivered"
    );
    reads(&partner).await.context("what the first took for its own")?;
    let mut minted: Vec<String> = Vec::new();
    for (faults, before) in [(&cluster.faults, before), (&another.faults, before_another)] {
        minted.extend(faults.minted().into_iter().skip(before).map(|minted| minted.token));
    }
    let anybody = cluster.cp.anonymous().await?;
    for token in minted.iter().filter(|token| **token != partner.token) {
        let code = known(&anybody, token).await?;
        ensure!(code == 401, "a token that was never delivered is answered with {code}");
    }
    ensure!(
        minted.contains(&partner.token),
        "the delivered token is none that was minted"
    );

    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_within(cause, DENIED).await?;
    let revoked = tenant.wait_reason(READER, "Revoked").await?;
    tenant.wait_nothing_left(&uid(&revoked)).await?;
    for token in &minted {
        eventually("every token to be dead", CACHED, || async {
            let code = known(&anybody, token).await?;
            ensure!(code == 401, "answered with {code}");
            Ok(Some(()))
        })
        .await?;
    }
    progress(&format!(
        "{position}: {} tokens were minted, and are dead",
        minted.len()
    ));
    Ok(())
}

#[tokio::test]
async fn a_leader_that_slept_through_its_lease_adds_nothing_to_what_the_next_one_issued() -> Result<()> {
    let positions = if is_long() {
        &POSITIONS[..]
    } else {
        &POSITIONS[..SELECTION]
    };
    for position in positions {
        let cluster = Breakable::of_replicas().await?;
        pauses_at(&cluster, position)
            .await
            .with_context(|| format!("stopped at POST {position}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_end_that_can_not_be_made_costs_two_replicas_no_more_calls_than_one() -> Result<()> {
    if !is_long() {
        progress("skipped: a minute of calls is counted in a long run only");
        return Ok(());
    }
    let cluster = Breakable::of_replicas().await?;
    wait_leads(&cluster).await?;
    let another = cluster.another().await?;
    let tenant = cluster.tenant("two-paces").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let live = tenant.get_grant(READER).await?;
    let prefix = prefix(&live)?;
    let replicas = [&cluster.faults, &another.faults];
    let broken = replicas.map(|faults| faults.break_calls(Fault::Refused(500), unbinds));
    let caused = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    elapsed(caused, FIRST_ATTEMPTS).await?;
    let marks = replicas.map(Faults::count);
    let counted = Instant::now();
    elapsed(counted, MINUTE).await?;
    let mut calls = Vec::new();
    for ((faults, mark), who) in replicas.into_iter().zip(marks).zip(["leader", "other"]) {
        let these = calls_about(faults, mark, &tenant.ns, &prefix).into_iter();
        let these = these.filter(|(at, _)| *at < counted + MINUTE);
        calls.extend(these.map(|(at, call)| format!("{who} {:?} {}", at.duration_since(counted), call.label())));
    }
    progress(&format!("{} calls of both in a minute", calls.len()));
    ensure!(
        calls.len() <= MOST_CALLS,
        "{} calls in a minute: {calls:#?}",
        calls.len()
    );
    ensure!(
        calls.iter().any(|call| call.contains("DELETE rolebindings")),
        "nobody tried again: {calls:#?}"
    );
    // Of the identity nothing is left; the binding goes when it can.
    partner.wait_unauthorized().await?;
    drop(broken);
    eventually("the binding to go", MINUTE, || async {
        let left = tenant.children(&uid(&live)).await?;
        ensure!(left.is_empty(), "left: {}", left.join(", "));
        Ok(Some(()))
    })
    .await?;
    tenant.wait_reason(READER, "Revoked").await?;
    Ok(())
}

/// Somebody who is none of us holds the lease.
async fn hold_lease(client: &Client) -> Result<()> {
    let now = Timestamp::now();
    let spec = json!({
        "holderIdentity": "somebody-else",
        "leaseDurationSeconds": 3_600,
        "acquireTime": format!("{now:.6}"),
        "renewTime": format!("{now:.6}"),
        "leaseTransitions": 0,
    });
    let leases = api(client, "Lease", NAMESPACE);
    if leases.get_opt("wayleave").await?.is_some() {
        leases.delete("wayleave", &DeleteParams::default()).await?;
    }
    create(client, "Lease", NAMESPACE, "wayleave", json!({"spec": spec})).await?;
    Ok(())
}

#[tokio::test]
async fn an_end_that_is_overdue_is_told_where_nobody_leads() -> Result<()> {
    let cluster = Breakable::of_replicas().await?;
    let tenant = cluster.tenant("overdue").await?;
    let partner = tenant.live(READER, json!({})).await?;
    cluster.operator.stop().await?;
    hold_lease(&tenant.root).await?;
    cluster.operator.start_again()?;
    cluster.operator.wait_ready().await?;
    let shows = |line: &'static str| {
        let cluster = &cluster;
        eventually(line, LIMIT, move || async move {
            let metrics = cluster.operator.metrics().await?;
            let told: Vec<&str> = metrics
                .lines()
                .filter(|it| it.starts_with("wayleave_overdue"))
                .collect();
            ensure!(metrics.lines().any(|it| it == line), "{told:?}");
            Ok(Some(()))
        })
    };
    shows("wayleave_overdue_grants 0").await?;
    let broken = cluster.faults.break_calls(Fault::Refused(500), unbinds);
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    shows("wayleave_overdue_grants 1").await?;
    ensure!(cluster.shows("wayleave_leader 0").await?, "it leads");
    reads(&partner).await.context("by a binding that nobody could delete")?;
    drop(broken);
    partner.refused_within(Instant::now(), LIMIT).await?;
    // Nobody is there to write a status.
    shows("wayleave_overdue_grants 0").await?;
    ensure!(cluster.shows("wayleave_leader 0").await?, "it leads");
    let leases = api(&tenant.root, "Lease", NAMESPACE);
    leases.delete("wayleave", &DeleteParams::default()).await?;
    tenant.wait_reason(READER, "Revoked").await?;
    Ok(())
}
