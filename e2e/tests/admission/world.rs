//! The cluster of these tests: the chart, people with ordinary rights, and what they write.

use anyhow::{Result, bail, ensure};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, Status};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wayleave_e2e::install::{can_stamp, can_stamp_or_says};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::wait_allowed;
use wayleave_e2e::{ControlPlane, InstallOptions, install_with};

pub const CAROL: &str = "carol@corp.example";
pub const CORA: &str = "cora@corp.example";
pub const DAVE: &str = "dave@corp.example";
pub const ROOT: &str = "root@corp.example";
pub const REQUEST_DELEGATE: &str = "requests";
pub const DECISION_DELEGATE: &str = "decisions";
/// A namespace with a ServiceAccount of a reserved name, made before there was a chart.
pub const BEFORE: &str = "before";
/// A RoleBinding there that somebody had put the operator's finalizer on.
pub const PLANTED: &str = "planted";
pub const FINALIZER: &str = "wayleave.dev/close-access";
pub const UID: &str = "5d0c6a7e-0000-4000-8000-000000000001";
pub const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const WAYLEAVE: &str = "wayleave.dev/v1alpha1";
const GITOPS: &str = "gitops";

/// The control plane that all tests of this file share, with the chart.
pub async fn cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    CLUSTER.get_or_try_init(|| build(values())).await
}

/// Another one, where nothing is stamped and the operator speaks from its pods only.
pub async fn stating_cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    let stating = json!({"admission": {"mutating": false, "requirePodOperator": true}});
    CLUSTER.get_or_try_init(|| build(merged(values(), stating))).await
}

pub fn values() -> Value {
    let delegate = |name| format!("system:serviceaccount:{GITOPS}:{name}");
    json!({
        "replicas": 0,
        "admission": {
            "delegates": {"requests": [delegate(REQUEST_DELEGATE)], "decisions": [delegate(DECISION_DELEGATE)]},
            "protectedNamespaces": ["argocd"]
        }
    })
}

/// A new control plane with the chart.
pub async fn build(values: Value) -> Result<ControlPlane> {
    let cp = ControlPlane::start().await?;
    let root = Person::new(cp.user(ROOT, &["system:masters"]).await?);
    for name in [BEFORE, GITOPS, "argocd"] {
        root.create(namespace_of(name)).await?;
    }
    root.create(object("ServiceAccount", BEFORE, "wlg-before", json!({})))
        .await?;
    let planted = object(
        "RoleBinding",
        BEFORE,
        PLANTED,
        bound("ClusterRole", "view", json!([user("erin")])),
    );
    root.create(merged(planted, json!({"metadata": {"finalizers": [FINALIZER]}})))
        .await?;
    for name in [REQUEST_DELEGATE, DECISION_DELEGATE] {
        root.create(object("ServiceAccount", GITOPS, name, json!({}))).await?;
    }
    let options = InstallOptions {
        values,
        ..InstallOptions::default()
    };
    install_with(&cp, options).await?;
    let rule =
        json!([{"apiGroups": ["wayleave.dev"], "resources": ["accessgrants", "accessdecisions"], "verbs": ["*"]}]);
    root.create(object("ClusterRole", "", "writes-decisions", json!({ "rules": rule })))
        .await?;
    Ok(cp)
}

/// A namespace of one test, enrolled, with people in it.
pub struct World<'a> {
    pub cp: &'a ControlPlane,
    pub ns: String,
    /// A cluster administrator.
    pub root: Person,
    /// Whether the cluster can stamp objects with their writer's name.
    stamps: bool,
}

/// Makes a namespace where `carol` and `cora` may request, the group `security` may decide, `erin` holds `edit`, `adam`
/// holds `admin`, and `will` may write decisions without a right to decide; so may the ServiceAccount `robot`, and request.
pub async fn world(ns: &str) -> Result<World<'static>> {
    world_on(cluster().await?, ns).await
}

