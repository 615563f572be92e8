//! Reviews: which of a grant's approvals one renews, and until when.
//!
//! A Review lends an approval a later end and nothing else: where no approval counts there is nothing that it could give.
//! Each that was counted is kept beside the approval with the dates that it gave, so that later edits can only shorten
//! them; the latest date of all is the approval's. So a Review that is taken away never prolongs anything.

use std::collections::{BTreeMap, BTreeSet};

use super::Confirmation;
use super::checked::unchecked;
use super::standing::{
    Objection, Question, decider_objection, digest_objection, made_at, name, uid, void_objection, written_at,
};
use crate::api::conditions::counted as words;
use crate::api::v1alpha1::{
    AccessDecision, CountedApproval, Decision, Instant, PartnerIntegration, Renewal, ReviewedGrant, SubjectKind, Term,
};
use crate::domain::admission::Proofs;
use crate::domain::ownership::Person;

/// The most renewals of one approval that status keeps.
const MOST_RENEWALS: usize = 8;

/// What a Review did for a grant that it lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewOutcome {
    /// It renewed the grant's approval, which is good by it until then.
    Renewed(Instant),
    /// The API server is yet to be asked whether the reviewer may review.
    Unconfirmed,
    /// Nothing, and why.
    Nothing(Objection),
}

/// What the Reviews amount to for one grant.
#[derive(Debug, Default)]
pub(super) struct Reviewed {
    /// What each Review that lists the grant did, by the decision's name.
    pub(super) outcomes: BTreeMap<String, ReviewOutcome>,
    /// UIDs of Reviews that would count once their reviewer is confirmed.
    pub(super) to_confirm: BTreeSet<String>,
}

/// Renews the approvals that count by the Reviews among the decisions.
pub(super) fn renew(
    question: &Question<'_>,
    decisions: &[&AccessDecision],
    counted: &mut [CountedApproval],
    void_until: Option<Instant>,
    involved: &BTreeSet<Person<'_>>,
) -> Reviewed {
    let mut reviews: Vec<&AccessDecision> = decisions.iter().copied().filter(|it| lists(question, it)).collect();
    // One that came late can still have been written in time: what was in force then is what counts.
    reviews.sort_by_key(|review| (written_at(review), name(review)));
    let mut reviewed = Reviewed::default();
    let mut sound = Vec::new();
    for review in reviews {
        match objection(question, review, void_until, involved) {
            Some(objection) => reviewed.tell(review, ReviewOutcome::Nothing(objection)),
            None => sound.push(review),
        }
    }
    if counted.is_empty() {
        for review in &sound {
            let words = "no approval of it counts, and a review gives none: approve it".to_owned();
            reviewed.tell(review, nothing(words::NOTHING_TO_RENEW, words));
        }
    }
    for approval in counted {
        // None only where the approval is not among the decisions, as can't be: then nothing renews it.
        let own = decisions.iter().find(|decision| uid(decision) == approval.uid);
        if let Some(own) = own {
            renew_one(question, own, approval, &sound, &mut reviewed);
        }
    }
    reviewed
}

