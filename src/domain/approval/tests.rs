//! Each rule of what counts, one at a time, from a sound approval.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Confirmation, Covered, Question, Standing, consider, unweighed};
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessOwner, ApprovalRequirement, Decision, Instant,
    PartnerIntegration, ReplacedDigest, SubjectKind,
};
use crate::domain::admission::Proofs;
use crate::domain::fixtures::{at, decision, grant, integration, owner};
use crate::domain::ownership::Owners;

const DIGEST: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
const OTHER: &str = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

/// A sound case: dave approved on 1 December, asked on the 2nd.
struct Case {
    now: Instant,
    grant: AccessGrant,
    integration: PartnerIntegration,
    owners: Vec<AccessOwner>,
    decisions: Vec<AccessDecision>,
    refused: BTreeMap<String, Confirmation>,
    confirm: bool,
    lines: Vec<Vec<ApprovalRequirement>>,
    previous: AccessGrantStatus,
    replaced: Vec<ReplacedDigest>,
    covered: Covered,
    proofs: Proofs,
}

impl Case {
    fn sound() -> Self {
        Self {
            now: at("2026-12-02T00:00:00Z"),
            grant: grant(),
            integration: integration(),
            owners: vec![owner("alice"), owner("bob"), owner("dave")],
            decisions: vec![approve("one", "dave@corp.example", "2026-12-01T00:00:00Z")],
            refused: BTreeMap::new(),
            confirm: true,
            lines: vec![vec![ApprovalRequirement {
                count: 1,
                groups: Vec::new(),
            }]],
            previous: AccessGrantStatus::default(),
            replaced: Vec::new(),
            covered: Covered::default(),
            proofs: Proofs::since(at("2020-01-01T00:00:00Z")),
        }
    }

    fn ask(&self) -> Standing {
        let owners: Owners<'_> = self
            .owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap(), owner))
            .collect();
        let mut confirmations = self.refused.clone();
        if self.confirm {
            for decision in &self.decisions {
                confirmations
                    .entry(decision.metadata.uid.clone().unwrap())
                    .or_insert(Confirmation::Allowed);
            }
        }
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        consider(&Question {
            now: self.now,
            grant: &self.grant,
            integration: &self.integration,
            digest: DIGEST,
            replaced: &self.replaced,
            owners: &owners,
            decisions: &decisions,
            proofs: Some(&self.proofs),
            confirmations: &confirmations,
            lines: &self.lines,
            covered: &self.covered,
            previous: &self.previous,
        })
    }

    fn counts(&self) -> bool {
        self.ask().in_force_until.is_some()
    }

    /// Why the first decision does not count.
    fn why(&self) -> String {
        let standing = self.ask();
        assert_eq!(standing.in_force_until, None);
        standing.not_counted.get("one").cloned().unwrap_or_default()
    }
}

fn approve(name: &str, by: &str, made: &str) -> AccessDecision {
    decision(name, "Approve", by, DIGEST, made)
}

#[test]
fn an_approval_counts_until_its_review_lapses() {
    let standing = Case::sound().ask();
    assert_eq!(
        standing.in_force_until,
        Some(at("2027-03-08T00:00:00Z")),
        "90 days of interval, 7 of grace"
    );
    assert_eq!(standing.counted[0].owner_uids, ["uid-of-alice", "uid-of-bob"]);
    assert_eq!(standing.asked_for, "1 approval");
}

#[test]
fn its_own_date_bounds_it() {
    let mut case = Case::sound();
    case.decisions[0].spec.valid_until = Some(at("2026-12-01T12:00:00Z"));
    let standing = case.ask();
    assert_eq!((standing.in_force_until, standing.lapsed), (None, true));
    case.now = at("2026-12-01T11:59:59Z");
    assert_eq!(case.ask().in_force_until, Some(at("2026-12-01T12:00:00Z")));
}

