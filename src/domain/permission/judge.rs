//! What a rule means for those who must allow it: what is never granted, what outlives a revocation, what has to be
//! named by a policy. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::names::RESERVED_PREFIX;
use crate::api::v1alpha1::{AccessGrant, ResolvedRule};

use super::{ALL, NON_RESOURCE_URLS, TOO_MANY_RULES, from_rules};

/// API groups of which nothing is granted, and why.
const CLOSED_GROUPS: [(&str, &str); 4] = [
    (
        "admissionregistration.k8s.io",
        "admission webhooks and policies (admissionregistration.k8s.io) are never granted",
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinitions (apiextensions.k8s.io) are never granted",
    ),
    (
        "apiregistration.k8s.io",
        "APIServices (apiregistration.k8s.io) are never granted",
    ),
    (
        crate::api::GROUP,
        "the kinds that govern access (wayleave.dev) are never granted",
    ),
];

/// Resources that are never granted, by group.
const CLOSED_RESOURCES: [(&str, &str); 7] = [
    ("", "serviceaccounts/token"),
    ("", "nodes/proxy"),
    ("", "pods/ephemeralcontainers"),
    ("certificates.k8s.io", "certificatesigningrequests/approval"),
    ("certificates.k8s.io", "certificatesigningrequests/status"),
    ("certificates.k8s.io", "signers"),
    ("certificates.k8s.io", "podcertificaterequests"),
];

/// Verbs that hand on somebody's power, beside those that begin with `impersonate`.
const CLOSED_VERBS: [&str; 2] = ["escalate", "bind"];

/// Subresources whose requests may stay open past a revocation.
const LONG_RUNNING: [(&str, &str); 5] = [
    ("exec", "exec"),
    ("attach", "attach"),
    ("portforward", "port-forward"),
    ("proxy", "proxy"),
    ("log", "log, which can be followed"),
];

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Whether `rule` speaks of this group, by name or wildcard.
fn has_group(rule: &ResolvedRule, group: &str) -> bool {
    rule.api_groups.iter().any(|held| held == group || held == ALL)
}

/// The resource without its subresource.
fn base(resource: &str) -> &str {
    resource.split_once('/').map_or(resource, |(base, _)| base)
}

/// Why no policy can permit this rule, in words; empty where policies may.
///
/// Wildcards are refused for themselves, so what they imply is not listed beside.
#[must_use]
pub fn never_grantable(rule: &ResolvedRule) -> Vec<String> {
    if rule.api_groups.iter().any(|group| group == TOO_MANY_RULES) {
        return vec!["more rules than can be judged".to_owned()];
    }
    let mut reasons = BTreeSet::new();
    let parts = [
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("verbs", &rule.verbs),
        ("resourceNames", &rule.resource_names),
    ];
    for (part, words) in parts {
        if words.iter().any(|word| word.contains(ALL)) {
            reasons.insert(format!("'*' in {part} is never granted"));
        }
    }
    if rule.api_groups.iter().any(|group| group == NON_RESOURCE_URLS) {
        reasons.insert("non-resource URLs are never granted".to_owned());
    }
    for verb in CLOSED_VERBS {
        if rule.verbs.iter().any(|held| held == verb) {
            reasons.insert(format!("the verb {verb} is never granted"));
        }
    }
    if rule.verbs.iter().any(|verb| verb.starts_with("impersonate")) {
        reasons.insert("impersonation is never granted".to_owned());
    }
    for (group, why) in CLOSED_GROUPS {
        if rule.api_groups.iter().any(|held| held == group) {
            reasons.insert(why.to_owned());
        }
    }
    for (group, closed) in CLOSED_RESOURCES {
        let reached = |held: &String| held == closed || (!closed.contains('/') && base(held) == closed);
        if has_group(rule, group) && rule.resources.iter().any(reached) {
            reasons.insert(format!("{closed} is never granted"));
        }
    }
    if has_group(rule, "") && rule.resources.iter().any(|resource| base(resource) == "secrets") {
        secrets(rule, &mut reasons);
    }
    reasons.into_iter().collect()
}

/// Whether a rule lets its holder hand on what it holds: by a binding, or by widening a role that is bound already.
#[must_use]
pub fn hands_on(rule: &ResolvedRule) -> bool {
    let writes = |verb: &String| ["create", "update", "patch", ALL].contains(&verb.as_str());
    has_group(rule, RBAC_GROUP) && rule.verbs.iter().any(writes)
}

