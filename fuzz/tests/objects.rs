//! What writes status, given objects that somebody made to break it: no panic, a status that the API server takes, words that can be
//! shown, and nothing to write once it was written.
#![expect(clippy::unwrap_used, reason = "a panic is what fails here")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wayleave::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, ChildKind, Instant, PartnerIntegration, ResolvedRule,
};
use wayleave::domain::admission::Proofs;
use wayleave::domain::approval::Confirmation;
use wayleave::domain::digest::digest;
use wayleave::domain::ownership::Owners;
use wayleave::domain::permission::from_policy_rules;
use wayleave::domain::text::is_hostile;
use wayleave::domain::verdict::{Facts, Namespace, Verdict, decide};
use wayleave::plan::{self, Child, Observed, Plan, Step, announcement};
use wayleave_fuzz::{Bytes, edit};

/// So many inputs beside the corpus in every run.
const INPUTS: usize = 8_000;
const IDENTITIES: &str = "wayleave-identities";
const CRDS: [&str; 5] = [
    include_str!("../../crds/accessgrants.yaml"),
    include_str!("../../crds/partnerintegrations.yaml"),
    include_str!("../../crds/accessdecisions.yaml"),
    include_str!("../../crds/accessowners.yaml"),
    include_str!("../../crds/accesspolicies.yaml"),
];

/// The schema of a kind.
fn schema(crd: &str) -> Value {
    let crd: Value = serde_saphyr::from_str(crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

/// What a structural schema says of a value's size and shape: what the API server refuses it for, rules and patterns apart.
fn misfit(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let most = |key: &str| {
        let most = schema[key].as_u64().and_then(|most| usize::try_from(most).ok());
        most.unwrap_or(usize::MAX)
    };
    let too_long =
        |count: usize, key: &str| (count > most(key)).then(|| format!("{path}: {count}, {key} is {}", most(key)));
    let is_of = |kind: &str| schema["type"] == kind || schema["x-kubernetes-int-or-string"] == true;
    match value {
        Value::String(text) => {
            let words = schema["enum"].as_array();
            let is_known = words.is_none_or(|words| words.contains(value));
            let wrong = (!is_of("string") || !is_known).then(|| format!("{path}: {text:?} is no {schema}"));
            wrong.or_else(|| too_long(text.chars().count(), "maxLength"))
        }
        Value::Array(items) => {
            let wrong = (!is_of("array")).then(|| format!("{path} is no list"));
            let mut all = items.iter().enumerate();
            let wrong = wrong.or_else(|| too_long(items.len(), "maxItems"));
            wrong.or_else(|| all.find_map(|(index, item)| misfit(&schema["items"], item, &format!("{path}[{index}]"))))
        }
        Value::Object(fields) => {
            let required = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let missing = required.into_iter().find(|name| !fields.contains_key(*name));
            let wrong = missing.map(|name| format!("{path}.{name} is missing"));
            let wrong = wrong.or_else(|| (!is_of("object")).then(|| format!("{path} is no object")));
            let wrong = wrong.or_else(|| too_long(fields.len(), "maxProperties"));
            let mut all = fields.iter();
            wrong.or_else(|| {
                all.find_map(|(name, field)| {
                    let known = &schema["properties"][name];
                    let schema = if known.is_null() {
                        &schema["additionalProperties"]
                    } else {
                        known
                    };
                    let path = format!("{path}.{name}");
                    if schema.is_null() {
                        Some(format!("{path} is not in the schema"))
                    } else {
                        misfit(schema, field, &path)
                    }
                })
            })
        }
        Value::Number(number) => {
            let within = |key: &str, holds: fn(f64, f64) -> bool| {
                let bound = schema[key].as_f64();
                bound.is_none_or(|bound| holds(number.as_f64().unwrap_or(f64::NAN), bound))
            };
            let is_sound = is_of("integer")
                && within("minimum", |it, bound| it >= bound)
                && within("maximum", |it, bound| it <= bound);
            (!is_sound).then(|| format!("{path}: {number}"))
        }
        Value::Null => Some(format!("{path} is null")),
        Value::Bool(_) => (!is_of("boolean")).then(|| format!("{path} is no flag")),
    }
}

fn fits(schema: &Value, value: &Value) {
    assert_eq!(misfit(schema, value, "status"), None);
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "payments", "uid": format!("uid-of-{name}"), "generation": 1,
        "resourceVersion": "1", "creationTimestamp": "2026-11-01T00:00:00Z"})
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "wayleave.dev/v1alpha1", "kind": kind, "metadata": meta(name), "spec": spec})
}

