//! Each rule once accepted and once refused.

use serde_json::{Value, json};

use super::world::{World, from, resolved};
use super::*;

#[test]
fn a_grant_within_a_policy_is_permitted_on_its_terms() {
    let terms = World::new().terms();
    assert_eq!(
        terms.approvals,
        from::<Vec<Vec<ApprovalRequirement>>>(json!([[{"count": 1}]]))
    );
    assert_eq!(
        (terms.hard_expiry, terms.on_role_growth),
        (HardExpiry::Required, OnRoleGrowth::End)
    );
    assert_eq!(terms.duration.unwrap().to_string(), "90d");
    assert!(!terms.self_service);
    let Outcome::Permitted { policies, .. } = World::new().outcome() else {
        panic!("refused")
    };
    assert_eq!(policies, ["readers"]);
}

#[test]
fn a_namespace_that_no_policy_selects_is_told_which_exist() {
    let world = World::new().changed(|world| world.namespaces.get_mut("payments").unwrap().clear());
    world.refused(&["metadata.namespace: payments is selected by no AccessPolicy: readers selects partners=yes"]);
    World::new()
        .changed(|world| world.policies.clear())
        .refused(&["metadata.namespace: payments is selected by no AccessPolicy: there is none"]);
    let world = World::new().changed(|world| drop(world.namespaces.remove("payments")));
    world.refused(&[
        "metadata.namespace: payments is not known",
        "spec.access[0].namespaces: there is no namespace payments",
    ]);
}

#[test]
fn what_there_is_to_say_is_told_up_to_its_bound() {
    let selectors = |policies: usize| {
        let mut world = World::new().changed(|world| world.namespaces.get_mut("payments").unwrap().clear());
        for number in 1..policies {
            world = world.and_policy(&format!("more-{number}"), |_| {});
        }
        match world.outcome() {
            Outcome::Refused { failing, .. } => failing.join("; "),
            Outcome::Permitted { .. } => panic!("permitted"),
        }
    };
    assert!(
        selectors(MOST_SELECTORS).ends_with("selects partners=yes"),
        "{}",
        selectors(MOST_SELECTORS)
    );
    assert!(selectors(MOST_SELECTORS + 2).ends_with(", and 2 more"));
    let points = |rules: usize| {
        let rule = json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]});
        match World::new().access(json!([{"rules": vec![rule; rules]}])).outcome() {
            Outcome::Refused { failing, .. } => failing,
            Outcome::Permitted { .. } => panic!("permitted"),
        }
    };
    assert_eq!(points(MOST_FAILING).len(), MOST_FAILING);
    assert!(!points(MOST_FAILING)[MOST_FAILING - 1].starts_with("and"));
    let many = points(MOST_FAILING + 2);
    assert_eq!(
        (many.len(), many[MOST_FAILING].as_str()),
        (MOST_FAILING + 1, "and 2 more")
    );
}

#[test]
fn classification_is_raised_by_the_labels_of_namespaces() {
    let labelled = |label: &str| {
        World::new().changed(|world| {
            let own = world.namespaces.get_mut("payments").unwrap();
            own.insert("wayleave.dev/classification".to_owned(), label.to_owned());
        })
    };
    labelled("Public").terms();
    labelled("Confidential").terms();
    labelled("Internal")
        .policy(|policy| policy.spec.data_classifications = from(json!(["Confidential"])))
        .refused(&["integration spec.dataClassification: Internal, allowed are Confidential (policy readers)"]);
    for label in ["Restricted", "no such class"] {
        labelled(label).refused(&[
            "integration spec.dataClassification: Restricted by the label wayleave.dev/classification of namespace payments, allowed are Internal, Confidential (policy readers)",
        ]);
    }
}

#[test]
fn environment_must_be_one_of_the_policy() {
    World::new()
        .policy(|policy| policy.spec.environments = from(json!(["NonProduction"])))
        .refused(&["integration spec.environment: Production, allowed are NonProduction (policy readers)"]);
}