#[test]
fn an_approval_of_something_else_does_not_count() {
    let mut case = Case::sound();
    case.decisions[0].spec.digest = Some(OTHER.into());
    assert!(case.why().contains("another digest"));
    let mut case = Case::sound();
    case.grant.metadata.uid = Some("another".to_owned());
    assert!(case.why().contains("another AccessGrant"));
    let mut case = Case::sound();
    case.decisions[0].metadata.namespace = Some("elsewhere".to_owned());
    assert_eq!(case.why(), "");
}

#[test]
fn nobody_approves_what_they_asked_for_under_any_of_their_names() {
    for by in [
        "carol@corp.example",
        "erin@corp.example",
        "adm-erin",
        "frank@corp.example",
    ] {
        let mut case = Case::sound();
        case.decisions = vec![approve("one", by, "2026-12-01T00:00:00Z")];
        case.grant.spec.contributors = vec!["erin@corp.example".into()];
        case.integration.spec.contributors = vec!["frank@corp.example".into()];
        let mut erin = owner("erin");
        erin.spec.usernames = vec!["adm-erin".into(), "erin@corp.example".into()];
        case.owners.push(erin);
        assert!(case.why().contains("somebody else must approve"), "{by}");
    }
}

#[test]
fn a_service_account_does_not_approve() {
    let mut case = Case::sound();
    case.decisions = vec![approve("one", "system:serviceaccount:ci:bot", "2026-12-01T00:00:00Z")];
    assert!(case.why().contains("ServiceAccount"));
}

#[test]
fn deny_and_revoke_win_and_stay_until_approved_anew() {
    for word in ["Deny", "Revoke"] {
        let mut case = Case::sound();
        case.decisions
            .push(decision("no", word, "erin@corp.example", OTHER, "2026-12-01T00:00:00Z"));
        assert!(case.why().contains("same second"), "ties go to {word}");
        let standing = case.ask();
        assert!(standing.denied.is_some() || standing.revoked.is_some());

        case.decisions.remove(1);
        match word {
            "Deny" => case.previous.denied_at = Some(at("2026-12-01T00:00:01Z")),
            _ => case.previous.revoked_at = Some(at("2026-12-01T00:00:01Z")),
        }
        assert!(!case.counts(), "{word} outlives its object");

        case.decisions
            .push(approve("two", "dave@corp.example", "2026-12-01T00:00:02Z"));
        let standing = case.ask();
        assert!(standing.in_force_until.is_some());
        assert!(standing.denied.is_none() && standing.revoked.is_none());
    }
}

#[test]
fn under_self_service_too_only_an_approval_outdoes_a_revoke() {
    let mut case = Case::sound();
    case.lines = Vec::new();
    case.decisions = vec![decision(
        "no",
        "Revoke",
        "erin@corp.example",
        OTHER,
        "2026-12-01T12:00:00Z",
    )];
    assert!(case.ask().revoked.is_some());
    case.decisions
        .push(approve("one", "dave@corp.example", "2026-12-01T12:00:01Z"));
    let standing = case.ask();
    assert_eq!(
        (standing.revoked, standing.revoked_at),
        (None, Some(at("2026-12-01T12:00:00Z")))
    );
}

#[test]
fn a_stated_date_in_the_future_does_not_outdo_a_revoke() {
    let mut case = Case::sound();
    case.decisions[0].spec.decided_at = Some(at("2026-12-31T00:00:00Z"));
    case.decisions.push(decision(
        "no",
        "Revoke",
        "erin@corp.example",
        OTHER,
        "2026-12-01T12:00:00Z",
    ));
    assert!(!case.counts());
}

#[test]
fn a_revoke_of_the_integration_holds_for_its_grants() {
    let mut case = Case::sound();
    let mut revoke = decision("no", "Revoke", "erin@corp.example", OTHER, "2026-12-01T12:00:00Z");
    revoke.spec.subject.kind = crate::api::v1alpha1::SubjectKind::PartnerIntegration;
    revoke.spec.subject.name = "acme-billing".into();
    case.decisions.push(revoke);
    assert!(case.ask().revoked.is_some() && !case.counts());
}

