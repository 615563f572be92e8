//! What each decision is told about itself: the Counted condition.

use std::collections::BTreeMap;

use super::lines;
use super::standing::{Objection, Standing, name, uid};
use crate::api::conditions::{counted, types};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, ApprovalRequirement, Decision, Instant, SubjectKind};
use crate::domain::conditions::Desired;

/// What is told of an approval that is one too many.
pub(super) const SURPLUS: &str = "later approvals count in its place";
/// So many groups a decision has room for.
const MOST_GROUPS: usize = 32;

/// The condition of each decision on the grant itself, by the decision's name. One on its integration is of all its
/// grants, and isn't told by the fate of one of them.
pub(super) fn conditions(
    now: Instant,
    asked_for: &[Vec<ApprovalRequirement>],
    decisions: &[&AccessDecision],
    standing: &Standing,
    objections: &BTreeMap<&str, Objection>,
) -> BTreeMap<String, Desired> {
    let own = decisions
        .iter()
        .filter(|decision| decision.spec.subject.kind == SubjectKind::AccessGrant);
    own.map(|decision| {
        let (status, reason, message) = match decision.spec.decision {
            Decision::Approve => approval(now, asked_for, decision, standing, objections.get(uid(decision))),
            Decision::Deny | Decision::Revoke => negative(standing),
            // The schema refuses it.
            Decision::Review => (
                "False",
                counted::NOTHING_TO_RENEW,
                "a Review is of a PartnerIntegration".to_owned(),
            ),
        };
        let condition = Desired::new(types::COUNTED, status, reason, message);
        (name(decision).to_owned(), condition)
    })
    .collect()
}

fn approval(
    now: Instant,
    asked_for: &[Vec<ApprovalRequirement>],
    decision: &AccessDecision,
    standing: &Standing,
    objection: Option<&Objection>,
) -> (&'static str, &'static str, String) {
    if let Some(objection) = objection {
        return ("False", objection.reason, objection.words.clone());
    }
    if standing.to_confirm.contains(uid(decision)) {
        let words = "the API server is yet to be asked whether the decider may approve, and who checked that";
        return ("Unknown", counted::UNCONFIRMED, words.to_owned());
    }
    match standing.counted.iter().find(|approval| approval.uid == uid(decision)) {
        Some(approval) if now < approval.valid_until => {
            let mut words = format!("it counts until {}", approval.valid_until);
            if let Some(renewal) = approval.renewed_by.last() {
                words.push_str(&format!(", last renewed by {}", renewal.decision_ref));
            }
            if !lines::is_asked_for(asked_for, approval) {
                words.push_str(&format!("; {}", beside(asked_for, approval.groups.len())));
            }
            ("True", counted::COUNTED, words)
        }
        Some(approval) => {
            let words = format!("it lapsed at {}: approve again", approval.valid_until);
            ("False", counted::LAPSED, words)
        }
        None => ("False", counted::SURPLUS, SURPLUS.to_owned()),
    }
}

/// What to do where an approval counts and is of no group that is asked for: whoever is in many states some of them only.
fn beside(asked_for: &[Vec<ApprovalRequirement>], stated: usize) -> String {
    let asked_for = lines::describe(asked_for);
    let remedy = "approve again and name it (kubectl wayleave approve --group)";
    if stated >= MOST_GROUPS {
        format!(
            "it states {stated} groups, the most that there is room for, and none that is asked for ({asked_for}): if you are in \
             such a group, {remedy}"
        )
    } else {
        format!("it states no group that is asked for ({asked_for}): if you are in one, {remedy}")
    }
}

fn negative(standing: &Standing) -> (&'static str, &'static str, String) {
    let void_until = [standing.denied_at, standing.revoked_at].into_iter().flatten().max();
    let void_until = void_until.map_or_else(String::new, |at| format!(" after {at}"));
    if standing.denied.is_some() || standing.revoked.is_some() {
        let words = format!("it stands: only approvals made{void_until} count");
        return ("True", counted::STANDS, words);
    }
    let by: Vec<&str> = standing
        .counted
        .iter()
        .map(|approval| approval.decision_ref.as_str())
        .collect();
    let words = format!("outdone by later approvals: {}", by.join(", "));
    ("False", counted::OUTDONE, words)
}

/// The conditions where the grant's integration is not there: nothing was weighed.
#[must_use]
pub fn unweighed(grant: &AccessGrant, decisions: &[&AccessDecision]) -> BTreeMap<String, Desired> {
    let is_about = |decision: &&&AccessDecision| {
        let subject = &decision.spec.subject;
        decision.metadata.namespace == grant.metadata.namespace
            && subject.kind == SubjectKind::AccessGrant
            && Some(&subject.name.0) == grant.metadata.name.as_ref()
    };
    let message = format!(
        "not weighed while PartnerIntegration {} does not exist here, is being deleted or can't be read",
        grant.spec.integration_ref.name
    );
    let condition = Desired::new(types::COUNTED, "Unknown", counted::INTEGRATION_MISSING, message);
    let about = decisions.iter().filter(is_about);
    about
        .map(|decision| (name(decision).to_owned(), condition.clone()))
        .collect()
}
