//! A tenant of a cluster with the chart and a running operator: a namespace of its own with people, owners, a policy and an
//! integration, and what is done there. Objects are written as JSON, as a person would write YAML.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};

/// Who asks.
pub const CAROL: &str = "carol@corp.example";
/// Who decides, as a member of the group `security`.
pub const DAVE: &str = "dave@corp.example";
/// A cluster administrator.
pub const ROOT: &str = "root@corp.example";
/// How long anything but an end may take.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long an end may take, from its cause to the first refusal. It is a second, which the benchmark measures; beside many other
/// tests on few processors it may be more, and is still sooner than anything that looks now and then.
pub const END: Duration = Duration::from_secs(3);

/// So long before an end its partner begins to ask without a pause, and before that so often.
const BUSY: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Where a grant says up to when no approval counts.
const CEASED: [&str; 6] = [
    "accountReplacedAt",
    "approvalsForgotten",
    "deniedAt",
    "endedWithoutOwnerAt",
    "ownerRemovedAt",
    "revokedAt",
];

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const WAYLEAVE: &str = "wayleave.dev/v1alpha1";
/// The kinds that are made for grants.
const MADE: [&str; 4] = ["RoleBinding", "Role", "ServiceAccount", "Secret"];

/// A namespace of one test, with people in it.
pub struct Tenant<'a> {
    /// The cluster.
    pub cp: &'a ControlPlane,
    /// The namespace.
    pub ns: String,
    /// A cluster administrator.
    pub root: Client,
    /// Who asks.
    pub carol: Client,
    /// Who decides.
    pub dave: Client,
    _counted: Counted,
}

static TENANTS: AtomicUsize = AtomicUsize::new(0);

/// How many tenants there are in this process now: tests that are under way.
pub fn tenants() -> usize {
    TENANTS.load(Ordering::SeqCst)
}

struct Counted;

impl Counted {
    fn new() -> Self {
        TENANTS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        TENANTS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A partner with a delivered credential.
pub struct Partner {
    client: Client,
    ns: String,
    /// Its token; never to be printed.
    pub token: String,
}

/// An instant so many seconds from now, as the API has it.
pub fn in_seconds(seconds: i64) -> String {
    let at = jiff::Timestamp::now().as_second() + seconds;
    jiff::Timestamp::from_second(at).map_or_else(|_| String::new(), |at| at.to_string())
}

/// The API of a kind by its name, in a namespace or, where that is empty, in the cluster.
pub fn api(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = version_of(kind).split_once('/').unwrap_or(("", version_of(kind)));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

fn version_of(kind: &str) -> &'static str {
    match kind {
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => RBAC,
        "PartnerIntegration" | "AccessGrant" | "AccessDecision" | "AccessPolicy" | "AccessOwner" => WAYLEAVE,
        "Event" => "events.k8s.io/v1",
        "Job" => "batch/v1",
        "Lease" => "coordination.k8s.io/v1",
        "CustomResourceDefinition" => "apiextensions.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => "admissionregistration.k8s.io/v1",
        _ => "v1",
    }
}

/// Creates an object given as JSON without its version.
pub async fn create(client: &Client, kind: &str, namespace: &str, name: &str, body: Value) -> Result<Value> {
    let api = api(client, kind, namespace);
    let mut object = body;
    let types = json!({"apiVersion": version_of(kind), "kind": kind, "metadata": {"name": name}});
    merge(&mut object, types);
    let object: DynamicObject = serde_json::from_value(object)?;
    let created = api.create(&PostParams::default(), &object).await;
    let created = created.with_context(|| format!("creating {kind} {namespace}/{name}"))?;
    Ok(serde_json::to_value(created)?)
}

/// Merges JSON into JSON: maps by key, all else is replaced.
pub fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A binding of a ClusterRole in a namespace.
pub fn binding(role: &str, subjects: Value) -> Value {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    json!({"roleRef": role, "subjects": subjects})
}

fn person(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

/// The enrolment of a namespace by a ClusterRole.
pub fn enrolment(role: &str) -> Value {
    let operator = json!([{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}]);
    binding(role, operator)
}

impl<'a> Tenant<'a> {
    /// Makes another namespace that is enrolled, where the same people decide and which the tenant's policy lets grants reach.
    pub async fn open(&self, other: &str) -> Result<()> {
        let root = &self.root;
        let labels = json!({"metadata": {"labels": {"tenant": self.ns}}});
        create(root, "Namespace", "", other, labels).await?;
        create(root, "RoleBinding", other, "enrolment", enrolment("wayleave-enrolment")).await?;
        let security = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "security"}]);
        let approvers = binding("wayleave-approver", security);
        create(root, "RoleBinding", other, "approvers", approvers).await?;
        let targets = json!({"spec": {"access": {"targetNamespaces": {"matchLabels": {"tenant": self.ns}}}}});
        self.patch_as(root, "AccessPolicy", "", &self.ns, targets)
            .await
            .map(drop)
    }

