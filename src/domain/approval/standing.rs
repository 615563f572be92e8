//! Weighs every decision about a grant.

use std::collections::{BTreeMap, BTreeSet};

use super::checked::{unchecked, unchecked_request};
use super::kept::{Covered, MOST_COUNTED, keep_most};
use super::review::{self, ReviewOutcome};
use super::{counted, lines};
use crate::api::conditions::counted as words;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, ApprovalRequirement, CountedApproval, Decision, Instant,
    PartnerIntegration, ReplacedDigest, SubjectKind,
};
use crate::domain::admission::Proofs;
use crate::domain::conditions::Desired;
use crate::domain::ownership::{self, Owners, Person, people, person};

/// What the API server answered when asked whether a decider may decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Yes, in every namespace that the grant reaches.
    Allowed,
    /// No, and in which namespace.
    Refused(String),
}

/// Everything that the weight of decisions depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The time.
    pub now: Instant,
    /// The grant.
    pub grant: &'a AccessGrant,
    /// Its integration.
    pub integration: &'a PartnerIntegration,
    /// The digest of what stands there now.
    pub digest: &'a str,
    /// Digests that were current once.
    pub replaced: &'a [ReplacedDigest],
    /// Every AccessOwner that can be read.
    pub owners: &'a Owners<'a>,
    /// The decisions of the grant's namespace; those about something else are passed over.
    pub decisions: &'a [&'a AccessDecision],
    /// When the admission policies held; none where that is yet to be read.
    pub proofs: Option<&'a Proofs>,
    /// Answers about deciders, by the decision's UID.
    pub confirmations: &'a BTreeMap<String, Confirmation>,
    /// The lines to be met, each policy's by themselves; empty under self-service.
    pub lines: &'a [Vec<ApprovalRequirement>],
    /// Which approvals cover what ClusterRoles hold now.
    pub covered: &'a Covered,
    /// What was kept from the last time.
    pub previous: &'a AccessGrantStatus,
}

/// What the decisions amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The approvals that count, lapsed ones too, sorted by time and name; at most 16, the latest.
    pub counted: Vec<CountedApproval>,
    /// Until when all lines are met; none where they are not, now.
    pub in_force_until: Option<Instant>,
    /// All lines are met by approvals of just what the ClusterRoles hold now; under self-service, one is there.
    pub is_of_now: bool,
    /// All lines would be met, if the ClusterRoles held no more than they did when each approval was counted.
    pub is_outgrown: bool,
    /// Enough approvals counted, but they are no longer in force.
    pub lapsed: bool,
    /// The date on which they end, or ended, where an approval set it itself: no review goes past it.
    pub own_end: Option<Instant>,
    /// The Deny that stands, and what it said.
    pub denied: Option<Negative>,
    /// The Revoke that stands, and what it said.
    pub revoked: Option<Negative>,
    /// The latest Deny, standing or outdone: approvals from before it never count again.
    pub denied_at: Option<Instant>,
    /// The latest Revoke, standing or outdone: approvals from before it never count again.
    pub revoked_at: Option<Instant>,
    /// Why each other approval does not count, by the decision's name.
    pub not_counted: BTreeMap<String, String>,
    /// What each Review that lists the grant did for it, by the decision's name.
    pub reviews: BTreeMap<String, ReviewOutcome>,
    /// When the next review is due: after it too few approvals are in force that aren't overdue.
    pub review_due: Option<Instant>,
    /// UIDs of decisions that would count once their decider is confirmed.
    pub to_confirm: BTreeSet<String>,
    /// The Counted condition of each decision on the grant itself, by the decision's name.
    pub conditions: BTreeMap<String, Desired>,
    /// What is asked for, in words.
    pub asked_for: String,
}

/// A Deny or a Revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negative {
    /// When.
    pub at: Instant,
    /// In words: who and why, where the decision is still there.
    pub words: String,
}

