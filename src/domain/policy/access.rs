//! What may be reached: the limits that no policy lifts, and the ceiling of each policy. Pure.

use std::collections::BTreeSet;

use crate::api::v1alpha1::{AccessPolicy, Delivery, LabelMatch, ResolvedRule};
use crate::domain::permission::{
    Shown, from_rules, hands_on, named_part, never_grantable, reaches_secrets, secret_names, uncovered,
};

use super::facts::{Entry, Facts, Rules, lets_reach};
use super::name;
use super::point::Point;

/// Namespaces of Kubernetes' own begin so.
const RESERVED_NAMESPACE_PREFIX: &str = "kube-";
/// The most words of a list that a point shows.
const MOST_SHOWN: usize = 16;

/// Points that no policy whatever lifts.
pub(super) fn under_any_policy(facts: &Facts<'_>) -> Vec<Point> {
    let own = Shown(facts.own);
    let is_reserved = |namespace: &str| is_reserved(facts.request.reserved_namespaces, namespace);
    let namespace = Point::holds("grant.namespace", "metadata.namespace", own.to_string(), "not reserved");
    let mut points = vec![if is_reserved(facts.own) {
        namespace.fails(
            format_args!("{own} is reserved"),
            "create the grant in another namespace",
        )
    } else {
        namespace
    }];
    let count = facts.entries.len();
    let entries = Point::holds(
        "grant.access",
        "spec.access",
        counted(count, "entry", "entries"),
        "at least one entry",
    );
    points.push(if count == 0 {
        entries.fails("empty, at least one entry is needed", "write what is to be reached")
    } else {
        entries
    });
    for entry in &facts.entries {
        points.push(shape(facts, entry));
        points.extend(targets(facts, entry));
        for part in &entry.rules {
            points.extend(grantable(facts, part));
            points.extend(delivered(facts, entry, part));
        }
    }
    points.push(if facts.is_static() {
        static_credential(facts)
    } else {
        delivery(facts)
    });
    points
}

/// Whoever edits the grant's namespace may read the Secrets there: no way into other namespaces should lie among them.
fn delivery(facts: &Facts<'_>) -> Point {
    let delivery = facts.request.grant.token().delivery;
    let beyond = facts.reaches_beyond_own();
    let asks = if beyond {
        "must be Private where access goes beyond the grant's own namespace"
    } else {
        "any, since access stays in the grant's own namespace"
    };
    Point::holds(
        "grant.credential.delivery",
        "spec.credential.token.delivery",
        format!("{delivery:?}"),
        asks,
    )
    .fails_if(beyond && delivery != Delivery::Private, || {
        "set spec.credential.token.delivery to Private".to_owned()
    })
}

