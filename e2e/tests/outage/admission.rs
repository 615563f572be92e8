//! The admission policies are taken away: nothing is issued on the word of decisions that nobody checked.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use wayleave_e2e::operator::NAMESPACE;
use wayleave_e2e::tenant::{LIMIT, api, condition, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{Cluster, made, of_server, reads};

const READER: &str = "reader";
const KIND: &str = "ValidatingAdmissionPolicyBinding";
const BINDING: &str = "wayleave-decisions";

/// Takes the policy on decisions away, and waits until a forged one is let through; gives what was taken.
async fn disarm(tenant: &Tenant<'_>) -> Result<DynamicObject> {
    // Of a new installation nobody knows anything yet.
    on_record(tenant).await?;
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

/// Does something while the policy on decisions is away. It is put back whatever comes of it: other tests have the same cluster.
async fn disarmed(tenant: &Tenant<'_>, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let taken = disarm(tenant).await?;
    let outcome = meanwhile.await;
    let armed = arm(tenant, &taken).await;
    outcome.and(armed)
}

/// Puts it back, and waits until the operator is sure that the API server goes by it.
async fn arm(tenant: &Tenant<'_>, taken: &DynamicObject) -> Result<()> {
    let bindings = api(&tenant.root, KIND, "");
    bindings.create(&PostParams::default(), taken).await?;
    on_record(tenant).await
}

/// Waits until the operator says that the policies don't hold.
async fn unproved(cluster: &Cluster) -> Result<()> {
    eventually("the operator to see it", LIMIT, || async {
        let metrics = cluster.operator.metrics().await?;
        let proved = metrics
            .lines()
            .find(|line| line.starts_with("wayleave_admission_proved "));
        Ok((proved == Some("wayleave_admission_proved 0")).then_some(()))
    })
    .await
}

/// Waits until the record says that the policies hold.
async fn on_record(tenant: &Tenant<'_>) -> Result<()> {
    eventually("the record to say that the policies hold", LIMIT, || async {
        let record = api(&tenant.root, "ConfigMap", NAMESPACE)
            .get("wayleave-admission-proofs")
            .await?;
        let text = text(&record.data["data"]["proofs.json"]);
        let record: Value = serde_json::from_str(&text)?;
        let last = record["periods"].as_array().and_then(|all| all.last()).cloned();
        let last = last.unwrap_or_default();
        ensure!(last.is_object() && last["until"].is_null(), "{record}");
        Ok(Some(()))
    })
    .await
}

/// Waits until a decision is told whether it counts, and why.
async fn counted(tenant: &Tenant<'_>, decision: &Value, status: &str, reason: &str) -> Result<()> {
    let name = text(&decision["metadata"]["name"]);
    eventually("the decision to be told", LIMIT, || async {
        let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(&name).await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        ensure!(counted["status"] == status && counted["reason"] == reason, "{counted}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn without_the_admission_policies_nothing_is_issued_and_what_is_live_stays() -> Result<()> {
    let cluster = of_server().await?;
    let live = cluster.tenant("unproved-live").await?;
    let partner = live.live(READER, json!({})).await?;
    let before = live.get_grant(READER).await?;
    let tenant = cluster.tenant("unproved").await?;
    tenant.grant(READER, json!({"suspend": true})).await?;
    let approval = tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Suspended").await?;
    counted(&tenant, &approval, "True", "Counted").await?;

    let meanwhile = async {
        // It is seen when it changes, not at the next of the rare proofs.
        unproved(&cluster).await?;
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
        Ok(())
    };
    disarmed(&tenant, meanwhile).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}

#[tokio::test]
async fn a_policy_that_only_warns_is_missed_whichever_it_is() -> Result<()> {
    let cluster = of_server().await?;
    let tenant = cluster.tenant("unenforced").await?;
    on_record(&tenant).await?;
    let bindings = api(&tenant.root, KIND, "");
    let acts = async |name: &str, action: &str| {
        let patch = Patch::Merge(json!({"spec": {"validationActions": [action]}}));
        bindings.patch(name, &PatchParams::default(), &patch).await
    };
    for name in ["wayleave-requests", "wayleave-tokens"] {
        acts(name, "Warn").await?;
        let seen = unproved(&cluster).await;
        acts(name, "Deny").await?;
        let armed = on_record(&tenant).await;
        seen.and(armed)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_decided_while_nobody_checked_does_not_count() -> Result<()> {
    let cluster = of_server().await?;
    let tenant = cluster.tenant("unchecked").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    // What was asked for in the second of the change might not have been checked either.
    for _ in 0..3 {
        next_second().await;
    }
    let mut approval = Value::Null;
    let meanwhile = async {
        approval = tenant.approve(READER, json!({})).await?;
        counted(&tenant, &approval, "False", "Unchecked").await?;
        let grant = tenant.wait_reason(READER, "AwaitingApproval").await?;
        let said = text(&condition(&grant, "Active")["message"]);
        ensure!(said.contains("does not count"), "the reason is not said: {said}");
        Ok(())
    };
    disarmed(&tenant, meanwhile).await?;

    // It never does, not after the policies are back, and not for another process.
    cluster.restart_operator().await?;
    let fresh = cluster.tenant("checked").await?;
    fresh.live(READER, json!({})).await?;
    counted(&tenant, &approval, "False", "Unchecked").await?;
    let grant = tenant.wait_reason(READER, "AwaitingApproval").await?;
    ensure!(tenant.children(&text(&grant["metadata"]["uid"])).await?.is_empty());
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}

#[tokio::test]
async fn what_was_decided_while_the_operator_was_down_counts_if_the_policies_stayed_the_same() -> Result<()> {
    let cluster = of_server().await?;
    let tenant = cluster.tenant("checked-while-down").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    cluster.operator.kill()?;
    tenant.approve(READER, json!({})).await?;
    cluster.operator.start_again()?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}