/// Weighs every decision about the question's grant. The order of decisions doesn't matter.
#[must_use]
pub fn consider(question: &Question<'_>) -> Standing {
    let mut decisions: Vec<&AccessDecision> = question
        .decisions
        .iter()
        .copied()
        .filter(|decision| is_about(question, decision))
        .collect();
    decisions.sort_by_key(|decision| (made_at(decision), name(decision)));

    let previous = question.previous;
    let denied = negative(&decisions, Decision::Deny, previous.denied_at);
    let revoked = negative(&decisions, Decision::Revoke, previous.revoked_at);
    let void_until = [
        denied.as_ref().map(|it| it.at),
        revoked.as_ref().map(|it| it.at),
        previous.owner_removed_at,
        previous.ended_without_owner_at,
        previous.account_replaced_at,
    ];
    let void_until = void_until.into_iter().flatten().max();

    let involved = involved(question);
    let mut standing = Standing {
        asked_for: lines::describe(question.lines),
        ..Standing::default()
    };
    let mut objections = BTreeMap::new();
    for decision in decisions
        .iter()
        .copied()
        .filter(|decision| decision.spec.decision == Decision::Approve)
    {
        match weigh(question, decision, void_until, &involved) {
            Weight::Counts(approval) => standing.counted.push(*approval),
            Weight::Unconfirmed => {
                standing.to_confirm.insert(uid(decision).to_owned());
            }
            Weight::DoesNotCount(objection) => {
                standing
                    .not_counted
                    .insert(name(decision).to_owned(), objection.words.clone());
                objections.insert(uid(decision), objection);
            }
        }
    }
    keep_most(question, &mut standing.counted);
    let reviewed = review::renew(question, &decisions, &mut standing.counted, void_until, &involved);
    standing.reviews = reviewed.outcomes;
    standing.to_confirm.extend(reviewed.to_confirm);

    let of = |is_meant: &dyn Fn(&CountedApproval) -> bool| -> Vec<&CountedApproval> {
        standing.counted.iter().filter(|approval| is_meant(approval)).collect()
    };
    let (lines, owners, covered) = (question.lines, question.owners, question.covered);
    let is_in_force = |approval: &CountedApproval| question.now < approval.valid_until;
    let in_force = of(&|approval| is_in_force(approval) && covered.by(approval));
    let of_now = of(&|approval| is_in_force(approval) && covered.is_of_now(approval));
    let unexpired = of(&is_in_force);
    let covering = of(&|approval| covered.by(approval));
    for approval in standing.counted.iter().filter(|approval| !covered.by(approval)) {
        let words = "the ClusterRoles held other rules when it was first counted: approve again".to_owned();
        standing
            .not_counted
            .insert(approval.decision_ref.clone(), words.clone());
        if let Some(decision) = decisions.iter().find(|decision| uid(decision) == approval.uid) {
            objections.insert(uid(decision), Objection::new(words::ROLES_CHANGED, words));
        }
    }
    let end = |approval: &CountedApproval| approval.valid_until;
    let due = |approval: &CountedApproval| approval.review_due.unwrap_or(approval.valid_until);
    standing.in_force_until = lines::met_until(lines, &in_force, owners, end);
    standing.review_due = lines::met_until(lines, &in_force, owners, due);
    standing.is_of_now = if lines.is_empty() {
        !of_now.is_empty()
    } else {
        lines::met_until(lines, &of_now, owners, end).is_some()
    };
    standing.is_outgrown =
        standing.in_force_until.is_none() && lines::met_until(lines, &unexpired, owners, end).is_some();
    let lapsed_at = match standing.in_force_until {
        None => lines::met_until(lines, &covering, owners, end),
        Some(_) => None,
    };
    standing.lapsed = lapsed_at.is_some();
    let ends_at = standing.in_force_until.or(lapsed_at);
    standing.own_end = ends_at.filter(|end| is_set_by_an_approval(*end, &standing.counted, &decisions));
    let enough = if question.lines.is_empty() {
        !standing.counted.is_empty()
    } else {
        standing.in_force_until.is_some() || standing.lapsed || standing.is_outgrown
    };
    standing.denied_at = denied.as_ref().map(|negative| negative.at);
    standing.revoked_at = revoked.as_ref().map(|negative| negative.at);
    // A Deny or Revoke ends with enough approvals made after it, and only so.
    // All that are counted were made after it.
    if !enough {
        standing.denied = denied;
        standing.revoked = revoked;
    }
    let conditions = counted::conditions(question.now, question.lines, &decisions, &standing, &objections);
    standing.conditions = conditions;
    standing
}