#[test]
fn rules_must_lie_within_the_ceiling() {
    World::new()
        .rule(json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"], "resourceNames": ["a"]}))
        .terms();
    World::new()
        .rule(json!({"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["get"]}))
        .refused(&["spec.access[0].rules[0]: get services not within access.rules (policy readers)"]);
}

#[test]
fn cluster_roles_must_be_listed_and_exist() {
    let asking = |name: &str| World::new().access(json!([{"clusterRoleRef": {"name": name}}]));
    asking("partner-read").terms();
    asking("view")
        .changed(|world| drop(world.cluster_roles.insert("view".to_owned(), vec![])))
        .refused(&["spec.access[0].clusterRoleRef.name: view, allowed: partner-read (policy readers)"]);
    asking("partner-read")
        .changed(|world| world.cluster_roles.clear())
        .refused(&["spec.access[0].clusterRoleRef.name: there is no ClusterRole partner-read"]);
}

#[test]
fn what_is_never_granted_is_refused_in_rules_and_cluster_roles() {
    let bind = json!({"apiGroups": ["x.example"], "resources": ["things"], "verbs": ["bind"]});
    World::new()
        .policy(|policy| policy.spec.access.rules = vec![from(bind.clone())])
        .rule(bind)
        .refused(&["spec.access[0].rules[0]: the verb bind is never granted"]);
    World::new()
        .access(json!([{"clusterRoleRef": {"name": "partner-read"}}]))
        .changed(|world| {
            drop(
                world
                    .cluster_roles
                    .insert("partner-read".to_owned(), vec![resolved("", "secrets", "get")]),
            )
        })
        .refused(&["spec.access[0].clusterRoleRef: secrets are granted by resourceNames only"]);
}

#[test]
fn writes_on_workloads_in_a_cluster_role_must_be_named_by_the_policy() {
    let world = || {
        World::new()
            .access(json!([{"clusterRoleRef": {"name": "partner-read"}}]))
            .changed(|world| {
                world.cluster_roles.insert(
                    "partner-read".to_owned(),
                    vec![resolved("apps", "deployments", "patch")],
                );
            })
    };
    world().refused(&[
        "spec.access[0].clusterRoleRef: patch apps/deployments must be named in access.rules (policy readers)",
    ]);
    let named = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}]);
    world().policy(|policy| policy.spec.access.rules = from(named)).terms();
    let wild = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    world()
        .policy(|policy| policy.spec.access.rules = from(wild))
        .refused(&[
            "spec.access[0].clusterRoleRef: patch apps/deployments must be named in access.rules (policy readers)",
        ]);
}

#[test]
fn secrets_that_deliver_credentials_are_never_reached() {
    let asking = |name: &str| {
        World::new()
            .rule(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [name]}))
    };
    asking("feed").terms();
    asking("reader-credential").refused(&[
        "spec.access[0].rules[0]: the Secret reader-credential in namespace payments delivers a credential and is never granted",
    ]);
    let others = |world: &mut World| drop(world.delivery.insert("payments".to_owned(), ["feed".to_owned()].into()));
    asking("feed").changed(others).refused(&[
        "spec.access[0].rules[0]: the Secret feed in namespace payments delivers a credential and is never granted",
    ]);
}

#[test]
fn a_rule_that_names_no_secret_is_told_of_those_that_deliver_credentials() {
    let asking = |secrets: &[&str]| {
        let secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
        let world = World::new()
            .rule(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}))
            .changed(|world| drop(world.delivery.insert("payments".to_owned(), secrets)));
        match world.outcome() {
            Outcome::Refused { failing, .. } => failing.join("; "),
            Outcome::Permitted { .. } => panic!("permitted"),
        }
    };
    let words = "reaches Secrets that deliver credentials in namespace payments";
    assert!(asking(&["feed"]).contains(words), "{}", asking(&["feed"]));
    assert!(!asking(&[]).contains(words), "{}", asking(&[]));
}

#[test]
fn other_rights_are_refused_where_a_policy_says_so() {
    assert_eq!(World::new().terms().refuses_other_rights, None);
    let world = World::new().and_policy("strict", |policy| {
        policy.spec.access.on_other_rights = from(json!("Refuse"))
    });
    assert_eq!(world.terms().refuses_other_rights.as_deref(), Some("strict"));
}

