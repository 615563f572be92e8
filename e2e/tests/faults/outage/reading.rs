//! What the operator reads is taken away from it while it runs: from then on it knows less than it thinks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::faults::Call;
use wayleave_e2e::tenant::{LIMIT, Partner, api, condition, text};
use wayleave_e2e::{Tenant, eventually, is_long, progress};

use super::cluster::{Breakable, reads, uid};

const READER: &str = "reader";
/// A denial that nothing holds up.
const DENIED: Duration = Duration::from_secs(5);
/// What was lost without a word is missed sooner than this.
const MISSED: Duration = Duration::from_secs(8);
/// A watch that says nothing is not believed for longer.
const SILENCE: Duration = Duration::from_secs(75);
/// What the chart lets the operator do everywhere.
const ROLE: &str = "wayleave";
const OWNERS: &str = "accessowners";

fn watches(resource: &'static str) -> impl Fn(&Call) -> bool {
    move |call| call.parts().resource == resource
}

/// What the operator may do everywhere.
async fn rules(tenant: &Tenant<'_>) -> Result<Value> {
    let role = api(&tenant.root, "ClusterRole", "").get(ROLE).await?;
    Ok(role.data["rules"].clone())
}

async fn set_rules(tenant: &Tenant<'_>, rules: &Value) -> Result<()> {
    tenant
        .patch_as(&tenant.root, "ClusterRole", "", ROLE, json!({"rules": rules}))
        .await
        .map(drop)
}

/// The same rules without one resource.
fn without(rules: &Value, resource: &str) -> Result<Value> {
    let mut less = rules.clone();
    let mut taken = 0;
    for rule in less.as_array_mut().context("no rules")? {
        let resources = rule["resources"].as_array_mut().context("a rule without resources")?;
        let before = resources.len();
        resources.retain(|it| it != resource);
        taken += before - resources.len();
    }
    ensure!(taken == 1, "{taken} rules speak of {resource}: {rules}");
    Ok(less)
}

/// Approved, and nothing comes of it but a word why.
async fn is_held(tenant: &Tenant<'_>) -> Result<()> {
    let held = eventually("the grant to say what is missing", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let ready = condition(&grant, "Ready");
        ensure!(text(&ready["message"]).contains(OWNERS), "{ready}");
        Ok(Some(grant))
    })
    .await?;
    let active = condition(&held, "Active");
    ensure!(active["status"] == "False", "{active}");
    let made = tenant.children(&uid(&held)).await?;
    ensure!(made.is_empty(), "something was made: {made:?}");
    Ok(())
}

/// While owners can't be read: what was good may be good no more, and who is asked for access by it is not known.
async fn while_missing(
    cluster: &Breakable,
    fresh: &Tenant<'_>,
    left: &Tenant<'_>,
    live: (&Tenant<'_>, &Partner),
) -> Result<()> {
    eventually("what is missing to be named", LIMIT, || async {
        // A watch that runs goes on with the right that it began with.
        cluster.faults.end_watches(watches(OWNERS));
        let said = cluster.operator.get("/ready").await;
        let said = said.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(
            said.contains("503") && said.contains("accessowners.wayleave.dev"),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    left.delete("AccessOwner", "", &left.owner_name("bob")).await?;
    for tenant in [fresh, left] {
        tenant.approve(READER, json!({})).await?;
    }
    for tenant in [fresh, left] {
        is_held(tenant).await.with_context(|| tenant.ns.clone())?;
    }
    let (tenant, partner) = live;
    reads(partner).await.context("what was there before")?;
    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_within(cause, DENIED).await?;
    Ok(())
}

#[tokio::test]
async fn while_owners_can_not_be_read_nothing_is_issued_and_access_ends_all_the_same() -> Result<()> {
    let cluster = Breakable::start().await?;
    let live = cluster.tenant("blind-live").await?;
    let partner = live.live(READER, json!({})).await?;
    let (fresh, left) = (
        cluster.tenant("blind-fresh").await?,
        cluster.tenant("blind-left").await?,
    );
    for tenant in [&fresh, &left] {
        tenant.grant(READER, json!({})).await?;
        tenant.wait_reason(READER, "AwaitingApproval").await?;
    }
    let rules = rules(&live).await?;
    set_rules(&live, &without(&rules, OWNERS)?).await?;
    let outcome = while_missing(&cluster, &fresh, &left, (&live, &partner)).await;
    // Whatever became of it: others need the right.
    set_rules(&live, &rules).await?;
    outcome?;
    live.wait_reason(READER, "Revoked").await?;
    fresh.wait_reason(READER, "Issued").await?;
    reads(&fresh.partner(READER).await?).await?;
    let gone = left.wait_reason(READER, "OwnerRemoved").await?;
    ensure!(left.children(&uid(&gone)).await?.is_empty(), "something was made");
    cluster.operator.wait_ready().await
}

#[tokio::test]
async fn connections_that_were_lost_without_a_word_keep_no_end_waiting() -> Result<()> {
    let cluster = Breakable::start().await?;
    let tenant = cluster.tenant("lost-lines").await?;
    // What takes access away has a connection of its own, which it keeps.
    let earlier = tenant.live("earlier", json!({})).await?;
    let partner = tenant.live(READER, json!({})).await?;
    let cause = Instant::now();
    tenant.decide("AccessGrant", "earlier", "Revoke", json!({})).await?;
    earlier.refused_within(cause, DENIED).await?;
    tenant.wait_reason("earlier", "Revoked").await?;
    cluster.faults.lose_connections();
    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let took = partner.refused_within(cause, MISSED).await?;
    progress(&format!("refused after {took:?}, on another connection"));
    Ok(())
}

#[tokio::test]
async fn a_watch_that_says_nothing_any_more_is_not_believed_for_long() -> Result<()> {
    if !is_long() {
        progress("skipped: a watch is waited for in a long run only");
        return Ok(());
    }
    let cluster = Breakable::start().await?;
    let tenant = cluster.tenant("silent-watch").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let silenced = cluster.faults.silence_watches(watches("accessdecisions"));
    ensure!(silenced > 0, "nobody watches decisions");
    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    let took = partner.refused_within(cause, SILENCE).await?;
    progress(&format!("refused after {took:?}, of which a watch said nothing"));
    tenant.wait_reason(READER, "Revoked").await?;
    Ok(())
}