fn grant() -> Value {
    object(
        "AccessGrant",
        "reader",
        json!({
            "integrationRef": {"name": "acme"}, "ticket": "CHG-1", "requestedBy": "carol@corp.example", "contributors": ["erin@corp.example"],
            "access": [
                {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["feed"]}]},
                {"clusterRoleRef": {"name": "wayleave-read"}, "namespaces": ["payments", "ledger"]},
            ],
            "credential": {"type": "Token", "token": {"lifetime": "1h", "secretName": "reader-credential", "delivery": "Private"}},
            "startsAt": "2026-11-02T00:00:00Z", "expiresAt": "2027-01-20T00:00:00Z", "suspend": false,
        }),
    )
}

fn integration() -> Value {
    object(
        "PartnerIntegration",
        "acme",
        json!({
            "partner": {"id": "acme", "name": "Acme Corp", "contact": "security@acme.example"}, "purpose": "Reconcile invoices nightly",
            "owners": {"businessRef": {"name": "alice"}, "technicalRef": {"name": "bob"}},
            "agreement": {"reference": "CTR-1", "endsAt": "2027-06-30T00:00:00Z"}, "dataClassification": "Confidential",
            "environment": "Production", "allowedSources": ["203.0.113.0/24"], "review": {"interval": "90d", "grace": "7d"},
            "requestedBy": "carol@corp.example", "suspend": false,
        }),
    )
}

fn owner(name: &str) -> Value {
    let mail = format!("{name}@corp.example");
    object(
        "AccessOwner",
        name,
        json!({"displayName": name, "email": mail, "usernames": [mail], "active": true, "until": "2027-05-01T00:00:00Z"}),
    )
}

fn policy() -> Value {
    object(
        "AccessPolicy",
        "partners",
        json!({
            "namespaceSelector": {"matchLabels": {"partners.example/allowed": "true"}},
            "dataClassifications": ["Public", "Internal", "Confidential"], "environments": ["NonProduction", "Production"],
            "limits": {"duration": "90d", "credentialLifetime": "1h", "reviewInterval": "90d", "activeGrantsPerIntegration": 10},
            "access": {"clusterRoles": ["wayleave-read"], "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
                "targetNamespaces": {"matchLabels": {"partners.example/allowed": "true"}}, "longRunning": false, "onRoleGrowth": "End"},
            "credentials": ["Token", "Static"], "requires": {"approvals": [{"count": 1, "groups": ["security"]}], "ticket": true},
            "staticCredentials": {"duration": "30d", "reviewInterval": "30d"}, "selfService": false,
        }),
    )
}

fn decision(name: &str, word: &str, digest: &str) -> Value {
    object(
        "AccessDecision",
        name,
        json!({
            "subject": {"kind": "AccessGrant", "name": "reader", "uid": "uid-of-reader"}, "decision": word, "digest": digest,
            "decidedBy": "dave@corp.example", "decidedByGroups": ["security"], "submittedBy": "dave@corp.example",
            "targetNamespaces": ["payments", "ledger"], "reason": "as asked", "validUntil": "2027-04-01T00:00:00Z",
        }),
    )
}

/// What an input makes of a sound world.
struct World {
    now: Instant,
    grant: AccessGrant,
    integration: Option<PartnerIntegration>,
    owners: Vec<AccessOwner>,
    policies: Vec<AccessPolicy>,
    decisions: Vec<AccessDecision>,
    rules: Vec<ResolvedRule>,
    labels: BTreeMap<String, String>,
    observed: Observed,
    other_rights: Option<String>,
    refused: Option<String>,
    enrolled: bool,
    terminating: bool,
    proved: bool,
    skewed: bool,
    uninstalling: bool,
}

/// An object whose spec was edited, as the API server would let it in; none where it would not.
fn read<T: DeserializeOwned>(schemas: &[Value; 5], kind: usize, mut object: Value, bytes: &mut Bytes<'_>) -> Option<T> {
    edit(bytes, &mut object["spec"]);
    let is_let_in = misfit(&schemas[kind]["spec"], &object["spec"], "spec").is_none();
    // What no pattern was asked about here may still be no date.
    if is_let_in {
        serde_json::from_value(object).ok()
    } else {
        None
    }
}

