//! A world to judge requests in, for tests.

use serde_json::{Value, json};

use super::*;

/// A world that a request is judged in; the grant is permitted until a test changes something.
#[derive(Debug)]
pub(super) struct World {
    pub(super) grant: AccessGrant,
    pub(super) integration: PartnerIntegration,
    pub(super) policies: Vec<AccessPolicy>,
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) cluster_roles: BTreeMap<String, Vec<ResolvedRule>>,
    pub(super) reserved: BTreeSet<String>,
    pub(super) delivery: BTreeMap<String, BTreeSet<String>>,
}

pub(super) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn policy(name: &str, change: impl FnOnce(&mut AccessPolicy)) -> AccessPolicy {
    let mut policy = from(json!({
        "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchLabels": {"partners": "yes"}},
            "dataClassifications": ["Internal", "Confidential"], "environments": ["Production"],
            "limits": {"duration": "90d", "credentialLifetime": "1h", "reviewInterval": "90d"},
            "access": {
                "clusterRoles": ["partner-read"],
                "rules": [
                    {"apiGroups": ["", "apps"], "resources": ["configmaps", "deployments", "secrets"], "verbs": ["get", "list"]},
                ],
            },
            "credentials": ["Token"], "requires": {"approvals": [{"count": 1}]},
        },
    }));
    change(&mut policy);
    policy
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            grant: from(json!({
                "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant",
                "metadata": {"name": "reader", "namespace": "payments", "creationTimestamp": "2026-11-01T00:00:00Z"},
                "spec": {
                    "integrationRef": {"name": "acme"},
                    "access": [{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]}],
                    "credential": {"type": "Token", "token": {"lifetime": "1h"}},
                    "startsAt": "2026-12-01T00:00:00Z", "expiresAt": "2027-03-01T00:00:00Z",
                },
            })),
            integration: from(json!({
                "apiVersion": "wayleave.dev/v1alpha1", "kind": "PartnerIntegration",
                "metadata": {"name": "acme", "namespace": "payments"},
                "spec": {
                    "partner": {"id": "acme", "name": "Acme", "contact": "a@acme.example"}, "purpose": "Reconcile",
                    "owners": {"businessRef": {"name": "alice"}, "technicalRef": {"name": "bob"}},
                    "agreement": {"reference": "CTR-1"}, "dataClassification": "Internal",
                    "environment": "Production", "review": {"interval": "90d", "grace": "7d"},
                },
            })),
            policies: vec![policy("readers", |_| {})],
            namespaces: [
                ("payments".to_owned(), labels(&[("partners", "yes")])),
                ("ledger".to_owned(), labels(&[("ledger", "yes")])),
                ("kube-system".to_owned(), labels(&[("ledger", "yes")])),
                ("vault".to_owned(), labels(&[("ledger", "yes")])),
            ]
            .into(),
            cluster_roles: [("partner-read".to_owned(), vec![resolved("", "services", "get")])].into(),
            reserved: ["vault".to_owned()].into(),
            delivery: BTreeMap::new(),
        }
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            grant: &self.grant,
            integration: &self.integration,
            namespaces: &self.namespaces,
            cluster_roles: &self.cluster_roles,
            reserved_namespaces: &self.reserved,
            delivery_secrets: &self.delivery,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        evaluate(&self.policies.iter().collect::<Vec<_>>(), &self.request())
    }

    pub(super) fn judge(&self) -> Judgement {
        judge(&self.policies.iter().collect::<Vec<_>>(), &self.request())
    }

    pub(super) fn access(mut self, access: Value) -> Self {
        self.grant.spec.access = from(access);
        self
    }

    pub(super) fn rule(self, rule: Value) -> Self {
        self.access(json!([{"rules": [rule]}]))
    }

    pub(super) fn changed(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn policy(self, change: impl FnOnce(&mut AccessPolicy)) -> Self {
        self.changed(|world| change(&mut world.policies[0]))
    }

    pub(super) fn and_policy(self, name: &str, change: impl FnOnce(&mut AccessPolicy)) -> Self {
        self.changed(|world| world.policies.push(policy(name, change)))
    }

    #[track_caller]
    pub(super) fn terms(&self) -> Terms {
        match self.outcome() {
            Outcome::Permitted { terms, .. } => terms,
            Outcome::Refused { failing, .. } => panic!("refused: {failing:#?}"),
        }
    }

    #[track_caller]
    pub(super) fn refused(&self, points: &[&str]) {
        match self.outcome() {
            Outcome::Permitted { policies, .. } => panic!("permitted by {policies:?}"),
            Outcome::Refused { failing, .. } => assert_eq!(failing, points),
        }
    }
}

pub(super) fn resolved(group: &str, resource: &str, verb: &str) -> ResolvedRule {
    ResolvedRule {
        api_groups: vec![group.to_owned()],
        resources: vec![resource.to_owned()],
        verbs: vec![verb.to_owned()],
        resource_names: Vec::new(),
    }
}
