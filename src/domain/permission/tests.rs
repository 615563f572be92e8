//! Each rule once accepted and once refused.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::*;
use crate::api::v1alpha1::{LONGEST_WORD, ResolvedRule};
use crate::domain::fixtures::grant;

fn words(text: &str) -> Vec<String> {
    text.split(',')
        .map(|word| if word == "core" { String::new() } else { word.to_owned() })
        .collect()
}

/// `groups resources verbs [names]`, each separated by commas; `core` is the core group.
fn rule(text: &str) -> ResolvedRule {
    let mut parts = text.split(' ').map(words);
    ResolvedRule {
        api_groups: parts.next().unwrap(),
        resources: parts.next().unwrap(),
        verbs: parts.next().unwrap(),
        resource_names: parts.next().unwrap_or_default(),
    }
}

fn rules(texts: &[&str]) -> Vec<ResolvedRule> {
    texts.iter().map(|text| rule(text)).collect()
}

#[track_caller]
fn covered(ceiling: &[&str], wanted: &[&str]) {
    let left = uncovered(&rules(ceiling), &rules(wanted));
    assert!(left.is_empty(), "{left}");
    assert!(covers(&rules(ceiling), &rules(wanted)));
}

#[track_caller]
fn sticks_out(ceiling: &[&str], wanted: &[&str], told: &str) {
    assert_eq!(uncovered(&rules(ceiling), &rules(wanted)).to_string(), told);
    assert!(!covers(&rules(ceiling), &rules(wanted)));
}

#[test]
fn a_rule_covers_itself_and_less() {
    covered(
        &["core,apps configmaps,deployments get,list"],
        &["core configmaps get", "apps deployments list x"],
    );
    covered(&["core pods get"], &[]);
}

#[test]
fn several_rules_cover_together() {
    covered(
        &["core pods get", "core pods list", "core services get,list"],
        &["core pods,services get,list"],
    );
}

#[test]
fn what_sticks_out_is_named() {
    sticks_out(
        &["core configmaps get"],
        &["core,apps configmaps,deployments get invoice-feed"],
        "get deployments \"invoice-feed\", get apps/configmaps \"invoice-feed\", get apps/deployments \"invoice-feed\"",
    );
    sticks_out(&[], &["apps deployments list"], "list apps/deployments");
}

#[test]
fn wildcards_cover_and_only_wildcards_cover_wildcards() {
    covered(&["* * *"], &["apps deployments/scale update x", "* * *"]);
    sticks_out(&["core pods get"], &["core pods *"], "* pods");
    sticks_out(&["core pods get"], &["core * get"], "get *");
    sticks_out(&["core pods get"], &["* pods get"], "get */pods");
}

#[test]
fn a_resource_is_not_its_subresource() {
    sticks_out(&["core pods get"], &["core pods/log get"], "get pods/log");
    sticks_out(&["core pods/log get"], &["core pods get"], "get pods");
    covered(&["core */log get"], &["core pods/log get"]);
    sticks_out(&["core */log get"], &["core pods get"], "get pods");
    sticks_out(&["core pods/log get"], &["core */log get"], "get */log");
}

#[test]
fn names_restrict_and_none_means_all() {
    covered(&["core configmaps get"], &["core configmaps get a,b"]);
    covered(&["core configmaps get a,b"], &["core configmaps get a"]);
    covered(
        &["core configmaps get a", "core configmaps get b"],
        &["core configmaps get a,b"],
    );
    sticks_out(&["core configmaps get a"], &["core configmaps get"], "get configmaps");
    sticks_out(
        &["core configmaps get a"],
        &["core configmaps get a,b"],
        "get configmaps \"b\"",
    );
    sticks_out(
        &["core configmaps create a"],
        &["core configmaps create"],
        "create configmaps",
    );
    sticks_out(
        &["core configmaps get *"],
        &["core configmaps get a"],
        "get configmaps \"a\"",
    );
}

