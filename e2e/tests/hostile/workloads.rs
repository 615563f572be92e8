//! Objects with templates of pods are let through, whatever ServiceAccount they name: the controllers that make their pods are
//! refused. Here these run.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{create, text};
use wayleave_e2e::{eventually, progress};

use crate::attempt::{Answer, Request};
use crate::catalog::Resource;
use crate::cluster::{EARLY, SHOP, World};
use crate::forgeries;

/// A CronJob begins with the next minute.
const MADE: Duration = Duration::from_secs(120);
/// What the API server itself says where there is no such ServiceAccount, and what our policy says where there is one.
const REFUSALS: [(&str, &str); 2] = [
    (SHOP, "error looking up service account"),
    (EARLY, "no pod runs as a ServiceAccount named wlg-"),
];

/// No pod comes of a template that names an identity, whatever kind it stands in.
pub async fn make_no_pods(world: &World) -> Result<()> {
    let root = &world.root;
    // A new node counts as not ready, where no DaemonSet has pods.
    create(root, "Node", "", "node", json!({})).await?;
    world
        .shop
        .patch_as(root, "Node", "", "node", json!({"spec": {"taints": null}}))
        .await?;
    let _controllers = world.cp.workload_controllers().await?;
    let owner = world
        .attackers
        .iter()
        .find(|it| it.name == "owner")
        .context("no owner")?;
    let templates: Vec<&Resource> = world
        .catalog
        .iter()
        .filter(|it| !it.is_subresource() && it.names_identities && it.has("create"))
        .filter(|it| forgeries::pod_spec(&it.kind).is_some() && it.kind != "Pod")
        .collect();
    ensure!(templates.len() >= 8, "{templates:?}");
    for resource in &templates {
        for (namespace, _) in REFUSALS {
            for (what, body) in forgeries::new(world, resource, namespace) {
                let name = match what.as_str() {
                    "runs as an identity by serviceAccountName" => "evil",
                    "is there" => "sound",
                    _ => continue,
                };
                let mut body = body;
                body["metadata"]["name"] = json!(name);
                let request = Request::post(resource.path(namespace, None), body);
                let (answer, _) = request.send(&owner.client, false).await?;
                ensure!(answer == Answer::Accepted, "{} {what}: {answer:?}", resource.kind);
            }
        }
    }
    // Each kind tells why it has no pod; a Deployment by its ReplicaSet, a CronJob by its Job.
    let kinds = ["ReplicationController", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"];
    for (namespace, says) in REFUSALS {
        eventually("every kind to be refused its pods", MADE, || async {
            let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for event in list(world, "events", namespace).await? {
                let of = &event["involvedObject"];
                let is_evil = text(&of["name"]).starts_with("evil");
                if is_evil && event["reason"] == "FailedCreate" && text(&event["message"]).contains(says) {
                    refused.entry(text(&of["kind"])).or_default().push(text(&of["name"]));
                }
            }
            for kind in kinds {
                let names = refused
                    .get(kind)
                    .with_context(|| format!("no {kind} in {namespace}: {refused:?}"))?;
                ensure!(names.iter().any(|name| name == "evil"), "{kind}: {names:?}");
            }
            for kind in ["ReplicaSet", "Job"] {
                ensure!(
                    refused[kind].iter().any(|name| name != "evil"),
                    "only by itself: {refused:?}"
                );
            }
            Ok(Some(()))
        })
        .await?;
    }
    let mut pods = 0;
    for namespace in [SHOP, EARLY, IDENTITY_NAMESPACE] {
        for pod in list(world, "pods", namespace).await? {
            let account = text(&pod["spec"]["serviceAccountName"]);
            ensure!(
                !account.starts_with("wlg-") && namespace != IDENTITY_NAMESPACE,
                "a pod runs as {account}"
            );
            pods += 1;
        }
    }
    // Those that name nobody have theirs: the controllers do work.
    ensure!(pods >= 2 * kinds.len(), "{pods} sound pods");
    progress(&format!(
        "{} kinds of templates, {pods} sound pods, none as an identity",
        templates.len()
    ));
    for resource in &templates {
        for (namespace, _) in REFUSALS {
            let request = http::Request::delete(resource.path(namespace, None)).body(Vec::new())?;
            root.request_text(request).await?;
        }
    }
    Ok(())
}

async fn list(world: &World, resource: &str, namespace: &str) -> Result<Vec<Value>> {
    let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/{resource}")).body(Vec::new())?;
    let list: Value = world.root.request(request).await?;
    list["items"].as_array().cloned().context("no list")
}
