//! What can't be taken away in one place, or of one grant, keeps nothing else waiting: neither denials, nor what only the issuing
//! lane does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use http::header::AUTHORIZATION;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use wayleave_e2e::faults::Call;
use wayleave_e2e::tenant::{END, LIMIT, Partner, api, condition, create, text};
use wayleave_e2e::{Fault, Part, Tenant, eventually, is_long, progress};

use super::cluster::{Breakable, OPERATOR, closed_first, elapsed, reads, uid};

const READER: &str = "reader";
/// More than either lane closes at once.
const MANY: usize = 80;
/// So many are made at once.
const AT_ONCE: usize = 16;
/// A call that is not answered is given up after ten seconds: a denial that had waited for one would take as long.
const DENIED: Duration = Duration::from_secs(5);
/// What the issuing lane does waits for denials, for five seconds at most.
const ENDED: Duration = Duration::from_secs(8);
/// Two or three steps of it.
const ISSUED: Duration = Duration::from_secs(15);
/// By then the issuing lane is at what hangs, too: it waits for denials no longer.
const BOTH_LANES: Duration = Duration::from_secs(7);
/// What failed is tried again within a minute.
const AGAIN: Duration = Duration::from_secs(90);

fn unbinds(call: &Call) -> bool {
    call.writes(&Method::DELETE, "rolebindings")
}

/// The name of one of many.
fn numbered(number: usize) -> String {
    format!("{READER}-{number}")
}