#[test]
fn whether_a_delegates_word_is_enough_is_the_strictest_policys_to_say() {
    let allow = |policy: &mut AccessPolicy| policy.spec.requires.delegated_requests = DelegatedRequests::Allow;
    let forbid = |policy: &mut AccessPolicy| policy.spec.requires.delegated_requests = DelegatedRequests::Forbid;
    let told = |world: World| world.terms().delegated_requests;
    assert_eq!(told(World::new().policy(allow)), DelegatedRequests::Allow);
    assert_eq!(
        told(World::new().policy(allow).and_policy("lax", allow)),
        DelegatedRequests::Allow
    );
    assert_eq!(
        told(World::new().policy(allow).and_policy("strict", forbid)),
        DelegatedRequests::Forbid
    );
}

#[test]
fn what_to_change_is_told_beside_what_is_wrong() {
    let changes = |world: &World| -> Vec<String> {
        let refusals = world
            .judge()
            .failing
            .listed
            .into_iter()
            .filter_map(|point| point.refusal);
        refusals.map(|refusal| refusal.change).collect()
    };
    let gone = |namespace: &'static str| move |world: &mut World| drop(world.namespaces.remove(namespace));
    let own = World::new().changed(gone("payments"));
    assert!(
        changes(&own)
            .iter()
            .all(|change| change == "create namespace payments first"),
        "{:?}",
        changes(&own)
    );
    let open =
        |labels: Value| move |policy: &mut AccessPolicy| policy.spec.access.target_namespaces = Some(from(labels));
    let asks = |world: World| {
        let judged = world.judge().policies.remove(0);
        let point = judged
            .points
            .listed
            .into_iter()
            .find(|point| point.name == "access.targetNamespaces")
            .unwrap();
        point.asks
    };
    assert_eq!(asks(beyond("ledger")), "none beyond the grant's own namespace");
    assert_eq!(
        asks(beyond("ledger").policy(open(json!({"matchLabels": {}})))),
        "any namespace"
    );
    assert_eq!(
        asks(beyond("ledger").policy(open(json!({"matchLabels": {"ledger": "yes"}})))),
        "those with ledger=yes"
    );
}

fn beyond(namespace: &str) -> World {
    World::new()
        .access(json!([{
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}], "namespaces": [namespace],
        }]))
        .changed(|world| world.grant.spec.credential.token.as_mut().unwrap().delivery = from(json!("Private")))
}

#[test]
fn target_namespaces_must_be_selected_exist_and_not_be_reserved() {
    let open = |policy: &mut AccessPolicy| {
        policy.spec.access.target_namespaces = Some(from(json!({"matchLabels": {"ledger": "yes"}})));
    };
    beyond("ledger").policy(open).terms();
    beyond("ledger").refused(&[
        "spec.access[0].namespaces: ledger is beyond the grant's own namespace, none is allowed by access.targetNamespaces (policy readers)",
    ]);
    beyond("kube-system")
        .policy(open)
        .refused(&["spec.access[0].namespaces: kube-system is reserved"]);
    beyond("vault")
        .policy(open)
        .refused(&["spec.access[0].namespaces: vault is reserved"]);
    beyond("gone").policy(|policy| policy.spec.access.target_namespaces = Some(from(json!({"matchLabels": {}})))).refused(&[
        "spec.access[0].namespaces: gone is beyond the grant's own namespace, not selected by access.targetNamespaces (policy readers)",
    ]);
    beyond("ledger")
        .policy(open)
        .changed(|world| world.grant.spec.credential.token = None)
        .refused(&["spec.credential.token.delivery: Namespace, must be Private where access goes beyond the grant's own namespace"]);
}

