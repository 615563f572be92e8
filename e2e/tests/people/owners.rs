//! Owners who leave: on the day, ahead of it, and handed over from.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::plugin::has;
use wayleave_e2e::tenant::{CAROL, DAVE, LIMIT, Partner, api, condition, create, in_seconds, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{bind, plugin, tenant};

const DAY: i64 = 86_400;

async fn set_until(tenant: &Tenant<'_>, owner: &str, until: Value) -> Result<()> {
    let name = tenant.owner_name(owner);
    let patch = json!({"spec": {"until": until}});
    tenant
        .patch_as(&tenant.root, "AccessOwner", "", &name, patch)
        .await
        .map(drop)
}

async fn stays(tenant: &Tenant<'_>, reason: &str) -> Result<Value> {
    eventually(&format!("{}/acme to be {reason}", tenant.ns), LIMIT, || async {
        let found = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        let found = condition(&serde_json::to_value(found)?, "OwnersStay");
        ensure!(found["reason"] == reason, "{found}");
        Ok(Some(found))
    })
    .await
}

/// The notes of the events about an owner who leaves.
async fn told(tenant: &Tenant<'_>) -> Result<Vec<String>> {
    let all = api(&tenant.root, "Event", &tenant.ns)
        .list(&ListParams::default())
        .await?;
    let leaves = all.items.iter().filter(|event| event.data["reason"] == "OwnerLeaves");
    Ok(leaves.map(|event| text(&event.data["note"])).collect())
}

#[tokio::test]
async fn who_leaves_takes_the_access_along_on_the_day_and_brings_it_back_only_as_somebody_new() -> Result<()> {
    let tenant = tenant("owner-until", json!({})).await?;
    let leave = in_seconds(80);
    set_until(&tenant, "bob", json!(leave)).await?;
    stays(&tenant, "LeavesWithin1Day").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let grant = tenant.get_grant("reader").await?;
    ensure!(
        grant["status"]["activeUntil"] == leave.as_str() && grant["status"]["endsBecause"] == "OwnerRemoved",
        "{grant}"
    );
    partner.refused_at(&leave).await?;
    let grant = tenant.wait_reason("reader", "OwnerRemoved").await?;
    let bob = tenant.owner_name("bob");
    has(
        &text(&condition(&grant, "Active")["message"]),
        &[&format!("AccessOwner {bob} left at {leave}")],
    )?;
    partner.wait_unauthorized().await?;
    stays(&tenant, "OwnerRemoved").await?;

    // The date is moved after it has passed, and approved anew: the same object is not back.
    set_until(&tenant, "bob", json!(in_seconds(400 * DAY))).await?;
    next_second().await;
    tenant.approve("reader", json!({})).await?;
    eventually("the date to be moved in vain", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        let said = text(&condition(&grant, "Active")["message"]);
        Ok(said.contains(&format!("AccessOwner {bob} had left")).then_some(()))
    })
    .await?;
    ensure!(condition(&tenant.get_grant("reader").await?, "Active")["reason"] == "OwnerRemoved");
    stays(&tenant, "OwnerRemoved").await?;

    // A new object of the same name: nothing comes back without a fresh approval.
    tenant.delete("AccessOwner", "", &bob).await?;
    tenant.owner("bob").await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    stays(&tenant, "Current").await?;
    next_second().await;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    tenant.partner("reader").await?.answered().await
}

