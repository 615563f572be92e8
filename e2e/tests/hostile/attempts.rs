//! Every attempt: each verb of each resource on each object of ours, and on new ones that name what is ours.

use serde_json::{Map, Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};

use crate::attempt::{Attempt, FORMS, Request};
use crate::catalog::Resource;
use crate::cluster::{NAMESPACES, World};
use crate::forgeries;
use crate::ours::Target;

/// What every attacker tries.
pub fn all(world: &World, targets: &[Target]) -> Vec<Attempt> {
    let mut all = Vec::new();
    for target in targets {
        all.extend(against(world, target));
    }
    for resource in world
        .catalog
        .iter()
        .filter(|it| it.has("create") && !it.is_subresource())
    {
        let places: &[&str] = if resource.namespaced { &NAMESPACES } else { &[""] };
        for namespace in places {
            for (what, body) in forgeries::new(world, resource, namespace) {
                let request = Request::new(http::Method::POST, resource.path(namespace, None), body);
                all.push(attempt(resource, "create", namespace, None, &what, request));
            }
        }
    }
    virtual_subresources(targets, &mut all);
    impersonations(world, &mut all);
    all
}

/// What is tried against one object.
pub fn against(world: &World, target: &Target) -> Vec<Attempt> {
    let mut all = Vec::new();
    changes(world, target, &mut all);
    deletions(target, &mut all);
    subresources(world, target, &mut all);
    all
}

fn attempt(
    resource: &Resource,
    verb: &'static str,
    namespace: &str,
    target: Option<&str>,
    what: &str,
    request: Request,
) -> Attempt {
    Attempt {
        resource: resource.shown(),
        verb,
        namespace: namespace.to_owned(),
        target: target.map(ToOwned::to_owned),
        what: what.to_owned(),
        names_identities: resource.names_identities || resource.is_ours(),
        request,
    }
}

fn changes(world: &World, target: &Target, all: &mut Vec<Attempt>) {
    let kind = &target.resource.kind;
    for (what, forged) in forgeries::of(world, kind, &target.object) {
        written(&target.resource, target, &what, &target.object, &forged, all);
    }
}

/// One change in every form that the resource knows.
fn written(resource: &Resource, target: &Target, what: &str, before: &Value, after: &Value, all: &mut Vec<Attempt>) {
    let path = resource.path(&target.namespace, Some(&target.name));
    for (verb, media) in FORMS {
        let needed = if verb == "update" { "update" } else { "patch" };
        if !resource.has(needed) {
            continue;
        }
        // Kinds that come from a definition know no strategic merge.
        if verb == "patch as strategic" && resource.group.contains('.') && !resource.group.ends_with(".k8s.io") {
            continue;
        }
        let mut query = Vec::new();
        let body = match verb {
            "update" => after.clone(),
            "patch as json" => json_patch(before, after),
            "patch as apply" => {
                query = vec![("fieldManager", "evil".to_owned()), ("force", "true".to_owned())];
                // What others own can't be taken away so.
                let Some(body) = applied(before, after) else { continue };
                body
            }
            _ => difference(before, after),
        };
        let mut request = Request::new(
            if verb == "update" {
                http::Method::PUT
            } else {
                http::Method::PATCH
            },
            path.clone(),
            body,
        );
        request.media = media;
        request.query = query;
        all.push(attempt(
            resource,
            verb,
            &target.namespace,
            Some(&target.role),
            what,
            request,
        ));
    }
}

fn deletions(target: &Target, all: &mut Vec<Attempt>) {
    let resource = &target.resource;
    for policy in ["Background", "Foreground", "Orphan"] {
        if !resource.has("delete") {
            break;
        }
        let path = resource.path(&target.namespace, Some(&target.name));
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        let request = Request::new(http::Method::DELETE, path, options);
        all.push(attempt(
            resource,
            "delete",
            &target.namespace,
            Some(&target.role),
            policy,
            request,
        ));
    }
    if resource.has("deletecollection") {
        let mut request = Request::new(
            http::Method::DELETE,
            resource.path(&target.namespace, None),
            Value::Null,
        );
        request.query = vec![("fieldSelector", format!("metadata.name%3D{}", target.name))];
        all.push(attempt(
            resource,
            "deletecollection",
            &target.namespace,
            Some(&target.role),
            "by name",
            request,
        ));
    }
}

