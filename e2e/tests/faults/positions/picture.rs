//! What there is of a tenant, in a form in which two runs can be compared: what may differ is replaced by what it stands for.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{api, text};

use super::scenario::Prepared;

/// What there may be in the tenant's namespaces, and what it has in the namespace of the identities.
const NEAR: [&str; 9] = [
    "AccessGrant",
    "PartnerIntegration",
    "AccessDecision",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "Namespace",
];
const FAR: [&str; 2] = ["ServiceAccount", "Secret"];
const CLUSTER: [&str; 2] = ["AccessOwner", "AccessPolicy"];
/// Counts of attempts: a fault may cost one.
const COUNTS: [&str; 4] = ["activations", "activation", "generation", "deliveredGeneration"];

/// Objects by what they are, with everything replaced that differs from run to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture(BTreeMap<String, Value>);

impl Picture {
    /// What there is now.
    pub async fn of(prepared: &Prepared<'_>) -> Result<Self> {
        let tenant = &prepared.tenant;
        let (root, ns) = (&tenant.root, tenant.ns.as_str());
        let mut found: Vec<(&str, DynamicObject)> = Vec::new();
        for namespace in prepared.namespaces() {
            for kind in NEAR {
                if kind == "Namespace" {
                    let it = api(root, kind, "").get_opt(&namespace).await?;
                    found.extend(it.map(|object| (kind, object)));
                    continue;
                }
                let all = api(root, kind, &namespace).list(&ListParams::default()).await?;
                found.extend(all.into_iter().map(|object| (kind, object)));
            }
        }
        for kind in FAR {
            let all = api(root, kind, IDENTITY_NAMESPACE).list(&ListParams::default()).await?;
            let grant = format!("{ns}/");
            let ours = all.into_iter().filter(|object| {
                let of = object.annotations().get("wayleave.dev/grant");
                of.is_some_and(|of| of.starts_with(&grant))
            });
            found.extend(ours.map(|object| (kind, object)));
        }
        for kind in CLUSTER {
            let all = api(root, kind, "").list(&ListParams::default()).await?;
            let theirs = all.into_iter().filter(|object| {
                let name = object.name_any();
                name == ns || ["alice", "bob"].iter().any(|owner| name == tenant.owner_name(owner))
            });
            found.extend(theirs.map(|object| (kind, object)));
        }
        let mut words = Words {
            ns: ns.to_owned(),
            uids: BTreeMap::new(),
        };
        for (kind, object) in &found {
            let name = words.plain(&object.name_any());
            words
                .uids
                .insert(object.uid().unwrap_or_default(), format!("uid of {kind} {name}"));
        }
        let mut picture = BTreeMap::new();
        for (kind, object) in found {
            let place = format!(
                "{kind} {}/{}",
                words.plain(&object.namespace().unwrap_or_default()),
                words.plain(&object.name_any())
            );
            let mut object = serde_json::to_value(object)?;
            tidy(kind, &mut object);
            words.replace("", &mut object);
            picture.insert(place, object);
        }
        Ok(Self(picture))
    }

    /// The same without all objects of these kinds.
    pub fn without(mut self, kinds: &[&str]) -> Self {
        let is_of = |place: &String| kinds.iter().any(|kind| place.split(' ').next() == Some(kind));
        self.0.retain(|place, _| !is_of(place));
        self
    }

    /// Whether anything is left of what was made for the grant, there or on record.
    pub fn has_children(&self) -> bool {
        let is_ours = |place: &String| place.contains("/wlg-KEY-") || place.ends_with("/reader-credential");
        let on_record = |object: &Value| object["status"]["children"].is_array();
        self.0.keys().any(is_ours) || self.0.values().any(on_record)
    }

    /// Where two differ, a line each; no content of Secrets is in them.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (place, value) in &self.0 {
            match expected.0.get(place) {
                None => lines.push(format!("{place} is there")),
                Some(want) => compare(place, value, want, &mut lines),
            }
        }
        let missing = expected.0.keys().filter(|place| !self.0.contains_key(*place));
        lines.extend(missing.map(|place| format!("{place} is missing")));
        lines
    }
}

