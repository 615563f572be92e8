//! A tenant's namespace is deleted at each step of a grant's life, and never hangs because of us.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::tenant::{LIMIT, api, text};
use wayleave_e2e::{Part, eventually};

use crate::stage::{GONE, READER, Stage, done};

#[tokio::test]
async fn a_namespace_goes_when_the_kind_of_grants_is_gone() -> Result<()> {
    let stage = Stage::new().await?;
    let payments = stage.tenant("payments").await?;
    let partner = payments.live(READER, json!({})).await?;
    let foreign = stage.foreign().await?;
    let kubectl = stage.cp.kubectl(&stage.cp.admin_kubeconfig()).await?;
    let delete = kubectl.args(["delete", "crd", "accessgrants.wayleave.dev", "--timeout=60s"]);
    delete.run().await?.ok()?;
    // From now on no policy can judge by grants; decisions about them are still there.
    stage.cp.restart(Part::ApiServer).await?;
    stage.delete_namespace("payments").await?;
    stage.nothing_is_left(&[&partner], &foreign).await
}

#[tokio::test]
async fn a_namespace_goes_at_every_step() -> Result<()> {
    let stage = Stage::new().await?;
    let namespaces = api(&stage.root, "Namespace", "");
    let going = async |ns: &str| namespaces.delete(ns, &DeleteParams::default()).await.map(drop);
    let gone = async |ns: &str| {
        eventually(&format!("{ns} to be gone"), GONE, || async {
            let left = namespaces.get_opt(ns).await?;
            ensure!(left.is_none(), "{}", serde_json::to_value(left)?["status"]);
            Ok(Some(()))
        })
        .await
    };
    let foreign = stage.foreign().await?;
    let mut partners = Vec::new();

    let waiting = stage.tenant("goes-waiting").await?;
    waiting.grant(READER, json!({})).await?;
    waiting.wait_reason(READER, "AwaitingApproval").await?;
    going("goes-waiting").await?;
    gone("goes-waiting").await?;

    let live = stage.tenant("goes-live").await?;
    partners.push(live.live(READER, json!({})).await?);
    going("goes-live").await?;
    gone("goes-live").await?;

    // Approved and deleted at once: whatever of it was made by then.
    let issuing = stage.tenant("goes-issuing").await?;
    issuing.grant(READER, json!({})).await?;
    issuing.approve(READER, json!({})).await?;
    going("goes-issuing").await?;
    gone("goes-issuing").await?;

    let rotating = stage.tenant("goes-rotating").await?;
    partners.push(rotating.live(READER, json!({})).await?);
    let asked = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
    rotating.patch("AccessGrant", READER, asked).await?;
    going("goes-rotating").await?;
    gone("goes-rotating").await?;

    let private = stage.tenant("goes-private").await?;
    let delivery = json!({"credential": {"token": {"delivery": "Private"}}});
    partners.push(private.live(READER, delivery).await?);
    going("goes-private").await?;
    gone("goes-private").await?;

    // Nobody is there to let go: it waits, and goes when the operator is back.
    let down = stage.tenant("goes-down").await?;
    partners.push(down.live(READER, json!({})).await?);
    stage.operator.kill()?;
    going("goes-down").await?;
    eventually("the namespace to wait for the operator alone", LIMIT, || async {
        let status = namespaces.get("goes-down").await?.data["status"].clone();
        let said = status.to_string();
        ensure!(said.contains("wayleave.dev/close-access"), "{said}");
        Ok(Some(()))
    })
    .await?;
    let code = partners[partners.len() - 1].read().await?;
    ensure!(code != 200, "its binding is gone with the namespace");
    stage.operator.start_again()?;
    gone("goes-down").await?;

    // Suspended, so that nothing but the enrolment is held.
    let suspended = stage.tenant("goes-suspended").await?;
    partners.push(suspended.live(READER, json!({})).await?);
    suspended
        .patch("AccessGrant", READER, json!({"spec": {"suspend": true}}))
        .await?;
    suspended.wait_reason(READER, "Suspended").await?;
    going("goes-suspended").await?;
    gone("goes-suspended").await?;

    // While everything is being ended.
    let draining = stage.tenant("goes-draining").await?;
    partners.push(draining.live(READER, json!({})).await?);
    let (output, deleted) = tokio::join!(stage.uninstall(&[]), going("goes-draining"));
    deleted?;
    let said = done(&output?)?;
    ensure!(said.contains("done:"), "{said}");
    gone("goes-draining").await?;
    let partners: Vec<_> = partners.iter().collect();
    stage.nothing_is_left(&partners, &foreign).await?;
    let log = stage.operator.logs()?;
    for partner in partners {
        ensure!(!log.contains(&text(&json!(partner.token))), "a token is in the log");
    }
    Ok(())
}