/// Puts the Reviews that renew one approval beside it, and gives it the latest of their dates.
fn renew_one(
    question: &Question<'_>,
    own: &AccessDecision,
    approval: &mut CountedApproval,
    reviews: &[&AccessDecision],
    reviewed: &mut Reviewed,
) {
    let unrenewed = term_of(approval);
    let mut end = unrenewed.valid_until;
    // The end, were every reviewer confirmed.
    let mut hoped = end;
    let mut renewals: Vec<Renewal> = Vec::new();
    for review in reviews {
        let at = made_at(review);
        let computed = term(question.integration, at, own.spec.valid_until, review.spec.valid_until);
        let known = kept(question, &approval.uid).and_then(|approval| renewal(approval, uid(review)));
        let term = match known {
            Some(known) => earlier(known.term, computed),
            None if at < approval.at => {
                let words = format!(
                    "it was made before AccessDecision {}, which counts now",
                    approval.decision_ref
                );
                reviewed.tell(review, nothing(words::NOTHING_TO_RENEW, words));
                continue;
            }
            None if approval.reviews_forgotten.is_some_and(|forgotten| at <= forgotten) => {
                reviewed.tell(review, surplus());
                continue;
            }
            None if written_at(review) >= hoped => {
                let words = format!(
                    "it came after AccessDecision {} had lapsed, at {end}: approve again",
                    approval.decision_ref
                );
                reviewed.tell(review, nothing(words::LAPSED, words));
                continue;
            }
            None if is_unchecked(question, review) => {
                reviewed.tell(review, ReviewOutcome::Nothing(unchecked()));
                continue;
            }
            None => match confirmation(question, review) {
                Some(Confirmation::Allowed) if written_at(review) < end => computed,
                Some(Confirmation::Refused(why)) => {
                    reviewed.tell(review, nothing(words::NOT_ALLOWED, why));
                    continue;
                }
                // It may have been in force by an earlier one that is yet to be confirmed.
                Some(Confirmation::Allowed) => {
                    reviewed.tell(review, ReviewOutcome::Unconfirmed);
                    continue;
                }
                None => {
                    reviewed.to_confirm.insert(uid(review).to_owned());
                    reviewed.tell(review, ReviewOutcome::Unconfirmed);
                    hoped = hoped.max(computed.valid_until);
                    continue;
                }
            },
        };
        end = end.max(term.valid_until);
        hoped = hoped.max(end);
        renewals.push(Renewal {
            decision_ref: name(review).to_owned(),
            uid: uid(review).to_owned(),
            by: review
                .spec
                .decided_by
                .as_ref()
                .map_or_else(String::new, |by| by.0.clone()),
            at,
            term,
        });
    }
    renewals.sort_by(|one, other| (one.at, &one.decision_ref).cmp(&(other.at, &other.decision_ref)));
    let surplus_of = renewals.len().saturating_sub(MOST_RENEWALS);
    for forgotten in renewals.drain(..surplus_of) {
        approval.reviews_forgotten = approval.reviews_forgotten.max(Some(forgotten.at));
        reviewed.note(&forgotten.decision_ref, surplus());
    }
    for renewal in &renewals {
        approval.valid_until = approval.valid_until.max(renewal.term.valid_until);
        approval.review_due = approval.review_due.max(Some(renewal.term.review_due));
        reviewed.note(&renewal.decision_ref, ReviewOutcome::Renewed(renewal.term.valid_until));
    }
    approval.unrenewed = (!renewals.is_empty()).then_some(unrenewed);
    approval.renewed_by = renewals;
}

impl Reviewed {
    fn tell(&mut self, review: &AccessDecision, outcome: ReviewOutcome) {
        self.note(name(review), outcome);
    }

    /// Of a grant with several approvals the best is told: that one was renewed, else that it may be, else why not.
    fn note(&mut self, review: &str, outcome: ReviewOutcome) {
        let rank = |outcome: &ReviewOutcome| match outcome {
            ReviewOutcome::Nothing(_) => (0, None),
            ReviewOutcome::Unconfirmed => (1, None),
            ReviewOutcome::Renewed(until) => (2, Some(*until)),
        };
        match self.outcomes.get(review) {
            Some(told) if rank(told) >= rank(&outcome) => {}
            _ => {
                self.outcomes.insert(review.to_owned(), outcome);
            }
        }
    }
}

/// The dates of an approval from its making: a review after the interval, the end after the grace, or its own date.
pub(super) fn unrenewed(integration: &PartnerIntegration, approve: &AccessDecision, at: Instant) -> Term {
    term(integration, at, approve.spec.valid_until, None)
}

/// The dates that status holds of an approval from before any renewal.
pub(super) fn frozen(approval: &CountedApproval) -> Term {
    approval.unrenewed.unwrap_or_else(|| term_of(approval))
}

/// The earlier of each date.
pub(super) fn earlier(one: Term, other: Term) -> Term {
    Term {
        review_due: one.review_due.min(other.review_due),
        valid_until: one.valid_until.min(other.valid_until),
    }
}

fn term_of(approval: &CountedApproval) -> Term {
    Term {
        review_due: approval.review_due.unwrap_or(approval.valid_until),
        valid_until: approval.valid_until,
    }
}