#[test]
fn nothing_is_told_of_a_namespace_that_no_policy_lets_the_grant_reach() {
    let secrets = json!([{
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["feed"]}],
        "namespaces": ["ledger"],
    }]);
    let asking = |selector: &str| {
        beyond("ledger").access(secrets.clone()).policy(|policy| {
            policy.spec.access.rules.push(from(json!(
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["feed"]}
            )));
            policy.spec.self_service = true;
            policy.spec.access.target_namespaces = Some(from(json!({"matchLabels": {"ledger": selector}})));
        })
    };
    let told = |class: &str| {
        let class = class.to_owned();
        move |world: &mut World| {
            let labels = world.namespaces.get_mut("ledger").unwrap();
            labels.insert("wayleave.dev/classification".to_owned(), class);
            world.delivery = [("ledger".to_owned(), ["feed".to_owned()].into())].into();
        }
    };
    let closed = asking("no").judge();
    let Outcome::Refused { closed: names, .. } = &closed.outcome else {
        panic!("permitted")
    };
    assert_eq!(names, &["ledger".to_owned()].into());
    for class in ["Public", "Restricted"] {
        assert_eq!(asking("no").changed(told(class)).judge(), closed, "{class}");
    }
    assert_eq!(
        asking("no")
            .changed(|world| drop(world.namespaces.remove("ledger")))
            .judge(),
        closed,
        "whether it is there"
    );
    // Where a policy opens it, all of that counts.
    asking("yes").terms();
    asking("yes").changed(told("Public")).refused(&[
        "spec.access[0].rules[0]: the Secret feed in namespace ledger delivers a credential and is never granted",
    ]);
    asking("yes")
        .changed(told("Restricted"))
        .changed(|world| world.delivery.clear())
        .refused(&[
            "integration spec.dataClassification: Restricted by the label wayleave.dev/classification of namespace ledger, allowed are Internal, Confidential (policy readers)",
        ]);
}

#[test]
fn a_reserved_namespace_holds_no_grant() {
    World::new()
        .changed(|world| world.reserved = ["payments".to_owned()].into())
        .refused(&[
            "metadata.namespace: payments is reserved",
            "spec.access[0].namespaces: payments is reserved",
        ]);
}