/// Whether an approval that counts ends then by its own date.
fn is_set_by_an_approval(end: Instant, counted: &[CountedApproval], decisions: &[&AccessDecision]) -> bool {
    let own = |approval: &CountedApproval| decisions.iter().find(|decision| uid(decision) == approval.uid);
    let mut ending = counted.iter().filter(|approval| approval.valid_until == end);
    ending.any(|approval| own(approval).is_some_and(|decision| decision.spec.valid_until == Some(end)))
}

enum Weight {
    Counts(Box<CountedApproval>),
    Unconfirmed,
    DoesNotCount(Objection),
}

/// Why an approval or a review does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// In one stable word.
    pub reason: &'static str,
    /// In words.
    pub words: String,
}

impl Objection {
    pub(crate) fn new(reason: &'static str, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { reason, words }
    }
}

fn weigh(
    question: &Question<'_>,
    decision: &AccessDecision,
    void_until: Option<Instant>,
    involved: &BTreeSet<Person<'_>>,
) -> Weight {
    let no = |reason, words: String| Weight::DoesNotCount(Objection { reason, words });
    let spec = &decision.spec;
    let at = made_at(decision);
    let grant_uid = question.grant.metadata.uid.as_deref().unwrap_or_default();
    if decision.metadata.deletion_timestamp.is_some() {
        return no(words::WITHDRAWN, "it is being deleted".to_owned());
    }
    if spec.subject.uid.as_ref().map(|uid| uid.0.as_str()) != Some(grant_uid) {
        return no(
            words::ANOTHER_UID,
            format!("it is of another AccessGrant of this name: this one's UID is {grant_uid}"),
        );
    }
    let approved = spec.digest.as_ref().map_or("", |digest| digest.0.as_str());
    let objection = digest_objection(question, approved, at)
        .or_else(|| void_objection(at, void_until))
        .or_else(|| anew_objection(question, at))
        .or_else(|| decider_objection(question, decision, involved));
    if let Some(objection) = objection {
        return Weight::DoesNotCount(objection);
    }
    let own = question.grant.metadata.namespace.as_deref().unwrap_or_default();
    let reached = question.grant.target_namespaces();
    if let Some(target) = reached
        .iter()
        .find(|ns| *ns != own && !spec.target_namespaces.iter().any(|it| it.0 == **ns))
    {
        return no(
            words::TARGET_MISSING,
            format!("spec.targetNamespaces does not name {target}, which the grant reaches"),
        );
    }

    let today = ownership::uids(question.integration, question.owners);
    let frozen = question
        .previous
        .approvals
        .iter()
        .find(|approval| approval.uid == uid(decision));
    let computed = review::unrenewed(question.integration, decision, at);
    if let Some(frozen) = frozen {
        if frozen.owner_uids != today {
            return no(
                words::OWNERS_CHANGED,
                "the owners are no longer those of the day it was made".to_owned(),
            );
        }
        let term = review::earlier(review::frozen(frozen), computed);
        return Weight::Counts(Box::new(CountedApproval {
            valid_until: term.valid_until,
            review_due: Some(term.review_due),
            renewed_by: Vec::new(),
            unrenewed: None,
            ..frozen.clone()
        }));
    }
    let Some(proofs) = question.proofs else {
        return Weight::Unconfirmed;
    };
    if !proofs.held_at(written_at(decision)) {
        return Weight::DoesNotCount(unchecked());
    }
    if let Some(objection) = unchecked_request(question, proofs) {
        return Weight::DoesNotCount(objection);
    }
    // Counted without them it would be void as soon as they are seen: a watch of owners may lag behind that of decisions.
    let departed = &question.previous.departed_owners;
    let missing = ownership::missing(question.integration, question.owners, departed, question.now);
    if !missing.is_empty() {
        return no(words::OWNER_MISSING, missing.join("; "));
    }
    if let Some(words) = ownership::one_person(question.integration, question.owners) {
        return no(words::OWNER_MISSING, words);
    }
    let newer = ownership::newer_than(question.integration, question.owners, at);
    if !newer.is_empty() {
        return no(
            words::OWNERS_CHANGED,
            format!("it was made before AccessOwner {} was there", newer.join(" and ")),
        );
    }
    if let Some(objection) = forgotten_objection(question, at) {
        return Weight::DoesNotCount(objection);
    }
    match question.confirmations.get(uid(decision)) {
        None => Weight::Unconfirmed,
        Some(Confirmation::Refused(why)) => no(words::NOT_ALLOWED, why.clone()),
        Some(Confirmation::Allowed) => Weight::Counts(Box::new(CountedApproval {
            decision_ref: name(decision).to_owned(),
            uid: uid(decision).to_owned(),
            by: spec.decided_by.as_ref().map_or_else(String::new, |by| by.0.clone()),
            groups: spec.decided_by_groups.iter().map(|group| group.0.clone()).collect(),
            at,
            valid_until: computed.valid_until,
            digest: question.digest.to_owned(),
            roles_digest: question.covered.now.clone(),
            owner_uids: today,
            review_due: Some(computed.review_due),
            renewed_by: Vec::new(),
            unrenewed: None,
            reviews_forgotten: None,
        })),
    }
}