/// So many live grants of the tenant's integration.
async fn live_many(tenant: &Tenant<'_>, count: usize) -> Result<()> {
    let begun = Instant::now();
    futures::stream::iter(0..count)
        .map(|number| async move {
            let name = numbered(number);
            tenant.grant(&name, json!({})).await?;
            tenant.approve(&name, json!({})).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<Value>>()
        .await?;
    wait_reasons(tenant, "Issued", LIMIT * 2).await?;
    progress(&format!("{count} grants were issued in {:?}", begun.elapsed()));
    Ok(())
}

/// Waits until every grant of the tenant has a reason.
async fn wait_reasons(tenant: &Tenant<'_>, reason: &str, limit: Duration) -> Result<()> {
    eventually(
        &format!("every grant in {} to be {reason}", tenant.ns),
        limit,
        || async {
            let grants = api(&tenant.root, "AccessGrant", &tenant.ns)
                .list(&ListParams::default())
                .await?;
            let others = grants.iter().filter_map(|grant| {
                let grant = serde_json::to_value(grant).ok()?;
                let active = condition(&grant, "Active");
                (active["reason"] != reason).then_some(active)
            });
            let others: Vec<Value> = others.collect();
            ensure!(others.is_empty(), "{} are not, such as {}", others.len(), others[0]);
            Ok(Some(()))
        },
    )
    .await
}

/// Every credential that is delivered in a namespace. None of them may be printed.
async fn tokens(tenant: &Tenant<'_>) -> Result<Vec<String>> {
    let secrets = api(&tenant.root, "Secret", &tenant.ns)
        .list(&ListParams::default())
        .await?;
    let mut tokens = Vec::new();
    for secret in secrets {
        let secret: Secret = secret.try_parse()?;
        if let Some(token) = secret.data.unwrap_or_default().get("token") {
            tokens.push(String::from_utf8(token.0.clone()).context("the token is no text")?);
        }
    }
    Ok(tokens)
}

/// Reads what was granted; gives the HTTP code.
async fn read_with(anybody: &Client, token: &str, ns: &str) -> Result<u16> {
    let read = http::Request::get(format!("/api/v1/namespaces/{ns}/configmaps/feed"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty())?;
    let answer = anybody.send(read).await.context("reading with a token")?;
    Ok(answer.status().as_u16())
}

/// Waits until none of these reads what was granted.
async fn wait_refused(anybody: &Client, tokens: &[String], ns: &str) -> Result<()> {
    eventually("every partner to be refused", AGAIN, || async {
        for (number, token) in tokens.iter().enumerate() {
            let code = read_with(anybody, token, ns).await?;
            ensure!(matches!(code, 401 | 403), "number {number} is answered with {code}");
        }
        Ok(Some(()))
    })
    .await
}

/// A grant that is asked for now, and approved, is issued in time.
async fn issued_within(tenant: &Tenant<'_>, name: &str, limit: Duration) -> Result<()> {
    tenant.grant(name, json!({})).await?;
    // Its digest is a word of the issuing lane, too.
    let asked = Instant::now();
    tenant.approve(name, json!({})).await?;
    tenant.wait_reason(name, "Issued").await?;
    let took = asked.elapsed();
    ensure!(took <= limit, "{name} was issued only after {took:?}");
    progress(&format!("{name} was issued after {took:?}"));
    reads(&tenant.partner(name).await?).await
}

/// What holds in a namespace near one that is stuck: a live grant of it is revoked, another loses its approval, and a fresh one
/// is issued.
async fn goes_on(near: &Tenant<'_>, live: &Live, when: &str) -> Result<()> {
    let cause = Instant::now();
    near.decide("AccessGrant", &live.revoked.0, "Revoke", json!({})).await?;
    let took = live.revoked.1.refused_within(cause, DENIED).await?;
    progress(&format!("{when}: refused {took:?} after a Revoke"));
    let cause = Instant::now();
    near.delete("AccessDecision", &near.ns, &live.approval).await?;
    let took = live
        .withdrawn
        .refused_within(cause, ENDED)
        .await
        .context("an approval that was withdrawn")?;
    progress(&format!("{when}: refused {took:?} after the approval was withdrawn"));
    issued_within(near, &format!("fresh-{}", live.revoked.0), ISSUED).await
}

/// Live grants that end meanwhile.
struct Live {
    revoked: (String, Partner),
    withdrawn: Partner,
    /// What the second rests on.
    approval: String,
}

async fn live_two(near: &Tenant<'_>, name: &str) -> Result<Live> {
    let withdrawn = format!("withdrawn-{name}");
    Ok(Live {
        revoked: (name.to_owned(), near.live(name, json!({})).await?),
        withdrawn: near.live(&withdrawn, json!({})).await?,
        approval: text(&near.get_grant(&withdrawn).await?["status"]["approvals"][0]["decisionRef"]),
    })
}

#[tokio::test]
async fn a_namespace_where_no_deletion_is_answered_keeps_no_other_waiting() -> Result<()> {
    let cluster = Breakable::of_stuck().await?;
    let (stuck, near) = (cluster.tenant("stuck-many").await?, cluster.tenant("stuck-near").await?);
    live_many(&stuck, MANY).await?;
    let (soon, later) = (live_two(&near, "soon").await?, live_two(&near, "later").await?);
    let (anybody, left) = (cluster.cp.anonymous().await?, tokens(&stuck).await?);
    ensure!(left.len() == MANY, "{} credentials were delivered", left.len());

    let there = stuck.ns.clone();
    let hangs = move |call: &Call| unbinds(call) && call.parts().namespace == there;
    let hang = cluster.faults.break_calls(Fault::Hangs, hangs);
    let before = cluster.faults.met();
    let begun = Instant::now();
    stuck.decide("PartnerIntegration", "acme", "Revoke", json!({})).await?;
    eventually("deletions to hang", LIMIT, || async {
        Ok((cluster.faults.met() >= before + 8).then_some(()))
    })
    .await?;
    goes_on(&near, &soon, "at once").await.context("at once")?;
    elapsed(begun, BOTH_LANES).await?;
    goes_on(&near, &later, "later")
        .await
        .context("while both lanes are stuck")?;
    // What was tried here is of use only if all of it was stuck.
    let bindings = api(&stuck.root, "RoleBinding", &stuck.ns)
        .list(&ListParams::default())
        .await?;
    let bindings = bindings.iter().filter(|it| it.name_any().starts_with("wlg-")).count();
    ensure!(bindings == MANY, "{bindings} are left of what nobody could delete");

    drop(hang);
    let mended = Instant::now();
    wait_refused(&anybody, &left, &stuck.ns).await?;
    progress(&format!(
        "all were refused {:?} after deletions were answered again",
        mended.elapsed()
    ));
    if !is_long() {
        progress("not awaited: that all of them say so, which takes longer in a namespace that hung a moment before");
        return Ok(());
    }
    wait_reasons(&stuck, "Revoked", AGAIN).await
}

/// One grant hangs in its own namespace, the other in another: in whatever order the bindings are taken away, one of the two
/// has the one that hangs before the one that does not.
#[tokio::test]
async fn a_binding_that_hangs_in_one_namespace_keeps_no_other_of_the_grant_alive() -> Result<()> {
    let cluster = Breakable::of_stuck().await?;
    let tenant = cluster.tenant("stuck-here").await?;
    let there = "stuck-there";
    tenant.open(there).await?;
    create(
        &tenant.root,
        "ConfigMap",
        there,
        "feed",
        json!({"data": {"latest": "INV-7"}}),
    )
    .await?;
    let both = json!([tenant.ns, there]);
    let mut access = tenant.grant_spec()["access"].clone();
    access[0]["namespaces"] = both.clone();
    let anybody = cluster.cp.anonymous().await?;
    let mut grants = Vec::new();
    for (name, hangs_in, goes_in) in [
        ("here", tenant.ns.as_str(), there),
        ("there", there, tenant.ns.as_str()),
    ] {
        let private = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
        tenant.grant(name, private).await?;
        tenant.approve(name, json!({"targetNamespaces": both})).await?;
        let grant = tenant.wait_reason(name, "Issued").await?;
        let identity = text(&grant["status"]["identity"]["serviceAccount"]);
        let token = tenant.partner(name).await?.token;
        for namespace in [hangs_in, goes_in] {
            eventually("what is delivered to work", END, || async {
                let code = read_with(&anybody, &token, namespace).await?;
                ensure!(code == 200, "{name} reads with {code} in {namespace}");
                Ok(Some(()))
            })
            .await?;
        }
        let namespace = hangs_in.to_owned();
        let hangs = cluster.faults.break_calls(Fault::Hangs, move |call| {
            unbinds(call) && call.parts().namespace == namespace && call.name.starts_with(&identity)
        });
        grants.push((name, hangs_in, goes_in, token, hangs));
    }
    for (name, hangs_in, goes_in, token, _) in &grants {
        let cause = Instant::now();
        tenant
            .decide("AccessGrant", name, "Revoke", json!({"targetNamespaces": both}))
            .await?;
        eventually("the other namespace to refuse", DENIED, || async {
            let code = read_with(&anybody, token, goes_in).await?;
            ensure!(matches!(code, 401 | 403), "answered with {code}");
            Ok(Some(()))
        })
        .await
        .with_context(|| format!("{name} hangs in {hangs_in}"))?;
        progress(&format!("{name} is refused in {goes_in} after {:?}", cause.elapsed()));
        let code = read_with(&anybody, token, hangs_in).await?;
        ensure!(
            code == 200,
            "{name} was answered with {code} by a binding that nobody could delete"
        );
    }
    for (name, hangs_in, _, token, hangs) in grants {
        drop(hangs);
        wait_refused(&anybody, &[token], hangs_in).await?;
        tenant.wait_reason(name, "Revoked").await?;
    }
    Ok(())
}

/// Whatever is called about what was made for a grant to take it away.
fn takes_away_of(grant: &Value) -> impl Fn(&Call) -> bool + Send + Sync + 'static {
    let identity = text(&grant["status"]["identity"]["serviceAccount"]);
    let credential = text(&grant["status"]["credential"]["secretName"]);
    move |call| call.method == Method::DELETE && (call.name.starts_with(&identity) || call.name == credential)
}

#[tokio::test]
async fn what_can_not_be_swept_keeps_nothing_else_from_being_swept_nor_issued() -> Result<()> {
    let cluster = Breakable::of_stuck().await?;
    let swept = what_can_not_be_swept(&cluster).await;
    // Whatever became of it: others need it.
    cluster.cp.resume(Part::ControllerManager).await?;
    swept
}

async fn what_can_not_be_swept(cluster: &Breakable) -> Result<()> {
    const ORPHANS: usize = 4;
    let orphaned = cluster.tenant("swept").await?;
    live_many(&orphaned, ORPHANS).await?;
    let revoked = cluster.tenant("swept-revoked").await?;
    let revoked_partner = revoked.live(READER, json!({})).await?;
    let fresh = cluster.tenant("swept-fresh").await?;
    fresh.grant(READER, json!({})).await?;
    fresh.wait_reason(READER, "AwaitingApproval").await?;
    let mut orphans = Vec::new();
    for number in 0..ORPHANS {
        orphans.push(orphaned.get_grant(&numbered(number)).await?);
    }
    let (anybody, left) = (cluster.cp.anonymous().await?, tokens(&orphaned).await?);
    ensure!(left.len() == ORPHANS, "{} credentials were delivered", left.len());

    cluster.operator.kill()?;
    // The garbage collector would sweep the grants' own namespace for it.
    cluster.cp.pause(Part::ControllerManager)?;
    // Only the operator may take its finalizer off: somebody who got hold of its credential does.
    let thief = cluster.cp.service_account("wayleave-system", "wayleave").await?;
    let forced = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for number in 0..ORPHANS {
        let name = numbered(number);
        let grants = api(&thief, "AccessGrant", &orphaned.ns);
        grants
            .patch(&name, &PatchParams::default(), &forced)
            .await
            .context("taking the finalizer off")?;
        orphaned.delete("AccessGrant", &orphaned.ns, &name).await?;
    }
    revoked.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    fresh.approve(READER, json!({})).await?;
    // Of those that are gone, and of those that ended, one can't be taken away.
    let ended = revoked.get_grant(READER).await?;
    let refused = [
        cluster
            .faults
            .break_calls(Fault::Refused(500), takes_away_of(&orphans[0])),
        cluster.faults.break_calls(Fault::Refused(500), takes_away_of(&ended)),
    ];
    let mark = cluster.cp.audit()?.mark()?;
    cluster.operator.start_again()?;
    let started = Instant::now();
    cluster.operator.wait_ready().await?;
    fresh.wait_reason(READER, "Issued").await?;
    progress(&format!("issued {:?} after the start", started.elapsed()));
    reads(&fresh.partner(READER).await?).await?;
    let calls = cluster.cp.audit()?.since(mark)?.by_user(OPERATOR);
    closed_first(&calls, &[orphaned.ns.as_str(); ORPHANS - 1])?;
    for orphan in &orphans[1..] {
        eventually("nothing to be left by which access is had", LIMIT, || async {
            let mut left = orphaned.children(&uid(orphan)).await?;
            // In a namespace where no grant is nobody but the garbage collector looks for what was delivered.
            left.retain(|child| !child.ends_with("-credential"));
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok(Some(()))
        })
        .await?;
    }
    let stays = orphaned.children(&uid(&orphans[0])).await?;
    ensure!(stays.len() == 5, "of what nobody could delete there is {stays:?}");
    reads(&revoked_partner)
        .await
        .context("by a binding that nobody could delete")?;

    drop(refused);
    wait_refused(&anybody, &[revoked_partner.token], &revoked.ns).await?;
    revoked.wait_reason(READER, "Revoked").await?;
    if !is_long() {
        progress("not awaited: the next sweep, which takes away what this one could not, a minute later");
        return Ok(());
    }
    wait_refused(&anybody, &left, &orphaned.ns).await?;
    orphaned.wait_nothing_left(&uid(&orphans[0])).await
}
