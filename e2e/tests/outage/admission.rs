//! The admission policies are taken away: nothing is issued on the word of decisions that nobody checked.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::json;
use wayleave_e2e::tenant::{LIMIT, api, condition, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{made, of_server, reads};

const READER: &str = "reader";
const KIND: &str = "ValidatingAdmissionPolicyBinding";
const BINDING: &str = "wayleave-decisions";

/// Takes the policy on decisions away, and waits until a forged one is let through; gives what was taken.
async fn disarm(tenant: &Tenant<'_>) -> Result<DynamicObject> {
    let bindings = api(&tenant.root, KIND, "");
    let mut taken: DynamicObject = bindings.get(BINDING).await?;
    bindings.delete(BINDING, &DeleteParams::default()).await?;
    eventually("a forged decision to be let through", LIMIT, || async {
        let forged = json!({
            "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessDecision",
            "metadata": {"name": "forged", "namespace": tenant.ns},
            "spec": {
                "subject": {"kind": "AccessGrant", "name": "nobody"}, "decision": "Deny",
                "decidedBy": "somebody@corp.example", "submittedBy": "somebody@corp.example", "reason": "forged",
            },
        });
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        api(&tenant.root, "AccessDecision", &tenant.ns)
            .create(&dry, &serde_json::from_value(forged)?)
            .await?;
        Ok(Some(()))
    })
    .await?;
    taken.metadata.resource_version = None;
    taken.metadata.uid = None;
    Ok(taken)
}

async fn arm(tenant: &Tenant<'_>, taken: &DynamicObject) -> Result<()> {
    let bindings = api(&tenant.root, KIND, "");
    bindings.create(&PostParams::default(), taken).await?;
    Ok(())
}

#[tokio::test]
async fn without_the_admission_policies_nothing_is_issued_and_what_is_live_stays() -> Result<()> {
    let cluster = of_server().await?;
    let live = cluster.tenant("unproved-live").await?;
    let partner = live.live(READER, json!({})).await?;
    let before = live.get_grant(READER).await?;
    let tenant = cluster.tenant("unproved").await?;
    tenant.grant(READER, json!({"suspend": true})).await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Suspended").await?;

    let taken = disarm(&tenant).await?;
    // It is seen when it changes, not at the next of the rare proofs.
    eventually("the operator to see it", LIMIT, || async {
        let metrics = cluster.operator.metrics().await?;
        let proved = metrics
            .lines()
            .find(|line| line.starts_with("wayleave_admission_proved "));
        Ok((proved == Some("wayleave_admission_proved 0")).then_some(()))
    })
    .await?;
    let resumed = json!({"spec": {"suspend": false}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, resumed)
        .await?;
    let grant = tenant.wait_reason(READER, "AdmissionUnproved").await?;
    let (ready, stalled) = (condition(&grant, "Ready"), condition(&grant, "Stalled"));
    ensure!(ready["status"] == "False" && stalled["status"] == "True", "{grant}");
    let said = text(&ready["message"]);
    ensure!(
        said.contains("admission policies") && said.contains("install"),
        "{said}"
    );
    ensure!(grant["status"]["identity"].is_null(), "something was made: {grant}");
    reads(&partner).await?;
    ensure!(
        made(&live.get_grant(READER).await?) == made(&before),
        "what was live was touched"
    );

    arm(&tenant, &taken).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}

#[tokio::test]
#[ignore = "the operator does not keep in mind yet when the policies were not proved"]
async fn what_was_decided_while_nobody_checked_does_not_count() -> Result<()> {
    let cluster = of_server().await?;
    let tenant = cluster.tenant("unchecked").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    let taken = disarm(&tenant).await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "AdmissionUnproved").await?;
    arm(&tenant, &taken).await?;
    let grant = tenant.wait_reason(READER, "AwaitingApproval").await?;
    let said = text(&condition(&grant, "Active")["message"]);
    ensure!(said.contains("does not count"), "the reason is not said: {said}");
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}