#[test]
fn non_resource_urls_are_never_covered() {
    let url = PolicyRule {
        non_resource_urls: Some(vec!["/metrics".to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    };
    let resolved = from_policy_rules(&[url]);
    assert_eq!(resolved, rules(&["nonResourceURLs /metrics get"]));
    for ceiling in [rules(&["* * *"]), resolved.clone()] {
        assert_eq!(
            uncovered(&ceiling, &resolved).to_string(),
            "get non-resource URL /metrics"
        );
    }
    assert_eq!(never_grantable(&resolved[0]), ["non-resource URLs are never granted"]);
    let both = normalise(rules(&["*,nonResourceURLs * *", "* * *"]));
    assert!(both.iter().any(|rule| rule.api_groups == [NON_RESOURCE_URLS]));
}

#[test]
fn growth_is_what_was_not_approved() {
    let approved = rules(&["core configmaps get,list"]);
    assert!(growth(&approved, &rules(&["core configmaps get"])).is_empty());
    assert_eq!(
        growth(&approved, &rules(&["core configmaps get,watch"])).to_string(),
        "watch configmaps"
    );
}

#[test]
fn at_most_eight_permissions_are_named() {
    let nine = uncovered(&[], &rules(&["core a,b,c d,e,f"]));
    assert_eq!((nine.first.len(), nine.more), (8, true));
    assert!(nine.to_string().ends_with(" and more"));
    let eight = uncovered(&[], &rules(&["core a,b,c,d e,f"]));
    assert_eq!((eight.first.len(), eight.more), (8, false));
}

#[test]
fn words_are_made_harmless_when_shown() {
    let atom = Atom {
        group: String::new(),
        resource: "a\u{202e}\n".to_owned(),
        verb: "x".repeat(400),
        name: Some("\"\u{1b}[0m".to_owned()),
    };
    let shown = atom.to_string();
    assert!(shown.is_ascii() && !shown.contains(char::is_control), "{shown}");
    assert!(shown.len() < 200);
}

#[test]
fn normal_form_merges_sorts_and_drops_what_is_implied() {
    let merged = normalise(rules(&[
        "core pods list",
        "core pods get,get",
        "core services list,get",
    ]));
    assert_eq!(merged, rules(&["core pods,services get,list"]));
    assert_eq!(
        normalise(rules(&["core pods get a", "core pods get", "core pods get b"])),
        rules(&["core pods get"])
    );
    assert_eq!(
        normalise(rules(&["core pods/log,*/log,pods get"])),
        rules(&["core */log,pods get"])
    );
    assert_eq!(normalise(rules(&["core pods get,*"])), rules(&["core pods *"]));
    assert_eq!(
        normalise(rules(&["core pods get x", "core pods get y", "core pods list x,y"])),
        rules(&["core pods get,list x,y"]),
        "what one merging makes possible is merged too"
    );
    for part in [
        |rule: &mut ResolvedRule| rule.api_groups.clear(),
        |rule: &mut ResolvedRule| rule.resources.clear(),
        |rule: &mut ResolvedRule| rule.verbs.clear(),
    ] {
        let mut nothing = rule("core pods get");
        part(&mut nothing);
        assert_eq!(
            normalise(vec![nothing]),
            [],
            "without one of the three it permits nothing"
        );
    }
}

#[test]
fn normal_form_fits_the_status() {
    let many: Vec<String> = (0..300).map(|index| format!("r{index}")).collect();
    let wide = ResolvedRule {
        resources: many.clone(),
        ..rule("core x get")
    };
    let split = normalise(vec![wide.clone()]);
    assert_eq!(split.len(), 3);
    assert!(covers(&split, std::slice::from_ref(&wide)) && covers(&[wide], &split));
    assert_eq!(normalise(split.clone()), split);

    let apart = many.iter().enumerate().map(|(index, word)| ResolvedRule {
        resources: vec![word.clone()],
        verbs: vec![format!("v{index}")],
        ..rule("core x get")
    });
    let apart: Vec<ResolvedRule> = apart.collect();
    let just_fits = normalise(apart[..MOST_RULES].to_vec());
    assert!(covers(&just_fits, &apart[..MOST_RULES]) && just_fits.len() == MOST_RULES);
    let cut = normalise(apart);
    assert_eq!(cut.len(), MOST_RULES);
    assert_eq!(normalise(cut.clone()), cut);
    assert!(!covers(&cut, &cut), "what was cut off can't be judged");
    assert!(!covers(&rules(&["* * *"]), &cut));
    assert_eq!(
        cut.iter().flat_map(never_grantable).collect::<Vec<_>>(),
        ["more rules than can be judged"]
    );

    let endless: Vec<String> = (0..MOST_RULES * 128 + 1).map(|index| format!("r{index}")).collect();
    let endless = ResolvedRule {
        resources: endless,
        ..rule("core x get")
    };
    let cut = normalise(vec![endless]);
    assert_eq!(cut.len(), MOST_RULES);
    assert!(!covers(&cut, &cut), "of one rule too nothing is left out unsaid");

    let long = |length: usize| ResolvedRule {
        resource_names: vec!["ä".repeat(length)],
        ..rule("core x get")
    };
    assert_eq!(normalise(vec![long(LONGEST_WORD)]), [long(LONGEST_WORD)]);
    let unjudged = normalise(vec![long(LONGEST_WORD + 1)]);
    assert_eq!(unjudged.len(), 1);
    assert_eq!(never_grantable(&unjudged[0]), ["more rules than can be judged"]);
}

/// A block of so many groups, resources, verbs and names, the same words each time.
fn block(sizes: [usize; 4]) -> ResolvedRule {
    let many = |prefix: &str, count| {
        (0..count)
            .map(|index| format!("{prefix}{index:03}"))
            .collect::<Vec<_>>()
    };
    ResolvedRule {
        api_groups: many("g", sizes[0]),
        resources: many("r", sizes[1]),
        verbs: many("v", sizes[2]),
        resource_names: many("n", sizes[3]),
    }
}

/// A ceiling that covers a block by parts only, none of which can be merged, and that meets each word differently.
fn woven(block: &ResolvedRule, bits: usize) -> Vec<ResolvedRule> {
    let half = |words: &[String], bit: usize, side: char| -> Vec<String> {
        let kept = |index: usize| side == '*' || (index >> bit & 1 == 1) == (side == '1');
        words
            .iter()
            .enumerate()
            .filter(|(index, _)| kept(*index))
            .map(|(_, word)| word.clone())
            .collect()
    };
    let mut ceiling = Vec::new();
    for bit in 0..bits {
        for sides in [
            ['0', '1', '*'],
            ['*', '0', '1'],
            ['1', '*', '0'],
            ['0', '0', '0'],
            ['1', '1', '1'],
        ] {
            ceiling.push(ResolvedRule {
                api_groups: half(&block.api_groups, bit, sides[0]),
                resources: half(&block.resources, bit, sides[1]),
                verbs: half(&block.verbs, bit, sides[2]),
                resource_names: block.resource_names.clone(),
            });
        }
    }
    for bit in 0..7 {
        let resource_names = half(&block.resource_names, bit, '1');
        ceiling.push(ResolvedRule {
            resource_names,
            verbs: vec![format!("bit{bit}")],
            ..block.clone()
        });
    }
    ceiling
}

#[test]
fn the_most_that_the_schema_lets_through_is_compared_to_the_end() {
    let whole = block([16, 16, 16, 32]);
    let ceiling = woven(&whole, 4);
    let asked: Vec<ResolvedRule> = (0..16)
        .map(|index| {
            let mut rule = whole.clone();
            rule.verbs.remove(index);
            rule.resource_names.remove(index);
            rule
        })
        .collect();
    assert_eq!(normalise(asked.clone()).len(), 16);
    assert!(covers(&ceiling, &asked));
    let mut more = asked;
    more[7].resource_names[3] = "another".to_owned();
    let left = uncovered(&ceiling, &more);
    assert!(
        left.more && left.first.iter().all(|atom| atom.name.as_deref() == Some("another")),
        "{left}"
    );
}

#[test]
fn past_that_a_comparison_gives_up_and_counts_as_not_covered() {
    let whole = block([64, 128, 64, 128]);
    let left = uncovered(&woven(&whole, 6), std::slice::from_ref(&whole));
    assert_eq!(
        left,
        Atoms {
            first: Vec::new(),
            more: true
        }
    );
    assert_eq!(left.to_string(), "more than can be compared");
    assert!(
        covers(std::slice::from_ref(&whole), std::slice::from_ref(&whole)),
        "what did not change did not grow"
    );
}

#[rstest::rstest]
#[case("* pods get", "'*' in apiGroups")]
#[case("core * get", "'*' in resources")]
#[case("core */scale get", "'*' in resources")]
#[case("core pods *", "'*' in verbs")]
#[case("core configmaps get *", "'*' in resourceNames")]
#[case("rbac.authorization.k8s.io roles escalate", "escalate")]
#[case("rbac.authorization.k8s.io clusterroles bind view", "bind")]
#[case("core users impersonate", "impersonation")]
#[case("authentication.k8s.io users impersonate:user-info", "impersonation")]
#[case("core pods impersonate-on:user-info:create", "impersonation")]
#[case("core serviceaccounts/token create x", "serviceaccounts/token")]
#[case(
    "certificates.k8s.io certificatesigningrequests/approval update",
    "certificatesigningrequests/approval"
)]
#[case("certificates.k8s.io signers approve", "signers")]
#[case("certificates.k8s.io podcertificaterequests get", "podcertificaterequests")]
#[case("certificates.k8s.io podcertificaterequests/status update", "podcertificaterequests")]
#[case("core nodes/proxy get", "nodes/proxy")]
#[case("admissionregistration.k8s.io validatingadmissionpolicies get", "admission")]
#[case("apiextensions.k8s.io customresourcedefinitions get", "CustomResourceDefinitions")]
#[case("apiregistration.k8s.io apiservices get", "APIServices")]
#[case("core pods/ephemeralcontainers patch", "pods/ephemeralcontainers")]
#[case("wayleave.dev accessgrants get", "wayleave.dev")]
#[case("core secrets get", "resourceNames only")]
#[case("core secrets get wlg-anchor", "begin with wlg-")]
#[case("core secrets create x", "create on secrets")]
fn what_is_never_granted_is_said(#[case] text: &str, #[case] told: &str) {
    let reasons = never_grantable(&rule(text));
    assert!(reasons.iter().any(|reason| reason.contains(told)), "{reasons:?}");
}

