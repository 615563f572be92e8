//! What attackers write: an object of ours made another, and new objects that name what is ours.

use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::{CAROL, in_seconds, merge};

use crate::catalog::Resource;
use crate::cluster::{NEAR, PLAIN, SHOP, World};

/// Of an object that exists nowhere.
const NO_UID: &str = "0b5e55ed-0000-4000-8000-00000000dead";
const RBAC: &str = "rbac.authorization.k8s.io";
const PLANTS: &str = "is held by our finalizer";

/// Words for what it does, and the object as it would be.
pub type Forgery = (String, Value);

/// An object made another in one way each.
pub fn of(world: &World, kind: &str, object: &Value) -> Vec<Forgery> {
    let mut all = Vec::new();
    let mut add = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut forged = object.clone();
        change(&mut forged);
        if forged != *object {
            all.push((what.to_owned(), forged));
        }
    };
    metadata(object, &mut add);
    content(world, kind, &mut add);
    all
}

type Add<'a> = &'a mut dyn FnMut(&str, &dyn Fn(&mut Value));

fn metadata(object: &Value, add: Add<'_>) {
    let meta = &object["metadata"];
    let keys = |field: &str| {
        let of_ours = meta[field]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone());
        of_ours
            .filter(|key| key.starts_with("wayleave.dev/"))
            .collect::<Vec<String>>()
    };
    for field in ["labels", "annotations"] {
        add(&format!("takes our {field} off"), &|it| {
            for key in keys(field) {
                if let Some(all) = it["metadata"][field].as_object_mut() {
                    all.remove(&key);
                }
            }
        });
    }
    let managed = if meta["labels"]["wayleave.dev/managed"] == "true" {
        "false"
    } else {
        "true"
    };
    add("forges our labels", &|it| {
        merge(
            &mut it["metadata"],
            json!({"labels": {"wayleave.dev/managed": managed, "wayleave.dev/enrolment": "true"}}),
        );
    });
    add("forges our annotations", &|it| {
        let forged = json!({"annotations": {
            "wayleave.dev/grant-uid": NO_UID, "wayleave.dev/grant": "vault/reader",
            "wayleave.dev/expires-at": "2999-01-01T00:00:00Z", "wayleave.dev/last-no": "2999-01-01T00:00:00Z",
        }});
        merge(&mut it["metadata"], forged);
    });
    add("holds it by a finalizer", &|it| {
        push(&mut it["metadata"]["finalizers"], json!("evil.example/hold"))
    });
    add("takes finalizers off", &|it| remove(&mut it["metadata"], "finalizers"));
    add("names an owner that is not there", &|it| {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": NO_UID});
        push(&mut it["metadata"]["ownerReferences"], owner);
    });
    add("takes owners off", &|it| remove(&mut it["metadata"], "ownerReferences"));
}

fn content(world: &World, kind: &str, add: Add<'_>) {
    let identity = world.identity(0);
    match kind {
        "ServiceAccount" => {
            add("has pods mount its token", &|it| {
                it["automountServiceAccountToken"] = json!(true)
            });
            add("names a Secret", &|it| {
                push(&mut it["secrets"], json!({"name": "evil"}))
            });
        }
        "Secret" => {
            add("puts other data in", &|it| it["data"]["token"] = json!("ZXZpbA=="));
            add("names an identity", &|it| {
                it["metadata"]["annotations"]["kubernetes.io/service-account.name"] = json!(identity)
            });
        }
        "Role" | "ClusterRole" => {
            add("gives what everybody here holds", &|it| {
                push(
                    &mut it["rules"],
                    json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}),
                );
            });
            add("gives everything", &|it| {
                push(
                    &mut it["rules"],
                    json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
                )
            });
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            for (who, subject) in subjects(world) {
                add(&format!("binds {who}"), &|it| {
                    push(&mut it["subjects"], subject.clone())
                });
            }
            add("binds nobody", &|it| remove(it, "subjects"));
            add("binds another role", &|it| {
                it["roleRef"] = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"})
            });
        }
        "AccessGrant" => {
            add("asks for more", &|it| {
                it["spec"]["access"][0]["rules"][0]["resourceNames"] = json!(["feed", "kube-root-ca.crt"]);
            });
            add("asks for longer", &|it| {
                it["spec"]["expiresAt"] = json!(in_seconds(86_000))
            });
            add("suspends it", &|it| it["spec"]["suspend"] = json!(true));
            asked_by_others(add);
        }
        "PartnerIntegration" => {
            add("documents another purpose", &|it| {
                it["spec"]["purpose"] = json!("anything")
            });
            add("names another owner", &|it| {
                it["spec"]["owners"]["technicalRef"]["name"] = json!("vault-bob")
            });
            add("suspends it", &|it| it["spec"]["suspend"] = json!(true));
            asked_by_others(add);
        }
        "AccessDecision" => {
            add("decides otherwise", &|it| it["spec"]["decision"] = json!("Revoke"));
            add("gives another reason", &|it| it["spec"]["reason"] = json!("because"));
        }
        "AccessPolicy" => add("asks for no approval", &|it| it["spec"]["selfService"] = json!(true)),
        "AccessOwner" => add("is inactive", &|it| it["spec"]["active"] = json!(false)),
        "Namespace" => add("is another tenant's", &|it| {
            it["metadata"]["labels"]["tenant"] = json!("evil")
        }),
        "Lease" => add("leads", &|it| it["spec"]["holderIdentity"] = json!("evil")),
        "ConfigMap" => add("puts other data in", &|it| it["data"]["evil"] = json!("evil")),
        "ValidatingAdmissionPolicy" => add("fails open", &|it| it["spec"]["failurePolicy"] = json!("Ignore")),
        "ValidatingAdmissionPolicyBinding" => {
            add("only warns", &|it| it["spec"]["validationActions"] = json!(["Warn"]))
        }
        "Deployment" => add("runs as an identity", &|it| {
            it["spec"]["template"]["spec"]["serviceAccountName"] = json!(identity)
        }),
        _ => {}
    }
}