fn secrets(rule: &ResolvedRule, reasons: &mut BTreeSet<String>) {
    if rule.resource_names.is_empty() || rule.resource_names.iter().any(String::is_empty) {
        reasons.insert("secrets are granted by resourceNames only".to_owned());
    }
    if rule.resource_names.iter().any(|name| name.starts_with(RESERVED_PREFIX)) {
        reasons.insert(format!(
            "secrets whose names begin with {RESERVED_PREFIX} are never granted"
        ));
    }
    if rule.verbs.iter().any(|verb| verb == "create") {
        reasons.insert("create on secrets is never granted".to_owned());
    }
}

/// What of this rule permits requests that outlive a revocation, in words; empty where nothing does.
#[must_use]
pub fn long_running(rule: &ResolvedRule) -> Vec<String> {
    let mut parts = BTreeSet::new();
    if rule.verbs.iter().any(|verb| verb == "watch" || verb == ALL) {
        parts.insert("watch".to_owned());
    }
    for resource in &rule.resources {
        for (subresource, word) in LONG_RUNNING {
            if resource == ALL || resource.split_once('/').is_some_and(|(_, sub)| sub == subresource) {
                parts.insert(word.to_owned());
            }
        }
    }
    parts.into_iter().collect()
}

/// Whether a verb may change something: all do but `get`, `list` and `watch`.
#[must_use]
pub fn is_write_verb(verb: &str) -> bool {
    !matches!(verb, "get" | "list" | "watch")
}

/// Whether self-service may hand out a verb.
#[must_use]
pub fn is_self_service_verb(verb: &str) -> bool {
    matches!(verb, "get" | "list")
}

/// Whether a policy must name this rule's resources and verbs literally: it writes on pods, workloads or RBAC objects, by
/// which whoever holds it can run code or hand on rights.
#[must_use]
pub fn needs_naming(rule: &ResolvedRule) -> bool {
    !named_part(rule).is_empty()
}

/// The part of a rule that [`needs_naming`].
#[must_use]
pub fn named_part(rule: &ResolvedRule) -> Vec<ResolvedRule> {
    let verbs: Vec<String> = rule.verbs.iter().filter(|verb| is_write_verb(verb)).cloned().collect();
    if verbs.is_empty() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        let whole = matches!(group.as_str(), "apps" | "batch" | RBAC_GROUP | ALL);
        let counts = |resource: &&String| {
            whole
                || (group.is_empty()
                    && (resource.starts_with(ALL) || matches!(base(resource), "pods" | "replicationcontrollers")))
        };
        let resources: Vec<String> = rule.resources.iter().filter(counts).cloned().collect();
        if !resources.is_empty() {
            parts.push(ResolvedRule {
                api_groups: vec![group.clone()],
                resources,
                verbs: verbs.clone(),
                resource_names: rule.resource_names.clone(),
            });
        }
    }
    parts
}

/// Whether a rule does nothing but `get` and `list`, of what is not a connection in disguise.
///
/// `watch` doesn't count: it outlives a revocation.
#[must_use]
pub fn is_reading_only(rule: &ResolvedRule) -> bool {
    rule.verbs.iter().all(|verb| is_self_service_verb(verb)) && long_running(rule).is_empty()
}

/// Whether a rule reaches Secrets, by name or wildcard.
#[must_use]
pub fn reaches_secrets(rule: &ResolvedRule) -> bool {
    has_group(rule, "")
        && rule
            .resources
            .iter()
            .any(|resource| resource == ALL || base(resource) == "secrets")
}

/// Whether a grant reaches Secrets, by its own rules or by those of ClusterRoles that it refers to.
#[must_use]
pub fn may_reach_secrets(grant: &AccessGrant, roles: &BTreeMap<String, Vec<ResolvedRule>>) -> bool {
    let inline = grant.spec.access.iter().filter_map(|entry| entry.rules.as_deref());
    let mut inline = inline.flat_map(from_rules);
    let named = grant.cluster_roles();
    let mut named = named.iter().filter_map(|name| roles.get(name)).flatten();
    inline.any(|rule| reaches_secrets(&rule)) || named.any(reaches_secrets)
}

/// The names of the Secrets that a rule reaches; none where it reaches none, or does so without names.
#[must_use]
pub fn secret_names(rule: &ResolvedRule) -> &[String] {
    if reaches_secrets(rule) {
        &rule.resource_names
    } else {
        &[]
    }
}