#[rstest::rstest]
#[case("core configmaps get,list")]
#[case("core secrets get,update feed")]
#[case("apps deployments patch")]
#[case("metrics.k8s.io nodes,pods get")]
#[case("example.com secrets,signers,nodes/proxy get")]
#[case("core serviceaccounts,nodes get")]
#[case("certificates.k8s.io certificatesigningrequests get")]
fn the_rest_may_be_granted(#[case] text: &str) {
    assert_eq!(never_grantable(&rule(text)), Vec::<String>::new());
}

#[test]
fn an_empty_name_among_the_names_of_secrets_is_no_name() {
    let mut secrets = rule("core secrets list feed");
    secrets.resource_names.push(String::new());
    assert_eq!(never_grantable(&secrets), ["secrets are granted by resourceNames only"]);
}

#[test]
fn long_running_requests_are_found() {
    for text in [
        "core pods watch",
        "core pods *",
        "core pods/exec create",
        "core pods/attach get",
        "core pods/portforward create",
        "core services/proxy get",
        "core pods/log get",
        "core * get",
    ] {
        assert!(!long_running(&rule(text)).is_empty(), "{text}");
    }
    assert_eq!(
        long_running(&rule("core,apps pods,deployments/scale get,list,update")),
        Vec::<String>::new()
    );
}

