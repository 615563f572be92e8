//! What carries the reserved prefix is nobody else's to make or alter, not even an administrator's; to delete it is allowed.

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{api, create, text};

use crate::cluster::tenant;

const READER: &str = "reader";

/// The object of this kind that was made for the grant and has a reserved name.
async fn child(tenant: &Tenant<'_>, kind: &str, namespace: &str, uid: &str) -> Result<Value> {
    let all = api(&tenant.root, kind, namespace).list(&ListParams::default()).await?;
    let of_grant = all.into_iter().find(|object| {
        let notes = object.metadata.annotations.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        name.starts_with("wlg-") && notes.get("wayleave.dev/grant-uid").is_some_and(|of| of == uid)
    });
    Ok(serde_json::to_value(of_grant.with_context(|| {
        format!("there is no {kind} of the grant in {namespace}")
    })?)?)
}

#[tokio::test]
async fn nobody_alters_what_was_made_for_a_grant() -> Result<()> {
    let tenant = tenant("altered").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let grant = tenant.get_grant(READER).await?;
    let uid = text(&grant["metadata"]["uid"]);
    let ns = tenant.ns.clone();
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let friend = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve@corp.example"}]);
    let unlabelled = json!({"metadata": {"labels": null, "annotations": null}});
    let held = json!({"metadata": {"finalizers": ["somebody.example/holds-it"]}});
    let alterations = [
        ("Role", ns.as_str(), json!({"rules": everything})),
        ("Role", &ns, unlabelled.clone()),
        ("RoleBinding", &ns, json!({"subjects": friend})),
        ("RoleBinding", &ns, unlabelled.clone()),
        ("RoleBinding", &ns, held.clone()),
        (
            "ServiceAccount",
            IDENTITY_NAMESPACE,
            json!({"automountServiceAccountToken": true}),
        ),
        ("ServiceAccount", IDENTITY_NAMESPACE, unlabelled),
        ("Secret", IDENTITY_NAMESPACE, json!({"stringData": {"more": "data"}})),
        ("Secret", IDENTITY_NAMESPACE, held),
    ];
    for (kind, namespace, patch) in alterations {
        let before = child(&tenant, kind, namespace, &uid).await?;
        let name = text(&before["metadata"]["name"]);
        let answer = tenant
            .patch_as(&tenant.root, kind, namespace, &name, patch.clone())
            .await;
        let Err(refusal) = answer else {
            bail!("{kind} {name} was altered by {patch}");
        };
        let said = format!("{refusal:#}");
        ensure!(said.contains("reserved for the operator"), "{kind}: {said}");
        let after = child(&tenant, kind, namespace, &uid).await?;
        ensure!(after == before, "{kind} {name} is another than before");
    }
    for (kind, namespace) in [("Role", ns.as_str()), ("Secret", &ns), ("ServiceAccount", &ns)] {
        let made = create(&tenant.root, kind, namespace, "wlg-0123456789abcdef-1", json!({})).await;
        let said = made.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(said.contains("reserved for the operator"), "a {kind}: {said}");
    }
    ensure!(partner.read().await? == 200);
    let after = tenant.get_grant(READER).await?;
    ensure!(
        after["status"]["identity"] == grant["status"]["identity"],
        "a refused alteration ended the activation"
    );
    Ok(())
}