#[test]
fn going_back_to_an_old_content_does_not_revive_its_approval() {
    let mut case = Case::sound();
    case.replaced = vec![ReplacedDigest {
        digest: DIGEST.to_owned(),
        at: at("2026-12-01T10:00:00Z"),
        changed: vec!["ticket".to_owned()],
    }];
    assert!(
        case.why()
            .contains("replaced at 2026-12-01T10:00:00Z (changed since: ticket)")
    );
    case.decisions
        .push(approve("two", "dave@corp.example", "2026-12-01T10:00:01Z"));
    assert!(case.counts());
}

#[test]
fn an_owner_who_came_back_is_somebody_else() {
    let mut case = Case::sound();
    case.owners[1].metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        at("2026-12-01T00:00:01Z").timestamp(),
    ));
    assert!(case.why().contains("AccessOwner bob"), "not counted yet");
    let mut case = Case::sound();
    case.previous.approvals = case.ask().counted;
    case.owners[1].metadata.uid = Some("another".to_owned());
    assert!(case.why().contains("owners"), "counted before");
    let mut case = Case::sound();
    case.previous.owner_removed_at = Some(at("2026-12-01T00:00:00Z"));
    assert!(case.why().contains("owner removal"));
}

#[test]
fn an_approval_is_counted_once_both_owners_were_seen() {
    let mut case = Case::sound();
    let bob = case.owners.remove(1);
    assert!(case.why().contains("AccessOwner bob does not exist"));
    case.previous.approvals = case.ask().counted;
    case.owners.push(bob);
    assert!(case.counts(), "an owner who was seen late is no owner who left");
}

#[test]
fn every_namespace_reached_must_be_named() {
    let mut case = Case::sound();
    case.grant.spec.access[0].namespaces = vec!["payments".into(), "ledger".into()];
    assert!(case.why().contains("does not name ledger"));
    case.decisions[0].spec.target_namespaces = vec!["ledger".into()];
    assert!(case.counts());
}

#[test]
fn a_decider_is_confirmed_once() {
    let mut case = Case::sound();
    case.confirm = false;
    let standing = case.ask();
    assert_eq!(standing.to_confirm, ["uid-of-one".to_owned()].into());
    assert!(standing.in_force_until.is_none());
    case.refused = [(
        "uid-of-one".to_owned(),
        Confirmation::Refused("dave may not approve in payments".to_owned()),
    )]
    .into();
    assert!(case.why().contains("may not approve"));
    let mut case = Case::sound();
    case.previous.approvals = case.ask().counted;
    case.confirm = false;
    assert!(case.counts(), "what was counted stays so");
}

#[test]
fn frozen_dates_can_only_be_shortened() {
    let mut case = Case::sound();
    case.previous.approvals = case.ask().counted;
    case.integration.spec.review.interval = "9000d".parse().unwrap();
    assert_eq!(case.ask().in_force_until, Some(at("2027-03-08T00:00:00Z")));
    case.integration.spec.review.interval = "1d".parse().unwrap();
    assert_eq!(case.ask().in_force_until, Some(at("2026-12-09T00:00:00Z")));
}

