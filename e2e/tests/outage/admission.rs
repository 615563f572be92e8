//! The admission policies are taken away: nothing is issued on the word of decisions that nobody checked.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::json;
use wayleave_e2e::eventually;
use wayleave_e2e::tenant::{LIMIT, api, condition, text};

use crate::cluster::{made, of_server, reads};

const READER: &str = "reader";
const KIND: &str = "ValidatingAdmissionPolicyBinding";
const BINDING: &str = "wayleave-decisions";

#[tokio::test]
async fn without_the_admission_policies_nothing_is_issued_and_what_is_live_stays() -> Result<()> {
    let cluster = of_server().await?;
    let live = cluster.tenant("unproved-live").await?;
    let partner = live.live(READER, json!({})).await?;
    let before = live.get_grant(READER).await?;
    let tenant = cluster.tenant("unproved").await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;

    let bindings = api(&tenant.root, KIND, "");
    let taken: DynamicObject = bindings.get(BINDING).await?;
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
    tenant.approve(READER, json!({})).await?;
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

    let mut again = taken;
    again.metadata.resource_version = None;
    again.metadata.uid = None;
    bindings.create(&PostParams::default(), &again).await?;
    // What was decided while nobody checked does not count.
    let grant = tenant.wait_reason(READER, "AwaitingApproval").await?;
    let said = text(&condition(&grant, "Active")["message"]);
    ensure!(said.contains("does not count"), "the reason is not said: {said}");
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    reads(&tenant.partner(READER).await?).await
}
