//! The cluster of the benchmark: namespaces that are enrolled, people, and sets of grants that are asked for and approved.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, HeaderValue};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::meter;
use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::tenant::{CAROL, DAVE, api, binding, condition, create, enrolment, in_seconds, merge, text};

/// So many grants lie in one namespace.
const PER_NAMESPACE: usize = 100;
/// So many calls of people are under way at once.
const AT_ONCE: usize = 32;
/// How long anything of so many grants may take: a bound for failures, never a measure.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_PER_GRANT: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Field<'a> {
    pub(super) cp: &'a ControlPlane,
    /// A cluster administrator.
    pub(super) root: Client,
    /// Who asks.
    pub(super) carol: Client,
    /// Who decides.
    pub(super) dave: Client,
    /// Shows no credential of its own: each request brings a partner's token.
    partner: Client,
    namespaces: Vec<String>,
}

/// Grants of one integration in each of its namespaces, with a technical owner of their own.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) grants: Vec<Place>,
    pub(super) namespaces: Vec<String>,
}

/// Where a grant is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl<'a> Field<'a> {
    /// Makes so many namespaces, and everything that they share.
    pub(super) async fn new(cp: &'a ControlPlane, namespaces: usize) -> Result<Self> {
        let field = Self {
            cp,
            root: cp.user("root@corp.example", &["system:masters"]).await?,
            carol: cp.user(CAROL, &[]).await?,
            dave: cp.user(DAVE, &["security"]).await?,
            partner: cp.anonymous().await?,
            namespaces: (0..namespaces).map(|number| format!("bench-{number:03}")).collect(),
        };
        let root = &field.root;
        create(root, "AccessPolicy", "", "bench", json!({"spec": policy()})).await?;
        create(root, "AccessOwner", "", "bench-alice", json!({"spec": owner("alice")})).await?;
        futures::stream::iter(&field.namespaces)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |namespace| field.namespace(namespace))
            .await?;
        Ok(field)
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let root = &self.root;
        let labels = json!({"metadata": {"labels": {"bench": "true"}}});
        create(root, "Namespace", "", name, labels).await?;
        create(root, "ConfigMap", name, "feed", json!({"data": {"latest": "INV-2041"}})).await?;
        let person =
            |kind: &str, name: &str| json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}]);
        let requesters = binding("wayleave-requester", person("User", CAROL));
        create(root, "RoleBinding", name, "requesters", requesters).await?;
        let approvers = binding("wayleave-approver", person("Group", "security"));
        create(root, "RoleBinding", name, "approvers", approvers).await?;
        create(root, "RoleBinding", name, "enrolment", enrolment("wayleave-enrolment")).await?;
        Ok(())
    }

    /// The owner who can be removed with everything of a set.
    pub(super) fn boss(set: &str) -> String {
        format!("bench-boss-{set}")
    }

    /// A set that is asked for, in the namespaces from `first` on; its integrations are suspended, so that nothing is issued yet.
    pub(super) async fn ask(&self, name: &str, count: usize, first: usize) -> Result<Set> {
        let range = first..first + namespaces_for(count);
        let namespaces = self.namespaces.get(range).context("too few namespaces")?.to_vec();
        let grants: Vec<Place> = (0..count)
            .map(|number| Place {
                namespace: namespaces[number / PER_NAMESPACE].clone(),
                name: format!("{name}-{number:05}"),
            })
            .collect();
        let boss = Self::boss(name);
        create(&self.root, "AccessOwner", "", &boss, json!({"spec": owner(&boss)})).await?;
        for namespace in &namespaces {
            let spec = json!({"spec": integration(&boss)});
            create(&self.carol, "PartnerIntegration", namespace, name, spec).await?;
        }
        let spec = &grant(name);
        each(&grants, |place| async move {
            let body = json!({"spec": spec});
            create(&self.carol, "AccessGrant", &place.namespace, &place.name, body)
                .await
                .map(drop)
        })
        .await?;
        Ok(Set {
            name: name.to_owned(),
            grants,
            namespaces,
        })
    }

    /// A set that is asked for and approved, and waits for its integrations alone.
    pub(super) async fn approved(&self, name: &str, count: usize, first: usize) -> Result<Set> {
        let set = self.ask(name, count, first).await?;
        let asked = self
            .wait_all(&set, "the digests", |grant| grant["status"]["digest"].is_string())
            .await?;
        each(&asked, |grant| self.approve(grant)).await?;
        self.wait_all(&set, "the approvals to count", |grant| {
            condition(grant, "Approved")["status"] == "True"
        })
        .await?;
        meter::quiet(self.cp, patience(count)).await?;
        Ok(set)
    }

    /// Dave approves a grant as it stands.
    pub(super) async fn approve(&self, grant: &Value) -> Result<()> {
        let (namespace, name) = (text(&grant["metadata"]["namespace"]), text(&grant["metadata"]["name"]));
        let spec = json!({
            "subject": {"kind": "AccessGrant", "name": name, "uid": grant["metadata"]["uid"]},
            "decision": "Approve",
            "digest": grant["status"]["digest"],
            "targetNamespaces": [namespace],
            "decidedBy": DAVE,
            "submittedBy": DAVE,
            "decidedByGroups": ["security"],
            "reason": "a benchmark",
        });
        create(&self.dave, "AccessDecision", &namespace, &name, json!({"spec": spec}))
            .await
            .map(drop)
    }

    /// Lets the integrations of a set go, or holds them again; gives the instant before the first write.
    pub(super) async fn suspend(&self, set: &Set, suspend: bool) -> Result<Timestamp> {
        let begun = Timestamp::now();
        let patch = &json!({"spec": {"suspend": suspend}});
        each(&set.namespaces, |namespace| async move {
            let api = api(&self.carol, "PartnerIntegration", namespace);
            let patched = api
                .patch(&set.name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            patched.map(drop).context("changing an integration")
        })
        .await?;
        Ok(begun)
    }

    /// The owner of a set leaves at an instant.
    pub(super) async fn leaves_at(&self, set: &Set, at: Timestamp) -> Result<()> {
        let patch = json!({"spec": {"until": at.to_string()}});
        let api = api(&self.root, "AccessOwner", "");
        let patched = api
            .patch(&Self::boss(&set.name), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.map(drop).context("changing an owner")
    }

    /// Every grant of a set, once this holds for all of them.
    pub(super) async fn wait_all(&self, set: &Set, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let limit = patience(set.grants.len());
        let mut all = Vec::new();
        for namespace in &set.namespaces {
            let found = eventually(&format!("{what} in {namespace}"), limit, || async {
                let found = self.grants_in(namespace, &set.name).await?;
                let missing = found.iter().filter(|grant| !holds(grant)).count();
                ensure!(missing == 0, "{missing} are missing");
                Ok(Some(found))
            })
            .await?;
            all.extend(found);
        }
        ensure!(
            all.len() == set.grants.len(),
            "{} grants of {}",
            all.len(),
            set.grants.len()
        );
        Ok(all)
    }

    pub(super) async fn grants_in(&self, namespace: &str, set: &str) -> Result<Vec<Value>> {
        let all = api(&self.root, "AccessGrant", namespace)
            .list(&ListParams::default())
            .await?;
        let of_set = all.into_iter().filter(|grant| {
            grant.data["spec"]["integrationRef"]["name"] == set && grant.metadata.deletion_timestamp.is_none()
        });
        of_set
            .map(|grant| serde_json::to_value(grant).map_err(Into::into))
            .collect()
    }

    /// Removes a set whole, with the decisions about it, and waits until it is gone.
    pub(super) async fn remove(&self, set: &Set) -> Result<()> {
        each(&set.grants, |place| {
            self.delete("AccessGrant", &place.namespace, &place.name)
        })
        .await?;
        let limit = patience(set.grants.len());
        for namespace in &set.namespaces {
            eventually(&format!("the grants of {} to be gone", set.name), limit, || async {
                let all = api(&self.root, "AccessGrant", namespace)
                    .list_metadata(&ListParams::default())
                    .await?;
                let prefix = format!("{}-", set.name);
                let left = all.iter().filter(|grant| grant.name_any().starts_with(&prefix)).count();
                ensure!(left == 0, "{left} are left");
                Ok(Some(()))
            })
            .await?;
        }
        each(&set.grants, |place| {
            self.delete("AccessDecision", &place.namespace, &place.name)
        })
        .await?;
        for namespace in &set.namespaces {
            self.delete("PartnerIntegration", namespace, &set.name).await?;
        }
        self.delete("AccessOwner", "", &Self::boss(&set.name)).await
    }

    /// Deletes an object; one that is not there is no error.
    pub(super) async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        match api(&self.root, kind, namespace)
            .delete(name, &DeleteParams::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {kind} {namespace}/{name}")),
        }
    }

    /// The token that is delivered for a grant. Never to be shown.
    pub(super) async fn token(&self, place: &Place) -> Result<String> {
        let grant = api(&self.root, "AccessGrant", &place.namespace)
            .get(&place.name)
            .await?;
        let secret = text(&grant.data["status"]["credential"]["secretName"]);
        let secret = api(&self.root, "Secret", &place.namespace).get(&secret).await?;
        token_of(&secret.try_parse()?)
    }

    /// How the API server answers a partner; gives the HTTP code.
    pub(super) async fn asks(&self, namespace: &str, token: &str) -> Result<u16> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).context("the token is no header")?;
        bearer.set_sensitive(true);
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/feed");
        let request = http::Request::get(path)
            .header(AUTHORIZATION, bearer)
            .body(Vec::new())?;
        match self.partner.request_text(request).await {
            Ok(_) => Ok(200),
            Err(kube::Error::Api(status)) => Ok(status.code),
            Err(error) => Err(error).context("a partner's request"),
        }
    }

    /// Asks until the answer has this code; gives the instant of that answer. Another than 200, 401 or 403 is an error.
    pub(super) async fn asks_until(&self, namespace: &str, token: &str, refused: bool) -> Result<Timestamp> {
        eventually_at_once(|| async {
            match self.asks(namespace, token).await? {
                200 => Ok((!refused).then(Timestamp::now)),
                401 | 403 => Ok(refused.then(Timestamp::now)),
                code => bail!("a partner is answered with {code}"),
            }
        })
        .await
    }
}