#[test]
fn one_person_is_counted_once_and_groups_are_asked_for() {
    let mut case = Case::sound();
    case.lines = vec![vec![ApprovalRequirement {
        count: 2,
        groups: vec!["security".into()],
    }]];
    case.owners[2].spec.usernames.push("adm-dave".into());
    case.decisions.push(approve("two", "adm-dave", "2026-12-01T00:00:05Z"));
    for decision in &mut case.decisions {
        decision.spec.decided_by_groups = vec!["security".into()];
    }
    assert!(!case.counts(), "two names of one person");
    case.decisions
        .push(approve("three", "erin@corp.example", "2026-12-01T00:00:06Z"));
    assert!(!case.counts(), "not of the group");
    let told = case.ask().conditions["three"].message.clone();
    assert!(
        told.contains("no group that is asked for (2 approvals of security)"),
        "{told}"
    );
    case.decisions[2].spec.decided_by_groups = (0..32).map(|it| format!("team-{it}").as_str().into()).collect();
    let told = case.ask().conditions["three"].message.clone();
    assert!(
        told.contains("32 groups, the most") && told.contains("approve --group"),
        "{told}"
    );
    case.decisions[2].spec.decided_by_groups = vec!["security".into()];
    assert!(case.counts());
    assert_eq!(case.ask().asked_for, "2 approvals of security");
}

proptest! {
    /// The order of decisions doesn't matter, and nobody involved is ever among those counted.
    #[test]
    fn order_does_not_matter_and_requesters_never_count(
        made in prop::collection::vec((0usize..4, 0usize..4, 0i64..20, any::<bool>()), 0..12),
        rotate in 0usize..12,
        now in 0i64..20,
    ) {
        let mut case = Case::sound();
        let start = at("2026-12-01T00:00:00Z");
        case.now = start.plus(now * 86_400);
        case.decisions = made.iter().enumerate().map(|(index, &(who, word, day, same))| {
            let by = ["carol@corp.example", "dave@corp.example", "erin@corp.example", "frank@corp.example"][who];
            let word = ["Approve", "Approve", "Deny", "Revoke"][word];
            let digest = if same { DIGEST } else { OTHER };
            decision(&format!("d{index}"), word, by, digest, &start.plus(day * 86_400).to_string())
        }).collect();
        let before = case.ask();
        if !case.decisions.is_empty() {
            let by = rotate % case.decisions.len();
            case.decisions.rotate_left(by);
        }
        prop_assert_eq!(&case.ask(), &before);
        prop_assert!(before.counted.iter().all(|approval| approval.by != "carol@corp.example"));
        let last_no = case.decisions.iter()
            .filter(|it| it.spec.decision != crate::api::v1alpha1::Decision::Approve)
            .map(|it| Instant::new(it.metadata.creation_timestamp.as_ref().unwrap().0)).max();
        prop_assert!(before.counted.iter().all(|approval| last_no.is_none_or(|no| approval.at > no)));
        prop_assert_eq!(before.denied.is_some() || before.revoked.is_some(), last_no.is_some() && before.in_force_until.is_none() && !before.lapsed);
    }
}

impl Case {
    /// What a decision is told about itself.
    fn told(&self, name: &str) -> (String, String, String) {
        let told = self.ask().conditions.remove(name).unwrap();
        (told.status.to_owned(), told.reason, told.message)
    }

    fn told_reason(&self, name: &str) -> String {
        let (status, reason, message) = self.told(name);
        assert_eq!(status, "False", "{message}");
        reason
    }
}

#[test]
fn an_approval_is_told_that_it_counts_and_until_when() {
    let mut case = Case::sound();
    let (status, reason, message) = case.told("one");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Counted"));
    assert_eq!(message, "it counts until 2027-03-08T00:00:00Z");
    case.now = at("2027-03-08T00:00:00Z");
    assert_eq!(case.told_reason("one"), "Lapsed");
    case.confirm = false;
    assert_eq!(case.told("one").1, "Unconfirmed");
}