/// A static token lies in the grant's namespace, for whoever may read Secrets there, and so can't lead out of it.
fn static_credential(facts: &Facts<'_>) -> Point {
    let field = "spec.credential.static";
    let asks = "the grant's own namespace only";
    let point = |has| Point::holds("grant.credential.static", field, has, asks);
    if facts.request.grant.static_credential().is_none() {
        return point("nothing").fails("missing", "say which ServiceAccount and Secret the partner uses");
    }
    let beyond = facts.reaches_beyond_own();
    let has = if beyond {
        "reaches other namespaces"
    } else {
        "reaches its own namespace"
    };
    point(has).fails_if(beyond, || {
        "take other namespaces out of spec.access, or use a credential of type Token".to_owned()
    })
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn shape(facts: &Facts<'_>, entry: &Entry<'_>) -> Point {
    let path = &entry.path;
    let asks = "exactly one of rules and clusterRoleRef";
    match (&entry.entry.rules, &entry.entry.cluster_role_ref) {
        (Some(_), Some(_)) | (None, None) => {
            let has = if entry.entry.rules.is_some() { "both" } else { "neither" };
            Point::holds("grant.access.entry", path, has, asks).fails(
                "exactly one of rules and clusterRoleRef is needed",
                "write rules, or name a ClusterRole, in each entry",
            )
        }
        (Some(rules), None) if rules.is_empty() => Point::holds(
            "grant.access.entry",
            format!("{path}.rules"),
            "no rule",
            "at least one rule",
        )
        .fails("empty, at least one rule is needed", "write the rules that are needed"),
        (Some(rules), None) => {
            let has = counted(rules.len(), "rule", "rules");
            Point::holds("grant.access.entry", format!("{path}.rules"), has, asks)
        }
        (None, Some(role)) => {
            let role = Shown(&role.name.0);
            let point = Point::holds(
                "grant.access.entry",
                format!("{path}.clusterRoleRef.name"),
                role.to_string(),
                "a ClusterRole that exists",
            );
            if facts.request.cluster_roles.contains_key(role.0) {
                point
            } else {
                point.fails(
                    format_args!("there is no ClusterRole {role}"),
                    "name a ClusterRole that exists, or write rules",
                )
            }
        }
    }
}

fn targets(facts: &Facts<'_>, entry: &Entry<'_>) -> Vec<Point> {
    let field = format!("{}.namespaces", entry.path);
    let is_reserved = |namespace: &str| is_reserved(facts.request.reserved_namespaces, namespace);
    let judged = entry.namespaces.iter().filter(|namespace| {
        // What no policy opens is refused by each of them.
        !facts.closed.contains(*namespace) || is_reserved(namespace)
    });
    let judged = judged.map(|namespace| {
        let shown = Shown(namespace);
        let point = Point::holds(
            "grant.access.namespaces",
            &field,
            shown.to_string(),
            "a namespace that exists and is not reserved",
        );
        if is_reserved(namespace) {
            point.fails(
                format_args!("{shown} is reserved"),
                format!("take {shown} out of {field}"),
            )
        } else if facts.request.namespaces.contains_key(*namespace) {
            point
        } else {
            let change = if *namespace == facts.own {
                format!("create namespace {shown} first")
            } else {
                format!("take {shown} out of {field}, or create it first")
            };
            point.fails(format_args!("there is no namespace {shown}"), change)
        }
    });
    judged.collect()
}

/// Whether no grant lies in a namespace or reaches it, whatever policies say: one of Kubernetes' own, or among those reserved.
#[must_use]
pub fn is_reserved(reserved: &BTreeSet<String>, namespace: &str) -> bool {
    namespace.starts_with(RESERVED_NAMESPACE_PREFIX) || reserved.contains(namespace)
}

/// What is never granted, of these rules.
fn grantable(facts: &Facts<'_>, part: &Rules) -> Vec<Point> {
    let asks = "nothing that is never granted";
    let point = Point::holds("grant.access.grantable", &part.path, part.words(), asks);
    let mut reasons: BTreeSet<String> = part.rules.iter().flat_map(never_grantable).collect();
    // Whose name the admission policies can't know: nothing would keep it from binding itself, by a token that never ends.
    if facts.is_static() && part.rules.iter().any(hands_on) {
        reasons.insert("writing roles and bindings is never granted to a static credential".to_owned());
    }
    if reasons.is_empty() {
        return vec![point];
    }
    let change = if part.is_stated {
        format!("take it out of {}: no policy can allow it", part.path)
    } else {
        "name another ClusterRole, or write rules: no policy can allow it".to_owned()
    };
    let failing = |reason| point.clone().fails(reason, change.clone());
    reasons.into_iter().map(failing).collect()
}

/// Which Secrets that deliver credentials the rules name: a partner must not read another's, nor keep its own alive.
fn delivered(facts: &Facts<'_>, entry: &Entry<'_>, part: &Rules) -> Vec<Point> {
    if !part.rules.iter().any(reaches_secrets) {
        return Vec::new();
    }
    let own_delivery = facts.own_delivery();
    let asks = "no Secret that delivers a credential";
    let point = |has: String| Point::holds("grant.access.secrets", &part.path, has, asks);
    let mut points = Vec::new();
    for namespace in entry.namespaces.iter().filter(|it| !facts.closed.contains(*it)) {
        let ours = facts.request.delivery_secrets.get(*namespace);
        for secret in part.rules.iter().flat_map(secret_names).collect::<BTreeSet<&String>>() {
            let own = *namespace == facts.own && own_delivery.as_ref() == Some(secret);
            if own || ours.is_some_and(|ours| ours.contains(secret)) {
                let words = format!(
                    "the Secret {} in namespace {} delivers a credential and is never granted",
                    Shown(secret),
                    Shown(namespace),
                );
                let change = format!("take {} out of {}", Shown(secret), part.path);
                points.push(point(Shown(secret).to_string()).fails(words, change));
            }
        }
        // Without names every one is reached; the rule is refused for that already, this says it once more where it bites.
        let unnamed = |rule: &ResolvedRule| reaches_secrets(rule) && rule.resource_names.is_empty();
        if ours.is_some_and(|ours| !ours.is_empty()) && part.rules.iter().any(unnamed) {
            let words = format!(
                "reaches Secrets that deliver credentials in namespace {}",
                Shown(namespace)
            );
            let change = format!("name the Secrets that are needed in {}", part.path);
            points.push(point("every Secret".to_owned()).fails(words, change));
        }
    }
    if points.is_empty() {
        let names: BTreeSet<&String> = part.rules.iter().flat_map(secret_names).collect();
        points.push(point(listed(names.into_iter().map(String::as_str), "every Secret")));
    }
    points
}

/// Words in order, at most so many; `none` where there are none.
fn listed<'a>(words: impl Iterator<Item = &'a str>, none: &str) -> String {
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() {
        return none.to_owned();
    }
    let shown: Vec<String> = words
        .iter()
        .take(MOST_SHOWN)
        .map(|word| Shown(word).to_string())
        .collect();
    let more = words.len().saturating_sub(MOST_SHOWN);
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}