/// The same on another control plane.
pub async fn world_on<'a>(cp: &'a ControlPlane, ns: &str) -> Result<World<'a>> {
    let root = Person::new(cp.user(ROOT, &["system:masters"]).await?);
    root.create(namespace_of(ns)).await?;
    let world = World {
        cp,
        ns: ns.to_owned(),
        stamps: can_stamp(&root.client).await?,
        root,
    };
    world
        .root
        .create(world.object("ServiceAccount", "robot", json!({})))
        .await?;
    let robot = json!({"kind": "ServiceAccount", "name": "robot", "namespace": ns});
    let mut delegates = vec![robot];
    for name in [REQUEST_DELEGATE, DECISION_DELEGATE] {
        delegates.push(json!({"kind": "ServiceAccount", "name": name, "namespace": GITOPS}));
    }
    let mut requesters = vec![user(CAROL), user(CORA), group("requesters")];
    requesters.extend(delegates.clone());
    let mut approvers = vec![group("security")];
    approvers.extend(delegates);
    for (name, role, subjects) in [
        ("requesters", "wayleave-requester", json!(requesters)),
        ("approvers", "wayleave-approver", json!(approvers)),
        ("editors", "edit", json!([user("erin")])),
        ("admins", "admin", json!([user("adam")])),
        ("writers", "writes-decisions", json!([user("will")])),
        ("enrolment", "wayleave-enrolment", json!([operator_subject()])),
    ] {
        world.root.create(world.binding(name, role, subjects)).await?;
    }
    // What authorises hears of bindings one after the other.
    let operator = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    let right = ["create", "rbac.authorization.k8s.io", "roles", ""];
    wait_allowed(&world.root.client, &operator, right, ns).await?;
    Ok(world)
}