/// A review is due an interval after `at`, and the grace goes on from there. The approval's own date bounds both, and so does
/// the review's: what ends on it must be spoken of ahead of it.
fn term(integration: &PartnerIntegration, at: Instant, approval: Option<Instant>, review: Option<Instant>) -> Term {
    let interval = integration.spec.review.interval.as_seconds();
    let grace = integration.spec.review.grace.map_or(0, |grace| grace.as_seconds());
    let due = at.plus(interval);
    let ends = || [approval, review].into_iter().flatten();
    Term {
        review_due: ends().fold(due, Instant::min),
        valid_until: ends().fold(due.plus(grace), Instant::min),
    }
}

/// A Review of the grant's integration that lists a grant of its name.
fn lists(question: &Question<'_>, decision: &AccessDecision) -> bool {
    decision.spec.decision == Decision::Review
        && decision.spec.subject.kind == SubjectKind::PartnerIntegration
        && entries(question, decision).next().is_some()
}

fn entries<'a>(question: &Question<'a>, review: &'a AccessDecision) -> impl Iterator<Item = &'a ReviewedGrant> {
    let grant = question.grant.metadata.name.as_deref().unwrap_or_default();
    let listed = review.spec.grants.iter().flatten();
    listed.filter(move |entry| entry.name.0 == grant)
}

/// Why a Review renews nothing of this grant, whatever its approvals.
fn objection(
    question: &Question<'_>,
    review: &AccessDecision,
    void_until: Option<Instant>,
    involved: &BTreeSet<Person<'_>>,
) -> Option<Objection> {
    if review.metadata.deletion_timestamp.is_some() {
        return Some(Objection::new(words::WITHDRAWN, "the review is being deleted"));
    }
    let integration = question.integration.metadata.uid.as_deref().unwrap_or_default();
    if review.spec.subject.uid.as_ref().is_some_and(|uid| uid.0 != integration) {
        let words =
            format!("the review is of another PartnerIntegration of this name: this one's UID is {integration}");
        return Some(Objection::new(words::ANOTHER_UID, words));
    }
    let grant = question.grant.metadata.uid.as_deref().unwrap_or_default();
    let mut of_grant = entries(question, review).filter(|entry| entry.uid.0 == grant);
    let Some(first) = of_grant.next() else {
        let words = format!("it lists another AccessGrant of this name: this one's UID is {grant}");
        return Some(Objection::new(words::ANOTHER_UID, words));
    };
    let current = of_grant
        .find(|entry| entry.digest.0 == question.digest)
        .unwrap_or(first);
    digest_objection(question, &current.digest.0, made_at(review))
        .or_else(|| void_objection(made_at(review), void_until))
        .or_else(|| decider_objection(question, review, involved))
}

/// What is known of the reviewer's right; who was counted once for this grant is not asked for again.
fn confirmation(question: &Question<'_>, review: &AccessDecision) -> Option<Confirmation> {
    if was_counted(question, review) {
        return Some(Confirmation::Allowed);
    }
    // None where it is yet to be read whether anybody checked.
    question.proofs?;
    question.confirmations.get(uid(review)).cloned()
}

/// Nobody checked who made it; one that was counted before was checked in its time.
fn is_unchecked(question: &Question<'_>, review: &AccessDecision) -> bool {
    let is_unchecked = |proofs: &Proofs| !proofs.held_at(written_at(review));
    !was_counted(question, review) && question.proofs.is_some_and(is_unchecked)
}

fn was_counted(question: &Question<'_>, review: &AccessDecision) -> bool {
    let mut approvals = question.previous.approvals.iter();
    approvals.any(|approval| renewal(approval, uid(review)).is_some())
}

fn kept<'a>(question: &Question<'a>, approval: &str) -> Option<&'a CountedApproval> {
    let mut approvals = question.previous.approvals.iter();
    approvals.find(|kept| kept.uid == approval)
}

fn renewal<'a>(approval: &'a CountedApproval, review: &str) -> Option<&'a Renewal> {
    approval.renewed_by.iter().find(|renewal| renewal.uid == review)
}

fn nothing(reason: &'static str, words: String) -> ReviewOutcome {
    ReviewOutcome::Nothing(Objection::new(reason, words))
}

fn surplus() -> ReviewOutcome {
    nothing(words::SURPLUS, "later reviews count in its place".to_owned())
}

#[cfg(test)]
mod tests;
