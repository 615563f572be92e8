//! Somebody in more groups than a decision has room for.

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::install::can_stamp_or_says;
use wayleave_e2e::plugin::{Plugin, has};
use wayleave_e2e::tenant::{LIMIT, api, condition, create, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{bind, tenant};

const GRETA: &str = "greta@corp.example";

/// The decisions of the tenant's grant once each was weighed, by the groups that they state.
async fn weighed(tenant: &Tenant<'_>, count: usize) -> Result<Vec<(Value, Value)>> {
    eventually("every approval to be weighed", LIMIT, || async {
        let all = api(&tenant.root, "AccessDecision", &tenant.ns)
            .list(&ListParams::default())
            .await?;
        let mut found = Vec::new();
        for decision in all {
            let decision = serde_json::to_value(decision)?;
            let counted = condition(&decision, "Counted");
            ensure!(counted["status"] == "True", "{counted}");
            found.push((decision["spec"]["decidedByGroups"].clone(), counted));
        }
        ensure!(found.len() == count, "{} decisions", found.len());
        Ok(Some(found))
    })
    .await
}

#[tokio::test]
async fn a_group_beyond_those_that_have_room_is_named_by_whoever_is_in_it() -> Result<()> {
    let tenant = tenant("many-groups", json!({})).await?;
    tenant.grant("reader", json!({})).await?;
    let waiting = tenant.wait_reason("reader", "AwaitingApproval").await?;
    bind(&tenant, GRETA, "wayleave-approver").await?;
    let mut groups: Vec<String> = (0..39).map(|number| format!("team-{number:02}")).collect();
    groups.push("security".to_owned());
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let greta = Plugin::of(tenant.cp, GRETA, &groups).await?;
    let approve = ["approve", "reader", "-n", "many-groups", "--reason", "fine", "--yes"];

    // It counts, and is of no group that is asked for: both she and whoever looks at it are told what to do.
    let said = greta.works(&approve).await?;
    has(
        &said.stderr,
        &[
            "note: an approval states at most 32 groups; left out: ",
            "security. Where one of them is asked for, name it with --group",
        ],
    )?;
    let (stated, counted) = weighed(&tenant, 1).await?.swap_remove(0);
    ensure!(
        stated
            .as_array()
            .is_some_and(|all| all.len() == 32 && !all.contains(&json!("security"))),
        "{stated}"
    );
    let told = [
        "it states 32 groups, the most that there is room for",
        "1 approval of security",
        "kubectl wayleave approve --group",
    ];
    has(&text(&counted["message"]), &told)?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;

    // The same where the cluster states them.
    let mut count = 1;
    if can_stamp_or_says(&tenant.root, "groups that are stamped").await? {
        let client = tenant.cp.user(GRETA, &groups).await?;
        let subject = json!({"kind": "AccessGrant", "name": "reader", "uid": waiting["metadata"]["uid"]});
        let spec =
            json!({"subject": subject, "decision": "Approve", "digest": waiting["status"]["digest"], "reason": "fine"});
        create(&client, "AccessDecision", &tenant.ns, "stamped", json!({"spec": spec})).await?;
        count += 1;
        let all = weighed(&tenant, count).await?;
        ensure!(
            all.iter()
                .all(|(stated, _)| stated.as_array().map(Vec::len) == Some(32)),
            "{all:?}"
        );
        tenant.wait_reason("reader", "AwaitingApproval").await?;
    }

    let said = greta
        .exits(&[&approve[..], &["--group", "platform"]].concat(), 1)
        .await?;
    has(&said.stderr, &["--group platform: greta@corp.example is not in it"])?;
    next_second().await;
    let said = greta.works(&[&approve[..], &["--group", "security"]].concat()).await?;
    ensure!(!said.stderr.contains("left out"), "{}", said.stderr);
    tenant.wait_reason("reader", "Issued").await?;
    let all = weighed(&tenant, count + 1).await?;
    let named = all
        .iter()
        .find(|(stated, _)| *stated == json!(["security"]))
        .context("no such decision")?;
    ensure!(!text(&named.1["message"]).contains("--group"), "{}", named.1);
    tenant.partner("reader").await?.answered().await
}