/// Tries again at once, for as long as anything may take: what is measured is when it first holds.
async fn eventually_at_once<T, F: Future<Output = Result<Option<T>>>>(probe: impl Fn() -> F) -> Result<T> {
    let begun = std::time::Instant::now();
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
    }
}

/// The token in a delivery Secret.
pub(super) fn token_of(secret: &Secret) -> Result<String> {
    let data = secret.data.as_ref().context("the Secret is empty")?;
    let token = data.get("token").context("the Secret holds no token")?;
    String::from_utf8(token.0.clone()).context("the token is no text")
}

/// Does something for each, many at once; the first error ends it.
pub(super) async fn each<'t, T: 't, F>(all: impl IntoIterator<Item = &'t T>, what: impl Fn(&'t T) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    futures::stream::iter(all)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, what)
        .await
}

/// How many namespaces so many grants lie in.
pub(super) fn namespaces_for(grants: usize) -> usize {
    grants.div_ceil(PER_NAMESPACE)
}

/// How long anything of so many grants may take.
pub(super) fn patience(grants: usize) -> Duration {
    PATIENCE + PATIENCE_PER_GRANT * u32::try_from(grants).unwrap_or(u32::MAX)
}

fn policy() -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"bench": "true"}},
        "dataClassifications": ["Public", "Internal", "Confidential", "Restricted"],
        "environments": ["NonProduction", "Production"],
        "limits": {"duration": "90d", "credentialLifetime": "24h", "hardExpiry": "Preferred"},
        "access": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]},
        "credentials": ["Token"],
        "requires": {"approvals": [{"count": 1, "groups": ["security"]}]},
    })
}

fn owner(name: &str) -> Value {
    json!({"displayName": name, "email": format!("{name}@corp.example"), "active": true})
}

fn integration(boss: &str) -> Value {
    json!({
        "partner": {"id": "acme", "name": "Acme Corp", "contact": "security@acme.example"},
        "purpose": "Reconcile invoices nightly",
        "owners": {"businessRef": {"name": "bench-alice"}, "technicalRef": {"name": boss}},
        "agreement": {"reference": "CTR-2026-114"},
        "dataClassification": "Confidential",
        "environment": "Production",
        "review": {"interval": "90d"},
        "requestedBy": CAROL,
        "suspend": true,
    })
}

fn grant(integration: &str) -> Value {
    let mut spec = json!({
        "access": [{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["feed"]}]}],
        "credential": {"type": "Token", "token": {"lifetime": "12h"}},
        "expiresAt": in_seconds(30 * 86_400),
        "requestedBy": CAROL,
    });
    merge(&mut spec, json!({"integrationRef": {"name": integration}}));
    spec
}
