//! Lives beside each other: two grants of one integration, reach beyond a namespace, and a namespace that goes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use wayleave_e2e::eventually;
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{END, api, create, enrolment, text};

use crate::cluster::tenant;

#[tokio::test]
async fn two_grants_of_one_integration_live_and_end_apart() -> Result<()> {
    let tenant = tenant("life-apart").await?;
    let one = tenant.live("one", json!({})).await?;
    let two = tenant.live("two", json!({})).await?;
    let cause = Instant::now();
    tenant.decide("AccessGrant", "one", "Revoke", json!({})).await?;
    one.refused_since(cause).await?;
    tenant.wait_reason("one", "Revoked").await?;
    ensure!(two.read().await? == 200, "the other one ended too");
    tenant.wait_reason("two", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn what_was_not_granted_is_refused() -> Result<()> {
    let tenant = tenant("life-least").await?;
    let partner = tenant.live("reader", json!({})).await?;
    ensure!(partner.get("ConfigMap", "kube-root-ca.crt").await? == 403);
    ensure!(partner.get("Secret", "reader-credential").await? == 403);
    ensure!(partner.get("Role", "wlg-x").await? == 403);
    Ok(())
}

#[tokio::test]
async fn every_child_says_on_whose_word_it_is_there() -> Result<()> {
    let tenant = tenant("life-evidence").await?;
    tenant.live("reader", json!({"ticket": "CHG-4711"})).await?;
    let grant = tenant.get_grant("reader").await?;
    for child in grant["status"]["children"].as_array().into_iter().flatten() {
        let kind = match child["kind"].as_str().unwrap_or_default() {
            "Anchor" | "DeliverySecret" => "Secret",
            kind => kind,
        };
        let object = api(&tenant.root, kind, &text(&child["namespace"]))
            .get(&text(&child["name"]))
            .await?;
        let notes = serde_json::to_value(object.metadata.annotations)?;
        for (key, value) in [
            ("approved-by", "dave@corp.example"),
            ("ticket", "CHG-4711"),
            ("agreement", "CTR-2026-114"),
            ("purpose", "Reconcile invoices nightly"),
            ("integration", "acme"),
            ("partner", "acme"),
            ("grant", "life-evidence/reader"),
        ] {
            ensure!(
                notes[format!("wayleave.dev/{key}")] == value,
                "{child}: {key} in {notes}"
            );
        }
        for key in ["approved-at", "decisions", "expires-at"] {
            ensure!(
                notes[format!("wayleave.dev/{key}")].is_string(),
                "{child}: {key} in {notes}"
            );
        }
        let owned = !serde_json::to_value(object.metadata.owner_references)?.is_null();
        ensure!(
            owned == (child["namespace"] == tenant.ns.as_str()),
            "{child}: the garbage collector is the backstop"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_grant_that_reaches_another_namespace_delivers_in_private() -> Result<()> {
    let tenant = tenant("life-reach").await?;
    let (root, other) = (&tenant.root, "life-reached");
    create(
        root,
        "Namespace",
        "",
        other,
        json!({"metadata": {"labels": {"tenant": tenant.ns}}}),
    )
    .await?;
    create(root, "RoleBinding", other, "enrolment", enrolment("wayleave-enrolment")).await?;
    create(root, "ConfigMap", other, "feed", json!({"data": {}})).await?;
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "security"}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wayleave-approver"});
    create(
        root,
        "RoleBinding",
        other,
        "approvers",
        json!({"roleRef": role, "subjects": subjects}),
    )
    .await?;
    let targets = json!({"spec": {"access": {"targetNamespaces": {"matchLabels": {"tenant": tenant.ns}}}}});
    tenant.patch_as(root, "AccessPolicy", "", &tenant.ns, targets).await?;
    let mut access: Value = tenant.grant_spec()["access"].clone();
    access[0]["namespaces"] = json!([tenant.ns, other]);
    // In the namespace, whose editors could read it, it is refused.
    tenant.grant("open", json!({"access": access})).await?;
    let refused = tenant.wait_reason("open", "NotPermitted").await?;
    ensure!(
        refused["status"]["conditions"].to_string().contains("Private"),
        "{}",
        refused["status"]["conditions"]
    );
    let private = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
    tenant.grant("reader", private).await?;
    tenant
        .approve("reader", json!({"targetNamespaces": [tenant.ns, other]}))
        .await?;
    let grant = tenant.wait_reason("reader", "Issued").await?;
    ensure!(grant["status"]["credential"]["secretNamespace"] == IDENTITY_NAMESPACE);
    let partner = tenant.partner("reader").await?;
    let there = tenant.cp.with_token(&partner.token).await?;
    partner.answered().await?;
    eventually("the other namespace to answer", END, || async {
        api(&there, "ConfigMap", other).get("feed").await?;
        Ok(Some(()))
    })
    .await?;
    let cause = Instant::now();
    tenant
        .patch("AccessGrant", "reader", json!({"spec": {"suspend": true}}))
        .await?;
    partner.refused_since(cause).await?;
    tenant.wait_nothing_left(&text(&grant["metadata"]["uid"])).await?;
    eventually("the other namespace to refuse", END, || async {
        let answer = api(&there, "ConfigMap", other).get("feed").await;
        Ok(answer.is_err().then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_deleted_goes_and_takes_the_identity_along() -> Result<()> {
    let tenant = tenant("life-namespace").await?;
    let partner = tenant.live("reader", json!({})).await?;
    let uid = text(&tenant.get_grant("reader").await?["metadata"]["uid"]);
    let namespaces = api(&tenant.root, "Namespace", "");
    namespaces.delete(&tenant.ns, &DeleteParams::default()).await?;
    eventually("the namespace to be gone", Duration::from_secs(60), || async {
        Ok(namespaces.get_opt(&tenant.ns).await?.is_none().then_some(()))
    })
    .await?;
    ensure!(
        tenant.children(&uid).await?.is_empty(),
        "{:?}",
        tenant.children(&uid).await?
    );
    partner.wait_unauthorized().await
}
