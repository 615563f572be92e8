//! One form for rules that say the same, bounded by what a status may hold. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::api::v1alpha1::{LONGEST_WORD, ResolvedRule, Rule};

use super::cover::rule_within;
use super::{ALL, MOST_RULES, NON_RESOURCE_URLS, TOO_MANY_RULES, is_pseudo_group};

/// The bounds of a rule in a grant's status.
const MOST_GROUPS: usize = 64;
const MOST_RESOURCES: usize = 128;
const MOST_VERBS: usize = 64;
const MOST_NAMES: usize = 128;
/// Comparing every rule with every other pays only while there are few.
const MOST_COMPARED: usize = 512;
/// Each round but the last makes fewer rules, so this is reached by no rules that people write.
const MOST_ROUNDS: usize = 64;

/// The rules of a grant or a policy, normalised.
#[must_use]
pub fn from_rules(rules: &[Rule]) -> Vec<ResolvedRule> {
    fn words<T: AsRef<str>>(items: &[T]) -> Vec<String> {
        items.iter().map(|item| item.as_ref().to_owned()).collect()
    }
    normalise(
        rules
            .iter()
            .map(|rule| ResolvedRule {
                api_groups: words(&rule.api_groups),
                resources: words(&rule.resources),
                verbs: words(&rule.verbs),
                resource_names: words(&rule.resource_names),
            })
            .collect(),
    )
}

/// The rules of a ClusterRole, normalised; non-resource URLs become rules of the group [`NON_RESOURCE_URLS`].
#[must_use]
pub fn from_policy_rules(rules: &[PolicyRule]) -> Vec<ResolvedRule> {
    let mut resolved = Vec::with_capacity(rules.len());
    for rule in rules {
        resolved.push(ResolvedRule {
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
        });
        resolved.push(ResolvedRule {
            api_groups: vec![NON_RESOURCE_URLS.to_owned()],
            resources: rule.non_resource_urls.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            resource_names: Vec::new(),
        });
    }
    normalise(resolved)
}

/// Sorted rules without repeats that permit the same, whatever the order they came in.
///
/// Words that a wildcard beside them implies are dropped, rules that differ in one place only are merged, rules within
/// another are dropped, and rules too long for the status are split. If more than [`MOST_RULES`] remain, the rest
/// becomes one rule of the group [`TOO_MANY_RULES`], since leaving out a permission would hide it; so does a rule with a
/// word longer than the status can hold.
#[must_use]
pub fn normalise(rules: Vec<ResolvedRule>) -> Vec<ResolvedRule> {
    let mut rules: BTreeSet<ResolvedRule> = rules.into_iter().flat_map(cleaned).collect();
    for _ in 0..MOST_ROUNDS {
        let before = rules.len();
        rules = merged(rules, |rule| &mut rule.verbs, tidy);
        rules = merged(rules, |rule| &mut rule.resources, tidy);
        rules = merged(rules, |rule| &mut rule.api_groups, tidy);
        rules = merged_names(rules);
        if rules.len() == before {
            break;
        }
    }
    let kept = without_implied(rules);
    let mut split: Vec<ResolvedRule> = kept.into_iter().flat_map(|rule| split(&rule)).collect();
    split.sort();
    if split.len() > MOST_RULES {
        split.truncate(MOST_RULES - 1);
        split.push(too_many());
        split.sort();
    }
    split
}

fn too_many() -> ResolvedRule {
    ResolvedRule {
        api_groups: vec![TOO_MANY_RULES.to_owned()],
        resources: vec![ALL.to_owned()],
        verbs: vec![ALL.to_owned()],
        resource_names: Vec::new(),
    }
}

/// Whether a status could not hold the rule word for word, in characters as the API server counts them.
fn has_long_words(rule: &ResolvedRule) -> bool {
    let words = [&rule.api_groups, &rule.resources, &rule.verbs, &rule.resource_names];
    words
        .into_iter()
        .flatten()
        .any(|word| word.chars().count() > LONGEST_WORD)
}

