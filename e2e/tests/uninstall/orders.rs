//! Helm, the kinds, namespaces and rights go in one order or another.

use std::time::Instant;

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE};
use wayleave_e2e::tenant::{END, LIMIT, api, create, enrolment};
use wayleave_e2e::{Operator, Part, eventually};

use crate::stage::{GONE, READER, Stage, done, let_go, options};

#[tokio::test]
async fn uninstall_then_helm_then_the_kinds() -> Result<()> {
    let stage = Stage::new().await?;
    let (payments, ledger) = (stage.tenant("payments").await?, stage.tenant("ledger").await?);
    let private = json!({"credential": {"token": {"delivery": "Private"}}});
    let partners = [
        payments.live(READER, json!({})).await?,
        ledger.live(READER, private).await?,
    ];
    ledger.grant("waiting", json!({})).await?;
    ledger.wait_reason("waiting", "AwaitingApproval").await?;
    let foreign = stage.foreign().await?;

    let said = done(&stage.uninstall(&[]).await?)?;
    ensure!(
        said.contains("payments/reader") && said.contains("ledger/reader"),
        "{said}"
    );
    ensure!(said.contains("done: no finalizer and no credential"), "{said}");
    let partners: Vec<_> = partners.iter().collect();
    stage.nothing_is_left(&partners, &foreign).await?;
    for (tenant, name) in [(&payments, READER), (&ledger, READER), (&ledger, "waiting")] {
        let_go(tenant, name).await?;
    }
    let ready = stage.operator.get("/ready").await?;
    ensure!(ready.contains("being uninstalled"), "{ready}");

    // No more issuing: not on a fresh approval, not by a replica that starts now.
    ledger.approve("waiting", json!({})).await?;
    let late = Operator::start(&stage.cp, options()).await?;
    late.wait_ready().await?;
    stage.operator.kill()?;
    eventually("the late replica to lead", LIMIT, || async {
        let metrics = late.metrics().await?;
        ensure!(metrics.lines().any(|line| line == "wayleave_leader 1"), "{metrics}");
        Ok(Some(()))
    })
    .await?;
    payments.grant("new", json!({})).await?;
    let_go(&payments, "new").await?;
    let_go(&ledger, "waiting").await?;
    late.stop().await?;

    done(&stage.helm_uninstall(&["--no-hooks"]).await?)?;
    stage.delete_kinds().await?;
    stage.nothing_is_left(&partners, &foreign).await?;
    stage.delete_namespace("payments").await?;
    stage.delete_namespace(IDENTITY_NAMESPACE).await?;
    stage.delete_namespace(NAMESPACE).await
}

