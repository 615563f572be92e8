//! The drain marker: who may set it and take it away, and what a new installation finds of an old one.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use wayleave_e2e::operator::{NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::{LIMIT, api, binding, create};
use wayleave_e2e::{Operator, eventually, install};

use crate::stage::{READER, Stage, done, let_go, options};

const MARKER: &str = "wayleave-drain";

#[tokio::test]
async fn an_old_marker_is_told_of_and_taken_away_what_is_in_order_begins_again() -> Result<()> {
    let stage = Stage::new().await?;
    let payments = stage.tenant("payments").await?;
    let partner = payments.live(READER, json!({})).await?;
    payments.grant("waiting", json!({})).await?;
    let foreign = stage.foreign().await?;
    // By hand, as somebody would who has no such command: the running operator does it all.
    create(&stage.root, "ConfigMap", NAMESPACE, MARKER, json!({})).await?;
    let_go(&payments, READER).await?;
    eventually("everything to be let go", LIMIT, || async {
        stage.nothing_is_left(&[&partner], &foreign).await.map(Some)
    })
    .await?;
    stage.operator.stop().await?;
    done(&stage.helm_uninstall(&["--no-hooks"]).await?)?;

    // A new installation doesn't begin by itself what somebody ended, and says so.
    install(&stage.cp).await?;
    let helm = stage.cp.helm(&stage.cp.admin_kubeconfig()).await?;
    let notes = helm
        .args(["upgrade", "wayleave", "--reuse-values", "--namespace", NAMESPACE])
        .arg(wayleave_e2e::InstallOptions::default().chart);
    let notes = done(&notes.run().await?)?;
    ensure!(
        notes.contains("WARNING: the drain marker") && notes.contains("kubectl delete configmap wayleave-drain"),
        "{notes}"
    );
    let operator = Operator::start(&stage.cp, options()).await?;
    operator.wait_ready().await?;
    let ready = operator.get("/ready").await?;
    ensure!(ready.contains("wayleave-drain"), "{ready}");
    let metrics = operator.metrics().await?;
    ensure!(
        metrics.lines().any(|line| line == "wayleave_uninstalling 1"),
        "{metrics}"
    );
    let_go(&payments, READER).await?;
    let_go(&payments, "waiting").await?;

    let admin = stage.cp.admin_kubeconfig();
    let said = done(&stage.uninstall_as(&admin, &["--undo"]).await?)?;
    ensure!(said.contains("is taken away"), "{said}");
    payments.wait_reason("waiting", "AwaitingApproval").await?;
    let ready = operator.get("/ready").await?;
    ensure!(!ready.contains("wayleave-drain"), "{ready}");
    // Approved before, and still in force: it begins again, as somebody else.
    let again = payments.wait_reason(READER, "Issued").await?;
    ensure!(again["status"]["activations"] == 2, "{again}");
    ensure!(
        again["metadata"]["finalizers"] == json!(["wayleave.dev/close-access"]),
        "{again}"
    );
    let fresh = payments.partner(READER).await?;
    fresh.answered().await?;
    partner.wait_unauthorized().await?;
    let said = done(&stage.uninstall_as(&admin, &["--undo"]).await?)?;
    ensure!(said.contains("there is no drain marker"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_marker_is_the_operators_and_of_who_may_uninstall() -> Result<()> {
    let stage = Stage::new().await?;
    let payments = stage.tenant("payments").await?;
    let editors = binding(
        "edit",
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "erin"}]),
    );
    create(&stage.root, "RoleBinding", NAMESPACE, "editors", editors).await?;
    let erin = stage.cp.user("erin", &[]).await?;
    let refused = |outcome: Result<Value>| {
        let Err(error) = outcome else {
            anyhow::bail!("it was let through")
        };
        let said = format!("{error:#}");
        ensure!(said.contains("verb uninstall on installations.wayleave.dev"), "{said}");
        Ok(())
    };
    eventually("the right to write ConfigMaps", LIMIT, || async {
        create(&erin, "ConfigMap", NAMESPACE, "another", json!({}))
            .await
            .map(Some)
    })
    .await?;
    refused(create(&erin, "ConfigMap", NAMESPACE, MARKER, json!({})).await)?;
    eventually("the record of proofs", LIMIT, || async {
        Ok(api(&stage.root, "ConfigMap", NAMESPACE)
            .get_opt("wayleave-admission-proofs")
            .await?)
    })
    .await?;
    let proofs = payments
        .patch_as(
            &erin,
            "ConfigMap",
            NAMESPACE,
            "wayleave-admission-proofs",
            json!({"data": null}),
        )
        .await;
    refused(proofs)?;

    done(&stage.uninstall(&[]).await?)?;
    let markers = |client: &kube::Client| api(client, "ConfigMap", NAMESPACE);
    let delete = async |client: &kube::Client| {
        let deleted = markers(client).delete(MARKER, &DeleteParams::default()).await;
        deleted.map(|_| Value::Null).context("deleting the marker")
    };
    refused(delete(&erin).await)?;
    let (of_erin, params, whichever) = (markers(&erin), DeleteParams::default(), ListParams::default());
    let all = of_erin.delete_collection(&params, &whichever).await;
    refused(all.map(|_| Value::Null).context("deleting every ConfigMap"))?;
    // The operator itself neither takes it away nor alters it.
    let operator = stage.cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
    ensure!(delete(&operator).await.is_err(), "the operator took the marker away");
    ensure!(
        markers(&stage.root).get_opt(MARKER).await?.is_some(),
        "the marker is gone"
    );
    let somebody = stage
        .uninstall_as(&stage.cp.user_kubeconfig("erin", &[]).await?, &[])
        .await?;
    ensure!(
        !somebody.status.success() && somebody.stderr.contains("impersonate"),
        "{}{}",
        somebody.stdout,
        somebody.stderr
    );
    delete(&stage.root).await?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let plain = serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARKER}}))?;
    markers(&operator)
        .create(&dry, &plain)
        .await
        .context("the operator sets it")?;
    Ok(())
}