/// The rule in sorted words, its pseudo groups apart, so that no wildcard swallows them; nothing where it permits nothing.
fn cleaned(mut rule: ResolvedRule) -> Vec<ResolvedRule> {
    let (pseudo, real): (Vec<String>, Vec<String>) =
        rule.api_groups.drain(..).partition(|group| is_pseudo_group(group));
    let mut parts = Vec::new();
    for group in pseudo {
        parts.push(ResolvedRule {
            api_groups: vec![group],
            ..rule.clone()
        });
    }
    parts.push(ResolvedRule {
        api_groups: real,
        ..rule
    });
    parts.retain(|part| !(part.api_groups.is_empty() || part.resources.is_empty() || part.verbs.is_empty()));
    for part in &mut parts {
        if has_long_words(part) {
            *part = too_many();
        }
        tidy(&mut part.api_groups);
        tidy(&mut part.resources);
        tidy(&mut part.verbs);
        tidy_names(&mut part.resource_names);
    }
    parts
}

/// Sorts, and drops what a wildcard among the words implies.
fn tidy(words: &mut Vec<String>) {
    words.sort();
    words.dedup();
    if words.iter().any(|word| word == ALL) {
        *words = vec![ALL.to_owned()];
        return;
    }
    let wildcards: BTreeSet<String> = words.iter().filter(|word| word.starts_with("*/")).cloned().collect();
    let is_implied = |(base, sub): (&str, &str)| base != ALL && wildcards.contains(&format!("*/{sub}"));
    words.retain(|word| !word.split_once('/').is_some_and(is_implied));
}

/// Sorts names, among which `*` is no wildcard.
fn tidy_names(names: &mut Vec<String>) {
    names.sort();
    names.dedup();
}

/// Merges rules that are equal but for the words which `part` picks.
fn merged(
    rules: BTreeSet<ResolvedRule>,
    part: fn(&mut ResolvedRule) -> &mut Vec<String>,
    tidy: fn(&mut Vec<String>),
) -> BTreeSet<ResolvedRule> {
    let mut by_rest: BTreeMap<(bool, ResolvedRule), Vec<String>> = BTreeMap::new();
    for mut rule in rules {
        let pseudo = rule.api_groups.iter().any(|group| is_pseudo_group(group));
        let words = std::mem::take(part(&mut rule));
        by_rest.entry((pseudo, rule)).or_default().extend(words);
    }
    by_rest
        .into_iter()
        .map(|((_, mut rule), mut words)| {
            tidy(&mut words);
            *part(&mut rule) = words;
            rule
        })
        .collect()
}

/// Merges rules that are equal but for their names; having none means all, so those stay apart.
fn merged_names(rules: BTreeSet<ResolvedRule>) -> BTreeSet<ResolvedRule> {
    let (named, unnamed): (BTreeSet<_>, BTreeSet<_>) =
        rules.into_iter().partition(|rule| !rule.resource_names.is_empty());
    let mut all = unnamed;
    all.extend(merged(named, |rule| &mut rule.resource_names, tidy_names));
    all
}

/// Drops rules that lie within another.
fn without_implied(rules: BTreeSet<ResolvedRule>) -> Vec<ResolvedRule> {
    let rules: Vec<ResolvedRule> = rules.into_iter().collect();
    if rules.len() > MOST_COMPARED {
        return rules;
    }
    let mut kept = vec![true; rules.len()];
    for (index, rule) in rules.iter().enumerate() {
        let implied = rules
            .iter()
            .zip(&kept)
            .enumerate()
            .any(|(other, (wide, stays))| other != index && *stays && rule_within(wide, rule));
        if let Some(stays) = kept.get_mut(index) {
            *stays = !implied;
        }
    }
    rules
        .into_iter()
        .zip(kept)
        .filter_map(|(rule, stays)| stays.then_some(rule))
        .collect()
}

/// Rules that together say the same, none longer than the status allows.
fn split(rule: &ResolvedRule) -> Vec<ResolvedRule> {
    let names: Vec<&[String]> = if rule.resource_names.is_empty() {
        vec![&[]]
    } else {
        rule.resource_names.chunks(MOST_NAMES).collect()
    };
    let mut parts = Vec::new();
    for groups in rule.api_groups.chunks(MOST_GROUPS) {
        for resources in rule.resources.chunks(MOST_RESOURCES) {
            for verbs in rule.verbs.chunks(MOST_VERBS) {
                for names in &names {
                    if parts.len() > MOST_RULES {
                        return parts;
                    }
                    parts.push(ResolvedRule {
                        api_groups: groups.to_vec(),
                        resources: resources.to_vec(),
                        verbs: verbs.to_vec(),
                        resource_names: names.to_vec(),
                    });
                }
            }
        }
    }
    parts
}
