//! Objects for unit tests: a sound integration, grant, owner and decision, to be changed by each test.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, Instant, PartnerIntegration};

/// The UID of [`grant`].
pub(crate) const GRANT_UID: &str = "5d0c6a7e-0000-4000-8000-000000000001";

/// An instant by its RFC 3339 text.
pub(crate) fn at(text: &str) -> Instant {
    text.parse().unwrap()
}

fn read<T: DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn meta(namespace: Option<&str>, name: &str, uid: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        creation_timestamp: Some(Time("2026-11-01T00:00:00Z".parse::<Timestamp>().unwrap())),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

/// The integration that [`grant`] belongs to.
pub(crate) fn integration() -> PartnerIntegration {
    let spec = read(json!({
        "partner": {"id": "acme", "name": "Acme Corp", "contact": "security@acme.example"},
        "purpose": "Reconcile invoices nightly",
        "owners": {"businessRef": {"name": "alice"}, "technicalRef": {"name": "bob"}},
        "agreement": {"reference": "CTR-2026-114", "endsAt": "2027-06-30T00:00:00Z"},
        "dataClassification": "Confidential",
        "environment": "Production",
        "review": {"interval": "90d", "grace": "7d"},
        "requestedBy": "carol@corp.example",
    }));
    let metadata = meta(Some("payments"), "acme-billing", "5d0c6a7e-0000-4000-8000-000000000002");
    PartnerIntegration {
        metadata,
        spec,
        status: None,
    }
}

/// A grant of the one ConfigMap, from 1 December 2026 to 1 February 2027.
pub(crate) fn grant() -> AccessGrant {
    let spec = read(json!({
        "integrationRef": {"name": "acme-billing"},
        "ticket": "CHG-4711",
        "requestedBy": "carol@corp.example",
        "access": [{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["invoice-feed"]}]}],
        "credential": {"type": "Token", "token": {"lifetime": "1h"}},
        "expiresAt": "2027-01-20T00:00:00Z",
    }));
    AccessGrant {
        metadata: meta(Some("payments"), "acme-billing-reader", GRANT_UID),
        spec,
        status: None,
    }
}

/// The same by a static credential of ServiceAccount `legacy`.
pub(crate) fn static_grant() -> AccessGrant {
    let mut grant = grant();
    grant.spec.credential = read(json!({"type": "Static", "static": {
        "serviceAccountName": "legacy", "secretName": "legacy-token",
        "reason": "its middleware reads one token", "replacement": "AccessGrant acme-billing-reader",
    }}));
    grant
}

/// An active owner since 1 November 2026.
pub(crate) fn owner(name: &str) -> AccessOwner {
    let spec = read(json!({
        "displayName": name, "email": format!("{name}@corp.example"), "usernames": [format!("{name}@corp.example")], "active": true,
    }));
    AccessOwner {
        metadata: meta(None, name, &format!("uid-of-{name}")),
        spec,
    }
}

/// A decision by a user about [`grant`], made at an instant.
pub(crate) fn decision(name: &str, word: &str, by: &str, digest: &str, made: &str) -> AccessDecision {
    let spec = read(json!({
        "subject": {"kind": "AccessGrant", "name": "acme-billing-reader", "uid": GRANT_UID},
        "decision": word, "digest": digest, "decidedBy": by, "submittedBy": by,
        "targetNamespaces": ["payments"], "reason": "as agreed",
    }));
    let mut metadata = meta(Some("payments"), name, &format!("uid-of-{name}"));
    metadata.creation_timestamp = Some(Time(made.parse::<Timestamp>().unwrap()));
    AccessDecision {
        metadata,
        spec,
        status: None,
    }
}

/// A policy that permits [`grant`] with one approval.
pub(crate) fn policy() -> AccessPolicy {
    let spec = read(json!({
        "namespaceSelector": {"matchLabels": {"partners.example/allowed": "true"}},
        "dataClassifications": ["Public", "Internal", "Confidential"],
        "environments": ["NonProduction", "Production"],
        "limits": {"duration": "90d", "credentialLifetime": "1h", "reviewInterval": "90d"},
        "access": {"rules": [{"apiGroups": ["", "apps"], "resources": ["configmaps", "deployments"], "verbs": ["get", "list"]}]},
        "credentials": ["Token"],
        "requires": {"approvals": [{"count": 1}]},
    }));
    AccessPolicy {
        metadata: meta(None, "read-only-partners", "uid-of-policy"),
        spec,
    }
}