#[tokio::test]
async fn helm_uninstall_ends_everything_by_its_hook_with_an_operator_and_without() -> Result<()> {
    for with_operator in [true, false] {
        let stage = Stage::new().await?;
        let payments = stage.tenant("payments").await?;
        let partner = payments.live(READER, json!({})).await?;
        let foreign = stage.foreign().await?;
        if !with_operator {
            stage.operator.kill()?;
        }
        let (helm, said) = stage.helm_uninstall_by_hook().await?;
        ensure!(said.contains("payments/reader"), "{said}");
        done(&helm)?;
        stage.nothing_is_left(&[&partner], &foreign).await?;
        let left = api(&stage.root, "Job", NAMESPACE).get_opt("wayleave-uninstall").await?;
        ensure!(left.is_none(), "the hook's Job stays");
        stage.operator.kill()?;
        stage.delete_kinds().await?;
        stage.nothing_is_left(&[&partner], &foreign).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_kinds_go_first_while_an_operator_runs() -> Result<()> {
    let stage = Stage::new().await?;
    let payments = stage.tenant("payments").await?;
    let partner = payments.live(READER, json!({})).await?;
    payments.grant("waiting", json!({})).await?;
    let foreign = stage.foreign().await?;
    stage.delete_kinds().await?;
    partner.refused_within(Instant::now(), END).await?;
    // A policy that judges by grants must not refuse what it can't judge: other people's bindings, and ours.
    stage.cp.restart(Part::ApiServer).await?;
    payments
        .patch("RoleBinding", "requesters", json!({"metadata": {"labels": {"a": "b"}}}))
        .await?;
    payments.delete("RoleBinding", "payments", "requesters").await?;
    // What still holds the enrolment is let go by the hook.
    let (helm, _) = stage.helm_uninstall_by_hook().await?;
    done(&helm)?;
    stage.nothing_is_left(&[&partner], &foreign).await?;
    stage.operator.kill()?;
    stage.delete_namespace("payments").await
}

#[tokio::test]
async fn the_namespace_of_the_identities_goes_first() -> Result<()> {
    let stage = Stage::new().await?;
    let (payments, ledger) = (stage.tenant("payments").await?, stage.tenant("ledger").await?);
    let partner = payments.live(READER, json!({})).await?;
    let private = json!({"credential": {"token": {"delivery": "Private"}}});
    let another = ledger.live(READER, private).await?;
    let foreign = stage.foreign().await?;
    stage.delete_namespace(IDENTITY_NAMESPACE).await?;
    for partner in [&partner, &another] {
        partner.wait_unauthorized().await?;
    }
    done(&stage.uninstall(&[]).await?)?;
    stage.nothing_is_left(&[&partner, &another], &foreign).await?;
    for tenant in [&payments, &ledger] {
        let_go(tenant, READER).await?;
    }
    stage.operator.kill()?;
    done(&stage.helm_uninstall(&["--no-hooks"]).await?)?;
    stage.delete_kinds().await?;
    stage.nothing_is_left(&[&partner, &another], &foreign).await?;
    stage.delete_namespace("payments").await
}

#[tokio::test]
async fn without_its_rights_it_says_so_and_an_administrator_does_it() -> Result<()> {
    let stage = Stage::new().await?;
    let payments = stage.tenant("payments").await?;
    let partner = payments.live(READER, json!({})).await?;
    let foreign = stage.foreign().await?;
    let bindings = api(&stage.root, "ClusterRoleBinding", "");
    bindings.delete("wayleave", &DeleteParams::default()).await?;
    eventually("the rights to be gone", LIMIT, || async {
        let refused = stage.uninstall(&["--timeout=3"]).await?;
        ensure!(!refused.status.success(), "{}", refused.stdout);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        ensure!(
            said.contains("was not given the right") && said.contains("cluster administrator"),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    // Nor does helm go on when its hook failed.
    let (helm, hook) = stage.helm_uninstall_and_its_hook().await?;
    ensure!(!hook.status.success() && !helm.status.success(), "{}", helm.stdout);
    ensure!(helm.stderr.contains("wayleave-uninstall"), "{}", helm.stderr);
    let role = api(&stage.root, "ClusterRole", "").get_opt("wayleave").await?;
    ensure!(role.is_some(), "the chart was removed in spite of its hook");
    let admin = stage.cp.admin_kubeconfig();
    let said = done(&stage.uninstall_as(&admin, &[]).await?)?;
    ensure!(said.contains("payments/reader"), "{said}");
    stage.nothing_is_left(&[&partner], &foreign).await?;
    stage.operator.kill()?;
    done(&stage.helm_uninstall(&["--no-hooks"]).await?)?;
    stage.delete_kinds().await?;
    stage.nothing_is_left(&[&partner], &foreign).await
}

/// The worst order: the chart and the operator's namespace are gone, live grants and all.
#[tokio::test]
async fn helm_without_its_hook_and_the_operators_namespace_go_first() -> Result<()> {
    let stage = Stage::new().await?;
    let (payments, ledger) = (stage.tenant("payments").await?, stage.tenant("ledger").await?);
    let partners = [
        payments.live(READER, json!({})).await?,
        ledger.live(READER, json!({})).await?,
    ];
    // An enrolment that names somebody else by now, and one that is taken away.
    create(
        &stage.root,
        "RoleBinding",
        "ledger",
        "another",
        enrolment("wayleave-enrolment"),
    )
    .await?;
    eventually("the other enrolment to be held", LIMIT, || async {
        let another = api(&stage.root, "RoleBinding", "ledger").get("another").await?;
        Ok(another.metadata.finalizers.filter(|all| !all.is_empty()))
    })
    .await?;
    let foreign = stage.foreign().await?;
    stage.operator.kill()?;
    done(&stage.helm_uninstall(&["--no-hooks"]).await?)?;
    // The policies that would keep it are gone with the chart; the API server takes a moment to see that.
    eventually("the enrolment to be let go of", LIMIT, || async {
        ledger
            .patch("RoleBinding", "another", json!({"subjects": []}))
            .await
            .map(Some)
    })
    .await?;
    ledger.delete("RoleBinding", "ledger", "enrolment").await?;
    let kubectl = stage.cp.kubectl(&stage.cp.admin_kubeconfig()).await?;
    let kinds = kubectl.args(["delete", "crd", "accessgrants.wayleave.dev", "--wait=false"]);
    kinds.run().await?.ok()?;
    stage.delete_namespace(NAMESPACE).await?;
    for partner in &partners {
        let code = partner.read().await?;
        ensure!(code == 200, "nobody closed it, and it reads with {code}");
    }
    let admin = stage.cp.admin_kubeconfig();
    let output = stage.uninstall_as(&admin, &[]).await?;
    let said = done(&output)?;
    ensure!(said.contains("no drain marker"), "{said}");
    let partners: Vec<_> = partners.iter().collect();
    // What was asked of that namespace is gone with it.
    let foreign = foreign
        .into_iter()
        .filter(|(key, _)| !key.contains(NAMESPACE))
        .collect();
    stage.nothing_is_left(&partners, &foreign).await?;
    eventually("the kind to be gone", GONE, || async {
        let kind = api(&stage.root, "CustomResourceDefinition", "")
            .get_opt("accessgrants.wayleave.dev")
            .await?;
        Ok(kind.is_none().then_some(()))
    })
    .await?;
    stage.delete_kinds().await?;
    for namespace in ["payments", "ledger", IDENTITY_NAMESPACE] {
        stage.delete_namespace(namespace).await?;
    }
    Ok(())
}