#[test]
fn an_approval_that_does_not_count_is_told_why() {
    let changed = |change: fn(&mut Case)| {
        let mut case = Case::sound();
        change(&mut case);
        case.told_reason("one")
    };
    assert_eq!(
        changed(|case| case.grant.metadata.uid = Some("another".to_owned())),
        "AnotherUID"
    );
    assert_eq!(
        changed(|case| case.decisions[0].spec.digest = Some(OTHER.into())),
        "DigestNotCurrent"
    );
    assert_eq!(
        changed(|case| case.decisions[0].spec.decided_by = Some("carol@corp.example".into())),
        "OwnRequest"
    );
    assert_eq!(
        changed(|case| case.decisions[0].spec.decided_by = Some("system:serviceaccount:ci:bot".into())),
        "ServiceAccount"
    );
    assert_eq!(
        changed(|case| case.decisions[0].spec.decided_by = None),
        "DeciderMissing"
    );
    assert_eq!(
        changed(|case| case.previous.revoked_at = Some(at("2026-12-01T10:00:00Z"))),
        "Voided"
    );
    assert_eq!(
        changed(|case| case.grant.spec.access[0].namespaces = vec!["ledger".into()]),
        "TargetMissing"
    );
    let refused = Confirmation::Refused("dave may not approve in payments".to_owned());
    let mut case = Case::sound();
    case.refused = [("uid-of-one".to_owned(), refused)].into();
    assert_eq!(case.told_reason("one"), "NotAllowed");
}

#[test]
fn an_approval_of_what_was_changed_is_told_the_sections() {
    let mut case = Case::sound();
    case.decisions[0].spec.digest = Some(OTHER.into());
    let replaced = |digest: &str, second: i64, changed: &str| ReplacedDigest {
        digest: digest.to_owned(),
        at: at("2026-12-01T10:00:00Z").plus(second),
        changed: vec![changed.to_owned()],
    };
    case.replaced = vec![
        replaced("sha256:long-ago", 0, "purpose"),
        replaced(OTHER, 1, "ticket"),
        replaced("sha256:between", 2, "access"),
    ];
    let (status, reason, message) = case.told("one");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DigestReplaced"));
    assert!(
        message.contains("replaced at 2026-12-01T10:00:01Z (changed since: access, ticket)"),
        "{message}"
    );
}

#[test]
fn a_no_is_told_whether_it_stands() {
    let mut case = Case::sound();
    case.decisions.push(decision(
        "no",
        "Deny",
        "erin@corp.example",
        OTHER,
        "2026-12-01T12:00:00Z",
    ));
    let (status, reason, message) = case.told("no");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Stands"));
    assert!(message.contains("2026-12-01T12:00:00Z"), "{message}");
    case.decisions
        .push(approve("two", "dave@corp.example", "2026-12-01T12:00:01Z"));
    let (status, reason, message) = case.told("no");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Outdone"));
    assert!(message.ends_with(": two"), "{message}");
}

#[test]
fn more_approvals_than_are_kept_are_told_so() {
    let mut case = Case::sound();
    for index in 0..16 {
        let (name, by) = (format!("later-{index}"), format!("user-{index}"));
        case.decisions.push(approve(&name, &by, "2026-12-01T01:00:00Z"));
    }
    assert_eq!(case.told_reason("one"), "Surplus");
    assert_eq!(case.told("later-0").1, "Counted");
    case.previous.approvals = case.ask().counted;
    case.previous.approvals_forgotten = Some(at("2026-12-01T00:30:00Z"));
    assert_eq!(case.told_reason("one"), "Surplus", "and stays it");
}

#[test]
fn nobody_pushes_out_who_is_asked_for() {
    let mut case = Case::sound();
    case.lines = vec![vec![ApprovalRequirement {
        count: 1,
        groups: vec!["security".into()],
    }]];
    case.decisions[0].spec.decided_by_groups = vec!["security".into()];
    for index in 0..32 {
        // One writes many, and many write one each.
        let by = if index < 16 {
            "mallory".to_owned()
        } else {
            format!("user-{index}")
        };
        let mut later = approve(&format!("later-{index}"), &by, "2026-12-01T01:00:00Z");
        later.spec.decided_by_groups = vec![if index < 16 { "security".into() } else { "others".into() }];
        case.decisions.push(later);
    }
    let standing = case.ask();
    assert_eq!(standing.counted.len(), 16);
    assert_eq!(
        standing.counted[0].decision_ref, "one",
        "and they stay in order of time"
    );
    assert_eq!(case.told("one").1, "Counted");
    case.previous.approvals = standing.counted;
    case.integration.spec.review.interval = serde_json::from_value("1000d".into()).unwrap();
    let frozen = case.ask().counted[0].valid_until;
    assert_eq!(
        frozen,
        at("2027-03-08T00:00:00Z"),
        "its dates are those of the day it was counted"
    );
}

