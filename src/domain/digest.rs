//! The digest of what is approved: a SHA-256 over named section hashes of a canonical form of integration and grant.
//!
//! The canonical form is JSON with sorted keys and no blanks (the subset of RFC 8785 that strings, booleans and whole
//! numbers need). Every field of both specs is in, a new one too, unless it stands in one of the two lists of exceptions:
//! what an approver need not see again. The UIDs of the namespaces that the access reaches are in, so that a namespace
//! deleted and made again is another one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::v1alpha1::{AccessGrant, PartnerIntegration};

/// Names the canonical form; another form is another version, and voids every approval.
pub const VERSION: &str = "wayleave.dev/digest/v1";
/// The section of the namespaces' UIDs.
pub const TARGETS: &str = "targetNamespaces";
/// The section of the credential.
pub const CREDENTIAL: &str = "credential";

/// Of both specs: not part of what is approved.
const NOT_COVERED: [&str; 4] = ["requestedBy", "contributors", "suspend", "review"];
/// Of the partner: not part of what is approved.
const NOT_COVERED_OF_PARTNER: &str = "contact";

/// A digest and the hashes it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantDigest {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Hash of each section, by its name.
    pub sections: BTreeMap<String, String>,
}

impl GrantDigest {
    /// Of the hashes of all sections.
    #[must_use]
    pub fn of_sections(sections: BTreeMap<String, String>) -> Self {
        let whole = serde_json::json!({"version": VERSION, "sections": sections});
        Self {
            digest: format!("sha256:{}", hash(&whole)),
            sections,
        }
    }

    /// Names of the sections that differ from an earlier digest's.
    #[must_use]
    pub fn changed_since(&self, earlier: &BTreeMap<String, String>) -> Vec<String> {
        let names = self.sections.keys().chain(earlier.keys());
        let mut changed: Vec<String> = names
            .filter(|name| self.sections.get(*name) != earlier.get(*name))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// What stands for the UID of a namespace that doesn't exist. `key` is what only those know who may read namespaces, the UID of
/// that of the identities: whoever names a foreign namespace in a grant of his own can't tell by the digest whether it is there.
#[must_use]
pub fn absent(namespace: &str, key: &str) -> String {
    hash_of(&("absent", key, namespace))
}

/// The digest of a grant of an integration; `targets` holds the UID of each namespace that the access reaches, by name, or what
/// stands for it where it is [`absent`].
#[must_use]
pub fn digest(
    integration: &PartnerIntegration,
    grant: &AccessGrant,
    targets: &BTreeMap<String, String>,
) -> GrantDigest {
    let mut sections = BTreeMap::new();
    for spec in [to_value(&integration.spec), to_value(&grant.spec)] {
        let Value::Object(fields) = spec else { continue };
        for (name, mut value) in fields {
            if NOT_COVERED.contains(&name.as_str()) {
                continue;
            }
            if name == "partner"
                && let Value::Object(partner) = &mut value
            {
                partner.remove(NOT_COVERED_OF_PARTNER);
            }
            sections.insert(name, hash(&value));
        }
    }
    sections.insert(TARGETS.to_owned(), hash(&to_value(targets)));
    GrantDigest::of_sections(sections)
}

/// SHA-256 of a value's canonical form, in hexadecimal digits.
#[must_use]
pub fn hash(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// SHA-256 of the canonical form of anything that is written as JSON.
#[must_use]
pub fn hash_of(value: &impl Serialize) -> String {
    hash(&to_value(value))
}

fn to_value(value: &impl Serialize) -> Value {
    // Maps with keys that aren't strings are the only thing that can't be written, and no type here has one.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Doesn't rely on the order of serde_json's map, which any dependency can change by a feature.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (at, (name, field)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(&Value::String(name.clone()), out);
                out.push(':');
                canonical(field, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => {
            // Writing to a String can't fail.
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{grant, integration};

    fn targets() -> BTreeMap<String, String> {
        [("payments".to_owned(), "11111111-1111-1111-1111-111111111111".to_owned())].into()
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":true,"d":["x","y"]}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":{"d":["x","y"],"c":true},"a":1}"#).unwrap();
        assert_eq!(hash(&one), hash(&two));
        let mut text = String::new();
        canonical(&two, &mut text);
        assert_eq!(text, r#"{"a":1,"b":{"c":true,"d":["x","y"]}}"#);
    }

    #[test]
    fn the_published_form_stays_as_it_is() {
        // Approvals on record are pinned to it: a change here is a new VERSION.
        let found = digest(&integration(), &grant(), &targets());
        assert_eq!(
            found.sections.keys().map(String::as_str).collect::<Vec<_>>(),
            [
                "access",
                "agreement",
                "credential",
                "dataClassification",
                "environment",
                "expiresAt",
                "integrationRef",
                "owners",
                "partner",
                "purpose",
                "targetNamespaces",
                "ticket"
            ]
        );
        assert_eq!(
            found.digest,
            "sha256:dfb4cbf51db5d5c86d52137264f98292b6b0f47200e19f430d01132b53c5511a"
        );
    }

    #[test]
    fn what_is_not_covered_leaves_the_digest_alone() {
        let before = digest(&integration(), &grant(), &targets());
        let (mut integration, mut grant) = (integration(), grant());
        integration.spec.partner.contact = "elsewhere@acme.example".into();
        integration.spec.suspend = true;
        integration.spec.contributors = vec!["x".into()];
        integration.spec.requested_by = None;
        integration.spec.review.interval = "10d".parse().unwrap();
        grant.spec.suspend = true;
        grant.spec.contributors = vec!["x".into()];
        grant.spec.requested_by = None;
        assert_eq!(digest(&integration, &grant, &targets()), before);
    }

    #[test]
    fn a_namespace_that_is_not_there_looks_like_any_other() {
        let of = |name: &str, uid: String| {
            let targets = [(name.to_owned(), uid)].into();
            digest(&integration(), &grant(), &targets).sections[TARGETS].clone()
        };
        let nothing = digest(&integration(), &grant(), &BTreeMap::new()).sections[TARGETS].clone();
        let missing = of("nobody", absent("nobody", "key"));
        assert_ne!(missing, nothing, "whoever sees it could compute it");
        assert_ne!(missing, of("nobody", absent("nobody", "other key")));
        assert_ne!(absent("nobody", "key"), absent("somebody", "key"));
        assert_eq!(missing, of("nobody", absent("nobody", "key")));
    }

    #[test]
    fn a_change_is_named_by_its_section() {
        let before = digest(&integration(), &grant(), &targets());
        let mut changed = grant();
        changed.spec.ticket = Some("CHG-1".into());
        changed.spec.starts_at = Some("2026-12-02T00:00:00Z".parse().unwrap());
        let after = digest(&integration(), &changed, &BTreeMap::new());
        assert_ne!(after.digest, before.digest);
        assert_eq!(
            after.changed_since(&before.sections),
            ["startsAt", "targetNamespaces", "ticket"]
        );
    }
}