/// `status`, `token`, `approval`, `scale`, `finalize` and whatever else the API server serves.
fn subresources(world: &World, target: &Target, all: &mut Vec<Attempt>) {
    let of = format!("{}/", target.resource.name);
    let same = |it: &&Resource| {
        it.group == target.resource.group && it.version == target.resource.version && it.name.starts_with(&of)
    };
    for resource in world.catalog.iter().filter(same) {
        let types = json!({"apiVersion": resource.api_version, "kind": resource.kind});
        if resource.has("create") {
            let mut body = types.clone();
            crate::forgeries::plain(world, resource, &target.namespace)
                .as_object()
                .into_iter()
                .flatten()
                .for_each(|(key, value)| {
                    body[key] = value.clone();
                });
            body["metadata"] = json!({"name": target.name});
            let path = resource.path(&target.namespace, Some(&target.name));
            let what = "in the name of it";
            all.push(attempt(
                resource,
                "create",
                &target.namespace,
                Some(&target.role),
                what,
                Request::new(http::Method::POST, path, body),
            ));
        }
        let mut before = target.object.clone();
        if resource.kind != target.resource.kind {
            before = types;
            before["metadata"] = json!({"name": target.name, "namespace": target.namespace});
        }
        let mut after = before.clone();
        let what = match resource.name.rsplit('/').next() {
            Some("status" | "approval") => {
                let condition = json!({
                    "type": "Approved", "status": "True", "reason": "Evil", "message": "evil",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                });
                after["status"]["conditions"] = json!([condition]);
                "says something else"
            }
            Some("finalize") => {
                after["spec"]["finalizers"] = json!([]);
                "is over"
            }
            _ => {
                after["spec"]["replicas"] = json!(3);
                "is larger"
            }
        };
        written(resource, target, what, &before, &after, all);
    }
}

/// Subresources that only authorization knows: nothing answers there.
fn virtual_subresources(targets: &[Target], all: &mut Vec<Attempt>) {
    for target in targets
        .iter()
        .filter(|it| ["AccessGrant", "PartnerIntegration"].contains(&it.resource.kind.as_str()))
    {
        let mut resource = target.resource.clone();
        resource.name.push_str("/approval");
        let path = resource.path(&target.namespace, Some(&target.name));
        for (verb, method) in [
            ("create", http::Method::POST),
            ("update", http::Method::PUT),
            ("patch as merge", http::Method::PATCH),
            ("delete", http::Method::DELETE),
        ] {
            let body =
                json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": target.name}});
            let mut request = Request::new(method, path.clone(), body);
            if verb == "patch as merge" {
                request.media = FORMS[2].1;
            }
            all.push(attempt(
                &resource,
                verb,
                &target.namespace,
                Some(&target.role),
                "approves",
                request,
            ));
        }
    }
}

