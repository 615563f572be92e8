//! Each reason reached and left again, from a sound case.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rstest::rstest;

use super::{Access, Facts, Namespace, Verdict, decide};
use crate::api::conditions::Reason;
use crate::api::names::LABEL_CLASSIFICATION;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, CredentialType, DataClassification, Decision, HardExpiry,
    Identity, Instant, MOST_INVOLVED, MOST_POLICIES, OnOtherRights, OnRoleGrowth, PartnerIntegration,
    PartnerIntegrationStatus, ResolvedRule, StaticControls, SubjectKind,
};
use crate::domain::admission::Proofs;
use crate::domain::approval::Confirmation;
use crate::domain::digest::{TARGETS, digest};
use crate::domain::fixtures::{GRANT_UID, at, decision, grant, integration, owner, policy, static_grant};
use crate::domain::lifetime;
use crate::domain::ownership::Owners;
use crate::domain::static_credential::Seen;

struct Case {
    now: Instant,
    grant: AccessGrant,
    integration: Option<PartnerIntegration>,
    owners: Vec<AccessOwner>,
    decisions: Vec<AccessDecision>,
    policies: Vec<AccessPolicy>,
    namespaces: BTreeMap<String, Namespace>,
    absent_key: Option<&'static str>,
    cluster_roles: BTreeMap<String, Vec<ResolvedRule>>,
    earlier_siblings: usize,
    admission_proved: bool,
    other_rights: Option<&'static str>,
    unreadable_policy: Option<&'static str>,
    unread: Option<&'static str>,
    static_credential: Option<Seen>,
    clock_skew: Option<i64>,
    uninstalling: Option<&'static str>,
}

impl Case {
    /// Approved by dave on 1 December, asked a day later.
    fn sound() -> Self {
        let payments = Namespace {
            uid: "uid-of-payments".to_owned(),
            labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
            enrolled: true,
            terminating: false,
        };
        let mut case = Self {
            now: at("2026-12-02T00:00:00Z"),
            grant: grant(),
            integration: Some(integration()),
            owners: vec![owner("alice"), owner("bob")],
            decisions: Vec::new(),
            policies: vec![policy()],
            namespaces: [("payments".to_owned(), payments)].into(),
            absent_key: Some("uid-of-identities"),
            cluster_roles: BTreeMap::new(),
            earlier_siblings: 0,
            admission_proved: true,
            other_rights: None,
            unreadable_policy: None,
            unread: None,
            static_credential: None,
            clock_skew: None,
            uninstalling: None,
        };
        case.approve("one", "2026-12-01T00:00:00Z");
        case
    }

    fn approve(&mut self, name: &str, made: &str) {
        self.approve_by(name, "dave@corp.example", made);
    }

    /// Asks for the ClusterRole instead of rules of its own, as the policy lets it; nobody has approved that yet.
    fn of_cluster_role(&mut self) {
        let access = &mut self.grant.spec.access[0];
        access.rules = None;
        access.cluster_role_ref = Some(serde_json::from_value(serde_json::json!({"name": "wayleave-read"})).unwrap());
        self.policies[0].spec.access.cluster_roles = vec!["wayleave-read".into()];
        self.decisions.clear();
    }

    fn holds(&mut self, verbs: &[&str]) {
        let rules = verbs.iter().map(|verb| rule(verb)).collect();
        self.cluster_roles.insert("wayleave-read".to_owned(), rules);
    }

    /// What self-service takes.
    fn of_mild(&mut self, self_service: bool) {
        self.policies[0].spec.self_service = self_service;
        let label = (LABEL_CLASSIFICATION.to_owned(), "Internal".to_owned());
        self.namespace().labels.extend([label]);
        self.integration().spec.data_classification = DataClassification::Internal;
    }

    fn approve_by(&mut self, name: &str, by: &str, made: &str) {
        let targets = [("payments".to_owned(), "uid-of-payments".to_owned())].into();
        let digest = digest(self.integration.as_ref().unwrap(), &self.grant, &targets).digest;
        self.decisions.push(decision(name, "Approve", by, &digest, made));
    }

    fn ask(&self) -> Verdict {
        let owners: Owners<'_> = self
            .owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap(), owner))
            .collect();
        let confirmations = self
            .decisions
            .iter()
            .map(|it| (it.metadata.uid.clone().unwrap(), Confirmation::Allowed))
            .collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        let policies: Vec<&AccessPolicy> = self.policies.iter().collect();
        decide(&Facts {
            now: self.now,
            grant: &self.grant,
            integration: self.integration.as_ref(),
            owners: &owners,
            decisions: &decisions,
            confirmations: &confirmations,
            policies: &policies,
            namespaces: &self.namespaces,
            absent_key: self.absent_key,
            cluster_roles: &self.cluster_roles,
            reserved_namespaces: &BTreeSet::new(),
            delivery_secrets: &BTreeMap::new(),
            earlier_siblings: self.earlier_siblings,
            admission_proved: self.admission_proved,
            unreadable_policy: self.unreadable_policy,
            unread: self.unread,
            proofs: Some(&Proofs::since(at("2020-01-01T00:00:00Z"))),
            other_rights: self.other_rights,
            static_credential: self.static_credential.as_ref(),
            clock_skew: self.clock_skew,
            uninstalling: self.uninstalling,
        })
    }

    /// Asks, and remembers the answer as status would.
    fn settle(&mut self) -> Verdict {
        let verdict = self.ask();
        self.grant.status = Some(verdict.kept.status.clone());
        verdict
    }

    fn go_live(&mut self) {
        self.settle();
        if let Some(status) = &mut self.grant.status {
            status.identity = Some(Identity {
                namespace: "wayleave-identities".to_owned(),
                service_account: "wlg-0-1".to_owned(),
                activation: 1,
                digest: status.digest.clone().unwrap(),
                owner_uids: Vec::new(),
                claimed_at: self.now,
                activated_at: Some(self.now),
            });
        }
    }

    /// Of an identity from before, which is not there.
    fn missing_static_credential(&mut self) {
        self.grant = static_grant();
        let policy = &mut self.policies[0].spec;
        policy.credentials.push(CredentialType::Static);
        policy.static_credentials = Some(StaticControls {
            duration: policy.limits.duration.unwrap(),
            review_interval: policy.limits.review_interval.unwrap(),
            allowed_sources: false,
            replacement: true,
        });
        self.decisions.clear();
        self.approve("one", "2026-12-01T00:00:00Z");
        self.static_credential = Some(Seen {
            missing: Some("there is none".to_owned()),
            ..Seen::default()
        });
    }

    fn namespace(&mut self) -> &mut Namespace {
        self.namespaces.get_mut("payments").unwrap()
    }

    fn integration(&mut self) -> &mut PartnerIntegration {
        self.integration.as_mut().unwrap()
    }
}