#[test]
fn writes_on_pods_workloads_and_rbac_need_naming() {
    for text in [
        "core pods create",
        "core pods/eviction create",
        "apps deployments patch",
        "batch jobs delete",
        "rbac.authorization.k8s.io roles update",
        "core * *",
    ] {
        assert!(needs_naming(&rule(text)), "{text}");
    }
    for text in [
        "core pods get,list,watch",
        "core configmaps update",
        "example.com pods create",
    ] {
        assert!(!needs_naming(&rule(text)), "{text}");
    }
    assert_eq!(
        named_part(&rule("core configmaps,pods get,create")),
        rules(&["core pods create"])
    );
}

#[test]
fn reading_only_is_get_and_list_of_plain_objects() {
    assert!(is_reading_only(&rule("core configmaps get,list")));
    for text in [
        "core configmaps watch",
        "core pods/exec get",
        "core configmaps get,patch",
        "core configmaps *",
    ] {
        assert!(!is_reading_only(&rule(text)), "{text}");
    }
}

#[test]
fn secrets_are_reached_by_name_and_by_wildcard() {
    assert!(reaches_secrets(&rule("core secrets get x")) && reaches_secrets(&rule("* * get")));
    assert!(!reaches_secrets(&rule("example.com secrets get")) && !reaches_secrets(&rule("core configmaps get x")));
    assert_eq!(secret_names(&rule("core secrets get x")), ["x"]);
    assert!(secret_names(&rule("core configmaps get x")).is_empty());
}

#[test]
fn a_grant_reaches_secrets_by_its_rules_or_by_a_cluster_role_that_it_refers_to() {
    let roles = [
        ("reader".to_owned(), rules(&["core configmaps get"])),
        (
            "keeper".to_owned(),
            rules(&["core configmaps get", "core secrets get x"]),
        ),
    ];
    let asks = |access: serde_json::Value| {
        let mut grant = grant();
        grant.spec.access = serde_json::from_value(access).unwrap();
        may_reach_secrets(&grant, &roles.clone().into())
    };
    let inline = |resource: &str| serde_json::json!({"rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"], "resourceNames": ["x"]}]});
    let role = |name: &str| serde_json::json!({"clusterRoleRef": {"name": name}});
    assert!(!asks(serde_json::json!([
        inline("configmaps"),
        role("reader"),
        role("missing")
    ])));
    assert!(asks(serde_json::json!([
        inline("configmaps"),
        inline("secrets"),
        role("reader")
    ])));
    assert!(asks(serde_json::json!([
        inline("configmaps"),
        role("reader"),
        role("keeper")
    ])));
}

#[test]
fn whoever_may_write_rbac_objects_hands_on() {
    for text in ["create", "update", "patch", "*"] {
        assert!(
            hands_on(&rule(&format!("rbac.authorization.k8s.io roles {text}"))),
            "{text}"
        );
        assert!(!hands_on(&rule(&format!("core configmaps {text}"))), "{text}");
    }
    assert!(!hands_on(&rule(
        "rbac.authorization.k8s.io roles get,list,watch,delete"
    )));
}