#[test]
fn long_running_needs_every_policy_to_allow_it() {
    let watching =
        || World::new().rule(json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch"]}));
    let open = |policy: &mut AccessPolicy| {
        policy.spec.access.long_running = true;
        policy.spec.access.rules[0].verbs.push("watch".into());
    };
    watching().policy(open).terms();
    watching().policy(open).and_policy("strict", |_| {}).refused(&[
        "spec.access[0].rules[0]: watch outlives a revocation and access.longRunning is false (policy strict)",
    ]);
}

#[test]
fn one_policy_must_permit_the_whole_access_by_itself() {
    let world = || {
        World::new().access(json!([
            {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
            {"rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]},
        ]))
    };
    let services = from::<Vec<crate::api::v1alpha1::Rule>>(
        json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]),
    );
    world()
        .and_policy("services", |policy| policy.spec.access.rules = services.clone())
        .refused(&["spec.access[1].rules[0]: get services not within access.rules (policy readers)"]);
    world()
        .policy(|policy| policy.spec.access.rules.extend(services))
        .terms();
}

#[test]
fn limits_in_time_are_held_and_named() {
    let ends = |at: &str| World::new().changed(|world| world.grant.spec.expires_at = at.parse().unwrap());
    ends("2027-03-01T00:00:00Z").terms();
    ends("2027-03-31T00:00:00Z").refused(&["spec.expiresAt: 120d after the start, at most 90d (policy readers)"]);
    ends("2027-01-30T00:00:01Z")
        .changed(|world| world.grant.spec.starts_at = None)
        .refused(&["spec.expiresAt: 90d1s after the start, at most 90d (policy readers)"]);
    ends("2027-01-01T00:00:00Z")
        .changed(|world| {
            world.grant.spec.starts_at = None;
            world.grant.metadata.creation_timestamp = None;
        })
        .refused(&["spec.expiresAt: the start is not known, at most 90d after it (policy readers)"]);
    World::new()
        .policy(|policy| policy.spec.limits.credential_lifetime = Some("30m".parse().unwrap()))
        .refused(&["spec.credential.token.lifetime: 1h, at most 30m (policy readers)"]);
}

#[test]
fn review_interval_and_grace_are_held() {
    let reviewed = |interval: &str, grace: &str| {
        World::new()
            .changed(|world| world.integration.spec.review = from(json!({"interval": interval, "grace": grace})))
    };
    reviewed("30d", "30d").terms();
    reviewed("91d", "7d").refused(&["integration spec.review.interval: 91d, at most 90d (policy readers)"]);
    reviewed("30d", "31d").refused(&["integration spec.review.grace: 31d, at most 30d (policy readers)"]);
}

#[test]
fn a_delegates_word_is_enough_only_where_every_policy_says_so() {
    let mut world = World::new();
    world.grant.spec.contributors = vec!["carol@corp.example".into(), "system:serviceaccount:gitops:flux".into()];
    world.refused(&[
        "spec.contributors: written by system:serviceaccount:gitops:flux for others, by people only: have a person create it anew, \
         or ask the policy's author for requires.delegatedRequests: Allow (policy readers)",
    ]);
    world.policies[0].spec.requires.delegated_requests = DelegatedRequests::Allow;
    drop(world.terms());
    world.integration.spec.contributors = std::mem::take(&mut world.grant.spec.contributors);
    drop(world.terms());
    world.policies[0].spec.requires.delegated_requests = DelegatedRequests::Forbid;
    world.refused(&[
        "integration spec.contributors: written by system:serviceaccount:gitops:flux for others, by people only: have a person \
         create the integration anew, or ask the policy's author for requires.delegatedRequests: Allow (policy readers)",
    ]);
}

#[test]
fn what_a_policy_requires_must_be_shown() {
    let strict = |policy: &mut AccessPolicy| {
        policy.spec.requires = from(json!({"ticket": true, "agreement": true, "allowedSources": true}));
    };
    World::new().policy(strict).refused(&[
        "spec.ticket: missing, a ticket is required (policy readers)",
        "integration spec.agreement.endsAt: missing, an end is required (policy readers)",
        "integration spec.allowedSources: empty, addresses are required (policy readers)",
    ]);
    World::new()
        .policy(strict)
        .changed(|world| {
            world.grant.spec.ticket = Some("CHG-1".into());
            world.integration.spec.agreement.ends_at = Some("2027-06-30T00:00:00Z".parse().unwrap());
            world.integration.spec.allowed_sources = vec!["203.0.113.0/24".into()];
        })
        .terms();
    World::new()
        .policy(|policy| policy.spec.credentials.clear())
        .refused(&["spec.credential.type: Token is not among credentials (policy readers)"]);
}

#[test]
fn the_strictest_of_all_policies_that_apply_counts() {
    let terms = World::new()
        .policy(|policy| {
            policy.spec.limits = from(json!({"hardExpiry": "Preferred", "activeGrantsPerIntegration": 5}));
            policy.spec.access.on_role_growth = OnRoleGrowth::Report;
            policy.spec.requires = from(json!({
                "approvals": [{"count": 1, "groups": ["b", "a"]}, {"count": 2}], "delegatedRequests": "Allow",
            }));
        })
        .and_policy("strict", |policy| {
            // It permits nothing, and binds all the same.
            policy.spec.access.rules.clear();
            policy.spec.limits.active_grants_per_integration = Some(2);
            policy.spec.idle = Some(from(json!({"revokeAfter": "30d"})));
            policy.spec.requires = from(json!({"approvals": [{"count": 2, "groups": ["a", "b"]}, {"count": 1}]}));
        })
        .and_policy("elsewhere", |policy| {
            policy.spec.namespace_selector = from(json!({"matchLabels": {"other": "yes"}}));
            policy.spec.limits.duration = Some("1d".parse().unwrap());
        })
        .terms();
    assert_eq!(
        terms.approvals,
        from::<Vec<Vec<ApprovalRequirement>>>(json!([[{"count": 1}, {"count": 2, "groups": ["a", "b"]}]])),
        "whoever meets these lines meets those of the other policy"
    );
    assert_eq!(
        (terms.hard_expiry, terms.on_role_growth),
        (HardExpiry::Required, OnRoleGrowth::End)
    );
    assert_eq!(terms.delegated_requests, DelegatedRequests::Forbid);
    assert_eq!(terms.active_grants_per_integration, Some(2));
    assert_eq!(terms.idle_revoke_after.unwrap().to_string(), "30d");
    assert_eq!(terms.duration.unwrap().to_string(), "90d");
}

#[test]
fn lines_that_one_policy_repeats_add_up_and_none_at_all_means_one() {
    let lines = |value: Value| {
        let approvals: Vec<ApprovalRequirement> = from(value);
        World::new()
            .policy(|policy| policy.spec.requires.approvals = approvals)
            .terms()
            .approvals
    };
    let one_policy = |lines: Value| from::<Vec<Vec<ApprovalRequirement>>>(json!([lines]));
    assert_eq!(
        lines(json!([{"count": 1}, {"count": 1}])),
        one_policy(json!([{"count": 2}]))
    );
    assert_eq!(lines(json!([])), one_policy(json!([{"count": 1}])));
}

#[test]
fn self_service_is_for_mild_access_where_every_policy_says_so() {
    let open = |label: Option<&str>| {
        let label = label.map(str::to_owned);
        World::new()
            .policy(|policy| policy.spec.self_service = true)
            .changed(|world| {
                let own = world.namespaces.get_mut("payments").unwrap();
                label.and_then(|label| own.insert("wayleave.dev/classification".to_owned(), label));
            })
    };
    for mild in ["Public", "Internal"] {
        assert!(open(Some(mild)).terms().self_service, "{mild}");
    }
    for other in ["Restricted", "public", ""] {
        let all = json!(["Public", "Internal", "Confidential", "Restricted"]);
        let world = open(Some(other)).policy(|policy| policy.spec.data_classifications = from(all));
        assert!(!world.terms().self_service, "{other:?}");
    }
    assert!(
        !open(None).terms().self_service,
        "the namespace's own label must say so"
    );
    assert!(!open(Some("Confidential")).terms().self_service);
    assert!(!open(Some("Public")).and_policy("strict", |_| {}).terms().self_service);
    let declared =
        open(Some("Public")).changed(|world| world.integration.spec.data_classification = from(json!("Confidential")));
    assert!(!declared.terms().self_service);
    let secret = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["feed"]});
    assert!(!open(Some("Public")).rule(secret).terms().self_service);
    let write = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]});
    let writing = open(Some("Public"))
        .policy(|policy| policy.spec.access.rules = vec![from(write.clone())])
        .rule(write);
    assert!(!writing.terms().self_service);
}

