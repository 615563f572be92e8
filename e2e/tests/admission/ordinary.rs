//! The ordinary work of a cluster goes on as if the policies were not there.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::{InstallOptions, eventually, install_with};

use crate::world::{bound, child, merged, object, user, values, world};

pub const LIMIT: Duration = Duration::from_secs(60);
/// The garbage collector looks for fresh kinds every half minute.
const COLLECTED: Duration = Duration::from_secs(150);

#[tokio::test]
async fn tenants_work_as_before() -> Result<()> {
    let world = world("tenants").await?;
    let (adam, erin) = (world.adam().await?, world.erin().await?);
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]}
    });
    let deployment = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
    erin.create(world.object("Deployment", "web", deployment)).await?;
    erin.merge("Deployment", &world.ns, "web", json!({"spec": {"replicas": 2}}))
        .await?;
    // Bare objects: no labels, annotations, type, subjects or rules.
    for (kind, body) in [
        ("Secret", json!({})),
        ("ServiceAccount", json!({})),
        ("ConfigMap", json!({})),
    ] {
        erin.create(world.object(kind, "bare", body.clone())).await?;
        erin.merge(kind, &world.ns, "bare", json!({"metadata": {"labels": {"a": "b"}}}))
            .await?;
        erin.merge(kind, &world.ns, "bare", json!({"metadata": {"labels": null}}))
            .await?;
        let mut generated = world.object(kind, "", body);
        generated["metadata"] = json!({"generateName": "wl-", "namespace": world.ns});
        erin.create(generated).await?;
        erin.delete(kind, &world.ns, "bare").await?;
    }
    adam.create(world.object("Role", "bare", json!({}))).await?;
    let mut binding = world.object("RoleBinding", "bare", bound("Role", "bare", json!(null)));
    binding.as_object_mut().expect("an object").remove("subjects");
    adam.create(binding).await?;
    adam.merge("RoleBinding", &world.ns, "bare", json!({"subjects": [user("zoe")]}))
        .await?;
    adam.merge("RoleBinding", &world.ns, "bare", json!({"subjects": null}))
        .await?;
    adam.delete("RoleBinding", &world.ns, "bare").await?;
    world
        .root
        .create(object(
            "ClusterRoleBinding",
            "",
            "tenants-bare",
            json!({"roleRef": bound("ClusterRole", "view", json!([]))["roleRef"]}),
        ))
        .await?;
    world.root.delete("ClusterRoleBinding", "", "tenants-bare").await?;
    let pod = json!({"spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    erin.create(world.object("Pod", "bare", pod)).await?;
    erin.token(&world.ns, "robot", json!({})).await?;
    erin.token(&world.ns, "default", json!({"expirationSeconds": 100_000}))
        .await?;
    let annotations = json!({"kubernetes.io/service-account.name": "robot"});
    let body = json!({"type": "kubernetes.io/service-account-token", "metadata": {"annotations": annotations}});
    erin.create(world.object("Secret", "robots", body)).await?;
    eventually("the token Secret to be filled", LIMIT, || async {
        Ok(erin.get("Secret", &world.ns, "robots").await?.get("data").map(drop))
    })
    .await
}

#[tokio::test]
async fn a_namespace_with_everything_in_it_goes_away() -> Result<()> {
    let world = world("doomed").await?;
    let name = world.identity().await?;
    let (carol, dave) = (world.carol().await?, world.dave().await?);
    carol.create(world.integration("acme", json!({}))).await?;
    carol.create(world.grant("reader", json!({}))).await?;
    world.set_active("reader", true).await?;
    for decision in ["Approve", "Deny", "Revoke"] {
        dave.create(world.decision(&decision.to_lowercase(), decision, json!({})))
            .await?;
    }
    world
        .operator()
        .await?
        .create(child(
            "Secret",
            &world.ns,
            "acme-credential",
            json!({"type": "wayleave.dev/credential"}),
        ))
        .await?;
    world.root.delete("Namespace", "", &world.ns).await?;
    eventually("the namespace to be gone", LIMIT, || async {
        match world.root.get("Namespace", "", &world.ns).await {
            Ok(left) => bail!("{}", left["status"]),
            Err(_) => Ok(Some(())),
        }
    })
    .await?;
    for kind in ["ServiceAccount", "Secret"] {
        world.operator().await?.delete(kind, IDENTITY_NAMESPACE, &name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_garbage_collector_does_its_work() -> Result<()> {
    let world = world("collected").await?;
    let (carol, operator) = (world.carol().await?, world.operator().await?);
    for (grant, how) in [
        ("back", DeleteParams::background()),
        ("fore", DeleteParams::foreground()),
    ] {
        let made = carol.create(world.grant(grant, json!({}))).await?;
        let owner = json!({"apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "name": grant,
            "uid": made["metadata"]["uid"], "blockOwnerDeletion": false});
        let owned = json!({"metadata": {"ownerReferences": [owner]}});
        let name = format!("wlg-collected-{grant}");
        operator
            .create(merged(
                child("Role", &world.ns, &name, json!({"rules": []})),
                owned.clone(),
            ))
            .await?;
        operator
            .create(merged(
                child("Secret", &world.ns, grant, json!({"type": "wayleave.dev/credential"})),
                owned,
            ))
            .await?;
        carol.api("AccessGrant", &world.ns).delete(grant, &how).await?;
        eventually("what the grant owned to be gone", COLLECTED, || async {
            for (kind, name) in [("AccessGrant", grant), ("Role", &name), ("Secret", grant)] {
                ensure!(
                    world.root.get(kind, &world.ns, name).await.is_err(),
                    "{kind} {name} is there"
                );
            }
            Ok(Some(()))
        })
        .await?;
    }
    // An owner that is let go of leaves a child of a reserved name without one.
    let tenant = world.root.create(world.object("ConfigMap", "owner", json!({}))).await?;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": tenant["metadata"]["uid"]});
    let owned = json!({"metadata": {"ownerReferences": [owner]}});
    operator
        .create(merged(
            child("Role", &world.ns, "wlg-left", json!({"rules": []})),
            owned,
        ))
        .await?;
    world
        .root
        .api("ConfigMap", &world.ns)
        .delete("owner", &DeleteParams::orphan())
        .await?;
    eventually("the owner to be gone, and the child without it", COLLECTED, || async {
        let left = world.root.get("Role", &world.ns, "wlg-left").await?;
        Ok(left["metadata"].get("ownerReferences").is_none().then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_chart_is_upgraded_while_grants_live() -> Result<()> {
    let world = world("upgraded").await?;
    world.carol().await?.create(world.grant("reader", json!({}))).await?;
    world.set_active("reader", true).await?;
    let before = world.root.get("AccessGrant", &world.ns, "reader").await?;
    let options = InstallOptions {
        values: values(),
        ..InstallOptions::default()
    };
    install_with(world.cp, options).await?;
    let after = world.root.get("AccessGrant", &world.ns, "reader").await?;
    ensure!(
        before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"],
        "untouched"
    );
    Ok(())
}