#[tokio::test]
async fn a_leave_is_told_at_each_step_ahead_and_taken_back_with_the_date() -> Result<()> {
    let tenant = tenant("owner-ahead", json!({})).await?;
    stays(&tenant, "Current").await?;
    let partner = tenant.live("reader", json!({})).await?;
    // In some seconds it is 14 days ahead.
    let leave = in_seconds(14 * DAY + 15);
    set_until(&tenant, "alice", json!(leave)).await?;
    let found = stays(&tenant, "LeavesWithin30Days").await?;
    let alice = tenant.owner_name("alice");
    let remedy = format!("kubectl wayleave owner handover {alice} NEW-OWNER -n owner-ahead");
    ensure!(found["status"] == "False", "{found}");
    has(
        &text(&found["message"]),
        &[&format!("AccessOwner {alice} leaves at {leave}"), &remedy],
    )?;
    stays(&tenant, "LeavesWithin14Days").await?;
    let step: Timestamp = leave.parse()?;
    let late = Timestamp::now().as_second() - (step.as_second() - 14 * DAY);
    ensure!((0..=8).contains(&late), "told {late} s after the step");
    let notes = eventually("an event for each step", LIMIT, || async {
        let notes = told(&tenant).await?;
        ensure!(notes.len() == 2, "{notes:?}");
        Ok(Some(notes))
    })
    .await?;
    for days in ["within 30 days", "within 14 days"] {
        let note = notes.iter().find(|note| note.contains(days));
        has(
            note.with_context(|| format!("{days} in {notes:?}"))?,
            &[&alice, &remedy],
        )?;
    }

    let viewer = plugin("vera@corp.example", "wayleave-viewer").await?;
    let listed = viewer.works(&["owner", "leaving", "-n", "owner-ahead"]).await?.stdout;
    has(
        &listed,
        &["owner-ahead   acme", "acme", &alice, "business", &leave, "1/1"],
    )?;
    ensure!(listed.lines().count() == 2, "{listed}");
    let none = viewer
        .works(&["owner", "leaving", "-n", "owner-ahead", "--within", "7d"])
        .await?;
    ensure!(
        none.stdout.is_empty() && none.stderr == "no owner leaves within 7d\n",
        "{none:?}"
    );
    // Who may not read owners hears it from the operator.
    bind(&tenant, "rita@corp.example", "wayleave-requester").await?;
    let rita = wayleave_e2e::plugin::Plugin::of(tenant.cp, "rita@corp.example", &[]).await?;
    let listed = rita.works(&["owner", "leaving", "-n", "owner-ahead"]).await?;
    has(&listed.stdout, &[&alice, &leave])?;
    has(&listed.stderr, &["note: you may not list AccessOwners"])?;

    set_until(&tenant, "alice", Value::Null).await?;
    stays(&tenant, "Current").await?;
    ensure!(partner.read().await? == 200 && told(&tenant).await?.len() == 2);
    Ok(())
}

/// One person may own much: wherever it is, it ends with them, and nothing else does.
#[tokio::test]
async fn who_owns_several_integrations_takes_the_access_of_all_along() -> Result<()> {
    let tenant = tenant("owner-of-several", json!({})).await?;
    let (bob, dora) = (tenant.owner_name("bob"), tenant.owner_name("dora"));
    tenant.owner("dora").await?;
    // His by either half.
    let business = json!({"owners": {"businessRef": {"name": bob}, "technicalRef": {"name": dora}}});
    tenant.integration("globex", business).await?;
    let without = json!({"owners": {"technicalRef": {"name": dora}}});
    tenant.integration("initech", without).await?;
    let technical = json!({"owners": {"technicalRef": {"name": bob}}});
    let other = crate::cluster::tenant("owner-elsewhere", technical).await?;
    let of = |integration: &str| json!({"integrationRef": {"name": integration}});
    let (first, second, third, another, still) = tokio::try_join!(
        tenant.live("reader", of("acme")),
        tenant.live("second", of("acme")),
        tenant.live("of-globex", of("globex")),
        other.live("reader", of("acme")),
        tenant.live("of-initech", of("initech")),
    )?;
    let cause = Instant::now();
    tenant.delete("AccessOwner", "", &bob).await?;
    tokio::try_join!(
        first.refused_since(cause),
        second.refused_since(cause),
        third.refused_since(cause),
        another.refused_since(cause),
    )?;
    for (tenant, name) in [
        (&tenant, "reader"),
        (&tenant, "second"),
        (&tenant, "of-globex"),
        (&other, "reader"),
    ] {
        let grant = tenant.wait_reason(name, "OwnerRemoved").await?;
        let said = text(&condition(&grant, "Active")["message"]);
        ensure!(
            said.starts_with(&format!("AccessOwner {bob} does not exist or can't be read; ")),
            "{name}: {said}"
        );
        tenant.wait_nothing_left(&text(&grant["metadata"]["uid"])).await?;
    }
    ensure!(still.read().await? == 200, "it is not his");
    let grant = tenant.get_grant("of-initech").await?;
    ensure!(condition(&grant, "Active")["reason"] == "Issued", "{grant}");
    Ok(())
}

/// A tenant with a live grant, and a third owner.
async fn owned(ns: &str) -> Result<(Tenant<'static>, Partner)> {
    let tenant = tenant(ns, json!({})).await?;
    tenant.owner("dora").await?;
    let partner = tenant.live("reader", json!({})).await?;
    Ok((tenant, partner))
}