#[test]
fn the_nearest_policy_has_the_fewest_failing_points_and_the_first_name() {
    let world = World::new()
        .access(json!([{"rules": [
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
        ]}]))
        .and_policy("nothing", |policy| policy.spec.access.rules.clear())
        .and_policy("again", |_| {});
    let Outcome::Refused { nearest, failing, .. } = world.outcome() else {
        panic!("permitted")
    };
    assert_eq!(nearest.as_deref(), Some("again"));
    assert_eq!(
        failing,
        ["spec.access[0].rules[0]: get services not within access.rules (policy again)"]
    );
}

#[test]
fn an_entry_holds_exactly_one_kind_of_access() {
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    World::new()
        .access(json!([]))
        .refused(&["spec.access: empty, at least one entry is needed"]);
    World::new()
        .access(json!([{"rules": []}]))
        .refused(&["spec.access[0].rules: empty, at least one rule is needed"]);
    for entry in [
        json!({}),
        json!({"rules": [rule], "clusterRoleRef": {"name": "partner-read"}}),
    ] {
        World::new()
            .access(json!([entry]))
            .refused(&["spec.access[0]: exactly one of rules and clusterRoleRef is needed"]);
    }
}

/// The points of a list in one line each: whether it holds, its name, what is had, what is asked.
fn lines(points: &Points) -> Vec<String> {
    let line = |point: &Point| {
        let mark = if point.is_permitted() { "ok" } else { "no" };
        format!("{mark} {} {}: {}, {}", point.name, point.field, point.has, point.asks)
    };
    points.listed.iter().map(line).collect()
}