#[test]
fn a_crowd_takes_no_place_from_who_was_first() {
    let mut case = Case::sound();
    let line = |groups: &[&str]| ApprovalRequirement {
        count: 1,
        groups: groups.iter().map(|it| (*it).into()).collect(),
    };
    case.lines = vec![vec![line(&["security"]), line(&[])]];
    case.decisions[0].spec.decided_by_groups = vec!["security".into()];
    for index in 0..20 {
        let (name, by) = (format!("later-{index}"), format!("user-{index}"));
        case.decisions.push(approve(&name, &by, "2026-12-01T01:00:00Z"));
        assert!(case.counts(), "{index}");
    }
    assert_eq!(case.told("one").1, "Counted");
}

#[test]
fn what_counted_and_stopped_to_is_forgotten_for_good() {
    let mut case = Case::sound();
    case.previous.approvals_forgotten = Some(at("2026-12-01T00:00:00Z"));
    case.decisions[0].metadata.creation_timestamp = approve("", "", "2026-12-01T00:00:00Z").metadata.creation_timestamp;
    assert_eq!(case.told_reason("one"), "Voided");
    case.decisions
        .push(approve("two", "erin@corp.example", "2026-12-01T00:00:01Z"));
    assert!(case.counts());
}

#[test]
fn an_integration_that_was_made_anew_takes_the_approvals_of_the_other_along() {
    let mut case = Case::sound();
    case.previous.approvals = case.ask().counted;
    case.integration.metadata.creation_timestamp = approve("", "", "2026-12-01T02:00:00Z").metadata.creation_timestamp;
    assert_eq!(case.told_reason("one"), "Voided");
    assert!(
        case.told("one")
            .2
            .contains("before PartnerIntegration acme-billing was there")
    );
    case.decisions
        .push(approve("two", "erin@corp.example", "2026-12-01T02:00:00Z"));
    assert!(case.counts());
}

#[test]
fn a_later_word_for_another_group_or_none_takes_no_earlier_one_away() {
    let line = |group: &str| ApprovalRequirement {
        count: 1,
        groups: vec![group.into()],
    };
    for (later, lines) in [
        ("leads", vec![vec![line("leads")], vec![line("security")]]),
        ("others", vec![vec![line("security")]]),
    ] {
        let mut case = Case::sound();
        case.lines = lines;
        case.decisions[0].spec.decided_by_groups = vec!["security".into()];
        case.decisions
            .push(approve("two", "dave@corp.example", "2026-12-01T00:30:00Z"));
        case.decisions[1].spec.decided_by_groups = vec![later.into()];
        assert!(case.counts());
        for index in 0..16 {
            let (name, by) = (format!("later-{index}"), format!("user-{index}"));
            case.decisions.push(approve(&name, &by, "2026-12-01T01:00:00Z"));
        }
        assert!(case.counts(), "{later}");
        assert_eq!(case.ask().counted.len(), 16);
    }
}

