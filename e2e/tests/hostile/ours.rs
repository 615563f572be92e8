//! Everything of ours in the cluster, as the attackers' targets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{Client, Error};
use serde_json::Value;
use wayleave_e2e::eventually;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE};
use wayleave_e2e::tenant::text;

use crate::catalog::Resource;
use crate::cluster::{DEPOT, EARLY, NAMESPACES, SHOP};

/// How long the operator may take until it has written all it has to.
const SETTLED: Duration = Duration::from_secs(60);

/// An object of ours.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    /// What it is, whatever it is called: `binding of a partner`.
    pub role: String,
    pub object: Value,
}

/// Of each kind in each place one object of each role.
pub async fn targets(root: &Client, catalog: &[Resource]) -> Result<Vec<Target>> {
    let mut seen = BTreeSet::new();
    let mut all = settled(root, catalog).await?;
    all.retain(|it| seen.insert((it.resource.clone(), it.namespace.clone(), it.role.clone())));
    let has = |role: &str, namespace: &str| all.iter().any(|it| it.role == role && it.namespace == namespace);
    for (role, namespace) in [
        ("binding of a partner", SHOP),
        ("binding of a partner", DEPOT),
        ("role of a partner", SHOP),
        ("enrolment", SHOP),
        ("delivered credential", SHOP),
        ("identity", IDENTITY_NAMESPACE),
        ("identity", EARLY),
        ("anchor", IDENTITY_NAMESPACE),
        ("delivered credential", IDENTITY_NAMESPACE),
        ("decision Approve", SHOP),
        ("decision Deny", SHOP),
    ] {
        ensure!(has(role, namespace), "there is no {role} in {namespace}");
    }
    Ok(all)
}

/// Everything, once two readings say the same: what the operator has to write is written.
pub async fn settled(root: &Client, catalog: &[Resource]) -> Result<Vec<Target>> {
    let before = RefCell::new(BTreeMap::new());
    eventually("nothing to be written any more", SETTLED, || async {
        let all = everything(root, catalog).await?;
        let now = by_place(&all);
        let same = *before.borrow() == now;
        before.replace(now);
        Ok(same.then_some(all))
    })
    .await
}

/// What is there, by kind and place; without what is written all the time.
pub fn by_place(all: &[Target]) -> BTreeMap<String, Value> {
    let lasting = all
        .iter()
        .filter(|it| it.resource.kind != "Lease" && it.name != "wayleave-admission-proofs");
    lasting
        .map(|it| {
            (
                format!("{} {}/{}", it.resource.shown(), it.namespace, it.name),
                it.object.clone(),
            )
        })
        .collect()
}

/// All that is ours, and all in the namespaces that are ours alone.
pub async fn everything(root: &Client, catalog: &[Resource]) -> Result<Vec<Target>> {
    let listed = catalog
        .iter()
        .filter(|it| it.has("list") && !it.is_subresource() && it.name != "events");
    let mut places = Vec::new();
    for resource in listed {
        if resource.namespaced {
            places.extend(NAMESPACES.map(|namespace| (resource.clone(), namespace.to_owned())));
        } else {
            places.push((resource.clone(), String::new()));
        }
    }
    let lists = places
        .into_iter()
        .map(|(resource, namespace)| list(root, resource, namespace));
    let lists: Vec<Vec<Target>> = stream::iter(lists).buffered(8).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn list(root: &Client, resource: Resource, namespace: String) -> Result<Vec<Target>> {
    let path = resource.path(&namespace, None);
    let request = http::Request::get(&path).body(Vec::new())?;
    let list: Value = match root.request(request).await {
        Ok(list) => list,
        // A resource that is served and is no list after all.
        Err(Error::Api(status)) if status.code == 404 || status.code == 405 => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("GET {path}")),
    };
    let items = list["items"].as_array().cloned().unwrap_or_default().into_iter();
    let targets = items.filter_map(|mut object| {
        object["apiVersion"] = resource.api_version.clone().into();
        object["kind"] = resource.kind.clone().into();
        let role = role(&resource, &namespace, &object)?;
        let name = text(&object["metadata"]["name"]);
        Some(Target {
            resource: resource.clone(),
            namespace: namespace.clone(),
            name,
            role,
            object,
        })
    });
    Ok(targets.collect())
}

/// What an object is to us; none where it is not ours.
fn role(resource: &Resource, namespace: &str, object: &Value) -> Option<String> {
    let name = text(&object["metadata"]["name"]);
    let kind = resource.kind.as_str();
    if resource.is_ours() {
        let decision = object["spec"]["decision"]
            .as_str()
            .map(|it| format!(" {it}"))
            .unwrap_or_default();
        let words = match kind {
            "AccessDecision" => "decision",
            "AccessGrant" => "grant",
            "PartnerIntegration" => "integration",
            "AccessPolicy" => "policy",
            "AccessOwner" => "owner",
            _ => "record",
        };
        return Some(format!("{words}{decision}"));
    }
    if text(&object["type"]) == "wayleave.dev/credential" {
        return Some("delivered credential".to_owned());
    }
    if name.starts_with("wlg-") {
        let words = match kind {
            "ServiceAccount" => "identity",
            "Secret" => "anchor",
            "Role" => "role of a partner",
            "RoleBinding" => "binding of a partner",
            "CertificateSigningRequest" => "certificate for an identity",
            other => other,
        };
        return Some(words.to_owned());
    }
    if kind == "RoleBinding" && text(&object["roleRef"]["name"]) == "wayleave-enrolment" {
        return Some("enrolment".to_owned());
    }
    if kind == "Namespace" && NAMESPACES.contains(&name.as_str()) {
        return Some(format!("namespace {name}"));
    }
    if namespace == IDENTITY_NAMESPACE || namespace == NAMESPACE {
        return Some("in a namespace of ours".to_owned());
    }
    let of_chart = name.starts_with("wayleave") || name.ends_with(".wayleave.dev");
    (namespace.is_empty() && of_chart).then(|| "of the chart".to_owned())
}
