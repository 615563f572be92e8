//! What may be reached: the limits that no policy lifts, and the ceiling of each policy. Pure.

use std::collections::BTreeSet;

use crate::api::v1alpha1::{AccessPolicy, Delivery, ResolvedRule};
use crate::domain::permission::{
    Shown, from_rules, named_part, never_grantable, reaches_secrets, secret_names, uncovered,
};

use super::facts::{Entry, Facts};
use super::name;

/// Namespaces of Kubernetes' own begin so.
const RESERVED_NAMESPACE_PREFIX: &str = "kube-";

/// In which points no policy whatever could permit the access.
pub(super) fn under_any_policy(facts: &Facts<'_>) -> Vec<String> {
    let mut failing = Vec::new();
    if is_reserved(facts, facts.own) {
        failing.push(format!("metadata.namespace: {} is reserved", Shown(facts.own)));
    }
    if facts.entries.is_empty() {
        failing.push("spec.access: empty, at least one entry is needed".to_owned());
    }
    for entry in &facts.entries {
        failing.extend(shape(facts, entry));
        failing.extend(targets(facts, entry));
        for part in &entry.rules {
            for reason in part
                .rules
                .iter()
                .flat_map(never_grantable)
                .collect::<BTreeSet<String>>()
            {
                failing.push(format!("{}: {reason}", part.path));
            }
            failing.extend(delivered(facts, entry, &part.path, &part.rules));
        }
    }
    // Whoever edits the grant's namespace may read the Secrets there: no way into other namespaces should lie among them.
    if facts.reaches_beyond_own() && facts.request.grant.token().delivery != Delivery::Private {
        failing.push(
            "spec.credential.token.delivery: Namespace, must be Private where access goes beyond the grant's own namespace"
                .to_owned(),
        );
    }
    failing
}

fn shape(facts: &Facts<'_>, entry: &Entry<'_>) -> Option<String> {
    let path = &entry.path;
    match (&entry.entry.rules, &entry.entry.cluster_role_ref) {
        (Some(_), Some(_)) | (None, None) => Some(format!("{path}: exactly one of rules and clusterRoleRef is needed")),
        (Some(rules), None) if rules.is_empty() => Some(format!("{path}.rules: empty, at least one rule is needed")),
        (None, Some(role)) if !facts.request.cluster_roles.contains_key(&role.name.0) => Some(format!(
            "{path}.clusterRoleRef.name: there is no ClusterRole {}",
            Shown(&role.name.0)
        )),
        _ => None,
    }
}

fn targets(facts: &Facts<'_>, entry: &Entry<'_>) -> Vec<String> {
    let mut failing = Vec::new();
    for namespace in &entry.namespaces {
        if is_reserved(facts, namespace) {
            failing.push(format!("{}.namespaces: {} is reserved", entry.path, Shown(namespace)));
        } else if !facts.request.namespaces.contains_key(*namespace) {
            failing.push(format!(
                "{}.namespaces: there is no namespace {}",
                entry.path,
                Shown(namespace)
            ));
        }
    }
    failing
}

fn is_reserved(facts: &Facts<'_>, namespace: &str) -> bool {
    namespace.starts_with(RESERVED_NAMESPACE_PREFIX) || facts.request.reserved_namespaces.contains(namespace)
}

/// Which Secrets that deliver credentials the rules name: a partner must not read another's, nor keep its own alive.
fn delivered(facts: &Facts<'_>, entry: &Entry<'_>, path: &str, rules: &[ResolvedRule]) -> Vec<String> {
    let own_delivery = facts.own_delivery();
    let mut failing = Vec::new();
    for namespace in &entry.namespaces {
        let ours = facts.request.delivery_secrets.get(*namespace);
        for secret in rules.iter().flat_map(secret_names).collect::<BTreeSet<&String>>() {
            let own = *namespace == facts.own && own_delivery.as_ref() == Some(secret);
            if own || ours.is_some_and(|ours| ours.contains(secret)) {
                failing.push(format!(
                    "{path}: the Secret {} in namespace {} delivers a credential and is never granted",
                    Shown(secret),
                    Shown(namespace),
                ));
            }
        }
        // Without names every one is reached; the rule is refused for that already, this says it once more where it bites.
        let unnamed = |rule: &ResolvedRule| reaches_secrets(rule) && rule.resource_names.is_empty();
        if ours.is_some_and(|ours| !ours.is_empty()) && rules.iter().any(unnamed) {
            failing.push(format!(
                "{path}: reaches Secrets that deliver credentials in namespace {}",
                Shown(namespace)
            ));
        }
    }
    failing
}

/// In which points the access lies beyond the ceiling of this one policy.
pub(super) fn under(policy: &AccessPolicy, facts: &Facts<'_>) -> Vec<String> {
    let by = Shown(name(policy));
    let access = &policy.spec.access;
    let ceiling = from_rules(&access.rules);
    let literal = literally(&ceiling);
    let mut failing = Vec::new();
    for entry in &facts.entries {
        if let Some(role) = &entry.entry.cluster_role_ref
            && !access.cluster_roles.contains(&role.name)
        {
            let mut allowed: Vec<String> = access
                .cluster_roles
                .iter()
                .map(|role| Shown(&role.0).to_string())
                .collect();
            allowed.sort();
            let allowed = if allowed.is_empty() {
                "none".to_owned()
            } else {
                allowed.join(", ")
            };
            failing.push(format!(
                "{}.clusterRoleRef.name: {}, allowed: {allowed} (policy {by})",
                entry.path,
                Shown(&role.name.0),
            ));
        }
        for part in &entry.rules {
            let beyond = if part.is_stated {
                uncovered(&ceiling, &part.rules)
            } else {
                Default::default()
            };
            if !beyond.is_empty() {
                failing.push(format!("{}: {beyond} not within access.rules (policy {by})", part.path));
                continue;
            }
            let named: Vec<ResolvedRule> = part.rules.iter().flat_map(named_part).collect();
            let unnamed = uncovered(&literal, &named);
            if !unnamed.is_empty() {
                failing.push(format!(
                    "{}: {unnamed} must be named in access.rules (policy {by})",
                    part.path
                ));
            }
        }
        for namespace in entry.namespaces.iter().filter(|namespace| **namespace != facts.own) {
            let labels = facts.request.namespaces.get(*namespace);
            let selected = access
                .target_namespaces
                .as_ref()
                .zip(labels)
                .is_some_and(|(wanted, has)| wanted.matches(has));
            if !selected {
                let why = if access.target_namespaces.is_none() {
                    "none is allowed"
                } else {
                    "not selected"
                };
                failing.push(format!(
                    "{}.namespaces: {} is beyond the grant's own namespace, {why} by access.targetNamespaces (policy {by})",
                    entry.path,
                    Shown(namespace),
                ));
            }
        }
    }
    failing
}

/// The ceiling without its wildcards. The schema lets none through; where one got past it, it names nothing.
fn literally(ceiling: &[ResolvedRule]) -> Vec<ResolvedRule> {
    let mut rules = ceiling.to_vec();
    for rule in &mut rules {
        rule.api_groups.retain(|word| !word.contains('*'));
        rule.resources.retain(|word| !word.contains('*'));
        rule.verbs.retain(|word| !word.contains('*'));
    }
    rules
}
