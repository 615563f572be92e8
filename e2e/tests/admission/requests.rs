//! Who asks is who is authenticated, and whoever changes what an approval covers is listed.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::world::{CAROL, CORA, DAVE, REQUEST_DELEGATE, merged, refused, world};

const POLICY: &str = "requests";

#[tokio::test]
async fn a_request_carries_its_writers_name_and_no_other() -> Result<()> {
    let world = world("requests-named").await?;
    let carol = world.carol().await?;
    for object in [world.integration("acme", json!({})), world.grant("reader", json!({}))] {
        let made = carol.create(object.clone()).await?;
        ensure!(made["spec"]["requestedBy"] == CAROL, "named: {}", made["spec"]);
        ensure!(
            made["spec"].get("contributors").is_none(),
            "nobody changed it: {}",
            made["spec"]
        );
        let forged = merged(
            object.clone(),
            json!({"metadata": {"name": "forged"}, "spec": {"requestedBy": DAVE}}),
        );
        refused(
            POLICY,
            "spec.requestedBy must be you: set it to carol@corp.example",
            carol.create(forged.clone()).await,
        )?;
        refused(
            POLICY,
            "must be you: set it to root@corp.example",
            world.root.create(forged.clone()).await,
        )?;
        let itself = json!({"metadata": {"name": "forged"}, "spec": {"contributors": [DAVE]}});
        let listed = merged(object, itself);
        refused(
            POLICY,
            "spec.contributors must be left out of a new object",
            carol.create(listed).await,
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn who_changes_what_an_approval_covers_is_listed_for_good() -> Result<()> {
    let world = world("requests-listed").await?;
    let (carol, cora) = (world.carol().await?, world.user(CORA, &[]).await?);
    let (kind, ns, name) = ("PartnerIntegration", &world.ns, "acme");
    carol.create(world.integration(name, json!({}))).await?;
    for free in [
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"partner": {"contact": "new@acme.example"}, "review": {"interval": "30d"}}}),
        json!({"metadata": {"labels": {"team": "ledger"}}}),
    ] {
        let answer = cora.merge(kind, ns, name, free).await?;
        ensure!(
            answer["spec"].get("contributors").is_none(),
            "not covered by an approval: {}",
            answer["spec"]
        );
    }
    let purpose = json!({"purpose": "All invoices"});
    let spec = merged(purpose, world.stated(json!({"contributors": [CORA]})));
    let changed = cora.merge(kind, ns, name, json!({ "spec": spec })).await?;
    ensure!(
        changed["spec"]["contributors"] == json!([CORA]),
        "listed: {}",
        changed["spec"]
    );
    let again = carol
        .merge(kind, ns, name, json!({"spec": {"purpose": "Some invoices"}}))
        .await?;
    ensure!(
        again["spec"]["contributors"] == json!([CORA]),
        "who asked is known: {}",
        again["spec"]
    );

    // A whole object without the names keeps them.
    let stamps = world.stamps_or_says("who is left out stays listed").await?;
    let left_out = [(&cora, json!(null)), (&carol, json!([])), (&carol, json!(null))];
    for (who, empty) in left_out.into_iter().filter(|_| stamps) {
        let answer = who
            .merge(
                kind,
                ns,
                name,
                json!({"spec": {"contributors": empty, "requestedBy": null}}),
            )
            .await?;
        ensure!(
            answer["spec"]["contributors"] == json!([CORA]),
            "nobody is taken off: {}",
            answer["spec"]
        );
        ensure!(
            answer["spec"]["requestedBy"] == CAROL,
            "nor who asked: {}",
            answer["spec"]
        );
    }
    let others = json!({"spec": {"contributors": [CORA, DAVE]}});
    refused(
        POLICY,
        "spec.contributors: you can add nobody but yourself",
        carol.merge(kind, ns, name, others).await,
    )?;
    let exchanged = json!({"spec": {"contributors": [DAVE]}});
    let says = if stamps {
        "you can add nobody but yourself"
    } else {
        "nobody can be taken off"
    };
    refused(POLICY, says, cora.merge(kind, ns, name, exchanged).await)?;
    let requester = json!({"spec": {"requestedBy": CORA}});
    refused(
        POLICY,
        "spec.requestedBy can't be changed: set it back to carol",
        cora.merge(kind, ns, name, requester).await,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_full_list_of_contributors_takes_no_more() -> Result<()> {
    let world = world("requests-full").await?;
    let carol = world.carol().await?;
    carol.create(world.grant("reader", json!({}))).await?;
    let change = |n: usize| {
        let listed: Vec<String> = (0..=n).map(|n| format!("person-{n}")).collect();
        let ticket = json!({"ticket": format!("CHG-{n}")});
        json!({"spec": merged(ticket, world.stated(json!({ "contributors": listed })))})
    };
    for n in 0..20 {
        let person = world.user(&format!("person-{n}"), &["requesters"]).await?;
        person.merge("AccessGrant", &world.ns, "reader", change(n)).await?;
    }
    let one_more = world.user("person-20", &["requesters"]).await?;
    let answer = one_more.merge("AccessGrant", &world.ns, "reader", change(20)).await;
    crate::world::refused_with("contributors", answer)?;
    let listed = one_more
        .merge("AccessGrant", &world.ns, "reader", json!({"spec": {"suspend": true}}))
        .await?;
    ensure!(
        listed["spec"]["contributors"]
            .as_array()
            .is_some_and(|all| all.len() == 20)
    );
    Ok(())
}

#[tokio::test]
async fn service_accounts_neither_ask_nor_change_what_was_asked() -> Result<()> {
    let world = world("requests-robot").await?;
    let (carol, robot) = (world.carol().await?, world.robot().await?);
    let says = "spec.requestedBy: people ask for access, ServiceAccounts don't";
    for object in [world.integration("acme", json!({})), world.grant("reader", json!({}))] {
        let unnamed = json!({"spec": {"requestedBy": null}});
        refused(POLICY, says, robot.create(merged(object.clone(), unnamed)).await)?;
        let forged = merged(object.clone(), json!({"spec": {"requestedBy": CAROL}}));
        refused(POLICY, says, robot.create(forged).await)?;
        carol.create(object).await?;
    }
    let (kind, ns) = ("AccessGrant", &world.ns);
    let more = json!({"spec": {"access": [{"clusterRoleRef": {"name": "edit"}}]}});
    refused(POLICY, says, robot.merge(kind, ns, "reader", more).await)?;
    robot
        .merge(
            kind,
            ns,
            "reader",
            json!({"metadata": {"annotations": {"seen": "yes"}}}),
        )
        .await?;
    robot
        .merge(kind, ns, "reader", json!({"spec": {"suspend": true}}))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_delegate_states_who_asks() -> Result<()> {
    let world = world("requests-delegate").await?;
    let delegate = world.delegate(REQUEST_DELEGATE).await?;
    let grant = |by: serde_json::Value| world.grant("reader", json!({ "requestedBy": by }));
    let says = "spec.requestedBy must name the person who asks";
    refused(POLICY, says, delegate.create(grant(json!(null))).await)?;
    for forged in [
        "system:serviceaccount:gitops:requests",
        "system:serviceaccount:requests-delegate:robot",
    ] {
        refused(POLICY, says, delegate.create(grant(json!(forged))).await)?;
    }
    let named = |contributors: serde_json::Value| {
        let names = json!({"requestedBy": CAROL, "contributors": contributors});
        world.grant("reader", names)
    };
    let myself = "system:serviceaccount:gitops:requests";
    for others in [json!([CORA]), json!([myself, CORA])] {
        let says = "spec.contributors must hold you alone, since you write for somebody else";
        refused(POLICY, says, delegate.create(named(others)).await)?;
    }
    let mut names = world.stated(json!({"contributors": [myself]}));
    names["requestedBy"] = json!(CAROL);
    let applied = delegate.apply("gitops", &world.grant("reader", names.clone())).await?;
    ensure!(applied["spec"]["contributors"] == json!([myself]), "{applied}");
    let again = delegate.apply("gitops", &world.grant("reader", names)).await?;
    ensure!(again["metadata"]["generation"] == 1, "no drift: {}", again["metadata"]);
    let decides = world.delegate(crate::world::DECISION_DELEGATE).await?;
    refused(
        POLICY,
        "ServiceAccounts don't",
        decides
            .create(world.grant("other", json!({ "requestedBy": CAROL })))
            .await,
    )?;
    Ok(())
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() -> Result<()> {
    let world = world("requests-apply").await?;
    let text = format!(
        "{}\n---\n{}",
        world.integration("acme", json!({})),
        world.grant("reader", json!({}))
    );
    let get = async |kind: &str, name: &str| {
        anyhow::Ok(world.root.get(kind, &world.ns, name).await?["metadata"]["resourceVersion"].clone())
    };
    for arguments in [
        &["apply", "-f", "-"][..],
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
    ] {
        let apply = async || {
            world
                .kubectl(CAROL, &[])
                .await?
                .args(arguments)
                .stdin(text.clone())
                .run()
                .await?
                .ok()
        };
        apply().await?;
        let before = (
            get("PartnerIntegration", "acme").await?,
            get("AccessGrant", "reader").await?,
        );
        apply().await?;
        let after = (
            get("PartnerIntegration", "acme").await?,
            get("AccessGrant", "reader").await?,
        );
        ensure!(before == after, "{arguments:?} again: {before:?} became {after:?}");
    }
    let diff = world
        .kubectl(CAROL, &[])
        .await?
        .args(["diff", "-f", "-"])
        .stdin(text.clone())
        .run()
        .await?;
    diff.ok()?;

    // Somebody else replaces the objects by the same file: who asked stays, and nobody is listed.
    let replace = world.kubectl(CORA, &[]).await?.args(["replace", "-f", "-"]).stdin(text);
    replace.run().await?.ok()?;
    let grant = world.root.get("AccessGrant", &world.ns, "reader").await?;
    ensure!(
        grant["spec"]["requestedBy"] == CAROL && grant["metadata"]["generation"] == 1,
        "{grant}"
    );
    ensure!(grant["spec"].get("contributors").is_none(), "{grant}");
    Ok(())
}
