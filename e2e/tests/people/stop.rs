//! A partner is stopped wherever it is, by somebody who may revoke in most of the namespaces and not in all.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::plugin::{Plugin, has};
use wayleave_e2e::tenant::{Partner, api, next_second};
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Tenant, install_with};

use crate::cluster::{bind, plugin, tenant};

const OLGA: &str = "olga@corp.example";

async fn live(ns: &str, id: &str, name: &str) -> Result<(Tenant<'static>, Partner)> {
    let tenant = tenant(ns, json!({"partner": {"id": id, "name": name}})).await?;
    let partner = tenant.live("reader", json!({})).await?;
    Ok((tenant, partner))
}

fn integration<'a>(told: &'a Value, ns: &str) -> Result<&'a Value> {
    let all = told["integrations"].as_array().context("no integrations")?;
    all.iter()
        .find(|it| it["namespace"] == ns)
        .with_context(|| format!("{ns} in {told}"))
}

async fn decisions(tenant: &Tenant<'_>) -> Result<usize> {
    let all = api(&tenant.root, "AccessDecision", &tenant.ns)
        .list(&ListParams::default())
        .await?;
    Ok(all.items.len())
}

#[tokio::test]
async fn a_partner_is_stopped_wherever_it_is_and_nobody_else() -> Result<()> {
    let (one, two, forbidden, near) = tokio::try_join!(
        live("stop-one", "stopco", "Stop Co"),
        live("stop-two", "stopco", "Stop Co"),
        live("stop-forbidden", "stopco", "Stop Co"),
        live("stop-near", "stopc", "Other"),
    )?;
    // Asked for and never approved: it has no access to lose.
    one.0.grant("waiting", json!({})).await?;
    one.0.wait_reason("waiting", "AwaitingApproval").await?;
    let olga = plugin(OLGA, "wayleave-viewer").await?;
    for tenant in [&one.0, &two.0, &near.0] {
        bind(tenant, OLGA, "wayleave-approver").await?;
    }
    let stop = ["stop", "--partner", "stopco", "--reason", "incident 42"];

    let said = olga
        .exits(&["stop", "--partner", "stopcp", "--reason", "incident 42"], 1)
        .await?;
    has(
        &said.stderr,
        &[
            "no integration of partner stopcp in any namespace",
            "stopco (Stop Co; one letter apart",
            "stop-two/acme",
        ],
    )?;
    ensure!(said.stdout.is_empty());
    let said = olga.works(&[&stop[..], &["--dry-run"]].concat()).await?;
    has(
        &said.stdout,
        &["NAMESPACE", "would end", "was not active (AwaitingApproval)"],
    )?;
    has(&said.stderr, &["3 integrations, 4 grants, 3 of them active"])?;
    has(
        &said.stderr,
        &[
            "warning: not stopped",
            "stopc (Other; one letter apart; stop-near/acme)",
        ],
    )?;
    for (tenant, partner) in [&one, &two, &forbidden, &near] {
        ensure!(
            decisions(tenant).await? == 1 && partner.read().await? == 200,
            "a dry run did something"
        );
    }

    let said = olga.exits(&[&stop[..], &["-o", "json"]].concat(), 3).await?;
    let after = Instant::now();
    has(
        &said.stderr,
        &[
            "error: not revoked: stop-forbidden/acme: ",
            "is forbidden",
            "error: not all is stopped: 1 of 3 integrations were not revoked; 1 grants may still be active",
        ],
    )?;
    let told: Value = serde_json::from_str(&said.stdout)?;
    for ns in ["stop-one", "stop-two"] {
        let it = integration(&told, ns)?;
        let grants = it["grants"].as_array().context("no grants")?;
        let reader = grants.iter().find(|it| it["name"] == "reader").context("no reader")?;
        ensure!(it["revoked"] == true && reader["outcome"] == "Ended", "{it}");
        let took = reader["afterMilliseconds"].as_u64().context("no time")?;
        ensure!(took < 5_000, "ended only after {took} ms");
    }
    let waiting = &integration(&told, "stop-one")?["grants"][1];
    ensure!(
        waiting["name"] == "waiting" && waiting["outcome"] == "WasInactive",
        "{waiting}"
    );
    let left = integration(&told, "stop-forbidden")?;
    ensure!(
        left["revoked"] == false && left["grants"][0]["outcome"] == "NotRevoked",
        "{left}"
    );
    ensure!(told["nearMisses"][0]["id"] == "stopc", "{told}");
    for (tenant, partner) in [&one, &two] {
        partner.refused_since(after).await?;
        tenant.wait_reason("reader", "Revoked").await?;
    }
    for (_, partner) in [&forbidden, &near] {
        ensure!(partner.read().await? == 200, "somebody else was stopped");
    }

    // Those who may revoke there stop the rest, by its namespace; a second stop finds nothing left to end.
    bind(&forbidden.0, OLGA, "wayleave-approver").await?;
    let said = olga.works(&[&stop[..], &["-n", "stop-forbidden"]].concat()).await?;
    has(&said.stdout, &["stop-forbidden   acme", "reader", "after ", " ms"])?;
    ensure!(!said.stdout.contains("stop-one"), "{}", said.stdout);
    forbidden.1.refused_since(Instant::now()).await?;
    let said = olga.works(&stop).await?;
    has(&said.stdout, &["was not active (Revoked)"])?;

    // Starting again: what was approved before does not count.
    next_second().await;
    one.0.approve("reader", json!({})).await?;
    one.0.wait_reason("reader", "Issued").await?;
    one.0.partner("reader").await?.answered().await
}

