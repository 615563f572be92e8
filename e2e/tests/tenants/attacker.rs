//! The attacker: a tenant with the ordinary roles in a namespace of its own, and all that it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, api, binding, condition, create, in_seconds, merge, text};
use wayleave_e2e::{ControlPlane, Tenant, eventually, settled};

use crate::hostile::{Hostile, known_keys};
use crate::places::{self, Place};
use crate::victim::{NAMESPACES, SECRET, list};

/// Who asks for access in the attacker's namespace, and who decides there.
const MALLORY: &str = "mallory@evil.example";
const MARVIN: &str = "marvin@evil.example";
pub const ATTACKER: &str = "attacker";
/// How long the operator may take to judge everything.
const JUDGED: Duration = Duration::from_secs(90);
const AT_ONCE: usize = 8;
/// Nothing that the operator puts off is put off so long.
pub const RESTS: Duration = Duration::from_secs(2);
/// The kinds that tenants write, by their plurals.
pub const KINDS: [(&str, &str); 3] = [
    ("PartnerIntegration", "partnerintegrations"),
    ("AccessGrant", "accessgrants"),
    ("AccessDecision", "accessdecisions"),
];
/// One hostile text in one place of one object.
pub struct Attempt {
    pub kind: &'static str,
    pub place: Place,
    pub hostile: Hostile,
    /// It names nothing: what the answer to the other is compared with.
    pub is_nothing: bool,
    pub baseline: usize,
    pub object: Value,
}

/// What came of an attempt: the object's name where it was let through.
pub struct Outcome {
    pub attempt: Attempt,
    pub name: Option<String>,
}

pub struct Attacker<'a> {
    pub tenant: Tenant<'a>,
    pub mallory: Client,
    pub marvin: Client,
}