fn digest_after(said: &str) -> Result<String> {
    let row = said
        .lines()
        .find(|line| line.contains("reader") && line.contains("sha256:"));
    let row = row.with_context(|| format!("no digest in {said}"))?;
    Ok(row.split_whitespace().last().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_handover_is_refused_where_it_would_leave_one_person_and_applied_as_the_caller() -> Result<()> {
    let (tenant, partner) = owned("handover-apply").await?;
    let (alice, bob, dora) = (
        tenant.owner_name("alice"),
        tenant.owner_name("bob"),
        tenant.owner_name("dora"),
    );
    let ivan = plugin("ivan@corp.example", "wayleave-viewer").await?;
    let words = |to: &'_ str, more: &[&'static str]| {
        let mut all = vec!["owner".to_owned(), "handover".to_owned(), alice.clone(), to.to_owned()];
        all.extend(["-n", "handover-apply"].iter().chain(more).map(|it| (*it).to_owned()));
        all
    };
    let run = |words: Vec<String>, code: i32| {
        let ivan = &ivan;
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            ivan.exits(&words, code).await
        }
    };
    let said = run(words(&bob, &["--apply", "--yes"]), 1).await?.stderr;
    has(
        &said,
        &[
            "two people",
            &format!("handover-apply/acme: {bob} is its technical owner already"),
        ],
    )?;
    has(
        &run(words("nobody", &[]), 1).await?.stderr,
        &["no AccessOwner nobody: create it first"],
    )?;
    let said = run(words(&dora, &["--role", "technical"]), 1).await?.stderr;
    has(&said, &["owns no integration in namespace handover-apply"])?;
    // One person under two objects.
    let email = json!({"spec": {"email": "bob@corp.example"}});
    tenant.patch_as(&tenant.root, "AccessOwner", "", &dora, email).await?;
    has(
        &run(words(&dora, &[]), 1).await?.stderr,
        &["are one person (bob@corp.example)"],
    )?;
    let email = json!({"spec": {"email": "dora@corp.example"}});
    tenant.patch_as(&tenant.root, "AccessOwner", "", &dora, email).await?;
    // Who may only look changes nothing.
    let said = run(words(&dora, &["--apply", "--yes"]), 1).await?.stderr;
    has(
        &said,
        &["nothing was handed over: handover-apply/acme: ", "is forbidden"],
    )?;
    ensure!(partner.read().await? == 200);

    bind(&tenant, "ivan@corp.example", "wayleave-requester").await?;
    let before = tenant.get_grant("reader").await?;
    let done = run(words(&dora, &["--apply", "--yes"]), 0).await?;
    partner.refused_since(Instant::now()).await?;
    has(&done.stdout, &["handover-apply   acme", "business", "yes"])?;
    has(&done.stderr, &[&text(&before["status"]["digest"])])?;
    let after = tenant.wait_reason("reader", "AwaitingApproval").await?;
    ensure!(
        after["status"]["digest"] == digest_after(&done.stderr)?.as_str(),
        "{after}\n{}",
        done.stderr
    );
    let changed = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
    let spec = &changed.data["spec"];
    ensure!(
        spec["owners"] == json!({"businessRef": {"name": dora}, "technicalRef": {"name": bob}})
            && spec["contributors"] == json!(["ivan@corp.example"]),
        "{spec}"
    );
    next_second().await;
    tenant.approve("reader", json!({})).await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn a_handover_by_git_can_be_approved_before_it_is_merged() -> Result<()> {
    let (tenant, partner) = owned("handover-git").await?;
    let (bob, dora) = (tenant.owner_name("bob"), tenant.owner_name("dora"));
    let viewer = plugin("gina@corp.example", "wayleave-viewer").await?;
    let done = viewer
        .works(&["owner", "handover", &bob, &dora, "-n", "handover-git"])
        .await?;
    has(&done.stderr, &["nothing was changed", "no gap"])?;
    for absent in [
        "status",
        "resourceVersion",
        "uid:",
        "managedFields",
        "creationTimestamp",
    ] {
        ensure!(!done.stdout.contains(absent), "{absent} in {}", done.stdout);
    }
    has(&done.stdout, &["kind: PartnerIntegration", &dora, "requestedBy"])?;
    ensure!(!done.stdout.contains(&bob), "{}", done.stdout);

    // Dave approves what is to come, with the grant as it will be.
    let grant = tenant.get_grant("reader").await?;
    let after = digest_after(&done.stderr)?;
    let ahead = json!({"subject": {"uid": grant["metadata"]["uid"]}, "digest": after});
    next_second().await;
    tenant.decide("AccessGrant", "reader", "Approve", ahead).await?;
    ensure!(partner.read().await? == 200);
    // Merged: carol, who asked for the integration, applies the file as it was printed.
    let carol = wayleave_e2e::plugin::Plugin::of(tenant.cp, CAROL, &[]).await?;
    carol.apply(&done.stdout).await?;
    let grant = eventually("the grant to be live with the other owner", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        let current = grant["status"]["digest"] == after.as_str();
        Ok((current && condition(&grant, "Active")["reason"] == "Issued").then_some(grant))
    })
    .await?;
    ensure!(text(&grant["status"]["summary"]["owners"]).contains(&dora), "{grant}");
    tenant.partner("reader").await?.answered().await
}