fn compare(at: &str, is: &Value, want: &Value, lines: &mut Vec<String>) {
    match (is, want) {
        (Value::Object(is), Value::Object(want)) => {
            for key in is.keys().chain(want.keys().filter(|key| !is.contains_key(*key))) {
                let none = Value::Null;
                compare(
                    &format!("{at} .{key}"),
                    is.get(key).unwrap_or(&none),
                    want.get(key).unwrap_or(&none),
                    lines,
                );
            }
        }
        (Value::Array(is), Value::Array(want)) if is.len() == want.len() => {
            for (index, (is, want)) in is.iter().zip(want).enumerate() {
                compare(&format!("{at} [{index}]"), is, want, lines);
            }
        }
        (is, want) if is != want => lines.push(format!("{at} is {is}, not {want}")),
        _ => {}
    }
}

/// Leaves out what is the API server's own, and the content of Secrets.
fn tidy(kind: &str, object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["resourceVersion", "managedFields", "creationTimestamp"] {
            metadata.remove(key);
        }
    }
    if kind == "Secret"
        && let Some(data) = object["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = json!("DATA"));
    }
    if kind == "Namespace" {
        object["metadata"]["generation"] = Value::Null;
    }
    let status = &mut object["status"];
    if kind == "AccessGrant" && status.is_object() {
        // The last delivered is the last that was claimed: a count may differ, that may not.
        let credential = &status["credential"];
        let is_current = credential["generation"] == credential["deliveredGeneration"];
        status["isCurrent"] = json!(is_current);
        if status["credential"].is_object() {
            status["credential"]["credentialId"] = json!(text(&status["credential"]["credentialId"]).len());
        }
    }
}

struct Words {
    ns: String,
    uids: BTreeMap<String, String>,
}

impl Words {
    fn replace(&self, key: &str, value: &mut Value) {
        match value {
            Value::Object(map) => {
                let is_status =
                    map.contains_key("conditions") || key == "identity" || key == "credential" || key == "previous";
                for (key, value) in map.iter_mut() {
                    if is_status && COUNTS.contains(&key.as_str()) && value.is_number() {
                        *value = json!("COUNT");
                    } else {
                        self.replace(key, value);
                    }
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|value| self.replace(key, value)),
            Value::String(text) => *text = self.plain(text),
            _ => {}
        }
    }

    /// Every word that belongs to one run, by what it stands for.
    fn plain(&self, text: &str) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.+_".contains(c);
        let mut plain = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_part) {
            plain.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let bare = word.trim_end_matches(['.', ':']);
            plain.push_str(&self.word(bare));
            plain.push_str(&word[bare.len()..]);
            rest = after;
        }
        plain.push_str(rest);
        plain
    }

    fn word(&self, word: &str) -> String {
        if let Some(known) = self.uids.get(word) {
            return known.clone();
        }
        if word.parse::<jiff::Timestamp>().is_ok() {
            return "TIME".to_owned();
        }
        if word.parse::<jiff::civil::Date>().is_ok() {
            return "DAY".to_owned();
        }
        if word.starts_with("sha256:") || is_hash(word) {
            return "DIGEST".to_owned();
        }
        if word.contains(':') {
            let words: Vec<String> = word.split(':').map(|word| self.word(word)).collect();
            return words.join(":");
        }
        if is_uid(word) {
            return "a uid of nothing that is there".to_owned();
        }
        if let Some(name) = word.strip_prefix("wlg-") {
            // Behind the grant's part and the count of activations: an entry, or an anchor of a generation.
            let rest = name.splitn(3, '-').nth(2).unwrap_or_default();
            let rest = if rest.starts_with('g') { "gN" } else { rest };
            return format!("wlg-KEY-N-{rest}");
        }
        let word = word.replace(&self.ns, "NS");
        // Names of decisions end in a number.
        match word.rsplit_once('-') {
            Some((name, number)) if name.starts_with("reader-") && number.parse::<u64>().is_ok() => format!("{name}-N"),
            _ => word,
        }
    }
}

fn is_hash(word: &str) -> bool {
    word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_uid(word: &str) -> bool {
    let lengths: Vec<usize> = word.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}