impl World<'_> {
    /// Somebody, by a client certificate.
    pub async fn user(&self, name: &str, groups: &[&str]) -> Result<Person> {
        Ok(Person::new(self.cp.user(name, groups).await?))
    }

    pub async fn carol(&self) -> Result<Person> {
        self.user(CAROL, &[]).await
    }

    pub async fn dave(&self) -> Result<Person> {
        self.user(DAVE, &["security"]).await
    }

    /// The administrator of the namespace.
    pub async fn adam(&self) -> Result<Person> {
        self.user("adam", &[]).await
    }

    pub async fn erin(&self) -> Result<Person> {
        self.user("erin", &[]).await
    }

    /// The ServiceAccount of a pod of the namespace.
    pub async fn robot(&self) -> Result<Person> {
        Ok(Person::new(self.cp.service_account(&self.ns, "robot").await?))
    }

    pub async fn delegate(&self, name: &str) -> Result<Person> {
        Ok(Person::new(self.cp.service_account(GITOPS, name).await?))
    }

    /// The operator's ServiceAccount, with the rights that the chart gave it.
    pub async fn operator(&self) -> Result<Person> {
        Ok(Person::new(self.cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?))
    }

    pub async fn with_token(&self, token: &str) -> Result<Person> {
        Ok(Person::new(self.cp.with_token(token).await?))
    }

    /// kubectl as a user.
    pub async fn kubectl(&self, name: &str, groups: &[&str]) -> Result<wayleave_e2e::Tool> {
        let kubeconfig = self.cp.user_kubeconfig(name, groups).await?;
        self.cp.kubectl(&kubeconfig).await
    }

    /// An object in this namespace.
    pub fn object(&self, kind: &str, name: &str, body: Value) -> Value {
        object(kind, &self.ns, name, body)
    }

    pub fn binding(&self, name: &str, role: &str, subjects: Value) -> Value {
        self.object("RoleBinding", name, bound("ClusterRole", role, subjects))
    }

    /// What a writer has to say of himself: nothing where he is stamped.
    pub fn stated(&self, names: Value) -> Value {
        if self.stamps { json!({}) } else { names }
    }

    /// Whether a test of stamping can be made here; where not, says so.
    pub async fn stamps_or_says(&self, untested: &str) -> Result<bool> {
        can_stamp_or_says(&self.root.client, untested).await
    }

    /// An integration, asked for by carol.
    pub fn integration(&self, name: &str, more: Value) -> Value {
        let spec = json!({
            "partner": {"id": "acme", "name": "Acme Corp", "contact": "security@acme.example"},
            "purpose": "Reconcile invoices nightly",
            "owners": {"businessRef": {"name": "alice"}, "technicalRef": {"name": "bob"}},
            "agreement": {"reference": "CTR-2026-114"},
            "dataClassification": "Confidential",
            "environment": "Production",
            "review": {"interval": "90d"}
        });
        let spec = merged(spec, self.stated(json!({"requestedBy": CAROL})));
        self.object("PartnerIntegration", name, json!({ "spec": merged(spec, more) }))
    }

    /// A grant, asked for by carol.
    pub fn grant(&self, name: &str, more: Value) -> Value {
        let spec = json!({
            "integrationRef": {"name": "acme"},
            "access": [{"clusterRoleRef": {"name": "wayleave-read"}}],
            "credential": {"type": "Token", "token": {"lifetime": "1h"}},
            "expiresAt": "2999-01-01T00:00:00Z"
        });
        let spec = merged(spec, self.stated(json!({"requestedBy": CAROL})));
        self.object("AccessGrant", name, json!({ "spec": merged(spec, more) }))
    }

    /// A decision of dave.
    pub fn decision(&self, name: &str, decision: &str, more: Value) -> Value {
        self.decision_of(DAVE, name, decision, more)
    }

    /// A decision of somebody.
    pub fn decision_of(&self, writer: &str, name: &str, decision: &str, more: Value) -> Value {
        let mut spec = json!({
            "subject": {"kind": "AccessGrant", "name": "reader"},
            "decision": decision,
            "reason": "a test"
        });
        if decision == "Approve" {
            spec = merged(spec, json!({"digest": DIGEST, "subject": {"uid": UID}}));
        }
        spec = merged(spec, self.stated(json!({"decidedBy": writer, "submittedBy": writer})));
        self.object("AccessDecision", name, json!({ "spec": merged(spec, more) }))
    }

    /// A partner's identity with access to this namespace, made by the operator: ServiceAccount and anchor in the namespace of
    /// the identities, Role and binding here. Gives its name.
    pub async fn identity(&self) -> Result<String> {
        let name = format!("wlg-{}", self.ns);
        let operator = self.operator().await?;
        operator
            .create(child("ServiceAccount", IDENTITY_NAMESPACE, &name, json!({})))
            .await?;
        operator
            .create(child(
                "Secret",
                IDENTITY_NAMESPACE,
                &name,
                json!({"type": "wayleave.dev/anchor"}),
            ))
            .await?;
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        operator
            .create(child("Role", &self.ns, &name, json!({ "rules": rules })))
            .await?;
        let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": IDENTITY_NAMESPACE}]);
        operator
            .create(child("RoleBinding", &self.ns, &name, bound("Role", &name, subjects)))
            .await?;
        Ok(name)
    }

    /// Says as the operator that a grant is active, or is not.
    pub async fn set_active(&self, grant: &str, active: bool) -> Result<()> {
        let status = if active { "True" } else { "False" };
        let condition = json!({
            "type": "Active", "status": status, "reason": "Issued", "message": "a test",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1
        });
        let patch = json!({"status": {"conditions": [condition]}});
        self.operator()
            .await?
            .merge_status("AccessGrant", &self.ns, grant, patch)
            .await?;
        Ok(())
    }
}

/// An object that the operator makes for a grant.
pub fn child(kind: &str, namespace: &str, name: &str, body: Value) -> Value {
    merged(
        object(kind, namespace, name, body),
        json!({"metadata": {"labels": {"wayleave.dev/managed": "true"}}}),
    )
}

/// Who calls: one client.
pub struct Person {
    pub client: Client,
}

