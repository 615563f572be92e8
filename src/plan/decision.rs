//! The status of an AccessDecision, from what was weighed for its subject. Pure: no I/O, no clock, no randomness.

use std::collections::BTreeMap;

use crate::api::conditions::{Reason, counted, types};
use crate::api::v1alpha1::{AccessDecision, AccessDecisionStatus, AccessGrant, Decision, Instant};
use crate::domain::approval::ReviewOutcome;
use crate::domain::conditions::{self, Desired};
use crate::domain::text::bounded;

/// The most names of grants in one message.
const MOST_NAMES: usize = 10;
/// The longest message, in bytes: the API server takes 32 Ki.
const LONGEST_MESSAGE: usize = 30_000;

/// What a decision is about, as far as it can be found.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Nothing of its kind and name is there.
    Missing,
    /// It is there and can't be read.
    Unreadable,
    /// A grant, with what was weighed for it last, by the decision's name; none where that is yet to be done.
    Grant(Option<&'a BTreeMap<String, Desired>>),
    /// An integration, with the grants that hang on it.
    Integration(&'a [&'a AccessGrant]),
    /// An integration that was reviewed, with the grants that the Review lists, by name.
    Reviewed(&'a [(&'a str, Listed<'a>)]),
}

/// A grant that a Review lists.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'a> {
    /// Nothing of its name is there.
    Missing,
    /// It is there and can't be read.
    Unreadable,
    /// It is there, with what the Review was found to do for it; none where that is yet to be weighed.
    There(&'a AccessGrant, Option<&'a ReviewOutcome>),
}

/// The status that a decision should have; none while there is nothing new to say.
#[must_use]
pub fn plan(decision: &AccessDecision, subject: Subject<'_>, now: Instant) -> Option<AccessDecisionStatus> {
    let desired = match subject {
        Subject::Missing => missing(decision),
        Subject::Unreadable => of_unreadable(decision),
        Subject::Grant(weighed) => weighed?.get(decision.metadata.name.as_deref()?)?.clone(),
        Subject::Integration(grants) => of_integration(decision, grants),
        Subject::Reviewed(listed) => reviewed(decision, listed, now)?,
    };
    let before = decision.status.clone().unwrap_or_default();
    let conditions = conditions::merge(&before.conditions, vec![desired], decision.metadata.generation, now);
    let status = AccessDecisionStatus { conditions };
    (status != before).then_some(status)
}

fn missing(decision: &AccessDecision) -> Desired {
    let subject = &decision.spec.subject;
    let what = format!("{:?} {}", subject.kind, subject.name);
    match decision.spec.decision {
        // It holds for the name, so for the next object that has it.
        Decision::Deny | Decision::Revoke => told(
            "Unknown",
            counted::SUBJECT_MISSING,
            format!("{what} does not exist here: this holds once one of that name does"),
        ),
        Decision::Approve | Decision::Review => told(
            "False",
            counted::SUBJECT_MISSING,
            format!("{what} does not exist in this namespace"),
        ),
    }
}

fn of_unreadable(decision: &AccessDecision) -> Desired {
    let subject = &decision.spec.subject;
    let message = format!("{:?} {} can't be read: mend it", subject.kind, subject.name);
    told("Unknown", counted::SUBJECT_UNREADABLE, message)
}

fn of_integration(decision: &AccessDecision, grants: &[&AccessGrant]) -> Desired {
    // What one grant has outdone holds for all others, those to come among them.
    let mut outdone: Vec<&str> = grants
        .iter()
        .filter(|grant| has_outdone(grant, decision))
        .filter_map(|grant| grant.metadata.name.as_deref())
        .collect();
    outdone.sort_unstable();
    let mut message =
        "it stands for every AccessGrant of the integration: only approvals made after it count".to_owned();
    if !outdone.is_empty() {
        let shown = outdone.len().min(MOST_NAMES);
        message.push_str(&format!("; approved anew since: {}", outdone[..shown].join(", ")));
        if shown < outdone.len() {
            message.push_str(&format!(" and {} more", outdone.len() - shown));
        }
    }
    told("True", counted::STANDS, message)
}