    /// An enrolled namespace with an integration `acme`, in which nothing is granted yet.
    pub async fn new(cp: &'a ControlPlane, ns: &str) -> Result<Self> {
        let tenant = Self::without_integration(cp, ns).await?;
        tenant.integration("acme", json!({})).await?;
        Ok(tenant)
    }

    /// The same without the integration.
    pub async fn without_integration(cp: &'a ControlPlane, ns: &str) -> Result<Self> {
        let tenant = Self {
            cp,
            ns: ns.to_owned(),
            root: cp.user(ROOT, &["system:masters"]).await?,
            carol: cp.user(CAROL, &[]).await?,
            dave: cp.user(DAVE, &["security"]).await?,
            _counted: Counted::new(),
        };
        let root = &tenant.root;
        create(
            root,
            "Namespace",
            "",
            ns,
            json!({"metadata": {"labels": {"tenant": ns}}}),
        )
        .await?;
        create(root, "ConfigMap", ns, "feed", json!({"data": {"latest": "INV-2041"}})).await?;
        let requesters = binding("wayleave-requester", json!([person("User", CAROL)]));
        create(root, "RoleBinding", ns, "requesters", requesters).await?;
        let approvers = binding("wayleave-approver", json!([person("Group", "security")]));
        create(root, "RoleBinding", ns, "approvers", approvers).await?;
        create(root, "RoleBinding", ns, "enrolment", enrolment("wayleave-enrolment")).await?;
        for owner in ["alice", "bob"] {
            tenant.owner(owner).await?;
        }
        create(root, "AccessPolicy", "", ns, json!({"spec": tenant.policy()})).await?;
        Ok(tenant)
    }

    /// The policy of this tenant alone.
    pub fn policy(&self) -> Value {
        json!({
            "namespaceSelector": {"matchLabels": {"tenant": self.ns}},
            "dataClassifications": ["Public", "Internal", "Confidential", "Restricted"],
            "environments": ["NonProduction", "Production"],
            "limits": {"duration": "90d", "credentialLifetime": "24h", "hardExpiry": "Preferred"},
            "access": {"rules": [{"apiGroups": [""], "resources": ["configmaps", "endpoints"], "verbs": ["get", "list"]}]},
            "credentials": ["Token"],
            "requires": {"approvals": [{"count": 1, "groups": ["security"]}]},
        })
    }

    /// An owner of this tenant alone.
    pub async fn owner(&self, name: &str) -> Result<Value> {
        let spec = json!({"displayName": name, "email": format!("{name}@corp.example"), "active": true});
        create(
            &self.root,
            "AccessOwner",
            "",
            &self.owner_name(name),
            json!({"spec": spec}),
        )
        .await
    }

    /// The object's name of an owner.
    pub fn owner_name(&self, name: &str) -> String {
        format!("{}-{name}", self.ns)
    }

    /// The spec of an integration, asked for by carol.
    pub fn integration_spec(&self) -> Value {
        json!({
            "partner": {"id": "acme", "name": "Acme Corp", "contact": "security@acme.example"},
            "purpose": "Reconcile invoices nightly",
            "owners": {
                "businessRef": {"name": self.owner_name("alice")},
                "technicalRef": {"name": self.owner_name("bob")},
            },
            "agreement": {"reference": "CTR-2026-114"},
            "dataClassification": "Confidential",
            "environment": "Production",
            "review": {"interval": "90d"},
            "requestedBy": CAROL,
        })
    }