#[test]
fn every_point_is_told_those_that_hold_too() {
    let judgement = World::new().judge();
    assert_eq!(
        lines(&judgement.always),
        [
            "ok grant.namespace metadata.namespace: payments, not reserved",
            "ok grant.access spec.access: 1 entry, at least one entry",
            "ok grant.access.entry spec.access[0].rules: 1 rule, exactly one of rules and clusterRoleRef",
            "ok grant.access.namespaces spec.access[0].namespaces: payments, a namespace that exists and is not reserved",
            "ok grant.access.grantable spec.access[0].rules[0]: get configmaps, list configmaps, nothing that is never granted",
            "ok grant.credential.delivery spec.credential.token.delivery: Namespace, any, since access stays in the grant's own namespace",
        ]
    );
    let [readers] = judgement.policies.try_into().unwrap();
    assert!(readers.selects && readers.applies && readers.is_met());
    assert_eq!(
        lines(&readers.points),
        [
            "ok namespaceSelector metadata.namespace: payments, namespaces with partners=yes",
            "ok dataClassifications integration spec.dataClassification: Internal, allowed are Internal, Confidential",
            "ok environments integration spec.environment: Production, allowed are Production",
            "ok access.rules spec.access[0].rules[0]: get configmaps, list configmaps, within access.rules",
            "ok access.longRunning spec.access[0].rules[0]: nothing that does, nothing that outlives a revocation",
            "ok credentials spec.credential.type: Token, among credentials",
            "ok limits.credentialLifetime spec.credential.token.lifetime: 1h, at most 1h",
            "ok limits.duration spec.expiresAt: 90d after the start, at most 90d",
            "ok limits.reviewInterval integration spec.review.interval: 90d, at most 90d",
            "ok limits.reviewInterval integration spec.review.grace: 7d, at most 90d",
            "ok requires.ticket spec.ticket: none, not required",
            "ok requires.agreement integration spec.agreement.endsAt: none, not required",
            "ok requires.allowedSources integration spec.allowedSources: none, not required",
            "ok requires.delegatedRequests spec.contributors: written by people, by people only",
        ]
    );
}

#[test]
fn a_point_that_fails_says_what_to_change() {
    let world = World::new()
        .rule(json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}))
        .policy(|policy| policy.spec.requires.ticket = true)
        .changed(|world| world.grant.spec.expires_at = "2027-03-31T00:00:00Z".parse().unwrap());
    let judgement = world.judge();
    let changes: Vec<String> = judgement.policies[0]
        .points
        .listed
        .iter()
        .filter_map(|point| Some(point.refusal.as_ref()?.change.clone()))
        .collect();
    assert_eq!(
        changes,
        [
            "take get services out of spec.access[0].rules[0], or ask for a policy that allows it",
            "set spec.expiresAt to 2027-03-01T00:00:00Z or earlier",
            "fill in spec.ticket",
        ]
    );
}

#[test]
fn what_the_policies_ask_together_names_the_strictest() {
    let judgement = World::new()
        .and_policy("strict", |policy| {
            // It permits nothing, and binds all the same.
            policy.spec.access.rules.clear();
            policy.spec.limits.duration = Some("30d".parse().unwrap());
        })
        .and_policy("elsewhere", |policy| {
            policy.spec.namespace_selector = from(json!({"matchLabels": {"other": "yes"}}));
        })
        .judge();
    let duration = judgement
        .together
        .listed
        .iter()
        .find(|point| point.name == "limits.duration");
    assert_eq!(duration.unwrap().policy.as_deref(), Some("strict"));
    assert!(!judgement.together.are_permitted());
    let met: Vec<(&str, bool, bool)> = judgement
        .policies
        .iter()
        .map(|judged| (judged.name.as_str(), judged.selects, judged.is_met()))
        .collect();
    assert_eq!(
        met,
        [
            ("readers", true, true),
            ("strict", true, false),
            ("elsewhere", false, false)
        ]
    );
    assert_eq!(judgement.terms.unwrap().duration.unwrap().to_string(), "30d");
}

/// A static credential under a policy that permits it with every control.
fn of_static_credential() -> World {
    World::new()
        .changed(|world| {
            world.grant.spec.credential = from(json!({"type": "Static", "static": {
                "serviceAccountName": "legacy", "secretName": "legacy-token", "reason": "it reads one token", "replacement": "reader-2",
            }}));
            world.integration.spec.allowed_sources = from(json!(["203.0.113.0/24"]));
        })
        .policy(|policy| {
            policy.spec.credentials = from(json!(["Token", "Static"]));
            policy.spec.static_credentials = from(json!({"duration": "90d", "reviewInterval": "90d"}));
        })
}

