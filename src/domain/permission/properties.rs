//! Properties, against a reading of RBAC that shares no code with the module.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::api::v1alpha1::ResolvedRule;

/// Words that rules are made of; `fresh` occurs in no rule, so that a wildcard differs from naming everything.
const GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 6] = ["pods", "pods/log", "deployments", "deployments/log", "*/log", "*"];
const VERBS: [&str; 4] = ["get", "list", "create", "*"];
const NAMES: [&str; 3] = ["a", "b", "*"];

/// Whether the API server's authorizer would let a request through, as it reads rules.
pub(crate) fn allows(rules: &[ResolvedRule], group: &str, resource: &str, sub: &str, verb: &str, name: &str) -> bool {
    let combined = if sub.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}/{sub}")
    };
    rules.iter().any(|rule| {
        let verb_matches = rule.verbs.iter().any(|held| held == "*" || held == verb);
        let group_matches = rule.api_groups.iter().any(|held| held == "*" || held == group);
        let resource_matches = rule
            .resources
            .iter()
            .any(|held| held == "*" || *held == combined || (!sub.is_empty() && *held == format!("*/{sub}")));
        let name_matches = rule.resource_names.is_empty() || rule.resource_names.iter().any(|held| held == name);
        verb_matches && group_matches && resource_matches && name_matches
    })
}

/// Every request of the small universe that `wanted` lets through and `ceiling` doesn't.
pub(crate) fn lets_more_through(ceiling: &[ResolvedRule], wanted: &[ResolvedRule]) -> bool {
    for group in ["", "apps", "fresh"] {
        for resource in ["pods", "deployments", "configmaps", "fresh"] {
            for sub in ["", "log", "fresh"] {
                for verb in ["get", "list", "create", "update", "watch", "fresh"] {
                    for name in ["", "a", "b", "*", "fresh"] {
                        let of = |rules| allows(rules, group, resource, sub, verb, name);
                        if of(wanted) && !of(ceiling) {
                            return true;
                        }
                    }
                }
            }
        }
    }
    false
}

fn words<const N: usize>(from: [&'static str; N], least: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(from.to_vec(), least..=2)
        .prop_shuffle()
        .prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

fn any_rule() -> impl Strategy<Value = ResolvedRule> {
    (words(GROUPS, 1), words(RESOURCES, 1), words(VERBS, 1), words(NAMES, 0)).prop_map(
        |(api_groups, resources, verbs, resource_names)| ResolvedRule {
            api_groups,
            resources,
            verbs,
            resource_names,
        },
    )
}

fn any_rules() -> impl Strategy<Value = Vec<ResolvedRule>> {
    proptest::collection::vec(any_rule(), 0..5)
}

/// Two sets of rules of which one is often close to lying within the other.
fn pairs() -> impl Strategy<Value = (Vec<ResolvedRule>, Vec<ResolvedRule>)> {
    (any_rules(), any_rules(), select(vec![false, true])).prop_map(|(ceiling, mut wanted, near)| {
        if near {
            wanted.truncate(1);
            wanted.extend(ceiling.iter().map(|rule| {
                let mut rule = rule.clone();
                rule.verbs.truncate(1);
                rule
            }));
        }
        (ceiling, wanted)
    })
}

fn wild() -> impl Strategy<Value = ResolvedRule> {
    let word = prop_oneof![
        Just(String::new()),
        Just("*".to_owned()),
        Just("secrets".to_owned()),
        any::<String>()
    ];
    let words = proptest::collection::vec(word, 0..6);
    (words.clone(), words.clone(), words.clone(), words).prop_map(|(api_groups, resources, verbs, resource_names)| {
        ResolvedRule {
            api_groups,
            resources,
            verbs,
            resource_names,
        }
    })
}

proptest! {
    #[test]
    fn covering_agrees_with_the_authorizer((ceiling, wanted) in pairs()) {
        prop_assert_eq!(covers(&ceiling, &wanted), !lets_more_through(&ceiling, &wanted));
    }

    #[test]
    fn nothing_sticks_out_exactly_where_all_is_covered((ceiling, wanted) in pairs()) {
        let left = uncovered(&ceiling, &wanted);
        prop_assert_eq!(left.is_empty(), covers(&ceiling, &wanted));
        for atom in &left.first {
            let alone = ResolvedRule {
                api_groups: vec![atom.group.clone()],
                resources: vec![atom.resource.clone()],
                verbs: vec![atom.verb.clone()],
                resource_names: atom.name.iter().cloned().collect(),
            };
            prop_assert!(lets_more_through(&ceiling, std::slice::from_ref(&alone)), "{} is covered", atom);
            prop_assert!(!lets_more_through(&wanted, &[alone]), "{} is not wanted", atom);
        }
    }

    #[test]
    fn the_normal_form_permits_the_same_in_one_form(rules in any_rules()) {
        let normal = normalise(rules.clone());
        prop_assert!(!lets_more_through(&rules, &normal) && !lets_more_through(&normal, &rules));
        prop_assert_eq!(normalise(normal.clone()), normal.clone());
        let mut turned = rules;
        turned.reverse();
        prop_assert_eq!(normalise(turned), normal);
    }

    #[test]
    fn no_rule_makes_anything_panic(ceiling in proptest::collection::vec(wild(), 0..6), wanted in proptest::collection::vec(wild(), 0..6)) {
        let _ = uncovered(&ceiling, &wanted).to_string();
        for rule in &wanted {
            let _ = (never_grantable(rule), long_running(rule), needs_naming(rule), is_reading_only(rule));
        }
        prop_assert!(normalise(wanted).len() <= MOST_RULES);
    }
}
