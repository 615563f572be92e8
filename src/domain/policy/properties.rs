//! Properties, against a reading of RBAC that shares no code with the module.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::world::{World, from, policy, resolved};
use super::*;
use crate::domain::approval;
use crate::domain::permission::properties::lets_more_through;

fn words(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(from, 1..=from.len())
}

fn rule() -> impl Strategy<Value = Value> {
    (words(&["", "apps"]), words(&["pods", "deployments", "pods/log"]), words(&["get", "list", "create", "watch"]), subsequence(vec!["a", "b"], 0..=2))
        .prop_map(|(groups, resources, verbs, names)| {
            json!({"apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names})
        })
}

/// Rules of a policy, wide often enough that some grant fits.
fn ceiling() -> impl Strategy<Value = Value> {
    let wide = json!([{
        "apiGroups": ["", "apps"], "resources": ["pods", "deployments", "pods/log"],
        "verbs": ["get", "list", "create", "watch"],
    }]);
    prop_oneof![2 => Just(wide), 1 => proptest::collection::vec(rule(), 0..4).prop_map(Value::from)]
}

fn period() -> impl Strategy<Value = Option<Period>> {
    select(vec![None, Some("1h"), Some("90d"), Some("100d")]).prop_map(|text| text.map(|text| text.parse().unwrap()))
}

fn requires() -> impl Strategy<Value = Value> {
    let line = (1..4, subsequence(vec!["a", "b"], 0..=2))
        .prop_map(|(count, groups)| json!({"count": count, "groups": groups}));
    (proptest::collection::vec(line, 1..4), select(vec!["Forbid", "Allow"]), proptest::bool::weighted(0.1))
        .prop_map(|(approvals, delegated, ticket)| {
            json!({"approvals": approvals, "delegatedRequests": delegated, "ticket": ticket})
        })
}

fn any_policy() -> impl Strategy<Value = AccessPolicy> {
    let limits = (period(), period(), period(), period(), proptest::option::of(1..9));
    let access = (
        ceiling(),
        proptest::bool::weighted(0.8),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (
        limits,
        access,
        requires(),
        any::<bool>(),
        proptest::bool::weighted(0.9),
        any::<bool>(),
    )
        .prop_map(
            |(
                (duration, lifetime, interval, idle, active),
                (rules, long, report, roles, targets),
                requires,
                mild,
                selects,
                hard,
            )| {
                policy("", |policy| {
                    let spec = &mut policy.spec;
                    spec.limits.duration = duration.filter(|period| period.as_seconds() > 86_400);
                    spec.limits.credential_lifetime = lifetime;
                    spec.limits.review_interval = interval.filter(|period| period.as_seconds() > 86_400);
                    spec.limits.active_grants_per_integration = active;
                    spec.limits.hard_expiry = if hard {
                        HardExpiry::Required
                    } else {
                        HardExpiry::Preferred
                    };
                    spec.idle = idle.map(|period| from(json!({"revokeAfter": period})));
                    spec.access.rules = from(rules);
                    spec.access.long_running = long;
                    spec.access.on_role_growth = if report {
                        OnRoleGrowth::Report
                    } else {
                        OnRoleGrowth::End
                    };
                    spec.access.target_namespaces = targets.then(Default::default);
                    if !roles {
                        spec.access.cluster_roles.clear();
                    }
                    spec.requires = from(requires);
                    spec.self_service = mild;
                    if !selects {
                        spec.namespace_selector = from(json!({"matchLabels": {"other": "yes"}}));
                    }
                })
            },
        )
}

fn any_policies() -> impl Strategy<Value = Vec<AccessPolicy>> {
    proptest::collection::vec(any_policy(), 1..5).prop_map(|mut policies| {
        for (index, policy) in policies.iter_mut().enumerate() {
            policy.metadata.name = Some(format!("p{index}"));
        }
        policies
    })
}

fn any_entry() -> impl Strategy<Value = Value> {
    let rules = proptest::collection::vec(rule(), 1..3).prop_map(|rules| json!({"rules": rules}));
    let role = Just(json!({"clusterRoleRef": {"name": "partner-read"}}));
    (
        prop_oneof![3 => rules, 1 => role],
        select(vec![json!([]), json!([]), json!(["ledger"]), json!(["gone"])]),
    )
        .prop_map(|(mut entry, namespaces)| {
            entry["namespaces"] = namespaces;
            entry
        })
}

fn any_world() -> impl Strategy<Value = World> {
    (
        proptest::collection::vec(any_entry(), 1..3),
        any_policies(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(entries, policies, private, public)| {
            let mut world = World::new();
            world.grant.spec.access = from(Value::from(entries));
            world.grant.spec.credential.token =
                Some(from(json!({"delivery": if private { "Private" } else { "Namespace" }})));
            world.policies = policies;
            world
                .cluster_roles
                .insert("partner-read".to_owned(), vec![resolved("", "services", "get")]);
            if public {
                for labels in world.namespaces.values_mut() {
                    labels.insert("wayleave.dev/classification".to_owned(), "Public".to_owned());
                }
            }
            world
        })
}

/// Whether a limit became no laxer; none is the laxest.
fn tighter<T: Ord>(after: Option<T>, before: Option<T>) -> bool {
    match (after, before) {
        (Some(after), Some(before)) => after <= before,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// Whether the lines of each policy are still asked for, or more than they.
fn lines_kept(after: &[Vec<ApprovalRequirement>], before: &[Vec<ApprovalRequirement>]) -> bool {
    let is_kept = |lines: &Vec<ApprovalRequirement>| after.iter().any(|more| approval::is_within(lines, more));
    before.iter().all(is_kept)
}

proptest! {
    #[test]
    fn the_order_of_policies_is_of_no_matter(mut world in any_world(), turn in 0_usize..5) {
        let before = world.outcome();
        let count = world.policies.len();
        world.policies.rotate_left(turn % count);
        prop_assert_eq!(&world.outcome(), &before);
        world.policies.reverse();
        prop_assert_eq!(&world.outcome(), &before);
    }

    #[test]
    fn one_more_policy_never_weakens_the_terms(mut world in any_world(), mut added in any_policy()) {
        let before = world.outcome();
        added.metadata.name = Some("added".to_owned());
        world.policies.push(added);
        if let (Outcome::Permitted { terms: before, .. }, Outcome::Permitted { terms: after, .. }) = (before, world.outcome()) {
            prop_assert!(lines_kept(&after.approvals, &before.approvals));
            prop_assert!(tighter(after.duration, before.duration));
            prop_assert!(tighter(after.credential_lifetime, before.credential_lifetime));
            prop_assert!(tighter(after.review_interval, before.review_interval));
            prop_assert!(tighter(after.idle_revoke_after, before.idle_revoke_after));
            prop_assert!(tighter(after.active_grants_per_integration, before.active_grants_per_integration));
            prop_assert!(before.self_service || !after.self_service);
            // The stricter of each of these is declared first.
            prop_assert!(after.hard_expiry <= before.hard_expiry);
            prop_assert!(after.on_role_growth <= before.on_role_growth);
            prop_assert!(after.delegated_requests <= before.delegated_requests);
        }
    }

    #[test]
    fn what_is_permitted_lies_within_the_policies_named(world in any_world()) {
        if let Outcome::Permitted { policies, .. } = world.outcome() {
            prop_assert!(!policies.is_empty());
            for name in policies {
                let policy = world.policies.iter().find(|policy| policy.metadata.name.as_ref() == Some(&name)).unwrap();
                prop_assert!(policy.spec.namespace_selector.matches(&world.namespaces["payments"]));
                let plain = |rules: &[crate::api::v1alpha1::Rule]| from::<Vec<ResolvedRule>>(json!(rules));
                for entry in &world.grant.spec.access {
                    if let Some(rules) = &entry.rules {
                        prop_assert!(!lets_more_through(&plain(&policy.spec.access.rules), &plain(rules)));
                    }
                    if let Some(role) = &entry.cluster_role_ref {
                        prop_assert!(policy.spec.access.cluster_roles.contains(&role.name));
                    }
                    for namespace in &entry.namespaces {
                        prop_assert!(namespace.0 == "payments" || policy.spec.access.target_namespaces.is_some());
                        prop_assert!(world.namespaces.contains_key(&namespace.0));
                    }
                }
            }
        }
    }
}

/// Whether a policy's own limits and requirements are kept, by the names of its points.
fn keeps_limits(judged: &Judged) -> bool {
    let is_limit = |name: &str| {
        name == "credentials"
            || name == "access.longRunning"
            || name.starts_with("limits.")
            || name.starts_with("requires.")
    };
    let mut limits = judged.points.listed.iter().filter(|point| is_limit(point.name));
    limits.all(Point::is_permitted)
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_decided(world in any_world()) {
        let judgement = world.judge();
        prop_assert_eq!(&judgement.outcome, &world.outcome());
        let applying: Vec<&Judged> = judgement.policies.iter().filter(|it| it.applies).collect();
        let is_permitted = matches!(judgement.outcome, Outcome::Permitted { .. });
        // All points of some policy that selects it hold, and what all of them ask together.
        let holds = judgement.always.are_permitted() && judgement.together.are_permitted();
        prop_assert_eq!(is_permitted, holds && judgement.policies.iter().any(Judged::is_met));
        // What they ask together is what each of them asks.
        let each = applying.iter().all(|judged| keeps_limits(judged));
        prop_assert_eq!(judgement.together.are_permitted(), each);
        prop_assert_eq!(judgement.terms.is_some(), !applying.is_empty());
        for judged in &judgement.policies {
            prop_assert_eq!(judged.selects, judged.points.listed[0].is_permitted());
            prop_assert!(judged.selects || judged.points.listed.len() == 1);
            prop_assert!(judged.applies || !judged.is_met());
        }
        match &judgement.outcome {
            Outcome::Permitted { policies, terms } => {
                let met: Vec<&str> = judgement.policies.iter().filter(|it| it.is_met()).map(|it| it.name.as_str()).collect();
                prop_assert_eq!(policies, &met);
                prop_assert_eq!(Some(terms), judgement.terms.as_ref());
            }
            Outcome::Refused { nearest, failing, .. } => {
                let all = judgement.policies.iter().flat_map(|it| &it.points.listed);
                let all = all.chain(&judgement.always.listed).chain(&judgement.together.listed);
                let told: BTreeSet<&str> = all.filter_map(|it| Some(it.refusal.as_ref()?.words.as_str())).collect();
                let points = judgement.failing.listed.iter().filter_map(|it| Some(&it.refusal.as_ref()?.words));
                prop_assert!(failing.len() > MOST_FAILING || points.eq(failing));
                // Where no policy selects the namespace, one sentence tells of all of them.
                let from = usize::from(nearest.is_none());
                for words in &failing[from..] {
                    prop_assert!(told.contains(words.as_str()), "{} is no point", words);
                }
                prop_assert!(!failing.is_empty());
            }
        }
    }

    #[test]
    fn what_is_explained_does_not_depend_on_the_order(mut world in any_world(), turn in 0_usize..5) {
        let before = world.judge();
        let count = world.policies.len();
        world.policies.rotate_left(turn % count);
        prop_assert_eq!(&world.judge(), &before);
        world.policies.reverse();
        prop_assert_eq!(&world.judge(), &before);
    }
}

proptest! {
    // Fewer cases: each is large.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_makes_it_panic_or_speak_at_length(
        texts in proptest::collection::vec(any::<String>(), 1..40), seconds in any::<i64>(), mut world in any_world(),
    ) {
        let rule = json!({"apiGroups": texts, "resources": texts, "verbs": texts, "resourceNames": texts});
        let entry = json!({
            "rules": vec![rule; 20], "clusterRoleRef": {"name": texts[0]}, "namespaces": texts,
        });
        world.grant.spec.access.extend(from::<Vec<crate::api::v1alpha1::AccessEntry>>(Value::from(vec![entry; 3])));
        world.grant.metadata.namespace = texts.last().cloned();
        world.grant.metadata.creation_timestamp = None;
        world.grant.spec.expires_at = world.grant.spec.expires_at.plus(seconds);
        world.integration.spec.review.interval = Period::from_seconds(seconds);
        world.policies[0].spec.namespace_selector = Default::default();
        world.namespaces.insert(texts[texts.len() - 1].clone(), BTreeMap::new());
        let judgement = world.judge();
        let lists = judgement.policies.iter().map(|it| &it.points).chain([&judgement.always, &judgement.together]);
        for list in lists {
            prop_assert!(list.listed.len() <= MOST_POINTS);
            for point in &list.listed {
                let refusal = point.refusal.iter().flat_map(|refusal| [&refusal.words, &refusal.change]);
                for text in refusal.chain([&point.field, &point.asks, &point.has]) {
                    prop_assert!(!text.contains(crate::domain::text::is_hostile), "{text:?}");
                    prop_assert!(text.chars().count() < 16_000, "{text:?}");
                }
            }
        }
        if let Outcome::Refused { failing, .. } = judgement.outcome {
            prop_assert!(failing.len() <= MOST_FAILING + 1);
            prop_assert!(!failing.iter().any(|point| point.contains(char::is_control)));
        }
    }
}

/// How often the generated worlds are permitted: properties of what is permitted are empty words if it is never.
#[test]
fn generated_worlds_are_permitted_often_enough() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let permitted = (0..400)
        .filter(|_| {
            matches!(
                any_world().new_tree(&mut runner).unwrap().current().outcome(),
                Outcome::Permitted { .. }
            )
        })
        .count();
    assert!(permitted >= 20, "{permitted} of 400");
}