#[test]
fn a_sound_grant_is_active_until_its_earliest_end() {
    let verdict = Case::sound().ask();
    assert_eq!(verdict.reason, Reason::Issued, "{}", verdict.message);
    let Access::Active {
        until,
        ends_because,
        hard_expiry,
        hold,
    } = verdict.access
    else {
        panic!("inactive")
    };
    assert_eq!(
        (until, ends_because, hard_expiry, hold),
        (at("2027-01-20T00:00:00Z"), Reason::Expired, true, None)
    );
    assert_eq!(verdict.next_change, Some(until));
    let mut case = Case::sound();
    case.decisions[0].spec.valid_until = Some(at("2027-01-01T00:00:00Z"));
    let Access::Active {
        until, ends_because, ..
    } = case.ask().access
    else {
        panic!("inactive")
    };
    assert_eq!(
        (until, ends_because),
        (at("2027-01-01T00:00:00Z"), Reason::ApprovalEnded)
    );
}

#[test]
fn a_static_credential_that_is_there_gives_access_without_a_hard_end_and_one_unseen_gives_none_yet() {
    let mut case = Case::sound();
    case.missing_static_credential();
    case.static_credential = None;
    assert_eq!(case.ask().reason, Reason::Issuing);
    case.static_credential = Some(Seen::default());
    let Access::Active { until, hard_expiry, .. } = case.ask().access else {
        panic!("inactive: {}", case.ask().message)
    };
    assert_eq!((until, hard_expiry), (at("2027-01-20T00:00:00Z"), false));
    case.now = at("2027-01-19T23:58:59Z");
    assert_eq!(case.ask().reason, Reason::Issued, "no token has to be minted in time");
    case.now = at("2027-01-19T23:59:00Z");
    assert_eq!(case.ask().reason, Reason::TooShort);
}

#[test]
fn an_approval_that_ends_by_its_own_date_is_announced_for_that_day_and_told_from_a_review_that_lapsed() {
    let end = at("2027-01-01T00:00:00Z");
    let mut case = Case::sound();
    case.decisions[0].spec.valid_until = Some(end);
    let verdict = case.ask();
    assert_eq!(verdict.kept.status.next_review_at, Some(end));
    assert!(verdict.message.ends_with("by its own date"), "{}", verdict.message);
    case.now = end;
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::ApprovalEnded);
    for message in [&verdict.message, &verdict.approved.message] {
        assert!(
            message.contains("2027-01-01T00:00:00Z, a date that it set itself"),
            "{message}"
        );
        assert!(message.contains("approve again"), "{message}");
    }
    // What ends before it or with it needs no word of it.
    let mut case = Case::sound();
    case.decisions[0].spec.valid_until = Some(case.grant.spec.expires_at);
    let verdict = case.ask();
    assert_eq!(verdict.kept.status.ends_because.as_deref(), Some("Expired"));
    assert_eq!(verdict.kept.status.next_review_at, None);
    assert!(Case::sound().ask().kept.status.next_review_at.is_some());
}