/// As the hint of the handover says, word by word, by three people; the partner goes on reading all the while.
#[tokio::test]
async fn the_hint_of_a_handover_leads_to_a_change_without_a_gap() -> Result<()> {
    let (tenant, partner) = owned("handover-hint").await?;
    let (alice, dora) = (tenant.owner_name("alice"), tenant.owner_name("dora"));
    let ns = tenant.ns.as_str();
    let before = tenant.get_grant("reader").await?;
    let prepares = plugin("hana@corp.example", "wayleave-viewer").await?;
    let done = prepares.works(&["owner", "handover", &alice, &dora, "-n", ns]).await?;
    let hint = "kubectl wayleave approve GRANT -n NAMESPACE --file FILE --digest DIGEST --reason WHY";
    has(&done.stderr, &[hint, "no part of the change"])?;
    let after = digest_after(&done.stderr)?;
    let filled = hint
        .replace("GRANT", "reader")
        .replace("NAMESPACE", ns)
        .replace("FILE", "handover.yaml");
    let filled = filled.replace("DIGEST", &after).replace("WHY", "handover");
    let words: Vec<&str> = filled.split(' ').skip(2).collect();

    // Who asked can't approve it, who holds no right to neither, and nobody anything else than what the file holds.
    let carol = wayleave_e2e::plugin::Plugin::of(tenant.cp, CAROL, &[]).await?;
    let dave = wayleave_e2e::plugin::Plugin::of(tenant.cp, DAVE, &["security"]).await?;
    for person in [&carol, &dave, &prepares] {
        person.write("handover.yaml", &done.stdout)?;
    }
    let said = carol.exits(&[&words[..], &["--yes"]].concat(), 1).await?;
    has(&said.stderr, &["not approved: you"])?;
    let said = prepares.exits(&[&words[..], &["--yes"]].concat(), 1).await?;
    has(&said.stderr, &["forbidden"])?;
    let other: Vec<String> = words
        .iter()
        .map(|it| it.replace(&after, &text(&before["status"]["digest"])))
        .collect();
    let other: Vec<&str> = other.iter().map(String::as_str).chain(["--yes"]).collect();
    let said = dave.exits(&other, 1).await?;
    has(
        &said.stderr,
        &["not approved: what the files hold has the digest", &after],
    )?;
    let said = dave.exits(&words, 1).await?;
    has(&said.stderr, &["there is no terminal to ask on; give --yes"])?;

    next_second().await;
    let said = dave.works(&[&words[..], &["--yes"]].concat()).await?;
    has(
        &said.stderr,
        &[
            "approving as dave@corp.example what is PROPOSED",
            "changes     owners",
            &dora,
        ],
    )?;
    ensure!(
        partner.read().await? == 200
            && tenant.get_grant("reader").await?["status"]["digest"] == before["status"]["digest"]
    );

    // Merged while the partner reads without a pause.
    let is_merged = std::sync::atomic::AtomicBool::new(false);
    let reads = async {
        let mut count = 0;
        while !is_merged.load(std::sync::atomic::Ordering::Relaxed) {
            let code = partner.read().await?;
            ensure!(code == 200, "answered with {code} after {count} reads");
            count += 1;
        }
        Ok(count)
    };
    let merges = async {
        let applied = carol.apply(&done.stdout).await;
        let live = eventually("the grant to be live with the other owner", LIMIT, || async {
            let grant = tenant.get_grant("reader").await?;
            let is_live =
                grant["status"]["digest"] == after.as_str() && condition(&grant, "Active")["reason"] == "Issued";
            Ok(is_live.then_some(grant))
        });
        let live = live.await;
        is_merged.store(true, std::sync::atomic::Ordering::Relaxed);
        applied?;
        live
    };
    let (count, grant) = tokio::try_join!(reads, merges)?;
    ensure!(count > 10, "{count} reads");
    ensure!(
        grant["status"]["identity"] == before["status"]["identity"],
        "another activation: {}",
        grant["status"]["identity"]
    );
    let approvals = &grant["status"]["approvals"];
    ensure!(
        approvals[0]["digest"] == after.as_str() && approvals[0]["by"] == DAVE,
        "{approvals}"
    );
    Ok(())
}

#[tokio::test]
async fn a_date_that_is_none_is_refused() -> Result<()> {
    let tenant = tenant("owner-date", json!({})).await?;
    let spec = json!({"displayName": "Eve", "email": "eve@corp.example", "active": true, "until": "tomorrow"});
    let refused = create(&tenant.root, "AccessOwner", "", "owner-date-eve", json!({"spec": spec})).await;
    has(&format!("{:#}", refused.unwrap_err()), &["spec.until"])
}
