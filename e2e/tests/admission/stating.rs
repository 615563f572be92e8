//! Where nothing stamps, as on Kubernetes 1.35, writers state their names and are checked; and an operator that speaks from its
//! pods only.

use anyhow::{Result, ensure};
use serde_json::json;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};

use crate::world::{CAROL, CORA, DAVE, World, child, object, refused, stating_cluster, world_on};

const POLICY: &str = "requests";

async fn world(ns: &str) -> Result<World<'static>> {
    world_on(stating_cluster().await?, ns).await
}

#[tokio::test]
async fn who_asks_is_stated_and_checked() -> Result<()> {
    let world = world("stating-requests").await?;
    let (carol, cora) = (world.carol().await?, world.user(CORA, &[]).await?);
    let grant = |more| world.grant("reader", more);
    let says = "spec.requestedBy must be you: set it to carol@corp.example";
    refused(POLICY, says, carol.create(grant(json!({"requestedBy": null}))).await)?;
    refused(POLICY, says, carol.create(grant(json!({"requestedBy": DAVE}))).await)?;
    carol.create(grant(json!({"requestedBy": CAROL}))).await?;
    let patch = async |who: &crate::world::Person, spec| {
        who.merge("AccessGrant", &world.ns, "reader", json!({ "spec": spec }))
            .await
    };
    let says = "spec.contributors must hold you, since you change what an approval covers: add cora@corp.example";
    refused(POLICY, says, patch(&cora, json!({"ticket": "CHG-1"})).await)?;
    refused(
        POLICY,
        says,
        patch(&cora, json!({"ticket": "CHG-1", "contributors": []})).await,
    )?;
    patch(&cora, json!({"ticket": "CHG-1", "contributors": [CORA]})).await?;
    patch(&carol, json!({"ticket": "CHG-2"})).await?;
    patch(&carol, json!({"suspend": true})).await?;
    for who in [&carol, &cora, &world.root] {
        for left in [json!(null), json!([]), json!([DAVE])] {
            refused(
                POLICY,
                "spec.contributors: ",
                patch(who, json!({ "contributors": left })).await,
            )?;
        }
        for other in [json!(null), json!(DAVE), json!("root@corp.example")] {
            let says = "spec.requestedBy can't be changed: set it back to carol@corp.example";
            refused(POLICY, says, patch(who, json!({ "requestedBy": other })).await)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_decides_is_stated_and_checked() -> Result<()> {
    let world = world("stating-decisions").await?;
    let dave = world.dave().await?;
    for (more, says) in [
        (
            json!({"decidedBy": null, "submittedBy": null}),
            "spec.decidedBy must be you: set it to dave@corp.example",
        ),
        (
            json!({"decidedBy": DAVE, "submittedBy": null}),
            "spec.submittedBy must be you: set it to dave@corp.example",
        ),
        (
            json!({"decidedBy": CAROL, "submittedBy": DAVE}),
            "spec.decidedBy must be you",
        ),
        (
            json!({"decidedBy": DAVE, "submittedBy": CAROL}),
            "spec.submittedBy must be you",
        ),
    ] {
        refused(
            "decisions",
            says,
            dave.create(world.decision("yes", "Approve", more)).await,
        )?;
    }
    let named = json!({"decidedBy": DAVE, "submittedBy": DAVE});
    let made = dave.create(world.decision("yes", "Approve", named)).await?;
    ensure!(made["spec"].get("decidedByGroups").is_none(), "{made}");
    Ok(())
}

#[tokio::test]
async fn an_operator_outside_of_its_pods_writes_nothing() -> Result<()> {
    let world = world("stating-operator").await?;
    let account = || child("ServiceAccount", IDENTITY_NAMESPACE, "wlg-stating", json!({}));
    let says = "the operator of Wayleave writes from its pods only";
    let stolen = world.operator().await?;
    refused("operator-pod", says, stolen.create(account()).await)?;
    world.root.create(world.object("ConfigMap", "any", json!({}))).await?;

    // A pod of it, which nobody has to run.
    let container = json!({"name": "c", "image": "wayleave"});
    let spec = json!({"serviceAccountName": SERVICE_ACCOUNT, "containers": [container]});
    let pod = world
        .root
        .create(object("Pod", NAMESPACE, "one", json!({ "spec": spec })))
        .await?;
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "one", "uid": pod["metadata"]["uid"]});
    let token = world
        .root
        .token_of(NAMESPACE, SERVICE_ACCOUNT, json!({ "boundObjectRef": bound }))
        .await?;
    let operator = world.with_token(&token).await?;
    operator.create(account()).await?;
    operator
        .delete("ServiceAccount", IDENTITY_NAMESPACE, "wlg-stating")
        .await?;
    Ok(())
}