#[rstest]
#[case::deleting(Reason::Deleting, |c: &mut Case| c.grant.metadata.deletion_timestamp = c.grant.metadata.creation_timestamp.clone())]
#[case::revoked(Reason::Revoked, |c: &mut Case| c.decisions.push(decision("no", "Revoke", "erin", "sha256:0", "2026-12-01T01:00:00Z")))]
#[case::denied(Reason::Denied, |c: &mut Case| c.decisions.push(decision("no", "Deny", "erin", "sha256:0", "2026-12-01T01:00:00Z")))]
#[case::owner_gone(Reason::OwnerRemoved, |c: &mut Case| { c.owners.pop(); })]
#[case::owner_inactive(Reason::OwnerRemoved, |c: &mut Case| c.owners[0].spec.active = false)]
#[case::owner_left(Reason::OwnerRemoved, |c: &mut Case| c.owners[1].spec.until = Some(c.now))]
#[case::integration_gone(Reason::IntegrationMissing, |c: &mut Case| c.integration = None)]
#[case::integration_going(Reason::IntegrationMissing, |c: &mut Case| c.integration().metadata.deletion_timestamp = c.grant.metadata.creation_timestamp.clone())]
#[case::agreement_ended(Reason::AgreementEnded, |c: &mut Case| c.now = at("2027-06-30T00:00:00Z"))]
#[case::expired(Reason::Expired, |c: &mut Case| c.now = at("2027-01-20T00:00:00Z"))]
#[case::integration_suspended(Reason::IntegrationSuspended, |c: &mut Case| c.integration().spec.suspend = true)]
#[case::suspended(Reason::Suspended, |c: &mut Case| c.grant.spec.suspend = true)]
#[case::uninstalling(Reason::Uninstalling, |c: &mut Case| c.uninstalling = Some("the marker is there"))]
#[case::uninstalling_unapproved(Reason::Uninstalling, |c: &mut Case| { c.decisions.clear(); c.uninstalling = Some("the marker is there"); })]
#[case::not_enrolled(Reason::NotEnrolled, |c: &mut Case| c.namespace().enrolled = false)]
#[case::namespace_going(Reason::NotEnrolled, |c: &mut Case| c.namespace().terminating = true)]
#[case::no_policy(Reason::NotPermitted, |c: &mut Case| c.policies.clear())]
#[case::class_too_high(Reason::NotPermitted, |c: &mut Case| { c.namespace().labels.insert(LABEL_CLASSIFICATION.to_owned(), "Restricted".to_owned()); })]
#[case::too_many(Reason::NotPermitted, |c: &mut Case| { c.policies[0].spec.limits.active_grants_per_integration = Some(2); c.earlier_siblings = 2; })]
#[case::lapsed(Reason::ReviewLapsed, |c: &mut Case| { c.integration().spec.review.interval = "1h".parse().unwrap(); c.integration().spec.review.grace = None; })]
#[case::approval_ended(Reason::ApprovalEnded, |c: &mut Case| c.decisions[0].spec.valid_until = Some(at("2026-12-01T12:00:00Z")))]
#[case::unapproved(Reason::AwaitingApproval, |c: &mut Case| c.decisions.clear())]
#[case::changed(Reason::AwaitingApproval, |c: &mut Case| c.grant.spec.ticket = Some("CHG-2".into()))]
#[case::identity_missing(Reason::IdentityMissing, |c: &mut Case| c.missing_static_credential())]
#[case::too_short(Reason::TooShort, |c: &mut Case| c.now = at("2027-01-19T23:50:00Z"))]
#[case::unproved(Reason::AdmissionUnproved, |c: &mut Case| c.admission_proved = false)]
#[case::unread(Reason::ReadFailed, |c: &mut Case| c.unread = Some("accessowners.wayleave.dev can't be read"))]
#[case::skewed(Reason::ClockSkew, |c: &mut Case| c.clock_skew = Some(31))]
#[case::other_rights(Reason::NotPermitted, |c: &mut Case| { c.policies[0].spec.access.on_other_rights = OnOtherRights::Refuse; c.other_rights = Some("view"); })]
fn each_reason_is_reached(#[case] reason: Reason, #[case] change: fn(&mut Case)) {
    let mut case = Case::sound();
    change(&mut case);
    let verdict = case.ask();
    assert_eq!(
        (verdict.access, verdict.reason),
        (Access::Inactive, reason),
        "{}",
        verdict.message
    );
    assert!(!verdict.message.is_empty());
}

#[test]
fn a_reserved_namespace_is_not_to_be_enrolled() {
    let mut case = Case::sound();
    let any = serde_json::json!({"matchLabels": {}});
    case.policies[0].spec.access.target_namespaces = serde_json::from_value(any).unwrap();
    case.grant.spec.access[0].namespaces = ["payments", "kube-system"].map(Into::into).into();
    let mut system = case.namespace().clone();
    system.enrolled = false;
    case.namespaces.insert("kube-system".to_owned(), system);
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::NotPermitted, "{}", verdict.message);
    assert!(
        verdict.message.contains("kube-system is reserved") && !verdict.message.contains("enrol"),
        "{}",
        verdict.message
    );
}

#[test]
fn rights_from_elsewhere_end_nothing_that_is_live_and_are_only_reported_unless_a_policy_says_so() {
    let mut case = Case::sound();
    case.other_rights = Some("view");
    assert_eq!(case.ask().reason, Reason::Issued);
    case.other_rights = None;
    case.go_live();
    case.policies[0].spec.access.on_other_rights = OnOtherRights::Refuse;
    case.other_rights = Some("view");
    assert_eq!(case.ask().reason, Reason::Issued);
}

#[test]
fn status_names_as_many_policies_as_it_can_hold() {
    let mut case = Case::sound();
    for number in 0..100 {
        let mut another = policy();
        another.metadata.name = Some(format!("another-{number}"));
        case.policies.push(another);
    }
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::Issued, "{}", verdict.message);
    assert_eq!(verdict.kept.status.policies.len(), MOST_POLICIES);
}

#[test]
fn a_grant_that_is_yet_to_begin_is_scheduled() {
    let mut case = Case::sound();
    case.grant.spec.starts_at = Some(at("2026-12-03T00:00:00Z"));
    case.approve("two", "2026-12-01T00:00:00Z");
    let verdict = case.ask();
    assert_eq!(
        (verdict.reason, verdict.next_change),
        (Reason::Scheduled, Some(at("2026-12-03T00:00:00Z")))
    );
    case.now = at("2026-12-03T00:00:00Z");
    assert_eq!(case.ask().reason, Reason::Issued);
}