/// The same of anything that no schema bounds.
fn unbounded<T: DeserializeOwned>(mut value: Value, bytes: &mut Bytes<'_>) -> Option<T> {
    edit(bytes, &mut value);
    serde_json::from_value(value).ok()
}

fn word(bytes: &mut Bytes<'_>, sound: &str) -> String {
    let mut value = json!(sound);
    edit(bytes, &mut value);
    value.as_str().map_or_else(|| sound.to_owned(), str::to_owned)
}

impl World {
    fn of(schemas: &[Value; 5], input: &[u8]) -> Option<Self> {
        let bytes = &mut Bytes::new(input);
        let days = i64::from(bytes.byte() % 80) * if bytes.rarely() { 30 } else { 1 };
        let now = Instant::new(Timestamp::from_second(1_793_500_000 + days * 86_400).ok()?);
        let mut stated = grant();
        if bytes.byte() % 4 == 1 {
            stated["spec"]["credential"] = json!({"type": "Static", "static": {"serviceAccountName": "legacy",
                "secretName": "legacy-token", "reason": "it reads one token", "replacement": "reader-2"}});
        }
        let grant: AccessGrant = read(schemas, 0, stated, bytes)?;
        let integration: Option<PartnerIntegration> = read(schemas, 1, integration(), bytes);
        let targets: BTreeMap<String, String> = ["payments", "ledger"]
            .map(|it| (it.to_owned(), "uid".to_owned()))
            .into();
        let digest = integration
            .as_ref()
            .map_or_else(String::new, |integration| digest(integration, &grant, &targets).digest);
        let decisions = ["Approve", "Approve", "Revoke", "Deny", "Review"].iter().enumerate();
        let decisions = decisions.filter_map(|(index, kind)| {
            // An approval as a rule, and anything else now and then.
            let is_there = if index == 0 {
                !bytes.rarely()
            } else {
                bytes.byte() % 8 == 1
            };
            let decided = is_there.then(|| decision(&format!("d-{index}"), kind, &digest))?;
            read(schemas, 2, decided, bytes)
        });
        let decisions = decisions.collect();
        let rules =
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"], "resourceNames": ["one"]}]);
        let children = (0..bytes.byte() % 6).map(|index| Child {
            kind: [
                ChildKind::RoleBinding,
                ChildKind::Role,
                ChildKind::Anchor,
                ChildKind::ServiceAccount,
                ChildKind::DeliverySecret,
            ][bytes.below(5)],
            namespace: word(bytes, "payments"),
            name: word(bytes, &format!("wlg-0-{index}")),
            uid: format!("uid-{index}"),
            content: word(bytes, ""),
            foreign_writer: bytes.flag().then(|| word(bytes, "somebody")),
        });
        let children: Vec<Child> = children.collect();
        let beyond = children.iter().take(usize::from(bytes.byte() / 96)).cloned().collect();
        Some(Self {
            now,
            grant,
            integration,
            owners: ["alice", "bob", "dave"]
                .into_iter()
                .filter_map(|name| read(schemas, 3, owner(name), bytes))
                .collect(),
            policies: [policy(), policy()]
                .into_iter()
                .filter_map(|policy| read(schemas, 4, policy, bytes))
                .collect(),
            decisions,
            rules: from_policy_rules(&unbounded::<Vec<PolicyRule>>(rules, bytes)?),
            labels: unbounded(
                json!({"partners.example/allowed": "true", "wayleave.dev/classification": "Internal"}),
                bytes,
            )?,
            observed: Observed {
                children,
                beyond_reach: beyond,
                delivery_known: bytes.flag(),
                finalizer: bytes.flag(),
                rotate_requested: bytes.flag().then(|| plan::rotation_asked(&word(bytes, "now"))),
                ..Observed::default()
            },
            other_rights: bytes.flag().then(|| word(bytes, "beside this grant")),
            refused: bytes.rarely().then(|| word(bytes, "dave may not")),
            enrolled: !bytes.rarely(),
            terminating: bytes.rarely(),
            proved: !bytes.rarely(),
            skewed: bytes.rarely(),
            uninstalling: bytes.rarely(),
        })
    }