/// What became of each grant that a Review lists; none while one of them is yet to be weighed.
fn reviewed(decision: &AccessDecision, listed: &[(&str, Listed<'_>)], now: Instant) -> Option<Desired> {
    if listed.is_empty() {
        let message = "it lists no grant, and renews none".to_owned();
        return Some(told("False", counted::NOTHING_TO_RENEW, message));
    }
    let fates = listed
        .iter()
        .map(|(name, grant)| Some((*name, fate(decision, *grant, now)?)))
        .collect::<Option<Vec<_>>>()?;
    let of_status = |status: &str| fates.iter().filter(|(_, fate)| fate.status == status).count();
    let (renewed, unconfirmed) = (of_status("True"), of_status("Unknown"));
    let first = fates.first().map_or("", |(_, fate)| fate.reason);
    let are_alike = fates.iter().all(|(_, fate)| fate.reason == first);
    let (status, reason) = match (renewed, unconfirmed) {
        (renewed, _) if renewed == fates.len() => ("True", counted::COUNTED),
        (1.., _) => ("True", counted::PARTLY_COUNTED),
        (0, 1..) => ("Unknown", counted::UNCONFIRMED),
        (0, 0) if are_alike => ("False", first),
        (0, 0) => ("False", counted::NOTHING_TO_RENEW),
    };
    let words: Vec<String> = fates
        .iter()
        .map(|(name, fate)| format!("{name}: {}", fate.words))
        .collect();
    Some(told(status, reason, bounded(words.join("; "), LONGEST_MESSAGE)))
}

/// What became of one grant.
struct Fate {
    status: &'static str,
    reason: &'static str,
    words: String,
}

fn fate(decision: &AccessDecision, grant: Listed<'_>, now: Instant) -> Option<Fate> {
    let fate = |status, reason, words: String| Some(Fate { status, reason, words });
    let integration = &decision.spec.subject.name;
    match grant {
        Listed::Missing => {
            let words = "no AccessGrant of this name is in this namespace".to_owned();
            fate("False", counted::SUBJECT_MISSING, words)
        }
        Listed::Unreadable => fate(
            "False",
            counted::SUBJECT_UNREADABLE,
            "it can't be read: mend it".to_owned(),
        ),
        Listed::There(grant, _) if grant.spec.integration_ref.name != *integration => {
            let words = format!(
                "it hangs on another PartnerIntegration, {}",
                grant.spec.integration_ref.name
            );
            fate("False", counted::SUBJECT_MISSING, words)
        }
        Listed::There(_, weighed) => match weighed? {
            ReviewOutcome::Renewed(until) if now < *until => {
                fate("True", counted::COUNTED, format!("renewed until {until}"))
            }
            ReviewOutcome::Renewed(until) => {
                fate("False", counted::LAPSED, format!("what it renewed lapsed at {until}"))
            }
            ReviewOutcome::Unconfirmed => {
                let words = "the API server is yet to be asked whether the reviewer may review".to_owned();
                fate("Unknown", counted::UNCONFIRMED, words)
            }
            ReviewOutcome::Nothing(objection) => {
                fate("False", objection.reason, format!("not renewed, {}", objection.words))
            }
        },
    }
}

/// Whether the grant took note of the decision and was approved anew since.
fn has_outdone(grant: &AccessGrant, decision: &AccessDecision) -> bool {
    let Some(status) = &grant.status else { return false };
    let written = decision
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| Instant::new(time.0));
    let noted = match decision.spec.decision {
        Decision::Deny => status.denied_at,
        _ => status.revoked_at,
    };
    let standing = [
        Reason::Denied.as_str(),
        Reason::Revoked.as_str(),
        Reason::IntegrationMissing.as_str(),
    ];
    noted >= written
        && written.is_some()
        && conditions::find(&status.conditions, types::APPROVED)
            .is_some_and(|approved| !standing.contains(&approved.reason.as_str()))
}

fn told(status: &'static str, reason: &'static str, message: String) -> Desired {
    Desired::new(types::COUNTED, status, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AccessGrantStatus, SubjectKind};
    use crate::domain::approval::Objection;
    use crate::domain::fixtures::{at, decision, grant};

    const DIGEST: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
    const NOW: &str = "2026-12-02T00:00:00Z";

    fn decided(word: &str) -> AccessDecision {
        decision("one", word, "dave@corp.example", DIGEST, "2026-12-01T00:00:00Z")
    }

    fn of_integration(word: &str) -> AccessDecision {
        let mut decision = decided(word);
        decision.spec.subject.kind = SubjectKind::PartnerIntegration;
        decision.spec.subject.name = "acme-billing".into();
        decision
    }

    fn told(decision: &AccessDecision, subject: Subject<'_>) -> (String, String, String) {
        let status = plan(decision, subject, at(NOW)).unwrap();
        let [condition] = status.conditions.try_into().unwrap();
        assert_eq!(condition.type_, "Counted");
        assert_eq!(condition.observed_generation, Some(1));
        (condition.status, condition.reason, condition.message)
    }

    #[test]
    fn a_decision_on_nothing_says_so_and_a_no_waits_for_the_name() {
        let (status, reason, message) = told(&decided("Approve"), Subject::Missing);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "SubjectMissing"));
        assert!(message.contains("AccessGrant acme-billing-reader"), "{message}");
        for word in ["Deny", "Revoke"] {
            let (status, reason, _) = told(&decided(word), Subject::Missing);
            assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "SubjectMissing"));
        }
        assert_eq!(told(&decided("Approve"), Subject::Unreadable).1, "SubjectUnreadable");
    }

    #[test]
    fn what_was_weighed_is_told_once() {
        let mut decision = decided("Approve");
        assert_eq!(plan(&decision, Subject::Grant(None), at(NOW)), None, "not judged yet");
        assert_eq!(plan(&decision, Subject::Grant(Some(&BTreeMap::new())), at(NOW)), None);
        let weighed = |words: &str| -> BTreeMap<String, Desired> {
            [(
                "one".to_owned(),
                Desired::new(types::COUNTED, "True", counted::COUNTED, words),
            )]
            .into()
        };
        let status = plan(&decision, Subject::Grant(Some(&weighed("until then"))), at(NOW)).unwrap();
        let since = status.conditions[0].last_transition_time.clone();
        decision.status = Some(status);
        let later = at(NOW).plus(60);
        assert_eq!(
            plan(&decision, Subject::Grant(Some(&weighed("until then"))), later),
            None
        );
        let status = plan(&decision, Subject::Grant(Some(&weighed("until now"))), later).unwrap();
        assert_eq!(status.conditions[0].last_transition_time, since, "it counts all along");
    }

    #[test]
    fn a_no_to_an_integration_names_the_grants_that_were_approved_anew() {
        let mut anew = grant();
        let mut status = AccessGrantStatus {
            revoked_at: Some(at("2026-12-01T00:00:00Z")),
            ..AccessGrantStatus::default()
        };
        let approved = |reason: &str| Desired::new(types::APPROVED, "True", reason, "");
        status.conditions = conditions::merge(&[], vec![approved("Approved")], Some(1), at(NOW));
        anew.status = Some(status);
        let mut held = anew.clone();
        held.metadata.name = Some("held".to_owned());
        if let Some(status) = &mut held.status {
            status.conditions = conditions::merge(&[], vec![approved("Revoked")], Some(1), at(NOW));
        }
        let (status, reason, message) = told(&of_integration("Revoke"), Subject::Integration(&[&held, &anew]));
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Stands"));
        assert!(
            message.ends_with("approved anew since: acme-billing-reader"),
            "{message}"
        );
        let many = [&anew; MOST_NAMES + 2];
        let (_, _, message) = told(&of_integration("Revoke"), Subject::Integration(&many[..MOST_NAMES]));
        assert!(message.ends_with("reader, acme-billing-reader"), "{message}");
        let (_, _, message) = told(&of_integration("Revoke"), Subject::Integration(&many));
        assert!(message.ends_with("reader and 2 more"), "{message}");
        let (_, _, message) = told(&of_integration("Deny"), Subject::Integration(&[&held, &anew]));
        assert!(!message.contains("anew"), "no grant took note of a Deny: {message}");
    }

    fn of_review(listed: &[(&str, Listed<'_>)]) -> (String, String, String) {
        told(&of_integration("Review"), Subject::Reviewed(listed))
    }

    #[test]
    fn a_review_is_told_what_became_of_each_grant_that_it_lists() {
        let grant = grant();
        let until = ReviewOutcome::Renewed(at("2027-03-01T00:00:00Z"));
        let renewed = Listed::There(&grant, Some(&until));
        let (status, reason, message) = of_review(&[("reader", renewed)]);
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Counted"));
        assert_eq!(message, "reader: renewed until 2027-03-01T00:00:00Z");

        let own = Objection::new(counted::OWN_REQUEST, "carol requested this");
        let own = ReviewOutcome::Nothing(own);
        let not = Listed::There(&grant, Some(&own));
        let (status, reason, message) = of_review(&[("reader", renewed), ("writer", not), ("gone", Listed::Missing)]);
        assert_eq!((status.as_str(), reason.as_str()), ("True", "PartlyCounted"));
        assert!(
            message.contains("writer: not renewed, carol requested this; gone: no AccessGrant"),
            "{message}"
        );
        let (status, reason, _) = of_review(&[("writer", not), ("writer", not)]);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "OwnRequest"), "all alike");
        let (_, reason, _) = of_review(&[("writer", not), ("other", Listed::Unreadable)]);
        assert_eq!(reason, "NothingToRenew");

        let mut elsewhere = grant.clone();
        elsewhere.spec.integration_ref.name = "another".into();
        let (_, _, message) = of_review(&[("reader", Listed::There(&elsewhere, None))]);
        assert!(message.contains("another PartnerIntegration, another"), "{message}");
    }

    #[test]
    fn a_review_waits_for_every_grant_to_be_weighed_and_says_when_its_time_is_over() {
        let grant = grant();
        let until = ReviewOutcome::Renewed(at(NOW));
        let (renewed, unweighed) = (Listed::There(&grant, Some(&until)), Listed::There(&grant, None));
        let review = of_integration("Review");
        let listed = [("reader", renewed), ("writer", unweighed)];
        assert_eq!(plan(&review, Subject::Reviewed(&listed), at(NOW)), None);
        assert_eq!(of_review(&[("reader", renewed)]).1, "Lapsed");
        let yet = Listed::There(&grant, Some(&ReviewOutcome::Unconfirmed));
        let (status, reason, _) = of_review(&[("reader", renewed), ("writer", yet)]);
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Unconfirmed"));
        assert_eq!(of_review(&[]).1, "NothingToRenew");
    }

    #[test]
    fn what_a_review_is_told_fits_whatever_it_lists() {
        let grant = grant();
        let long = ReviewOutcome::Nothing(Objection::new(counted::OWN_REQUEST, "x".repeat(1_000)));
        let listed = [("reader", Listed::There(&grant, Some(&long))); 64];
        assert!(of_review(&listed).2.len() <= LONGEST_MESSAGE);
    }
}