impl<'a> Attacker<'a> {
    /// As strong as a tenant can be: what it may have at all it has without asking anybody.
    pub async fn new(cp: &'a ControlPlane) -> Result<Self> {
        let tenant = Tenant::without_integration(cp, ATTACKER).await?;
        let label = json!({"metadata": {"labels": {"wayleave.dev/classification": "Internal"}}});
        tenant.patch_as(&tenant.root, "Namespace", "", ATTACKER, label).await?;
        let rules = json!([
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [SECRET, "nobody-delivery"]},
        ]);
        let policy = json!({"spec": {"selfService": true, "access": {"rules": rules, "clusterRoles": ["wayleave-read"]},
                "credentials": ["Token", "Static"], "staticCredentials": {"duration": "90d", "reviewInterval": "90d"}}});
        tenant
            .patch_as(&tenant.root, "AccessPolicy", "", ATTACKER, policy)
            .await?;
        for (role, user) in [("wayleave-requester", MALLORY), ("wayleave-approver", MARVIN)] {
            let subject = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]);
            create(&tenant.root, "RoleBinding", ATTACKER, user, binding(role, subject)).await?;
        }
        let (mallory, marvin) = (cp.user(MALLORY, &[]).await?, cp.user(MARVIN, &["moles"]).await?);
        let attacker = Self {
            tenant,
            mallory,
            marvin,
        };
        let own = json!({"spec": attacker.integration()});
        eventually("mallory to have the role", LIMIT, || async {
            let made = create(&attacker.mallory, "PartnerIntegration", ATTACKER, "own", own.clone()).await?;
            Ok(Some(made))
        })
        .await?;
        for name in ["target", "doomed"] {
            let spec = attacker.grant(json!([rule("configmaps", "feed")]));
            create(&attacker.mallory, "AccessGrant", ATTACKER, name, json!({"spec": spec})).await?;
            attacker.tenant.wait_reason(name, "Issued").await?;
        }
        Ok(attacker)
    }

    fn integration(&self) -> Value {
        let mut spec = self.tenant.integration_spec();
        let more = json!({
            "dataClassification": "Internal", "allowedSources": ["203.0.113.0/24"], "requestedBy": MALLORY,
            "agreement": {"url": "https://evil.example/1"},
        });
        merge(&mut spec, more);
        spec
    }

    pub fn grant(&self, access: Value) -> Value {
        json!({
            "integrationRef": {"name": "own"}, "access": access, "ticket": "CHG-1",
            "credential": {"type": "Token", "token": {"lifetime": "1h", "audiences": ["https://kubernetes.default.svc"]}},
            "expiresAt": in_seconds(7_200), "requestedBy": MALLORY,
        })
    }

    /// Sound objects, which an attempt changes in one place; together they have every place.
    pub async fn baselines(&self, kind: &str) -> Result<Vec<Value>> {
        let specs = match kind {
            "PartnerIntegration" => vec![self.integration()],
            "AccessGrant" => {
                let role = json!([{"clusterRoleRef": {"name": "wayleave-read"}}]);
                // Its place is the victim's already: what else it names is sought there.
                let mut reaching = self.grant(json!([rule("secrets", SECRET)]));
                reaching["access"][0]["namespaces"] = json!([NAMESPACES[0]]);
                reaching["credential"]["token"]["delivery"] = json!("Private");
                let mut legacy = self.grant(json!([rule("configmaps", "feed")]));
                legacy["credential"] = json!({"type": "Static", "static": {
                    "serviceAccountName": "legacy", "secretName": "legacy-token", "reason": "it reads one token", "replacement": "target",
                }});
                vec![
                    self.grant(json!([rule("configmaps", "feed")])),
                    self.grant(role),
                    reaching,
                    legacy,
                ]
            }
            _ => {
                let target = self.tenant.get_grant("target").await?;
                let (uid, digest) = (&target["metadata"]["uid"], &target["status"]["digest"]);
                let by = json!({"decidedBy": MARVIN, "submittedBy": MARVIN, "decidedByGroups": ["moles"], "reason": "why not"});
                let mut all = vec![
                    json!({"decision": "Approve", "subject": {"kind": "AccessGrant", "name": "target", "uid": uid}, "digest": digest}),
                    json!({"decision": "Review", "subject": {"kind": "PartnerIntegration", "name": "own"},
                        "grants": [{"name": "target", "uid": uid, "digest": digest}]}),
                    json!({"decision": "Revoke", "subject": {"kind": "AccessGrant", "name": "doomed"}}),
                ];
                all.iter_mut().for_each(|spec| merge(spec, by.clone()));
                all
            }
        };
        Ok(specs.into_iter().map(|spec| json!({"spec": spec})).collect())
    }

    /// Every text in every place; fails where no object has room for a place.
    pub async fn attempts(&self, hostile: &[Hostile]) -> Result<Vec<Attempt>> {
        let keys = known_keys()?;
        let mut all = Vec::new();
        for (kind, plural) in KINDS {
            let baselines = self.baselines(kind).await?;
            for place in places::of_kind(plural)? {
                let mut seen = false;
                for (index, baseline) in baselines.iter().enumerate() {
                    // One object is enough for most; where it matters what stands around, others are tried too.
                    let around = match kind {
                        "AccessDecision" => place.0.starts_with("spec.subject"),
                        _ => {
                            place.0.starts_with("spec.access")
                                && baseline["spec"]["access"][0].get("namespaces").is_some()
                        }
                    };
                    if seen && !around {
                        continue;
                    }
                    let mut tried = BTreeSet::new();
                    for (hostile, is_nothing) in hostile.iter().flat_map(|it| [(it, false), (it, true)]) {
                        let text = if is_nothing {
                            hostile.nothing.clone()
                        } else {
                            Some(hostile.text.clone())
                        };
                        let Some(text) = text else { continue };
                        let mut object = baseline.clone();
                        let number = all.len();
                        object["metadata"] = json!({"name": format!("x-{number}"), "namespace": ATTACKER});
                        if !place.write(&mut object, &text, &keys) {
                            break;
                        }
                        seen = true;
                        // Several texts are compared with one.
                        if is_nothing && !tried.insert(text) {
                            continue;
                        }
                        let (place, hostile) = (place.clone(), hostile.clone());
                        all.push(Attempt {
                            kind,
                            place,
                            hostile,
                            is_nothing,
                            baseline: index,
                            object,
                        });
                    }
                }
                ensure!(seen, "no object of kind {kind} has room for {}", place.0);
            }
        }
        Ok(all)
    }

    /// Writes an object as the attacker; a refusal must be one of the API server's, and say of what.
    async fn write(&self, attempt: Attempt) -> Result<Outcome> {
        let who = if attempt.kind == "AccessDecision" {
            &self.marvin
        } else {
            &self.mallory
        };
        let api = api(who, attempt.kind, ATTACKER);
        let mut object = attempt.object.clone();
        object["apiVersion"] = json!("wayleave.dev/v1alpha1");
        object["kind"] = json!(attempt.kind);
        let object: DynamicObject = serde_json::from_value(object)?;
        let (place, hostile) = (&attempt.place.0, attempt.hostile.what);
        let what = format!("{} {place} = {} ({hostile})", attempt.kind, attempt.text());
        match api.create(&PostParams::default(), &object).await {
            Ok(made) => Ok(Outcome {
                attempt,
                name: made.metadata.name,
            }),
            Err(Error::Api(status)) => {
                let said = &status.message;
                let is_told =
                    said.contains(attempt.place.field()) || said.contains("ValidatingAdmissionPolicy 'wayleave-");
                ensure!(
                    (400..500).contains(&status.code) && status.code != 429 && is_told,
                    "{what}: refused with {} {said}",
                    status.code
                );
                Ok(Outcome { attempt, name: None })
            }
            Err(error) => Err(error).context(what),
        }
    }

    /// Writes every attempt; of texts that name nothing those alone whose answer can be compared with another.
    pub async fn write_all(&self, attempts: Vec<Attempt>) -> Result<Vec<Outcome>> {
        let (twins, hostile): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|it| it.is_nothing);
        let mut outcomes = self.write_each(hostile).await?;
        let through = outcomes.iter().filter(|it| it.name.is_some());
        let through: BTreeSet<Twin> = through.filter_map(|it| it.attempt.twin()).collect();
        let twins = twins
            .into_iter()
            .filter(|it| it.twin().is_some_and(|twin| through.contains(&twin)));
        outcomes.extend(self.write_each(twins.collect()).await?);
        Ok(outcomes)
    }

    async fn write_each(&self, attempts: Vec<Attempt>) -> Result<Vec<Outcome>> {
        let writes = attempts.into_iter().map(|attempt| self.write(attempt));
        stream::iter(writes).buffered(AT_ONCE).try_collect().await
    }

    /// A grant for one integration of each place, so that what stands there gets as far as it can.
    pub async fn hang_grants_on(&self, outcomes: &[Outcome]) -> Result<usize> {
        let mut places: BTreeMap<&Place, Vec<&str>> = BTreeMap::new();
        let integrations = outcomes.iter().filter(|it| it.attempt.kind == "PartnerIntegration");
        for (outcome, name) in integrations.filter_map(|it| Some((it, it.name.as_deref()?))) {
            places.entry(&outcome.attempt.place).or_default().push(name);
        }
        for (index, names) in places.values().enumerate() {
            let name = names[index % names.len()];
            let mut spec = self.grant(json!([rule("configmaps", "feed")]));
            spec["integrationRef"]["name"] = json!(name);
            create(
                &self.mallory,
                "AccessGrant",
                ATTACKER,
                &format!("on-{index}"),
                json!({"spec": spec}),
            )
            .await?;
        }
        Ok(places.len())
    }

    /// Makes sound objects, live ones where they are grants, and then changes each in one place to what was let through there.
    /// Gives how many changes were let through.
    pub async fn change(&self, outcomes: &[Outcome]) -> Result<usize> {
        let through = outcomes.iter().filter(|it| it.name.is_some()).map(|it| &it.attempt);
        let through = through.filter(|it| it.kind != "AccessDecision" && it.place.0.starts_with("spec."));
        let places: BTreeMap<_, &Attempt> = through.map(|it| ((it.kind, &it.place, it.baseline), it)).collect();
        let changes: Vec<(String, &Attempt)> = (0..).map(|n| format!("u-{n}")).zip(places.into_values()).collect();
        for (name, attempt) in &changes {
            let sound = self.baselines(attempt.kind).await?.swap_remove(attempt.baseline);
            create(&self.mallory, attempt.kind, ATTACKER, name, sound).await?;
            if attempt.kind == "PartnerIntegration" {
                let mut spec = self.grant(json!([rule("configmaps", "feed")]));
                spec["integrationRef"]["name"] = json!(name);
                let grant = format!("of-{name}");
                create(&self.mallory, "AccessGrant", ATTACKER, &grant, json!({"spec": spec})).await?;
            }
        }
        self.wait_judged().await?;
        let mut count = 0;
        for (name, attempt) in &changes {
            let patch = json!({"spec": attempt.object["spec"]});
            let api = api(&self.mallory, attempt.kind, ATTACKER);
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => count += 1,
                Err(Error::Api(status)) if status.message.contains("can't be changed") => {}
                Err(error) => return Err(error).context(attempt.place.0.clone()),
            }
        }
        self.wait_judged().await?;
        Ok(count)
    }

    /// Waits until the operator has said something final of everything that is there, and says no more: while it is at it, a
    /// grant waits for an approval that is weighed before the next kind is listed.
    pub async fn wait_judged(&self) -> Result<BTreeMap<(String, String), Value>> {
        settled("everything to be judged", JUDGED, RESTS, || async {
            let mut all = BTreeMap::new();
            for (kind, _) in KINDS {
                for object in list(&self.tenant.root, kind, ATTACKER).await? {
                    let name = text(&object["metadata"]["name"]);
                    ensure!(is_judged(kind, &object), "{kind} {name}: {}", object["status"]);
                    all.insert((kind.to_owned(), name), object);
                }
            }
            Ok(all)
        })
        .await
    }
}

/// By what an attempt and its comparison are found: kind, place, baseline and the text that names nothing.
pub type Twin = (&'static str, String, usize, String);

impl Attempt {
    pub fn twin(&self) -> Option<Twin> {
        let nothing = self.hostile.nothing.clone()?;
        Some((self.kind, self.place.0.clone(), self.baseline, nothing))
    }

    fn text(&self) -> &str {
        match &self.hostile.nothing {
            Some(nothing) if self.is_nothing => nothing,
            _ => &self.hostile.text,
        }
    }
}

pub fn rule(resource: &str, name: &str) -> Value {
    json!({"rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"], "resourceNames": [name]}]})
}

fn is_judged(kind: &str, object: &Value) -> bool {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return true;
    }
    let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    match kind {
        "PartnerIntegration" => current,
        "AccessGrant" => current && condition(object, "Active")["reason"] != "Issuing",
        _ => {
            let counted = condition(object, "Counted");
            !counted.is_null() && counted["reason"] != "Unconfirmed"
        }
    }
}