#[test]
fn what_stops_issuing_does_not_end_what_is_live() {
    for (proved, skew, reason) in [
        (false, None, Reason::AdmissionUnproved),
        (true, Some(-40), Reason::ClockSkew),
    ] {
        let mut case = Case::sound();
        case.go_live();
        (case.admission_proved, case.clock_skew) = (proved, skew);
        let Access::Active {
            hold: Some((held, _)), ..
        } = case.ask().access
        else {
            panic!("ended")
        };
        assert_eq!(held, reason);
    }
    let mut case = Case::sound();
    case.go_live();
    case.now = at("2027-01-19T23:59:30Z");
    assert_eq!(case.ask().reason, Reason::Issued, "too short to begin, not to end");
}

#[test]
fn an_uninstallation_ends_what_is_live_and_forgets_no_approval() {
    let mut case = Case::sound();
    case.go_live();
    case.uninstalling = Some("the marker is there");
    let verdict = case.settle();
    assert_eq!(
        (verdict.access, verdict.reason),
        (Access::Inactive, Reason::Uninstalling)
    );
    assert_eq!(verdict.approved.status, "True");
    assert!(verdict.message.contains("the marker is there"), "{}", verdict.message);
    // What ended by itself says so first.
    case.grant.spec.suspend = true;
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::Suspended);
    assert!(verdict.message.contains("the marker is there"), "{}", verdict.message);
    case.grant.spec.suspend = false;
    case.uninstalling = None;
    assert_eq!(case.settle().reason, Reason::Issued, "by the ordinary rules");
    // Nothing is known of the integration: it is said all the same.
    case.uninstalling = Some("the marker is there");
    case.integration = None;
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::IntegrationMissing);
    assert!(verdict.message.contains("the marker is there"), "{}", verdict.message);
}

#[test]
fn owners_who_become_one_person_end_it_until_they_are_two_again() {
    for self_service in [false, true] {
        let mut case = Case::sound();
        case.of_mild(self_service);
        if !self_service {
            case.approve("anew", "2026-12-01T00:00:00Z");
        }
        case.go_live();
        let before = case.owners[1].spec.usernames.clone();
        let shared = case.owners[0].spec.usernames.clone();
        case.owners[1].spec.usernames.extend(shared);
        let verdict = case.settle();
        assert_eq!(verdict.reason, Reason::OwnerRemoved, "{self_service}");
        assert!(verdict.message.contains("are one person"), "{}", verdict.message);
        // User names that move from one to another are no removal.
        case.owners[1].spec.usernames = before;
        assert_eq!(case.settle().reason, Reason::Issued, "{self_service}");
    }
}

#[test]
fn an_approval_that_stopped_to_count_comes_back_with_no_other_dates_and_no_other_roles() {
    let mut case = Case::sound();
    case.of_cluster_role();
    case.policies[0].spec.access.on_role_growth = OnRoleGrowth::End;
    case.holds(&["get"]);
    case.approve("one", "2026-12-01T00:00:00Z");
    case.go_live();
    assert_eq!(case.settle().reason, Reason::Issued);
    case.holds(&["get", "list"]);
    for _ in 0..2 {
        assert_eq!(case.settle().reason, Reason::RoleGrew);
        let kept = &case.grant.status.as_ref().unwrap().resolved_rules;
        assert_eq!(kept[0].rules, [rule("get")], "as it was approved");
    }
    // For a while who asked and who approved are taken for one person.
    let by = case.decisions[0].spec.decided_by.clone().unwrap();
    let mut one = owner("carol");
    one.spec.usernames.push(by);
    case.owners.push(one);
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.owners.pop();
    assert_eq!(case.settle().reason, Reason::AwaitingApproval, "of what it held before");
    case.approve("two", "2026-12-01T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

/// What happens to a grant of a ClusterRole.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// It holds these verbs from now on, by bits.
    Holds(u8),
    /// Somebody else approves.
    Approved,
    /// The first of the approvals that are there is withdrawn.
    Withdrawn,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        3 => (0..16_u8).prop_map(Turn::Holds),
        2 => Just(Turn::Approved),
        1 => Just(Turn::Withdrawn),
    ];
    proptest::collection::vec(turn, 1..14)
}

proptest! {
    #[test]
    fn a_cluster_role_gives_nothing_that_was_not_there_when_somebody_approved(first in 0..16_u8, turns in turns()) {
        const VERBS: [&str; 4] = ["get", "list", "create", "delete"];
        let verbs = |bits: u8| -> Vec<&str> { (0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| VERBS[bit]).collect() };
        let mut case = Case::sound();
        case.of_cluster_role();
        case.policies[0].spec.access.on_role_growth = OnRoleGrowth::End;
        case.holds(&verbs(first));
        case.settle();
        let mut holds = first;
        // What it held when each approval that is there was seen.
        let mut seen: Vec<u8> = Vec::new();
        for (index, turn) in turns.iter().enumerate() {
            match turn {
                Turn::Holds(bits) => {
                    holds = *bits;
                    case.holds(&verbs(holds));
                }
                Turn::Approved => {
                    case.approve_by(&format!("a-{index}"), &format!("user-{index}"), &format!("2026-12-01T00:00:{index:02}Z"));
                    seen.push(holds);
                }
                Turn::Withdrawn if !seen.is_empty() => {
                    case.decisions.remove(0);
                    seen.remove(0);
                }
                Turn::Withdrawn => {}
            }
            let verdict = case.settle();
            let is_active = verdict.access != Access::Inactive;
            let is_within = seen.iter().any(|then| holds & !then == 0);
            prop_assert!(!is_active || is_within, "{turns:?}: {holds:04b} of {seen:?}");
            let is_just_that = seen.last() == Some(&holds);
            prop_assert!(is_active || !is_just_that, "{turns:?}: {}", verdict.message);
        }
    }
}