#[test]
fn a_static_credential_needs_every_policy_that_applies_to_permit_it_and_name_its_controls() {
    let terms = of_static_credential().terms();
    assert!(!terms.self_service);
    of_static_credential().and_policy("strict", |_| {}).refused(&[
        "spec.credential.type: Static is not among credentials (policy strict)",
        "spec.credential.type: Static needs staticCredentials, the compensating controls (policy strict)",
    ]);
    of_static_credential()
        .policy(|policy| policy.spec.static_credentials = None)
        .refused(&["spec.credential.type: Static needs staticCredentials, the compensating controls (policy readers)"]);
}

#[test]
fn each_control_of_a_static_credential_is_asked_for() {
    let controls = |change: fn(&mut crate::api::v1alpha1::StaticControls)| {
        of_static_credential().policy(|policy| change(policy.spec.static_credentials.as_mut().unwrap()))
    };
    controls(|controls| controls.duration = from(json!("30d")))
        .refused(&["spec.expiresAt: 90d after the start, at most 30d (policy readers)"]);
    controls(|controls| controls.review_interval = from(json!("30d")))
        .refused(&["integration spec.review.interval: 90d, at most 30d (policy readers)"]);
    let limitless = of_static_credential()
        .policy(|policy| policy.spec.limits.review_interval = None)
        .changed(|world| world.integration.spec.review.grace = from(json!("9999d")));
    limitless.refused(&["integration spec.review.grace: 9999d, at most 90d (policy readers)"]);
    let bare = |world: &mut World| {
        world.integration.spec.allowed_sources.clear();
        world.grant.spec.credential.static_.as_mut().unwrap().replacement = None;
    };
    of_static_credential().changed(bare).refused(&[
        "integration spec.allowedSources: empty, addresses are required of a static credential (policy readers)",
        "spec.credential.static.replacement: missing, what replaces a static credential is required (policy readers)",
    ]);
    controls(|controls| (controls.allowed_sources, controls.replacement) = (false, false))
        .changed(bare)
        .terms();
    // Nothing of it is asked of a token.
    World::new()
        .policy(|policy| {
            policy.spec.credentials = from(json!(["Token", "Static"]));
            policy.spec.static_credentials = from(json!({"duration": "1d", "reviewInterval": "1d"}));
        })
        .terms();
}

#[test]
fn a_static_credential_stays_in_its_namespace_and_is_never_self_service_nor_read_by_itself() {
    of_static_credential()
        .access(json!([{"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}], "namespaces": ["ledger"]}]))
        .policy(|policy| policy.spec.access.target_namespaces = from(json!({"matchLabels": {"ledger": "yes"}})))
        .refused(&["spec.credential.static: reaches other namespaces, the grant's own namespace only"]);
    let mild = |world: &mut World| {
        let label = (
            crate::api::names::LABEL_CLASSIFICATION.to_owned(),
            "Internal".to_owned(),
        );
        world.namespaces.get_mut("payments").unwrap().extend([label]);
        world.policies[0].spec.self_service = true;
    };
    assert!(World::new().changed(mild).terms().self_service);
    // Nobody could keep it from binding itself.
    let binds = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]});
    let permits = |world: World| {
        world
            .rule(binds.clone())
            .policy(|policy| policy.spec.access.rules = from(json!([binds])))
    };
    permits(World::new()).terms();
    permits(of_static_credential())
        .refused(&["spec.access[0].rules[0]: writing roles and bindings is never granted to a static credential"]);
    assert!(!of_static_credential().changed(mild).terms().self_service);
    of_static_credential()
        .rule(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["legacy-token"]}))
        .refused(&["spec.access[0].rules[0]: the Secret legacy-token in namespace payments delivers a credential and is never granted"]);
    of_static_credential()
        .changed(|world| world.grant.spec.credential.static_ = None)
        .refused(&[
            "spec.credential.static: missing",
            "spec.credential.static.replacement: missing, what replaces a static credential is required (policy readers)",
        ]);
}