/// Who speaks as somebody else: asked who they are.
fn impersonations(world: &World, all: &mut Vec<Attempt>) {
    let whoami = world.catalog.iter().find(|it| it.name == "selfsubjectreviews");
    let Some(resource) = whoami else { return };
    let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
    let user = |name: String| ("impersonate-user", name);
    let some = || user("mallory@evil.example".to_owned());
    let identities: Vec<String> = (0..3)
        .map(|index| account(IDENTITY_NAMESPACE, &world.identity(index)))
        .collect();
    let mut whom = vec![
        ("the operator", vec![user(account(NAMESPACE, SERVICE_ACCOUNT))]),
        ("whoever decides", vec![user("dave@corp.example".to_owned())]),
        (
            "a member of security",
            vec![some(), ("impersonate-group", "security".to_owned())],
        ),
        (
            "a master",
            vec![some(), ("impersonate-group", "system:masters".to_owned())],
        ),
        (
            "one of all identities",
            vec![
                some(),
                (
                    "impersonate-group",
                    format!("system:serviceaccounts:{IDENTITY_NAMESPACE}"),
                ),
            ],
        ),
        (
            "the garbage collector",
            vec![user(account("kube-system", "generic-garbage-collector"))],
        ),
        (
            "the namespace controller",
            vec![user(account("kube-system", "namespace-controller"))],
        ),
    ];
    whom.extend(identities.into_iter().map(|it| ("an identity", vec![user(it)])));
    for (who, headers) in whom {
        let body = json!({"apiVersion": resource.api_version, "kind": resource.kind});
        let mut request = Request::new(http::Method::POST, resource.path("", None), body);
        request.headers = headers;
        let mut attempt = attempt(resource, "impersonate", "", Some(who), "speaks as", request);
        attempt.resource = "users, groups and serviceaccounts".to_owned();
        attempt.names_identities = true;
        all.push(attempt);
    }
}

/// A merge patch from one object to another.
pub fn difference(before: &Value, after: &Value) -> Value {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) => drop(patch.insert(key.clone(), difference(other, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// The same as a JSON patch: what differs is replaced as a whole, two levels deep.
fn json_patch(before: &Value, after: &Value) -> Value {
    let mut operations = Vec::new();
    let empty = Map::new();
    let (old, new) = (
        before.as_object().unwrap_or(&empty),
        after.as_object().unwrap_or(&empty),
    );
    for (field, value) in new {
        match (old.get(field).and_then(Value::as_object), value.as_object()) {
            (Some(before), Some(after)) => {
                for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
                    operations.push(json!({"op": "add", "path": format!("/{field}/{key}"), "value": value}));
                }
                for key in before.keys().filter(|key| !after.contains_key(*key)) {
                    operations.push(json!({"op": "remove", "path": format!("/{field}/{key}")}));
                }
            }
            _ if old.get(field) == Some(value) => {}
            _ => operations.push(json!({"op": "add", "path": format!("/{field}"), "value": value})),
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        operations.push(json!({"op": "remove", "path": format!("/{field}")}));
    }
    operations.into()
}

/// What an applier would send; none where the change does nothing but take away.
fn applied(before: &Value, after: &Value) -> Option<Value> {
    let mut patch = difference(before, after);
    without_nulls(&mut patch);
    let is_empty = patch.as_object().is_none_or(Map::is_empty);
    if is_empty {
        return None;
    }
    for key in ["apiVersion", "kind"] {
        patch[key] = after[key].clone();
    }
    // A binding says whom it binds, or none is one.
    for key in ["roleRef", "type"] {
        if !after[key].is_null() {
            patch[key] = after[key].clone();
        }
    }
    patch["metadata"]["name"] = after["metadata"]["name"].clone();
    Some(patch)
}

fn without_nulls(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(without_nulls);
        fields.retain(|_, value| value.as_object().is_none_or(|it| !it.is_empty()));
    }
}

#[test]
fn the_same_change_in_every_form() {
    let before = json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "subjects": [1]});
    let after = json!({"metadata": {"name": "a", "labels": {"y": "3"}}});
    assert_eq!(
        difference(&before, &after),
        json!({"metadata": {"labels": {"x": null, "y": "3"}}, "subjects": null})
    );
    let operations = json_patch(&before, &after);
    assert_eq!(
        operations,
        json!([
            {"op": "add", "path": "/metadata/labels", "value": {"y": "3"}},
            {"op": "remove", "path": "/subjects"},
        ])
    );
    assert_eq!(
        applied(&before, &after).unwrap()["metadata"],
        json!({"name": "a", "labels": {"y": "3"}})
    );
    assert!(applied(&after, &json!({"metadata": {"name": "a"}})).is_none());
}