#[test]
fn what_was_approved_before_a_change_is_void_whatever_our_clock_says() {
    let mut case = Case::sound();
    case.decisions.clear();
    case.now = at("2026-12-01T00:00:00Z");
    // The API server's clock is ahead.
    case.approve("one", "2026-12-01T00:00:20Z");
    assert_eq!(case.settle().reason, Reason::Issued);
    let before = case.grant.spec.ticket.clone();
    case.grant.spec.ticket = Some("CHG-1".into());
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.grant.spec.ticket = before;
    assert_eq!(case.settle().reason, Reason::AwaitingApproval, "there and back");
}

#[test]
fn a_policy_that_cannot_be_read_holds_up_what_is_new_and_ends_nothing() {
    let mut case = Case::sound();
    case.unreadable_policy = Some("strict");
    let verdict = case.ask();
    assert_eq!(verdict.reason, Reason::NotPermitted);
    assert!(
        verdict.message.contains("AccessPolicy strict can't be read"),
        "{}",
        verdict.message
    );
    case.unreadable_policy = None;
    case.go_live();
    case.unreadable_policy = Some("strict");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn a_removed_owner_takes_the_approvals_along_for_good() {
    let mut case = Case::sound();
    case.go_live();
    let bob = case.owners.pop().unwrap();
    assert_eq!(case.settle().reason, Reason::OwnerRemoved);
    case.owners.push(bob);
    assert_eq!(
        case.settle().reason,
        Reason::AwaitingApproval,
        "back as the same object: approve again"
    );
    case.approve("two", "2026-12-02T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn an_owner_who_leaves_ends_it_on_that_day_and_does_not_return_as_the_same_object() {
    let mut case = Case::sound();
    let leave = at("2026-12-10T00:00:00Z");
    case.owners[1].spec.until = Some(leave);
    let verdict = case.settle();
    let Access::Active {
        until, ends_because, ..
    } = verdict.access
    else {
        panic!("inactive")
    };
    assert_eq!((until, ends_because), (leave, Reason::OwnerRemoved));
    assert_eq!(verdict.next_change, Some(leave));
    assert!(verdict.message.ends_with("when an owner leaves"), "{}", verdict.message);
    case.owners[1].spec.until = Some(at("2026-12-20T00:00:00Z"));
    assert_eq!(case.settle().reason, Reason::Issued, "moved in time");
    case.now = at("2026-12-20T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::OwnerRemoved);

    case.owners[1].spec.until = Some(at("2027-12-01T00:00:00Z"));
    case.approve("two", "2026-12-20T00:00:01Z");
    case.now = at("2026-12-21T00:00:00Z");
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::OwnerRemoved, "moved when it had passed");
    assert!(verdict.message.contains("bob had left"), "{}", verdict.message);
    case.owners[1].metadata.uid = Some("uid-of-another-bob".to_owned());
    case.owners[1].metadata.creation_timestamp = case.grant.metadata.creation_timestamp.clone();
    case.decisions
        .retain(|decision| decision.metadata.name.as_deref() != Some("two"));
    assert_eq!(
        case.settle().reason,
        Reason::AwaitingApproval,
        "a new object, and no fresh approval"
    );
    case.approve("three", "2026-12-21T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn an_approval_made_while_an_owner_is_gone_never_counts() {
    let mut case = Case::sound();
    case.owners[1].spec.active = false;
    case.settle();
    assert_eq!(case.settle(), case.ask(), "nothing is written again and again");
    // Bob is made anew in the second of an approval that was made before.
    case.now = at("2026-12-03T00:00:00Z");
    case.approve("two", "2026-12-03T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::OwnerRemoved);
    let mut anew = owner("bob");
    anew.metadata.uid = Some("uid-of-another-bob".to_owned());
    anew.metadata.creation_timestamp = case.decisions[1].metadata.creation_timestamp.clone();
    case.owners[1] = anew;
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.approve("three", "2026-12-03T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn an_integration_that_saw_an_owner_leave_is_believed_by_a_new_grant() {
    let mut case = Case::sound();
    case.integration().status = Some(PartnerIntegrationStatus {
        departed_owners: vec!["uid-of-bob".to_owned()],
        ..PartnerIntegrationStatus::default()
    });
    assert_eq!(case.ask().reason, Reason::OwnerRemoved);
}

#[test]
fn a_leave_that_passed_while_nobody_looked_voids_the_approvals() {
    let mut case = Case::sound();
    case.owners[1].spec.until = Some(at("2026-12-10T00:00:00Z"));
    case.go_live();
    case.owners[1].spec.until = None;
    case.now = at("2026-12-11T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.approve("two", "2026-12-11T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued, "nobody saw the owner leave");
}

#[test]
fn a_change_there_and_back_voids_the_approval() {
    let mut case = Case::sound();
    case.settle();
    case.grant.spec.ticket = Some("CHG-2".into());
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.grant.spec.ticket = Some("CHG-4711".into());
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.approve("two", "2026-12-02T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn a_change_can_be_approved_before_it_is_made() {
    let mut case = Case::sound();
    case.settle();
    case.grant.spec.ticket = Some("CHG-2".into());
    case.approve("two", "2026-12-01T12:00:00Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn a_role_that_grows_ends_the_grant_until_it_is_approved_again() {
    let mut case = of_cluster_role(1);
    case.approve("two", "2026-12-01T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::Issued);
    case.holds(&["get", "list"]);
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::RoleGrew);
    assert!(verdict.message.contains("list configmaps"), "{}", verdict.message);
    case.approve("three", "2026-12-02T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
    case.holds(&["get"]);
    assert_eq!(case.settle().reason, Reason::Issued, "shrinking ends nothing");
}

fn rule(verb: &str) -> ResolvedRule {
    ResolvedRule {
        api_groups: vec![String::new()],
        resources: vec!["configmaps".to_owned()],
        verbs: vec![verb.to_owned()],
        resource_names: Vec::new(),
    }
}

/// Of a ClusterRole, which holds `get`, and with so many approvals asked for.
fn of_cluster_role(count: i32) -> Case {
    let mut case = Case::sound();
    case.of_cluster_role();
    case.policies[0].spec.access.long_running = true;
    case.policies[0].spec.requires.approvals[0].count = count;
    case.holds(&["get"]);
    case
}

#[test]
fn a_role_that_grew_is_approved_by_as_many_as_before() {
    let mut case = of_cluster_role(2);
    case.approve_by("one", "dave@corp.example", "2026-12-01T00:00:00Z");
    case.approve_by("two", "erin@corp.example", "2026-12-01T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::Issued);
    case.holds(&["get", "list"]);
    assert_eq!(case.settle().reason, Reason::RoleGrew);
    case.approve_by("three", "dave@corp.example", "2026-12-02T00:00:01Z");
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::RoleGrew, "one of two: {}", verdict.message);
    assert_eq!(verdict.decisions["one"].reason, "RolesChanged");
    case.approve_by("four", "erin@corp.example", "2026-12-02T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
    // Of what it holds now, and no more.
    case.holds(&["get", "list", "watch"]);
    assert_eq!(case.settle().reason, Reason::RoleGrew);
    case.holds(&["list", "get"]);
    assert_eq!(case.settle().reason, Reason::Issued, "the order of rules is nothing");
}

#[test]
fn a_role_that_grows_between_two_approvals_was_approved_by_nobody() {
    let mut case = of_cluster_role(2);
    case.approve_by("one", "dave@corp.example", "2026-12-01T00:00:00Z");
    assert_eq!(case.settle().reason, Reason::AwaitingApproval);
    case.holds(&["get", "list"]);
    case.approve_by("two", "erin@corp.example", "2026-12-01T00:00:00Z");
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::AwaitingApproval);
    assert!(
        verdict.message.contains("AccessDecision one does not count"),
        "{}",
        verdict.message
    );
    case.holds(&["get"]);
    assert_eq!(
        case.settle().reason,
        Reason::AwaitingApproval,
        "two approved another thing"
    );
    case.approve_by("three", "erin@corp.example", "2026-12-01T00:00:01Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn a_role_that_goes_and_comes_back_as_it_was_needs_no_new_word_and_one_that_comes_back_wider_does() {
    for self_service in [false, true] {
        let mut case = of_cluster_role(1);
        case.of_mild(self_service);
        case.approve_by("one", "dave@corp.example", "2026-12-01T00:00:00Z");
        assert_eq!(case.settle().reason, Reason::Issued);
        case.cluster_roles.clear();
        assert_eq!(case.settle().reason, Reason::NotPermitted);
        case.holds(&["get"]);
        assert_eq!(case.settle().reason, Reason::Issued);
        case.cluster_roles.clear();
        case.settle();
        case.holds(&["get", "list"]);
        assert_eq!(case.settle().reason, Reason::RoleGrew, "{self_service}");
    }
}

#[test]
fn under_report_a_role_that_grew_or_shrank_is_said_and_ends_nothing() {
    let mut case = of_cluster_role(1);
    case.policies[0].spec.access.on_role_growth = OnRoleGrowth::Report;
    case.approve_by("one", "dave@corp.example", "2026-12-01T00:00:00Z");
    assert_eq!(case.settle().roles_changed, None);
    case.holds(&["list"]);
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::Issued);
    let words = verdict.roles_changed.unwrap();
    assert!(
        words.contains("holds more than was approved: list configmaps")
            && words.contains("holds less than was approved: get"),
        "{words}"
    );
    case.approve_by("two", "dave@corp.example", "2026-12-02T00:00:01Z");
    assert_eq!(case.settle().roles_changed, None, "approved as it is");
    let mut case = of_cluster_role(1);
    case.approve_by("one", "dave@corp.example", "2026-12-01T00:00:00Z");
    case.holds(&["get", "list"]);
    case.settle();
    case.holds(&["get"]);
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::Issued);
    assert!(verdict.roles_changed.unwrap().contains("less"));
}

#[test]
fn an_owner_who_went_ends_self_service_until_somebody_approves() {
    let mut case = Case::sound();
    case.of_mild(true);
    case.decisions.clear();
    case.go_live();
    assert_eq!(case.settle().reason, Reason::Issued);
    let bob = case.owners.pop().unwrap();
    assert_eq!(case.settle().reason, Reason::OwnerRemoved);
    case.owners.push(bob);
    let verdict = case.settle();
    assert_eq!(verdict.reason, Reason::OwnerRemoved);
    assert!(verdict.message.contains("have it approved"), "{}", verdict.message);
    case.now = at("2026-12-03T00:00:00Z");
    case.approve("late", "2026-12-02T12:00:00Z");
    assert_eq!(case.settle().reason, Reason::Issued);
}

#[test]
fn who_asked_stays_on_record_whoever_stands_there_later() {
    let mut case = Case::sound();
    case.decisions.clear();
    case.settle();
    case.grant.spec.requested_by = Some("mallory@corp.example".into());
    let verdict = case.settle();
    let involved = verdict.kept.status.involved;
    assert!(involved.contains(&"carol@corp.example".to_owned()), "{involved:?}");
    assert!(involved.contains(&"mallory@corp.example".to_owned()), "{involved:?}");
    case.approve_by("own", "carol@corp.example", "2026-12-01T00:00:00Z");
    let verdict = case.settle();
    assert_eq!(verdict.decisions["own"].reason, "OwnRequest");
}

#[test]
fn deciding_twice_remembers_the_same() {
    let mut case = Case::sound();
    let first = case.settle();
    assert_eq!(case.settle(), first);
}

#[test]
fn a_preferred_hard_expiry_lets_a_short_grant_begin() {
    let mut case = Case::sound();
    case.policies[0].spec.limits.hard_expiry = HardExpiry::Preferred;
    case.now = at("2027-01-19T23:58:30Z");
    let Access::Active { hard_expiry, .. } = case.ask().access else {
        panic!("inactive")
    };
    assert!(!hard_expiry);
    assert_eq!(case.grant.metadata.uid.as_deref(), Some(GRANT_UID));
}

proptest! {
    /// Over any times: active only within the term, approved and before every end; the next change is always ahead.
    #[test]
    fn access_lies_within_every_bound(
        now in 0i64..120, starts in prop::option::of(0i64..120), expires in 0i64..120, agreement in prop::option::of(0i64..120),
        made in 0i64..120, valid in prop::option::of(0i64..120), no in prop::option::of(0i64..120), live in any::<bool>(),
        leaves in prop::option::of(0i64..120), lifetime in 900i64..86_400, uninstalling in any::<bool>(),
    ) {
        let day = |days: i64| at("2026-12-01T00:00:00Z").plus(days * 86_400);
        let mut case = Case::sound();
        case.now = day(now);
        case.decisions.clear();
        case.grant.spec.expires_at = day(expires);
        case.grant.spec.starts_at = starts.map(day);
        case.policies[0].spec.limits.duration = None;
        case.integration().spec.agreement.ends_at = agreement.map(day);
        case.approve("one", &day(made).to_string());
        case.decisions[0].spec.valid_until = valid.map(day);
        case.owners[0].spec.until = leaves.map(day);
        if let Some(no) = no {
            case.decisions.push(decision("no", "Revoke", "erin", "sha256:0", &day(no).to_string()));
        }
        if live {
            case.go_live();
        }
        case.uninstalling = uninstalling.then_some("the marker is there");
        let verdict = case.ask();
        let lapse = made + 97;
        let within = !uninstalling && now < expires
            && starts.is_none_or(|starts| starts <= now)
            && agreement.is_none_or(|end| now < end)
            && leaves.is_none_or(|end| now < end)
            && now < valid.unwrap_or(lapse).min(lapse)
            && no.is_none_or(|no| made > no);
        prop_assert_eq!(verdict.access != Access::Inactive, within, "{}", verdict.message);
        prop_assert!(verdict.next_change.is_none_or(|next| next > case.now));
        if let Access::Active { until, .. } = verdict.access {
            prop_assert!(until > case.now);
            for end in [leaves, agreement, valid, Some(expires)].into_iter().flatten() {
                prop_assert!(until <= day(end), "no end is passed over");
            }
            if let Some(token) = lifetime::ask(case.now, until, lifetime, true) {
                let dead = case.now.plus(token.seconds + lifetime::FADE);
                prop_assert!(leaves.is_none_or(|end| dead <= day(end)), "a token outlives its owner");
            }
            prop_assert!(verdict.next_change.is_some_and(|next| next <= until), "asked again by the end");
        }
        prop_assert!(!verdict.message.is_empty());
    }
}

#[test]
fn older_active_grants_of_the_integration_come_first() {
    let active = |uid: &str, created: &str| {
        let mut it = grant();
        it.metadata.uid = Some(uid.to_owned());
        it.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            at(created).timestamp(),
        ));
        let status = serde_json::json!({"conditions": [{
            "type": "Active", "status": "True", "reason": "Issued", "message": "",
            "lastTransitionTime": "2026-11-24T10:43:02Z",
        }]});
        it.status = Some(serde_json::from_value(status).unwrap());
        it
    };
    let this = active("b", "2026-11-01T00:00:00Z");
    let older = active("z", "2026-10-01T00:00:00Z");
    let as_old = active("a", "2026-11-01T00:00:00Z");
    let younger = active("c", "2026-11-02T00:00:00Z");
    let mut inactive = older.clone();
    inactive.status = None;
    let mut of_another = older.clone();
    of_another.spec.integration_ref.name = "another".into();
    let all = [&this, &older, &as_old, &younger, &inactive, &of_another];
    assert_eq!(crate::domain::verdict::earlier_siblings(&this, all), 2);
}

#[test]
fn a_namespace_that_no_policy_opens_is_told_of_alike_whatever_it_is() {
    fn other(enrolled: bool, terminating: bool) -> Namespace {
        Namespace {
            uid: "uid-of-other".to_owned(),
            labels: [(LABEL_CLASSIFICATION.to_owned(), "Restricted".to_owned())].into(),
            enrolled,
            terminating,
        }
    }
    let asking = |change: fn(&mut Case)| {
        let mut case = Case::sound();
        case.grant.spec.access[0].namespaces = vec!["payments".into(), "other".into()];
        case.decisions.clear();
        change(&mut case);
        let verdict = case.ask();
        // The digest is over the UIDs of namespaces, and nothing can be read from it.
        let digest = verdict.kept.status.digest.unwrap_or_default();
        let message = verdict.message.replace(&digest, "the digest");
        (verdict.reason, message, verdict.approved)
    };
    let absent = asking(|_| {});
    assert_eq!(absent.0, Reason::NotPermitted);
    assert!(
        absent.1.contains("other") && !absent.1.contains("enrolled"),
        "{}",
        absent.1
    );
    for change in [
        (|case: &mut Case| drop(case.namespaces.insert("other".to_owned(), other(true, false)))) as fn(&mut Case),
        |case| drop(case.namespaces.insert("other".to_owned(), other(false, false))),
        |case| drop(case.namespaces.insert("other".to_owned(), other(true, true))),
    ] {
        assert_eq!(asking(change), absent);
    }
}

#[test]
fn the_digest_tells_of_no_namespace_whether_it_is_there() {
    let section = |case: &Case| case.ask().kept.status.digest_sections[TARGETS].clone();
    let mut case = Case::sound();
    let own = section(&case);
    case.grant.spec.access[0].namespaces = vec!["payments".into(), "other".into()];
    let missing = section(&case);
    assert_ne!(
        missing, own,
        "so it would be, were a missing one left out: whoever asked can compute that"
    );
    case.absent_key = Some("another");
    assert_ne!(section(&case), missing);
    // Who doesn't know the key goes by the status.
    case.absent_key = None;
    let status = case.grant.status.get_or_insert_default();
    status.digest_sections = [(TARGETS.to_owned(), missing.clone())].into();
    assert_eq!(section(&case), missing);
    // An approval is of the namespace that was there when it was given: one that is made again is another.
    case.absent_key = Some("uid-of-identities");
    let namespace = case.namespaces["payments"].clone();
    let of = |uid: &str| Namespace {
        uid: uid.to_owned(),
        ..namespace.clone()
    };
    case.namespaces.insert("other".to_owned(), of("one"));
    let there = section(&case);
    case.namespaces.insert("other".to_owned(), of("two"));
    assert!(there != missing && section(&case) != there);
}

#[test]
fn without_its_integration_no_decision_on_the_grant_is_weighed_and_each_is_told_so() {
    let mut case = Case::sound();
    case.integration = None;
    let told = case.ask().decisions;
    assert_eq!(told.len(), 1);
    assert_eq!(told["one"].reason, "IntegrationMissing");
}

#[test]
fn who_left_the_integration_is_remembered_once_and_only_of_the_owners_of_today() {
    let mut case = Case::sound();
    case.integration().status = Some(PartnerIntegrationStatus {
        departed_owners: vec!["uid-of-bob".to_owned(), "uid-of-somebody-before".to_owned()],
        ..PartnerIntegrationStatus::default()
    });
    for _ in 0..2 {
        let verdict = case.settle();
        assert_eq!(verdict.kept.status.departed_owners, ["uid-of-bob"]);
    }
}

#[test]
fn what_changes_now_is_no_next_change() {
    let mut case = Case::sound();
    case.grant.spec.starts_at = Some(case.now);
    case.decisions.clear();
    case.approve("one", "2026-12-01T00:00:00Z");
    assert_eq!(case.ask().next_change, Some(case.grant.spec.expires_at));
}

#[test]
fn an_owner_who_is_gone_is_noted_once_though_the_api_server_is_ahead() {
    let mut case = Case::sound();
    case.decisions.clear();
    let written = case.now.plus(5);
    case.approve("one", &written.to_string());
    case.owners[1].spec.active = false;
    for later in [0, 10, 20] {
        case.now = at("2026-12-02T00:00:00Z").plus(later);
        assert_eq!(
            case.settle().kept.status.owner_removed_at,
            Some(written),
            "{later} s later"
        );
    }
}

#[test]
fn of_those_who_asked_no_more_are_kept_than_status_holds() {
    let mut case = Case::sound();
    case.grant.spec.contributors = (0..=MOST_INVOLVED)
        .map(|number| format!("user-{number}").as_str().into())
        .collect();
    for _ in 0..2 {
        assert_eq!(case.settle().kept.status.involved.len(), MOST_INVOLVED);
    }
}

#[test]
fn an_owners_removal_is_of_now_whatever_else_was_decided_later() {
    let mut case = Case::sound();
    let later = case.now.plus(100).to_string();
    let digest = case.decisions[0].spec.digest.clone().unwrap();
    let made = |name: &str, change: fn(&mut AccessDecision)| {
        let mut made = decision(name, "Approve", "erin@corp.example", &digest.0, &later);
        change(&mut made);
        made
    };
    case.decisions.extend([
        made("of-another", |it| it.spec.subject.name = "another".into()),
        made("of-an-integration", |it| {
            it.spec.subject.kind = SubjectKind::PartnerIntegration
        }),
        made("a-review", |it| it.spec.decision = Decision::Review),
    ]);
    case.owners[1].spec.active = false;
    assert_eq!(case.ask().kept.status.owner_removed_at, Some(case.now));
}

#[test]
fn growth_that_is_reported_is_told_for_as_long_as_it_is_there() {
    let mut case = Case::sound();
    case.of_cluster_role();
    case.policies[0].spec.access.on_role_growth = OnRoleGrowth::Report;
    case.holds(&["get"]);
    case.approve("one", "2026-12-01T00:00:00Z");
    case.go_live();
    assert_eq!(case.settle().roles_changed, None);
    case.holds(&["get", "list"]);
    for _ in 0..3 {
        let verdict = case.settle();
        assert_eq!(verdict.reason, Reason::Issued);
        assert!(verdict.roles_changed.unwrap().contains("holds more than was approved"));
        let kept = &case.grant.status.as_ref().unwrap().resolved_rules;
        assert_eq!(kept[0].rules, [rule("get")], "as it was approved");
    }
}