/// Why a decision on this digest, made at `at`, is not one on what stands there now.
pub(super) fn digest_objection(question: &Question<'_>, digest: &str, at: Instant) -> Option<Objection> {
    let current = question.digest;
    let replaced = question.replaced.iter().position(|it| it.digest == digest);
    let replaced = replaced.map(|index| (question.replaced[index].at, changed_since(&question.replaced[index..])));
    let (reason, words) = match replaced {
        Some((when, changed)) if digest != current => (
            words::DIGEST_REPLACED,
            format!("it is of another digest, replaced at {when}{changed}: what stands there now is {current}"),
        ),
        None if digest != current => (
            words::DIGEST_NOT_CURRENT,
            format!("it is of another digest: what stands there now is {current}"),
        ),
        Some((when, changed)) if at <= when => (
            words::DIGEST_REPLACED,
            format!("what it approved was replaced at {when}{changed}: approve again"),
        ),
        _ if question.previous.replaced_before.is_some_and(|before| at <= before) => (
            words::DIGEST_REPLACED,
            "too much was changed since to tell whether what it approved was replaced: approve again".to_owned(),
        ),
        _ => return None,
    };
    Some(Objection { reason, words })
}

/// A no, or an owner who went, voids what was decided before it.
pub(super) fn void_objection(at: Instant, void_until: Option<Instant>) -> Option<Objection> {
    let words = "it was made before the last Deny, Revoke, owner removal or replacement of the ServiceAccount, or in the same second";
    void_until
        .is_some_and(|void| at <= void)
        .then(|| Objection::new(words::VOIDED, words))
}

/// An integration that was deleted and made again is another one: who asks for it now was not known to whoever approved.
fn anew_objection(question: &Question<'_>, at: Instant) -> Option<Objection> {
    let made = question.integration.metadata.creation_timestamp.as_ref()?;
    (at < Instant::new(made.0)).then(|| {
        let name = &question.grant.spec.integration_ref.name;
        let words = format!("it was made before PartnerIntegration {name} was there: approve again");
        Objection::new(words::VOIDED, words)
    })
}

/// Whatever made an approval stop to count is over; its dates, and what it covers, were frozen once and are gone: they must not be
/// those of a later day.
fn forgotten_objection(question: &Question<'_>, at: Instant) -> Option<Objection> {
    if question.previous.approvals_forgotten.is_none_or(|until| at > until) {
        return None;
    }
    if question.previous.approvals.len() >= MOST_COUNTED {
        return Some(Objection::new(words::SURPLUS, counted::SURPLUS));
    }
    let words = "it counted once, or one as old did, and then did not: approve again";
    Some(Objection::new(words::VOIDED, words))
}