/// What was told of the only grant.
fn outcome(told: &str) -> Result<(Value, Value)> {
    let told: Value = serde_json::from_str(told)?;
    let grant = &told["integrations"][0]["grants"][0];
    ensure!(
        told["integrations"][0]["revoked"] == true && grant["name"] == "reader",
        "{told}"
    );
    Ok((grant["outcome"].clone(), grant["afterMilliseconds"].clone()))
}

/// While the operator does nothing: on a control plane of its own, since others count on theirs.
#[tokio::test]
async fn a_stop_that_is_not_awaited_says_so_and_one_that_runs_out_of_time_is_an_error() -> Result<()> {
    let cp = ControlPlane::start().await?;
    let ceiling = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    let values = json!({"replicas": 0, "ceiling": {"rules": ceiling}});
    let options = InstallOptions {
        values,
        ..InstallOptions::default()
    };
    install_with(&cp, options).await?;
    let operator = Operator::ready(&cp).await?;
    let tenant = Tenant::new(&cp, "stop-wait").await?;
    let partner = tenant.live("reader", json!({})).await?;
    bind(&tenant, OLGA, "wayleave-approver").await?;
    let olga = Plugin::of(&cp, OLGA, &[]).await?;
    let stop = [
        "stop",
        "--partner",
        "acme",
        "--reason",
        "incident 42",
        "-n",
        "stop-wait",
    ];
    let with = |more: &[&'static str]| [&stop[..], more].concat();

    operator.pause()?;
    let said = olga.exits(&with(&["--no-wait", "--wait", "1m"]), 2).await?;
    has(&said.stderr, &["--no-wait", "cannot be used with"])?;
    ensure!(decisions(&tenant).await? == 1, "wrong usage revoked something");

    // Nobody waits: it is no error that access is still there, and nothing is claimed about its end.
    let said = olga.works(&with(&["--no-wait"])).await?;
    has(
        &said.stdout,
        &["NAMESPACE", "ENDED", "stop-wait   acme", "reader", "not awaited"],
    )?;
    has(
        &said.stderr,
        &[
            "1 integrations, 1 grants, 1 of them active",
            "starting again takes fresh approvals",
        ],
    )?;
    ensure!(!said.stderr.contains("error"), "{}", said.stderr);
    let said = olga.works(&with(&["--no-wait", "-o", "json"])).await?;
    ensure!(
        outcome(&said.stdout)? == (json!("NotAwaited"), Value::Null),
        "{}",
        said.stdout
    );
    ensure!(partner.read().await? == 200 && decisions(&tenant).await? == 3);

    // Whoever waits is told what may still be open, by name.
    let begun = Instant::now();
    let said = olga.exits(&with(&["--wait", "2s"]), 3).await?;
    ensure!(begun.elapsed().as_secs() >= 2, "it gave up after {:?}", begun.elapsed());
    has(&said.stdout, &["stop-wait   acme", "reader", "STILL ACTIVE"])?;
    has(
        &said.stderr,
        &["error: not all is stopped: 1 grants may still be active: see kubectl wayleave list -A"],
    )?;
    let said = olga.exits(&with(&["--wait", "1s", "-o", "json"]), 3).await?;
    ensure!(
        outcome(&said.stdout)? == (json!("StillActive"), Value::Null),
        "{}",
        said.stdout
    );

    // The decisions stand: access ends as soon as somebody acts on them.
    let resumed = Instant::now();
    operator.resume()?;
    partner.refused_since(resumed).await?;
    tenant.wait_reason("reader", "Revoked").await?;
    let said = olga.works(&with(&["--no-wait"])).await?;
    has(&said.stdout, &["was not active (Revoked)"])
}