#[test]
fn a_no_that_is_written_later_stands_whenever_it_is_said_to_be_of() {
    let mut case = Case::sound();
    case.decisions[0].metadata.creation_timestamp = approve("", "", "2026-12-01T10:10:00Z").metadata.creation_timestamp;
    case.decisions
        .push(decision("early", "Revoke", "erin", DIGEST, "2026-12-01T10:05:00Z"));
    assert!(case.counts(), "outdone");
    let mut late = decision("late", "Revoke", "erin", DIGEST, "2026-12-01T10:30:00Z");
    late.spec.decided_at = Some(at("2026-12-01T10:00:00Z"));
    case.decisions.push(late);
    assert_eq!(case.ask().revoked_at, Some(at("2026-12-01T10:30:00Z")));
    assert!(!case.counts());
}

#[test]
fn who_was_ever_seen_among_those_who_asked_never_counts() {
    let mut case = Case::sound();
    assert!(case.counts());
    case.previous.involved = vec!["dave@corp.example".to_owned()];
    assert!(case.why().contains("somebody else must approve"), "{}", case.why());
}

#[test]
fn two_owners_who_are_one_person_are_not_two() {
    let mut case = Case::sound();
    let shared = case.owners[0].spec.usernames[0].clone();
    case.owners[1].spec.usernames.push(shared);
    assert!(case.why().contains("are one person"), "{}", case.why());
}

#[test]
fn what_nobody_checked_counts_only_if_it_was_counted_before() {
    let mut case = Case::sound();
    case.grant.metadata.creation_timestamp = None;
    case.integration.metadata.creation_timestamp = None;
    let counted = case.ask().counted;
    case.proofs = Proofs::since(at("2026-12-01T00:00:01Z"));
    assert!(case.why().contains("nobody checked"), "{}", case.why());
    case.previous.approvals = counted;
    assert!(case.counts(), "it was checked in its time");
    case.previous.approvals = Vec::new();
    case.proofs = Proofs::since(at("2026-12-01T00:00:00Z"));
    assert!(case.counts());
}

#[test]
fn a_request_that_nobody_checked_can_not_be_approved() {
    let mut case = Case::sound();
    case.proofs = Proofs::since(at("2026-11-30T00:00:00Z"));
    let stamp = |text: &str| {
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            at(text).timestamp(),
        ))
    };
    case.grant.metadata.creation_timestamp = stamp("2026-11-30T12:00:00Z");
    case.integration.metadata.creation_timestamp = stamp("2026-11-30T12:00:00Z");
    case.previous.digest_since = Some(at("2026-11-30T12:00:00Z"));
    assert!(case.counts());
    let early = "2026-11-29T00:00:00Z";
    case.grant.metadata.creation_timestamp = stamp(early);
    assert!(
        case.why().contains("the AccessGrant was created at 2026-11-29"),
        "{}",
        case.why()
    );
    case.grant.metadata.creation_timestamp = stamp("2026-11-30T12:00:00Z");
    case.integration.metadata.creation_timestamp = stamp(early);
    assert!(case.why().contains("its PartnerIntegration was created"));
    case.integration.metadata.creation_timestamp = stamp("2026-11-30T12:00:00Z");
    case.previous.digest_since = Some(at(early));
    assert!(case.why().contains("what it approves was written"));
    // What was counted once was checked in its time.
    case.previous.digest_since = None;
    case.previous.approvals = case.ask().counted;
    case.previous.digest_since = Some(at(early));
    assert!(case.counts());
}

#[test]
fn without_its_integration_each_decision_on_the_grant_is_told_that_it_was_not_weighed() {
    let made = |name: &str, change: fn(&mut AccessDecision)| {
        let mut decision = approve(name, "dave@corp.example", "2026-12-01T00:00:00Z");
        change(&mut decision);
        decision
    };
    let all = [
        made("own", |_| {}),
        made("no", |it| it.spec.decision = Decision::Deny),
        made("of-another-grant", |it| it.spec.subject.name = "another".into()),
        made("elsewhere", |it| it.metadata.namespace = Some("ledger".to_owned())),
        made("of-an-integration", |it| {
            it.spec.subject.kind = SubjectKind::PartnerIntegration
        }),
    ];
    let told = unweighed(&grant(), &all.iter().collect::<Vec<_>>());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["no", "own"]);
    for condition in told.values() {
        assert_eq!(
            (condition.status, condition.reason.as_str()),
            ("Unknown", "IntegrationMissing")
        );
        assert!(
            condition.message.contains("PartnerIntegration acme-billing"),
            "{}",
            condition.message
        );
    }
}