fn asked_by_others(add: Add<'_>) {
    add("was asked for by another", &|it| {
        it["spec"]["requestedBy"] = json!("mallory@evil.example")
    });
    add("was changed by another", &|it| {
        it["spec"]["contributors"] = json!(["mallory@evil.example"])
    });
}

/// Every way in which a binding can name an identity, all of them, or the operator.
fn subjects(world: &World) -> Vec<(&'static str, Value)> {
    let user = |name: String| json!({"apiGroup": RBAC, "kind": "User", "name": name});
    let group = |name: String| json!({"apiGroup": RBAC, "kind": "Group", "name": name});
    let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    let identity = world.identity(0);
    vec![
        ("an identity", account(IDENTITY_NAMESPACE, &identity)),
        (
            "an identity as a user",
            user(format!("system:serviceaccount:{IDENTITY_NAMESPACE}:{identity}")),
        ),
        (
            "an identity that is yet to come",
            account(IDENTITY_NAMESPACE, "wlg-0123456789abcdef-1"),
        ),
        (
            "every identity",
            group(format!("system:serviceaccounts:{IDENTITY_NAMESPACE}")),
        ),
        ("every ServiceAccount", group("system:serviceaccounts".to_owned())),
        ("the operator", account(NAMESPACE, SERVICE_ACCOUNT)),
        (
            "the operator as a user",
            user(format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}")),
        ),
        (
            "everybody beside the operator",
            group(format!("system:serviceaccounts:{NAMESPACE}")),
        ),
        ("a friend", user("mallory@evil.example".to_owned())),
    ]
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// New objects of a kind in a namespace. Where the kind is one that cannot name an identity, and none of ours, an empty body
/// is enough: who may write it at all may.
pub fn new(world: &World, resource: &Resource, namespace: &str) -> Vec<Forgery> {
    let plain = plain(world, resource, namespace);
    let identity = world.identity_in(namespace);
    let named = |name: Value, more: Value| {
        let mut object = plain.clone();
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(resource.kind);
        let mut meta = name;
        if resource.namespaced {
            meta["namespace"] = json!(namespace);
        }
        merge(&mut object["metadata"], meta);
        merge(&mut object, more);
        object
    };
    let near = &world.grants[0]["metadata"];
    let owner = json!([{
        "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "name": NEAR, "uid": near["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let evil = json!({"name": "evil"});
    let mut all = vec![
        ("is there".to_owned(), named(evil.clone(), json!({}))),
        (
            "has the identity's name".to_owned(),
            named(json!({"name": identity}), json!({})),
        ),
        (
            "has a name that is yet to come".to_owned(),
            named(json!({"name": "wlg-0123456789abcdef-2"}), json!({})),
        ),
        (
            "has a generated name of ours".to_owned(),
            named(json!({"generateName": "wlg-"}), json!({})),
        ),
        (
            "has our labels and annotations".to_owned(),
            named(
                evil.clone(),
                json!({"metadata": {
                    "labels": {"wayleave.dev/managed": "true", "wayleave.dev/enrolment": "true"},
                    "annotations": {"wayleave.dev/grant-uid": near["uid"], "wayleave.dev/grant": format!("shop/{NEAR}")},
                }}),
            ),
        ),
        (
            "is owned by a grant".to_owned(),
            named(evil.clone(), json!({"metadata": {"ownerReferences": owner}})),
        ),
    ];
    let mut add = |what: &str, more: Value| all.push((what.to_owned(), named(evil.clone(), more)));
    let planted = json!({"metadata": {"finalizers": ["wayleave.dev/close-access"]}});
    match resource.kind.as_str() {
        "AccessGrant" => add(PLANTS, planted),
        "Secret" => {
            for (who, account) in [
                ("an identity", identity.as_str()),
                ("an identity that is yet to come", "wlg-0123456789abcdef-1"),
            ] {
                let more = json!({
                    "type": "kubernetes.io/service-account-token",
                    "metadata": {"annotations": {"kubernetes.io/service-account.name": account}},
                });
                add(&format!("is a token of {who}"), more);
            }
            add(
                "is a delivered credential",
                json!({"type": "wayleave.dev/credential", "data": {"token": "ZXZpbA=="}}),
            );
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let own = format!("{}-0", world.identity(2));
            let here = json!({"kind": "ServiceAccount", "namespace": namespace, "name": "default"});
            let roles = [
                ("ClusterRole", "view"),
                ("ClusterRole", "wayleave-enrolment"),
                ("Role", own.as_str()),
                ("Role", PLAIN),
            ];
            // The last two are the widest partner's own and one that gives less, all of which it holds. They lie in the shop.
            let roles = if namespace == SHOP { &roles[..] } else { &roles[..2] };
            let what = |kind: &str, role: &str| match kind {
                "Role" if role == own => "what a partner holds".to_owned(),
                "Role" => "another Role there".to_owned(),
                _ => role.to_owned(),
            };
            for (kind, role) in roles.iter().filter(|(kind, _)| *kind == "Role") {
                add(
                    &format!("binds a ServiceAccount of the namespace to {}", what(kind, role)),
                    json!({"roleRef": {"kind": kind, "name": role}, "subjects": [here]}),
                );
            }
            add(PLANTS, planted.clone());
            for (who, subject) in subjects(world) {
                for (kind, role) in roles {
                    add(
                        &format!("binds {who} to {}", what(kind, role)),
                        json!({"roleRef": {"kind": kind, "name": role}, "subjects": [subject]}),
                    );
                }
            }
        }
        "Role" | "ClusterRole" => {
            add(
                "enrols",
                json!({"metadata": {"labels": {"wayleave.dev/enrolment": "true"}}}),
            );
            add(
                "gives everything",
                json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
            );
            let handing_on = ["bind", "escalate"];
            add(
                "hands on rights",
                json!({"rules": [{"apiGroups": [RBAC], "resources": ["roles"], "verbs": handing_on}]}),
            );
        }
        _ => {}
    }
    if let Some(path) = pod_spec(&resource.kind) {
        let mut object = named(evil, json!({}));
        for spec in [
            json!({"serviceAccountName": identity}),
            json!({"serviceAccount": identity}),
        ] {
            let words = format!(
                "runs as an identity by {}",
                spec.as_object().and_then(|it| it.keys().next()).map_or("", |it| it)
            );
            let mut forged = object.clone();
            if let Some(into) = forged.pointer_mut(path) {
                merge(into, spec);
            }
            all.push((words, forged));
        }
        if let Some(into) = object.pointer_mut(path) {
            let volume = json!({"name": "anchor", "secret": {"secretName": identity}});
            merge(into, json!({"volumes": [volume]}));
        }
        all.push(("mounts an anchor".to_owned(), object));
    }
    all
}

/// Where a kind has the spec of pods.
pub fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("/spec"),
        "PodTemplate" => Some("/template/spec"),
        "CronJob" => Some("/spec/jobTemplate/spec/template/spec"),
        "ReplicationController" | "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => {
            Some("/spec/template/spec")
        }
        _ => None,
    }
}

/// A sound object of a kind, which asks for nothing.
pub fn plain(world: &World, resource: &Resource, namespace: &str) -> Value {
    let labels = json!({"app": "evil"});
    let pod = json!({"containers": [{"name": "c", "image": "busybox"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let selected = json!({"selector": {"matchLabels": labels}, "template": template});
    let with = |more: Value| {
        let mut spec = selected.clone();
        merge(&mut spec, more);
        json!({"spec": spec})
    };
    let job = json!({"spec": {"restartPolicy": "Never"}});
    let mut of_job = json!({"template": template});
    merge(&mut of_job["template"], job);
    match resource.kind.as_str() {
        "Pod" => json!({"spec": pod}),
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => json!({"spec": {"selector": labels, "template": template}}),
        "ReplicaSet" | "Deployment" | "DaemonSet" => with(json!({})),
        "StatefulSet" => with(json!({"serviceName": "evil"})),
        "Job" => json!({"spec": of_job}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": of_job}}}),
        "Role" | "ClusterRole" => json!({"rules": []}),
        "RoleBinding" | "ClusterRoleBinding" => json!({
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "mallory@evil.example"}],
        }),
        "ControllerRevision" => json!({"data": {}, "revision": 1}),
        "TokenRequest" => json!({"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600}}),
        "PartnerIntegration" => json!({"spec": world.shop.integration_spec()}),
        "AccessGrant" => json!({"spec": world.shop.grant_spec()}),
        "AccessDecision" => {
            let near = &world.grants[0];
            json!({"spec": {
                "subject": {"kind": "AccessGrant", "name": NEAR, "uid": near["metadata"]["uid"]},
                "decision": "Approve", "digest": near["status"]["digest"], "targetNamespaces": [namespace],
                "decidedBy": CAROL, "submittedBy": CAROL, "reason": "forged",
            }})
        }
        "AccessPolicy" => json!({"spec": world.shop.policy()}),
        "AccessOwner" => json!({"spec": {"displayName": "Eve", "email": "eve@evil.example", "active": true}}),
        "AccessRecord" => json!({"spec": {
            "grant": {"namespace": namespace, "name": NEAR, "uid": NO_UID}, "partner": "acme", "entries": [],
        }}),
        _ => json!({}),
    }
}