/// A selector in words.
pub(super) fn selector(selector: &LabelMatch) -> String {
    let labels = selector.match_labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{}={}", Shown(key), Shown(value)))
        .collect();
    labels.join(",")
}

/// Whether the access lies within the ceiling of this one policy.
pub(super) fn under(policy: &AccessPolicy, facts: &Facts<'_>) -> Vec<Point> {
    let access = &policy.spec.access;
    let ceiling = from_rules(&access.rules);
    let literal = literally(&ceiling);
    let mut points = Vec::new();
    for entry in &facts.entries {
        points.extend(cluster_role(policy, entry));
        for part in &entry.rules {
            points.push(within(part, &ceiling, &literal));
        }
        for namespace in entry.namespaces.iter().filter(|namespace| **namespace != facts.own) {
            points.push(target(policy, facts, entry, namespace));
        }
    }
    points.into_iter().map(|point| point.by(name(policy))).collect()
}

fn cluster_role(policy: &AccessPolicy, entry: &Entry<'_>) -> Option<Point> {
    let role = entry.entry.cluster_role_ref.as_ref()?;
    let allowed = &policy.spec.access.cluster_roles;
    let names = listed(allowed.iter().map(|role| role.0.as_str()), "none");
    let shown = Shown(&role.name.0);
    let point = Point::holds(
        "access.clusterRoles",
        format!("{}.clusterRoleRef.name", entry.path),
        shown.to_string(),
        format!("allowed: {names}"),
    );
    Some(point.fails_if(!allowed.contains(&role.name), || {
        if allowed.is_empty() {
            format!("write rules in place of {shown}, or ask for a policy that lists it")
        } else {
            format!("name one of {names}, or ask for a policy that lists {shown}")
        }
    }))
}

fn within(part: &Rules, ceiling: &[ResolvedRule], literal: &[ResolvedRule]) -> Point {
    let asks = if part.is_stated {
        "within access.rules"
    } else {
        "writes on workloads named in access.rules"
    };
    let point = Point::holds("access.rules", &part.path, part.words(), asks);
    let take_out = |what: &str| {
        if part.is_stated {
            format!("take {what} out of {}, or ask for a policy that allows it", part.path)
        } else {
            format!("name another ClusterRole, or ask for a policy that names {what}")
        }
    };
    if part.is_stated {
        let beyond = uncovered(ceiling, &part.rules);
        if !beyond.is_empty() {
            let change = take_out(&beyond.to_string());
            return point.fails(format_args!("{beyond} not within access.rules"), change);
        }
    }
    let named: Vec<ResolvedRule> = part.rules.iter().flat_map(named_part).collect();
    let unnamed = uncovered(literal, &named);
    if unnamed.is_empty() {
        return point;
    }
    let change = take_out(&unnamed.to_string());
    point.fails(format_args!("{unnamed} must be named in access.rules"), change)
}

fn target(policy: &AccessPolicy, facts: &Facts<'_>, entry: &Entry<'_>, namespace: &str) -> Point {
    let wanted = policy.spec.access.target_namespaces.as_ref();
    let selected = lets_reach(policy, facts.request, namespace);
    let shown = Shown(namespace);
    let field = format!("{}.namespaces", entry.path);
    let asks = match wanted.map(selector) {
        None => "none beyond the grant's own namespace".to_owned(),
        Some(labels) if labels.is_empty() => "any namespace".to_owned(),
        Some(labels) => format!("those with {labels}"),
    };
    let point = Point::holds("access.targetNamespaces", &field, shown.to_string(), asks);
    if selected {
        return point;
    }
    let why = if wanted.is_none() {
        "none is allowed"
    } else {
        "not selected"
    };
    point.fails(
        format_args!("{shown} is beyond the grant's own namespace, {why} by access.targetNamespaces"),
        format!("take {shown} out of {field}, or ask for a policy that lets grants reach it"),
    )
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