#[test]
fn a_yes_to_what_was_replaced_before_it_does_not_count() {
    let mut case = Case::sound();
    case.decisions[0].spec.digest = Some(OTHER.into());
    case.replaced = vec![ReplacedDigest {
        digest: OTHER.to_owned(),
        at: at("2026-11-30T00:00:00Z"),
        changed: Vec::new(),
    }];
    assert_eq!(case.told_reason("one"), "DigestReplaced");
    assert!(!case.counts());
}

#[test]
fn where_too_much_was_changed_to_be_remembered_only_a_later_approval_counts() {
    let mut case = Case::sound();
    case.previous.replaced_before = Some(at("2026-12-01T00:00:00Z"));
    assert_eq!(case.told_reason("one"), "DigestReplaced");
    assert!(case.why().contains("too much was changed"), "{}", case.why());
    case.previous.replaced_before = Some(at("2026-11-30T23:59:59Z"));
    assert!(case.counts());
}

#[test]
fn the_later_of_a_no_that_is_there_and_one_that_is_remembered_stands() {
    let no = decision("no", "Deny", "erin@corp.example", OTHER, "2026-12-01T12:00:00Z");
    for (remembered, stands, words) in [
        (None, "2026-12-01T12:00:00Z", "erin@corp.example: as agreed"),
        (
            Some("2026-12-01T11:59:59Z"),
            "2026-12-01T12:00:00Z",
            "erin@corp.example: as agreed",
        ),
        (
            Some("2026-12-01T12:00:00Z"),
            "2026-12-01T12:00:00Z",
            "erin@corp.example: as agreed",
        ),
        (
            Some("2026-12-01T12:00:01Z"),
            "2026-12-01T12:00:01Z",
            "the decision is gone, and stands",
        ),
    ] {
        let mut case = Case::sound();
        case.decisions.push(no.clone());
        case.previous.denied_at = remembered.map(at);
        let denied = case.ask().denied.unwrap();
        assert_eq!(
            (denied.at, denied.words.as_str()),
            (at(stands), words),
            "{remembered:?}"
        );
    }
}

#[test]
fn a_no_that_was_outdone_does_not_come_back_when_the_approval_lapses_or_is_outgrown() {
    let mut case = Case::sound();
    case.previous.denied_at = Some(at("2026-11-30T00:00:00Z"));
    assert_eq!(case.ask().denied, None);
    case.now = at("2027-03-08T00:00:00Z");
    let standing = case.ask();
    assert!(standing.lapsed && !standing.is_outgrown);
    assert_eq!(standing.denied, None);
    let mut case = Case::sound();
    case.previous.denied_at = Some(at("2026-11-30T00:00:00Z"));
    case.previous.approvals = case.ask().counted;
    case.covered.now = "sha256:more".to_owned();
    let standing = case.ask();
    assert!(standing.is_outgrown && !standing.lapsed);
    assert_eq!(standing.denied, None);
}

#[test]
fn only_the_approval_that_covers_less_is_told_that_the_cluster_roles_changed() {
    let mut case = Case::sound();
    case.decisions
        .push(approve("two", "erin@corp.example", "2026-12-01T01:00:00Z"));
    case.previous.approvals = case.ask().counted;
    case.previous.approvals[1].roles_digest = "sha256:now".to_owned();
    case.covered.now = "sha256:now".to_owned();
    assert_eq!(case.told_reason("one"), "RolesChanged");
    assert_eq!(case.told("two").1, "Counted");
    assert!(case.counts());
}