/// Why this decider's yes never counts, whatever his rights.
pub(super) fn decider_objection(
    question: &Question<'_>,
    decision: &AccessDecision,
    involved: &BTreeSet<Person<'_>>,
) -> Option<Objection> {
    let Some(by) = decision.spec.decided_by.as_ref().map(|by| by.0.as_str()) else {
        return Some(Objection::new(words::DECIDER_MISSING, "spec.decidedBy is missing"));
    };
    if by.starts_with("system:serviceaccount:") {
        return Some(Objection::new(words::SERVICE_ACCOUNT, "a ServiceAccount can't decide"));
    }
    let verb = match decision.spec.decision {
        Decision::Review => "review",
        _ => "approve",
    };
    involved.contains(&person(by, question.owners)).then(|| {
        let words = format!("{by} requested this or had a hand in it: somebody else must {verb}");
        Objection::new(words::OWN_REQUEST, words)
    })
}

/// The sections that were changed from the first of these digests on, in words; empty where that isn't known.
fn changed_since(replaced: &[ReplacedDigest]) -> String {
    let changed: BTreeSet<&str> = replaced
        .iter()
        .flat_map(|it| it.changed.iter().map(String::as_str))
        .collect();
    if changed.is_empty() {
        return String::new();
    }
    let changed: Vec<&str> = changed.into_iter().collect();
    format!(" (changed since: {})", changed.join(", "))
}

/// A decision on the grant or on its integration, by name.
fn is_about(question: &Question<'_>, decision: &AccessDecision) -> bool {
    let same_namespace = decision.metadata.namespace == question.grant.metadata.namespace;
    let subject = &decision.spec.subject;
    same_namespace
        && match subject.kind {
            SubjectKind::AccessGrant => Some(&subject.name.0) == question.grant.metadata.name.as_ref(),
            SubjectKind::PartnerIntegration => subject.name == question.grant.spec.integration_ref.name,
        }
}

/// The latest of a kind, or what status remembers of one that is gone.
fn negative(decisions: &[&AccessDecision], kind: Decision, remembered: Option<Instant>) -> Option<Negative> {
    // By when it was written: what a delegate states about when it was decided must not hide a later one behind an earlier.
    let found = decisions
        .iter()
        .filter(|decision| decision.spec.decision == kind)
        .max_by_key(|decision| (written_at(decision), name(decision)))
        .map(|decision| {
            let by = decision.spec.decided_by.as_ref().map_or("somebody", |by| by.0.as_str());
            Negative {
                at: written_at(decision),
                words: format!("{by}: {}", decision.spec.reason),
            }
        });
    match (found, remembered) {
        (Some(found), Some(at)) if at > found.at => Some(Negative {
            at,
            words: "the decision is gone, and stands".to_owned(),
        }),
        (Some(found), _) => Some(found),
        (None, remembered) => remembered.map(|at| Negative {
            at,
            words: "the decision is gone, and stands".to_owned(),
        }),
    }
}

fn involved<'a>(question: &Question<'a>) -> BTreeSet<Person<'a>> {
    let (grant, integration) = (&question.grant.spec, &question.integration.spec);
    let requesters = grant.requested_by.iter().chain(&integration.requested_by);
    let contributors = grant.contributors.iter().chain(&integration.contributors);
    let named = requesters.chain(contributors).map(|user| user.0.as_str());
    let before = question.previous.involved.iter().map(String::as_str);
    people(named.chain(before), question.owners)
}

/// When an approval was made: as stated, but never later than it was written, since a later one would outdo a Revoke.
pub(super) fn made_at(decision: &AccessDecision) -> Instant {
    let written = written_at(decision);
    decision.spec.decided_at.map_or(written, |stated| stated.min(written))
}

pub(super) fn written_at(decision: &AccessDecision) -> Instant {
    decision
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Instant::new(jiff::Timestamp::UNIX_EPOCH), |time| Instant::new(time.0))
}

pub(super) fn name(decision: &AccessDecision) -> &str {
    decision.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn uid(decision: &AccessDecision) -> &str {
    decision.metadata.uid.as_deref().unwrap_or_default()
}