    fn judge(&self) -> (Verdict, Plan) {
        let named = self
            .owners
            .iter()
            .filter_map(|owner| Some((owner.metadata.name.as_deref()?, owner)));
        let owners: Owners<'_> = named.collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        let policies: Vec<&AccessPolicy> = self.policies.iter().collect();
        let answer = self
            .refused
            .clone()
            .map_or(Confirmation::Allowed, Confirmation::Refused);
        let uids = decisions.iter().filter_map(|decision| decision.metadata.uid.clone());
        let namespace = || Namespace {
            uid: "uid".to_owned(),
            labels: self.labels.clone(),
            enrolled: self.enrolled,
            terminating: self.terminating,
        };
        let facts = Facts {
            now: self.now,
            grant: &self.grant,
            integration: self.integration.as_ref(),
            owners: &owners,
            decisions: &decisions,
            confirmations: &uids.map(|uid| (uid, answer.clone())).collect(),
            policies: &policies,
            namespaces: &["payments", "ledger"].map(|name| (name.to_owned(), namespace())).into(),
            absent_key: Some("uid-of-identities"),
            cluster_roles: &[("wayleave-read".to_owned(), self.rules.clone())].into(),
            reserved_namespaces: &BTreeSet::from(["wayleave-system".to_owned()]),
            delivery_secrets: &BTreeMap::new(),
            earlier_siblings: 0,
            admission_proved: self.proved,
            unreadable_policy: None,
            unread: None,
            proofs: Some(&Proofs::since(Instant::new(Timestamp::UNIX_EPOCH))),
            other_rights: self.other_rights.as_deref(),
            static_credential: None,
            clock_skew: self.skewed.then_some(i64::MIN),
            uninstalling: self.uninstalling.then_some("Wayleave is being uninstalled"),
        };
        let verdict = decide(&facts);
        let plan = plan::plan(&facts, &verdict, &self.observed, IDENTITIES);
        (verdict, plan)
    }
}

#[test]
fn what_is_written_of_hostile_objects_fits_and_is_written_once() {
    let schemas = CRDS.map(schema);
    let [of_grants, of_integrations, of_decisions, ..] = schemas.each_ref().map(|schema| &schema["status"]);
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(256)
        .for_each(|input: &[u8]| {
            let Some(mut world) = World::of(&schemas, input) else {
                return;
            };
            let (verdict, planned) = world.judge();
            assert!(planned.again_in >= 1, "at once, for ever");
            fits(of_grants, &serde_json::to_value(&planned.status).unwrap());
            if let Some(told) = announcement::of_grant(world.grant.status.as_ref(), &planned.status) {
                assert!(
                    told.note.len() <= 1_024 && told.action.len() <= 128 && told.reason.len() <= 128,
                    "{told:?}"
                );
                assert!(!told.note.chars().any(is_hostile), "{told:?}");
            }
            for decision in &world.decisions {
                let subject = plan::decision::Subject::Grant(Some(&verdict.decisions));
                if let Some(status) = plan::decision::plan(decision, subject, world.now) {
                    fits(of_decisions, &serde_json::to_value(&status).unwrap());
                }
            }
            let step = planned.step.clone();
            world.grant.status = Some(planned.status);
            if step == Step::Rest {
                let (_, again) = world.judge();
                assert_eq!(
                    (&again.step, Some(&again.status)),
                    (&Step::Rest, world.grant.status.as_ref()),
                    "written twice"
                );
            }
            if let Some(integration) = &mut world.integration {
                let owners = world
                    .owners
                    .iter()
                    .filter_map(|owner| Some((owner.metadata.name.as_deref()?, owner)));
                let owners: Owners<'_> = owners.collect();
                let planned = plan::integration::plan(integration, &owners, &[&world.grant], world.now);
                fits(of_integrations, &serde_json::to_value(&planned.status).unwrap());
                assert!(planned.again_in >= 1);
                for told in announcement::of_integration(integration.status.as_ref(), &planned.status) {
                    assert!(
                        told.note.len() <= 1_024 && !told.note.chars().any(is_hostile),
                        "{told:?}"
                    );
                }
                integration.status = Some(planned.status.clone());
                let again = plan::integration::plan(integration, &owners, &[&world.grant], world.now);
                assert_eq!(again.status, planned.status, "written twice");
            }
        });
}