impl Person {
    fn new(client: Client) -> Self {
        Self { client }
    }

    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types_of(kind)).expect("a version of ours"));
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    fn api_of(&self, object: &Value) -> Api<DynamicObject> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.api(&text(&object["kind"]), &text(&object["metadata"]["namespace"]))
    }

    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> kube::Result<Value> {
        plain(self.api(kind, namespace).get(name).await)
    }

    pub async fn create(&self, object: Value) -> kube::Result<Value> {
        let api = self.api_of(&object);
        plain(
            api.create(
                &PostParams::default(),
                &serde_json::from_value(object).map_err(Error::SerdeError)?,
            )
            .await,
        )
    }

    /// PUT, without a resourceVersion unless the object has one.
    pub async fn replace(&self, object: Value) -> kube::Result<Value> {
        let api = self.api_of(&object);
        let object: DynamicObject = serde_json::from_value(object).map_err(Error::SerdeError)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        plain(api.replace(&name, &PostParams::default(), &object).await)
    }

    /// Server-side apply.
    pub async fn apply(&self, manager: &str, object: &Value) -> kube::Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        plain(
            self.api_of(object)
                .patch(name, &PatchParams::apply(manager), &Patch::Apply(object))
                .await,
        )
    }

    pub async fn merge(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> kube::Result<Value> {
        plain(
            self.api(kind, namespace)
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
    }

    pub async fn merge_status(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> kube::Result<Value> {
        plain(
            self.api(kind, namespace)
                .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
    }

    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> kube::Result<()> {
        self.api(kind, namespace)
            .delete(name, &DeleteParams::default())
            .await
            .map(drop)
    }

    /// Asks for a token of a ServiceAccount, and keeps nothing of it.
    pub async fn token(&self, namespace: &str, account: &str, spec: Value) -> kube::Result<()> {
        self.token_of(namespace, account, spec).await.map(drop)
    }

    pub async fn token_of(&self, namespace: &str, account: &str, spec: Value) -> kube::Result<String> {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(body.to_string().into_bytes()).map_err(Error::HttpError)?;
        let answer: Value = self.client.request(request).await?;
        Ok(answer["status"]["token"].as_str().unwrap_or_default().to_owned())
    }
}

fn plain(answer: kube::Result<DynamicObject>) -> kube::Result<Value> {
    serde_json::to_value(answer?).map_err(Error::SerdeError)
}

/// The attack was stopped by this policy, whose message says this. RBAC comes first: it let the attack through.
pub fn refused<T>(policy: &str, says: &str, answer: kube::Result<T>) -> Result<()> {
    let status = refusal(answer)?;
    let by = format!("ValidatingAdmissionPolicy 'wayleave-{policy}'");
    ensure!(
        matches!(status.code, 403 | 422) && status.message.contains(&by) && status.message.contains(says),
        "not refused by {policy} with \"{says}\", but: {} {}",
        status.code,
        status.message
    );
    Ok(())
}

/// Refused by the API server, with these words.
pub fn refused_with<T>(says: &str, answer: kube::Result<T>) -> Result<()> {
    let status = refusal(answer)?;
    ensure!(
        status.message.contains(says),
        "refused, but not with \"{says}\": {}",
        status.message
    );
    Ok(())
}

fn refusal<T>(answer: kube::Result<T>) -> Result<Box<Status>> {
    match answer {
        Ok(_) => bail!("the attack succeeded"),
        Err(Error::Api(status)) => Ok(status),
        Err(error) => Err(error.into()),
    }
}

pub fn types_of(kind: &str) -> kube::core::TypeMeta {
    let version = match kind {
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => RBAC,
        "Deployment" => "apps/v1",
        "AccessGrant" | "PartnerIntegration" | "AccessDecision" | "AccessPolicy" | "AccessOwner" | "AccessRecord" => {
            WAYLEAVE
        }
        _ => "v1",
    };
    kube::core::TypeMeta {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
    }
}

pub fn object(kind: &str, namespace: &str, name: &str, body: Value) -> Value {
    let types = types_of(kind);
    let mut metadata = json!({ "name": name });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    merged(
        json!({"apiVersion": types.api_version, "kind": types.kind, "metadata": metadata}),
        body,
    )
}

pub fn bound(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": subjects})
}

pub fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

pub fn group(name: &str) -> Value {
    json!({"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

pub fn operator_subject() -> Value {
    json!({"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE})
}

fn namespace_of(name: &str) -> Value {
    object("Namespace", "", name, json!({}))
}

/// Merges objects; null takes a field off.
pub fn merged(mut base: Value, more: Value) -> Value {
    match (base.as_object_mut(), more) {
        (Some(into), Value::Object(fields)) => {
            for (key, value) in fields {
                match value {
                    Value::Null => drop(into.remove(&key)),
                    value => {
                        let before = into.remove(&key).unwrap_or(Value::Null);
                        into.insert(key, merged(before, value));
                    }
                }
            }
            base
        }
        (_, more) => more,
    }
}