    /// An integration, asked for by carol; `more` is merged into its spec.
    pub async fn integration(&self, name: &str, more: Value) -> Result<Value> {
        let mut spec = self.integration_spec();
        merge(&mut spec, more);
        // Her role may be a moment old.
        eventually("the integration to be let in", LIMIT, || async {
            let made = create(&self.carol, "PartnerIntegration", &self.ns, name, json!({"spec": spec})).await?;
            Ok(Some(made))
        })
        .await
    }

    /// The spec of a grant of the one ConfigMap for two hours.
    pub fn grant_spec(&self) -> Value {
        json!({
            "integrationRef": {"name": "acme"},
            "access": [{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["feed"]}]}],
            "credential": {"type": "Token", "token": {"lifetime": "1h"}},
            "expiresAt": in_seconds(7_200),
            "requestedBy": CAROL,
        })
    }

    /// A grant, asked for by carol; `more` is merged into its spec.
    pub async fn grant(&self, name: &str, more: Value) -> Result<Value> {
        let mut spec = self.grant_spec();
        merge(&mut spec, more);
        create(&self.carol, "AccessGrant", &self.ns, name, json!({"spec": spec})).await
    }

    /// The grant as it is.
    pub async fn get_grant(&self, name: &str) -> Result<Value> {
        let grant = api(&self.root, "AccessGrant", &self.ns).get(name).await?;
        Ok(serde_json::to_value(grant)?)
    }

    /// Dave approves the grant as it stands, once the operator has said what that is.
    pub async fn approve(&self, name: &str, more: Value) -> Result<Value> {
        self.approve_as(&self.dave, name, more).await
    }

    /// Somebody does, who states his name in `more`; not in the second in which an approval ceased to count, since one so old
    /// doesn't either.
    pub async fn approve_as(&self, who: &Client, name: &str, more: Value) -> Result<Value> {
        let grant = eventually("the digest of the grant", LIMIT, || async {
            let grant = self.get_grant(name).await?;
            let current = grant["status"]["observedGeneration"] == grant["metadata"]["generation"];
            Ok((current && grant["status"]["digest"].is_string()).then_some(grant))
        })
        .await?;
        let now = jiff::Timestamp::now().as_second();
        let is_of_now = |key: &&str| {
            let at = text(&grant["status"][*key]);
            at.parse::<jiff::Timestamp>().is_ok_and(|at| at.as_second() >= now)
        };
        if CEASED.iter().any(is_of_now) {
            next_second().await;
        }
        let uid = &grant["metadata"]["uid"];
        let mut spec = json!({"subject": {"uid": uid}, "digest": grant["status"]["digest"]});
        merge(&mut spec, more);
        // Rights that were given just now are heard of a moment later.
        eventually("the approval to be let in", LIMIT, || async {
            let made = self.decide_as(who, "AccessGrant", name, "Approve", spec.clone()).await;
            made.map(Some)
        })
        .await
    }

    /// Every decision of its namespace.
    pub async fn decisions(&self) -> Result<Vec<Value>> {
        let all = api(&self.root, "AccessDecision", &self.ns)
            .list(&ListParams::default())
            .await?;
        all.iter().map(|it| Ok(serde_json::to_value(it)?)).collect()
    }

    /// Whether every decision of its namespace is told that it counts.
    pub async fn all_decisions_count(&self) -> Result<bool> {
        let all = self.decisions().await?;
        Ok(all.iter().all(|it| condition(it, "Counted")["status"] == "True"))
    }

    /// Dave decides.
    pub async fn decide(&self, kind: &str, name: &str, decision: &str, more: Value) -> Result<Value> {
        self.decide_as(&self.dave, kind, name, decision, more).await
    }

    /// Somebody decides, who states his name in `more`.
    pub async fn decide_as(&self, who: &Client, kind: &str, name: &str, decision: &str, more: Value) -> Result<Value> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut spec = json!({
            "subject": {"kind": kind, "name": name},
            "decision": decision,
            "targetNamespaces": [self.ns],
            "decidedBy": DAVE,
            "submittedBy": DAVE,
            "decidedByGroups": ["security"],
            "reason": "a test",
        });
        merge(&mut spec, more);
        let named = format!("{name}-{}-{number}", decision.to_lowercase());
        create(who, "AccessDecision", &self.ns, &named, json!({"spec": spec})).await
    }

    /// Waits until the grant has a reason; gives the grant.
    pub async fn wait_reason(&self, name: &str, reason: &str) -> Result<Value> {
        let what = format!("{}/{name} to be {reason}", self.ns);
        eventually(&what, LIMIT, || async {
            let grant = self.get_grant(name).await?;
            let active = condition(&grant, "Active");
            let current = active["observedGeneration"] == grant["metadata"]["generation"];
            if current && active["reason"] == reason {
                return Ok(Some(grant));
            }
            bail!("{active}")
        })
        .await
    }

    /// A grant that was asked for, approved and issued, and its partner.
    pub async fn live(&self, name: &str, more: Value) -> Result<Partner> {
        self.grant(name, more).await?;
        self.approve(name, json!({})).await?;
        self.wait_reason(name, "Issued").await?;
        let partner = self.partner(name).await?;
        partner
            .answered()
            .await
            .with_context(|| format!("the partner of {name}"))?;
        Ok(partner)
    }

    /// The partner, with the credential that is delivered now.
    pub async fn partner(&self, name: &str) -> Result<Partner> {
        let grant = self.get_grant(name).await?;
        let credential = &grant["status"]["credential"];
        let (namespace, secret) = (text(&credential["secretNamespace"]), text(&credential["secretName"]));
        self.holder_of(&namespace, &secret).await
    }

    /// Who holds the token in a Secret of this namespace.
    pub async fn holder(&self, secret: &str) -> Result<Partner> {
        self.holder_of(&self.ns, secret).await
    }

    async fn holder_of(&self, namespace: &str, secret: &str) -> Result<Partner> {
        let secret = api(&self.root, "Secret", namespace).get(secret).await?;
        let secret: k8s_openapi::api::core::v1::Secret = secret.try_parse()?;
        let data = secret.data.unwrap_or_default();
        let token = data.get("token").context("the Secret holds no token")?;
        let token = String::from_utf8(token.0.clone()).context("the token is no text")?;
        Ok(Partner {
            client: self.cp.with_token(&token).await?,
            ns: self.ns.clone(),
            token,
        })
    }

    /// Changes an object of this namespace as the administrator.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> Result<Value> {
        self.patch_as(&self.root, kind, &self.ns, name, patch).await
    }

    /// Changes an object as somebody.
    pub async fn patch_as(&self, who: &Client, kind: &str, namespace: &str, name: &str, patch: Value) -> Result<Value> {
        let api = api(who, kind, namespace);
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        Ok(serde_json::to_value(
            patched.with_context(|| format!("changing {kind} {name}"))?,
        )?)
    }

    /// Deletes an object as the administrator.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let deleted = api(&self.root, kind, namespace)
            .delete(name, &DeleteParams::default())
            .await;
        deleted.map(drop).with_context(|| format!("deleting {kind} {name}"))
    }

    /// Everything that was made for a grant, as `Kind namespace/name`, sorted.
    pub async fn children(&self, grant_uid: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for kind in MADE {
            for object in api(&self.root, kind, "").list(&ListParams::default()).await? {
                if object
                    .annotations()
                    .get("wayleave.dev/grant-uid")
                    .is_some_and(|uid| uid == grant_uid)
                {
                    found.push(format!(
                        "{kind} {}/{}",
                        object.namespace().unwrap_or_default(),
                        object.name_any()
                    ));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Waits until nothing is left of what was made for a grant.
    pub async fn wait_nothing_left(&self, grant_uid: &str) -> Result<()> {
        eventually("nothing to be left", LIMIT, || async {
            let left = self.children(grant_uid).await?;
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok(Some(()))
        })
        .await
    }

    /// The names of our objects in the namespace of the identities.
    pub async fn identities(&self, kind: &str) -> Result<Vec<String>> {
        let all = api(&self.root, kind, IDENTITY_NAMESPACE)
            .list(&ListParams::default())
            .await?;
        Ok(all
            .iter()
            .map(kube::ResourceExt::name_any)
            .filter(|name| name.starts_with("wlg-"))
            .collect())
    }
}

impl Partner {
    /// Asks until it is answered: what authorises hears of a binding a moment after who made it.
    pub async fn answered(&self) -> Result<()> {
        eventually("the partner to be answered", END, || async {
            let code = self.read().await?;
            ensure!(code == 200, "answered with {code}");
            Ok(Some(()))
        })
        .await
    }

    /// Reads what was granted; gives the HTTP code.
    pub async fn read(&self) -> Result<u16> {
        self.get("ConfigMap", "feed").await
    }

    /// Reads an object of the namespace; gives the HTTP code.
    pub async fn get(&self, kind: &str, name: &str) -> Result<u16> {
        match api(&self.client, kind, &self.ns).get(name).await {
            Ok(_) => Ok(200),
            Err(kube::Error::Api(status)) => Ok(status.code),
            Err(error) => Err(error).context("the partner's request"),
        }
    }

    /// Asks until it is refused; gives the time since `cause`, which must be within [`END`].
    pub async fn refused_since(&self, cause: Instant) -> Result<Duration> {
        let took = self.refused_within(cause, LIMIT).await?;
        ensure!(took <= END, "refused only after {took:?}");
        Ok(took)
    }

    /// Asks until it is refused; gives the time since `cause`, which must be within the limit.
    pub async fn refused_within(&self, cause: Instant, limit: Duration) -> Result<Duration> {
        loop {
            let code = self.read().await?;
            let took = cause.elapsed();
            if code == 403 || code == 401 {
                ensure!(took <= limit, "refused only after {took:?}");
                return Ok(took);
            }
            ensure!(code == 200, "answered with {code}");
            ensure!(took <= limit, "still answered after {took:?}");
        }
    }

    /// Reads until an instant: the partner is never refused before it, and is soon after it.
    pub async fn refused_at(&self, end: &str) -> Result<()> {
        let end: jiff::Timestamp = end.parse()?;
        self.answered().await?;
        loop {
            let (before, code, after) = (jiff::Timestamp::now(), self.read().await?, jiff::Timestamp::now());
            let late = before.duration_since(end);
            if code != 200 {
                ensure!(
                    after >= end,
                    "refused {:?} early with {code}",
                    end.duration_since(after)
                );
                ensure!(late <= END.try_into()?, "refused {late:?} late");
                return Ok(());
            }
            ensure!(late.as_secs() < 5, "still answered long after the end");
            // Reading without a pause for minutes would take the processor from other tests.
            if end.duration_since(after) > BUSY {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Waits until the credential itself is dead.
    pub async fn wait_unauthorized(&self) -> Result<()> {
        eventually("the token to be dead", Duration::from_secs(14), || async {
            let code = self.read().await?;
            ensure!(code == 401, "answered with {code}");
            Ok(Some(()))
        })
        .await
    }
}

/// Waits until what authorises has heard that a user may do this to these: `verb group/resource/subresource`, in a namespace.
pub async fn wait_allowed(
    root: &Client,
    user: &str,
    [verb, group, resource, subresource]: [&str; 4],
    ns: &str,
) -> Result<()> {
    let spec = json!({"user": user, "resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": ns,
    }});
    let asked: SubjectAccessReview = serde_json::from_value(json!({ "spec": spec }))?;
    let reviews = Api::<SubjectAccessReview>::all(root.clone());
    eventually(
        &format!("{user} to be let {verb} {resource} in {ns}"),
        LIMIT,
        || async {
            let told = reviews.create(&PostParams::default(), &asked).await?;
            let is_allowed = told.status.is_some_and(|status| status.allowed);
            Ok(is_allowed.then_some(()))
        },
    )
    .await
}

/// Waits until the clock shows another second: what is decided within one has no order.
pub async fn next_second() {
    let begun = jiff::Timestamp::now();
    let left = 1_000_000_000 - begun.subsec_nanosecond();
    tokio::time::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or_default())).await;
}

/// A condition of an object; null where there is none.
pub fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|it| it["type"] == type_)
        .unwrap_or_default()
}

/// JSON text, empty where it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
