//! The admission policies are taken away: nothing is issued on the word of decisions that nobody checked.

use anyhow::{Result, ensure};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use wayleave_e2e::install::can_stamp;
use wayleave_e2e::operator::NAMESPACE;
use wayleave_e2e::tenant::{CAROL, LIMIT, api, binding, condition, create, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use super::cluster::{Cluster, made, of_server, reads, uid};

const READER: &str = "reader";
const FORGED: &str = "forged";
const CHANGED: &str = "changed";
const KIND: &str = "ValidatingAdmissionPolicyBinding";
const BINDINGS: [(&str, &str); 2] = [(KIND, "wayleave-decisions"), (KIND, "wayleave-requests")];
/// Lists whoever changes a request, where the cluster can.
const STAMPING: (&str, &str) = ("MutatingAdmissionPolicyBinding", "wayleave-stamp-requests");
/// May ask and approve, and says that somebody else asked.
const MALLORY: &str = "mallory@corp.example";

/// Takes the policies on decisions and on requests away, and waits until forged ones are let through; gives what was taken.
async fn disarm(tenant: &Tenant<'_>) -> Result<Vec<(&'static str, DynamicObject)>> {
    // Of a new installation nobody knows anything yet.
    on_record(tenant).await?;
    let stamping = can_stamp(&tenant.root).await?.then_some(STAMPING);
    let mut all = Vec::new();
    for (kind, name) in BINDINGS.into_iter().chain(stamping) {
        let bindings = api(&tenant.root, kind, "");
        let mut taken: DynamicObject = bindings.get(name).await?;
        bindings.delete(name, &DeleteParams::default()).await?;
        taken.metadata.resource_version = None;
        taken.metadata.uid = None;
        all.push((kind, taken));
    }
    let decision = json!({
        "subject": {"kind": "AccessGrant", "name": "nobody"}, "decision": "Deny",
        "decidedBy": "somebody@corp.example", "submittedBy": "somebody@corp.example", "reason": "forged",
    });
    for (kind, spec) in [("AccessDecision", decision), ("AccessGrant", tenant.grant_spec())] {
        let forged = json!({
            "apiVersion": "wayleave.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "nobodys", "namespace": tenant.ns}, "spec": spec,
        });
        let forged: DynamicObject = serde_json::from_value(forged)?;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        eventually("what is forged to be let through", LIMIT, || async {
            api(&tenant.root, kind, &tenant.ns).create(&dry, &forged).await?;
            Ok(Some(()))
        })
        .await?;
    }
    Ok(all)
}

/// Does something while those policies are away. They are put back whatever comes of it: other tests have the same cluster.
async fn disarmed(tenant: &Tenant<'_>, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let taken = disarm(tenant).await?;
    let outcome = meanwhile.await;
    let armed = arm(tenant, &taken).await;
    outcome.and(armed)
}

/// Puts them back, and waits until the operator is sure that the API server goes by them.
async fn arm(tenant: &Tenant<'_>, taken: &[(&str, DynamicObject)]) -> Result<()> {
    for (kind, binding) in taken {
        api(&tenant.root, kind, "")
            .create(&PostParams::default(), binding)
            .await?;
    }
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

/// Waits until a decision is told whether it counts, and why; gives the words.
async fn counted(tenant: &Tenant<'_>, decision: &Value, status: &str, reason: &str) -> Result<String> {
    let name = text(&decision["metadata"]["name"]);
    eventually("the decision to be told", LIMIT, || async {
        let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(&name).await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        ensure!(counted["status"] == status && counted["reason"] == reason, "{counted}");
        Ok(Some(text(&counted["message"])))
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
    for name in [READER, CHANGED] {
        tenant.grant(name, json!({})).await?;
        tenant.wait_reason(name, "AwaitingApproval").await?;
    }
    // What was asked for in the second of the change might not have been checked either.
    for _ in 0..3 {
        next_second().await;
    }
    let mallory = cluster.cp.user(MALLORY, &["security"]).await?;
    let asks = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": MALLORY}]);
    let asks = binding("wayleave-requester", asks);
    create(&tenant.root, "RoleBinding", &tenant.ns, "mallory-asks", asks).await?;
    let (mut approval, mut forged, mut changed) = (Value::Null, Value::Null, Value::Null);
    let unchecked = "it was made while the admission policies were not seen to hold, so that nobody checked who decided: \
                     decide again";
    let meanwhile = async {
        // Carol asks for nothing here.
        let spec = json!({"spec": tenant.grant_spec()});
        forged = create(&mallory, "AccessGrant", &tenant.ns, FORGED, spec).await?;
        ensure!(
            forged["spec"]["requestedBy"] == CAROL && forged["spec"]["contributors"].is_null(),
            "{forged}"
        );
        changed = changes_unseen(&tenant, &mallory).await?;
        approval = tenant.approve(READER, json!({})).await?;
        let said = counted(&tenant, &approval, "False", "Unchecked").await?;
        ensure!(said == unchecked, "{said}");
        is_awaited(&tenant, READER, &[(&approval, unchecked)]).await
    };
    disarmed(&tenant, meanwhile).await?;

    // It never does, not after the policies are back, and not for another process.
    cluster.restart_operator().await?;
    let fresh = cluster.tenant("checked").await?;
    fresh.live(READER, json!({})).await?;
    counted(&tenant, &approval, "False", "Unchecked").await?;
    is_awaited(&tenant, READER, &[(&approval, unchecked)]).await?;

    // Nor can be approved what was written in that time, by whoever wrote it or by anybody.
    let created = format!(
        "the AccessGrant was created at {}",
        text(&forged["metadata"]["creationTimestamp"])
    );
    let replaced = format!(
        "what it approves was written at {}",
        text(&changed["status"]["digestSince"])
    );
    for (name, what) in [(FORGED, created), (CHANGED, replaced)] {
        let words = format!(
            "{what}, while the admission policies were not seen to hold, so that nobody checked who asked: it has to be \
             written anew"
        );
        let hers = json!({"decidedBy": MALLORY, "submittedBy": MALLORY});
        let hers = tenant.approve_as(&mallory, name, hers).await?;
        let his = tenant.approve(name, json!({})).await?;
        for decision in [&hers, &his] {
            let said = counted(&tenant, decision, "False", "Unchecked").await?;
            ensure!(said == words, "{said}");
        }
        is_awaited(&tenant, name, &[(&hers, &words), (&his, &words)]).await?;
    }

    // By carol it is, in either way.
    tenant.delete("AccessGrant", &tenant.ns, FORGED).await?;
    let grants = api(&tenant.root, "AccessGrant", &tenant.ns);
    eventually("the forged grant to be gone", LIMIT, || async {
        Ok(grants.get_opt(FORGED).await?.is_none().then_some(()))
    })
    .await?;
    tenant.grant(FORGED, json!({})).await?;
    let ticket = json!({"spec": {"ticket": "CHG-3"}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, CHANGED, ticket)
        .await?;
    for name in [READER, FORGED, CHANGED] {
        tenant.approve(name, json!({})).await?;
        tenant.wait_reason(name, "Issued").await?;
        reads(&tenant.partner(name).await?).await?;
    }
    Ok(())
}

/// Mallory changes what carol asked for, and is not listed; gives the grant once its digest is of that.
async fn changes_unseen(tenant: &Tenant<'_>, mallory: &Client) -> Result<Value> {
    let grants = api(mallory, "AccessGrant", &tenant.ns);
    let before = tenant.get_grant(CHANGED).await?;
    let patch = Patch::Merge(json!({"spec": {"ticket": "CHG-2"}}));
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("nobody to be listed for a change", LIMIT, || async {
        let changed = grants.patch(CHANGED, &dry, &patch).await?;
        Ok(changed.data["spec"]["contributors"].is_null().then_some(()))
    })
    .await?;
    let changed = grants.patch(CHANGED, &PatchParams::default(), &patch).await?;
    let spec = &changed.data["spec"];
    ensure!(
        spec["requestedBy"] == CAROL && spec["contributors"].is_null(),
        "she is listed: {spec}"
    );
    eventually("another digest", LIMIT, || async {
        let grant = tenant.get_grant(CHANGED).await?;
        Ok((grant["status"]["digest"] != before["status"]["digest"]).then_some(grant))
    })
    .await
}

/// The grant waits for an approval, says of each of these why it does not count, and nothing of it is there.
async fn is_awaited(tenant: &Tenant<'_>, name: &str, against: &[(&Value, &str)]) -> Result<()> {
    let why = |(decision, words): &(&Value, &str)| {
        let decision = text(&decision["metadata"]["name"]);
        format!("; AccessDecision {decision} does not count: {words}")
    };
    let mut why: Vec<String> = against.iter().map(why).collect();
    why.sort();
    let whole = format!("1 approval of security asked for{}", why.concat());
    let grant = eventually("the grant to say why", LIMIT, || async {
        let grant = tenant.wait_reason(name, "AwaitingApproval").await?;
        let said = text(&condition(&grant, "Active")["message"]);
        ensure!(said == whole, "{said}");
        Ok(Some(grant))
    })
    .await?;
    let made = tenant.children(&uid(&grant)).await?;
    ensure!(made.is_empty(), "{made:?}");
    Ok(())
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
