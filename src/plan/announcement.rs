//! What is worth an event: a change of the reason, or a new credential. Pure: no I/O, no clock, no randomness.
//!
//! The recorder folds repeats within six minutes into one event and keeps the first one's note. What tells two transitions
//! apart is therefore in the action: the number of the activation, and of the credential's generation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::recertification;
use crate::api::conditions::{Reason, review, types};
use crate::api::v1alpha1::{AccessGrantStatus, PartnerIntegrationStatus};
use crate::domain::conditions::find;
use crate::domain::text::{bounded, escape};

/// The longest note, in bytes: the API server takes 1024.
const LONGEST_NOTE: usize = 1_000;
/// The reason where an activation ended before its time and another begins.
const ACTIVATION_ENDED: &str = "ActivationEnded";
/// The reason where a new credential was delivered.
const ROTATED: &str = "Rotated";

/// An event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Somebody should look at it.
    pub warning: bool,
    /// Why, in one stable word: that of the condition, but for `Rotated` and `ActivationEnded`.
    pub reason: String,
    /// What was done.
    pub action: String,
    /// In words; safe to be shown.
    pub note: String,
}

/// What there is to say of a grant whose status went from one to the next; at most one thing.
#[must_use]
pub fn of_grant(before: Option<&AccessGrantStatus>, after: &AccessGrantStatus) -> Option<Announcement> {
    let now = find(&after.conditions, types::ACTIVE)?;
    let was = before.and_then(|before| find(&before.conditions, types::ACTIVE));
    let activation = after.activations;
    if was.is_some_and(|was| was.reason == now.reason || is_passing(&was.reason, &now.reason)) {
        return rotated(before?, after);
    }
    let was_active = was.is_some_and(|was| was.status == "True");
    if now.reason == Reason::Issuing.as_str() || now.reason == Reason::Rotating.as_str() {
        // Under way, and told when it is done; but what was in use ended: as somebody asked by changing the grant, or by drift.
        let was_changed = before.is_some_and(|before| before.observed_generation != after.observed_generation);
        return (was_active && now.status != "True").then(|| Announcement {
            warning: !was_changed,
            reason: ACTIVATION_ENDED.to_owned(),
            action: format!("EndActivation{activation}"),
            note: note(now),
        });
    }
    let action = match (now.status.as_str(), was_active) {
        ("True", false) => format!("Activate{activation}"),
        (_, true) => format!("EndActivation{activation}"),
        _ => format!("JudgeAfterActivation{activation}"),
    };
    // What is put up with is never told as if all were well.
    let is_static = find(&after.conditions, types::STATIC_CREDENTIAL).is_some();
    let begins_static = is_static && now.status == "True";
    Some(Announcement {
        warning: is_warning(&now.reason) || begins_static,
        reason: now.reason.clone(),
        action,
        note: note(now),
    })
}

/// What there is to say of an integration whose status went from one to the next.
#[must_use]
pub fn of_integration(
    before: Option<&PartnerIntegrationStatus>,
    after: &PartnerIntegrationStatus,
) -> Vec<Announcement> {
    let told = [readiness(before, after), reviewed(before, after)];
    told.into_iter().flatten().collect()
}

/// Each step towards the end of a review's term, and that a review took it back.
fn reviewed(before: Option<&PartnerIntegrationStatus>, after: &PartnerIntegrationStatus) -> Option<Announcement> {
    let now = find(&after.conditions, types::REVIEW_CURRENT)?;
    let was = before.and_then(|before| find(&before.conditions, types::REVIEW_CURRENT));
    if !recertification::is_news(was.map(|was| was.reason.as_str()), &now.reason) {
        return None;
    }
    let due = after
        .next_review_at
        .map_or_else(|| "Nothing".to_owned(), |due| due.to_string());
    Some(Announcement {
        warning: [review::DUE_IN_1_DAY, review::OVERDUE, review::LAPSED].contains(&now.reason.as_str()),
        reason: format!("Review{}", now.reason),
        // Two reviews that are due are two things to do.
        action: format!("RemindOf{due}"),
        note: note(now),
    })
}

fn readiness(before: Option<&PartnerIntegrationStatus>, after: &PartnerIntegrationStatus) -> Option<Announcement> {
    let now = find(&after.conditions, types::READY)?;
    let was = before.and_then(|before| find(&before.conditions, types::READY));
    if was.is_some_and(|was| was.reason == now.reason) {
        return None;
    }
    Some(Announcement {
        warning: now.status == "False",
        reason: now.reason.clone(),
        action: format!("JudgeGeneration{}", after.observed_generation.unwrap_or_default()),
        note: note(now),
    })
}

/// Between a rotation and the issued state nothing began or ended.
fn is_passing(was: &str, now: &str) -> bool {
    let live = [Reason::Issued.as_str(), Reason::Rotating.as_str()];
    live.contains(&was) && live.contains(&now)
}

fn rotated(before: &AccessGrantStatus, after: &AccessGrantStatus) -> Option<Announcement> {
    let (old, new) = (before.credential.as_ref()?, after.credential.as_ref()?);
    let activation = after.identity.as_ref()?.activation;
    let same = before.identity.as_ref()?.activation == activation;
    let is_another = old.delivered_generation >= 1 && new.delivered_generation > old.delivered_generation;
    (same && is_another).then(|| Announcement {
        warning: false,
        reason: ROTATED.to_owned(),
        action: format!("Rotate{activation}To{}", new.delivered_generation),
        note: format!(
            "credential {} of activation {activation} was delivered{}",
            new.delivered_generation,
            new.expires_at
                .map_or_else(String::new, |at| format!("; it expires at {at}"))
        ),
    })
}

/// What nobody asked for and somebody should mend or know of.
fn is_warning(reason: &str) -> bool {
    let found = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    found.is_none_or(|reason| match reason {
        Reason::RevocationFailed
        | Reason::Denied
        | Reason::OwnerRemoved
        | Reason::IntegrationMissing
        | Reason::Uninstalling
        | Reason::NotEnrolled
        | Reason::NotPermitted
        | Reason::RoleGrew
        | Reason::ReviewLapsed
        | Reason::ApprovalEnded
        | Reason::IdentityMissing
        | Reason::TooShort
        | Reason::AdmissionUnproved
        | Reason::ClockSkew
        | Reason::ReadFailed
        | Reason::NameConflict
        | Reason::CeilingExceeded => true,
        Reason::Deleting
        | Reason::Revoked
        | Reason::AgreementEnded
        | Reason::Expired
        | Reason::IntegrationSuspended
        | Reason::Suspended
        | Reason::Idle
        | Reason::AwaitingApproval
        | Reason::Scheduled
        | Reason::Issuing
        | Reason::Rotating
        | Reason::Issued => false,
    })
}

/// Partners' and requesters' words are in it.
fn note(condition: &Condition) -> String {
    bounded(escape(&condition.message), LONGEST_NOTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{CredentialStatus, Identity};
    use crate::domain::conditions::{self, Desired};
    use crate::domain::fixtures::at;

    const NOW: &str = "2026-12-02T00:00:00Z";

    /// A status with a reason, in an activation, with a delivered generation.
    fn status(reason: Reason, message: &str, activation: i64, delivered: i64) -> AccessGrantStatus {
        let mut status = AccessGrantStatus {
            conditions: conditions::merge(&[], conditions::of_grant(reason, message), Some(1), at(NOW)),
            activations: activation,
            ..AccessGrantStatus::default()
        };
        if activation > 0 {
            status.identity = Some(Identity {
                namespace: "wayleave-identities".to_owned(),
                service_account: "wlg-x".to_owned(),
                activation,
                digest: String::new(),
                owner_uids: Vec::new(),
                claimed_at: at(NOW),
                activated_at: Some(at(NOW)),
            });
            status.credential = Some(CredentialStatus {
                generation: delivered,
                delivered_generation: delivered,
                secret_namespace: "payments".to_owned(),
                secret_name: "credential".to_owned(),
                issued_at: None,
                expires_at: None,
                rotates_at: None,
                credential_id: None,
                spec_hash: String::new(),
                hard_expiry: true,
                previous: None,
            });
        }
        status
    }

    fn said(before: Option<&AccessGrantStatus>, after: &AccessGrantStatus) -> Option<(bool, String, String)> {
        of_grant(before, after).map(|it| (it.warning, it.reason, it.action))
    }

    fn normal(reason: &str, action: &str) -> Option<(bool, String, String)> {
        Some((false, reason.to_owned(), action.to_owned()))
    }

    fn warning(reason: &str, action: &str) -> Option<(bool, String, String)> {
        Some((true, reason.to_owned(), action.to_owned()))
    }

    #[test]
    fn every_transition_of_a_life_is_told_once() {
        let waiting = status(Reason::AwaitingApproval, "1 approval asked for", 0, 0);
        let issuing = status(Reason::Issuing, "access is being made", 1, 0);
        let issued = status(Reason::Issued, "in place", 1, 1);
        let rotating = status(Reason::Rotating, "in place", 1, 1);
        let rotated = status(Reason::Issued, "in place", 1, 2);
        let expired = status(Reason::Expired, "spec.expiresAt has passed", 1, 0);
        assert_eq!(
            said(None, &waiting),
            normal("AwaitingApproval", "JudgeAfterActivation0")
        );
        assert_eq!(said(Some(&waiting), &issuing), None, "told when it is done");
        assert_eq!(said(Some(&issuing), &issued), normal("Issued", "Activate1"));
        assert_eq!(said(Some(&waiting), &issued), normal("Issued", "Activate1"));
        assert_eq!(
            said(Some(&status(Reason::Issued, "", 1, 0)), &issued),
            None,
            "the first is no rotation"
        );
        assert_eq!(said(Some(&issued), &rotating), None);
        assert_eq!(said(Some(&rotating), &rotated), normal("Rotated", "Rotate1To2"));
        assert_eq!(said(Some(&issued), &rotated), normal("Rotated", "Rotate1To2"));
        assert_eq!(said(Some(&rotated), &expired), normal("Expired", "EndActivation1"));
        for same in [&waiting, &issuing, &issued, &rotating, &expired] {
            assert_eq!(said(Some(same), same), None);
        }
    }

    #[test]
    fn a_static_credential_that_comes_into_use_is_a_warning() {
        let with = |reason: Reason, activation: i64| {
            let mut status = status(reason, "", activation, 0);
            let mut desired = conditions::of_grant(reason, "");
            desired.push(Desired::new(
                types::STATIC_CREDENTIAL,
                "True",
                "Static",
                "never ends by itself",
            ));
            status.conditions = conditions::merge(&[], desired, Some(1), at(NOW));
            status
        };
        let (waiting, issued) = (with(Reason::AwaitingApproval, 0), with(Reason::Issued, 1));
        assert_eq!(
            said(None, &waiting),
            normal("AwaitingApproval", "JudgeAfterActivation0")
        );
        assert_eq!(said(Some(&waiting), &issued), warning("Issued", "Activate1"));
        assert_eq!(
            said(Some(&issued), &with(Reason::Expired, 1)),
            normal("Expired", "EndActivation1")
        );
    }

    #[test]
    fn another_message_alone_is_not_told() {
        let one = status(Reason::NotPermitted, "no policy permits get secrets", 0, 0);
        let two = status(Reason::NotPermitted, "no policy permits list secrets", 0, 0);
        assert_eq!(said(Some(&one), &two), None);
    }

    #[test]
    fn what_ends_by_an_alteration_is_a_warning_and_says_what_was_altered() {
        let issued = status(Reason::Issued, "in place", 3, 1);
        let mut ended = status(Reason::Issuing, "RoleBinding payments/wlg-x was altered", 3, 0);
        ended.identity = None;
        let told = of_grant(Some(&issued), &ended).unwrap();
        assert_eq!(
            (told.warning, told.reason.as_str(), told.action.as_str()),
            (true, "ActivationEnded", "EndActivation3")
        );
        assert!(told.note.contains("was altered"));
        ended.observed_generation = Some(2);
        assert_eq!(
            said(Some(&issued), &ended),
            normal("ActivationEnded", "EndActivation3"),
            "the grant was changed"
        );
        let again = status(Reason::Issued, "in place", 4, 1);
        assert_eq!(said(Some(&ended), &again), normal("Issued", "Activate4"));
    }

    #[test]
    fn two_activations_are_never_folded_into_one_event() {
        let told = |activation| {
            let issued = status(Reason::Issued, "", activation, 1);
            let revoked = status(Reason::Revoked, "", activation, 0);
            of_grant(Some(&issued), &revoked).unwrap().action
        };
        assert_ne!(told(1), told(2));
    }

    #[test]
    fn what_must_be_mended_is_a_warning() {
        for reason in Reason::ALL {
            let after = status(reason, "", 0, 0);
            let Some(told) = of_grant(None, &after) else {
                assert!(
                    matches!(reason, Reason::Issuing | Reason::Rotating),
                    "{reason} is not told"
                );
                continue;
            };
            let stalled = find(&after.conditions, types::STALLED).is_some();
            assert!(told.warning || !stalled, "{reason} is stalled and no warning");
        }
        let issued = status(Reason::Issued, "", 1, 1);
        let gone = status(Reason::OwnerRemoved, "", 1, 0);
        assert_eq!(said(Some(&issued), &gone), warning("OwnerRemoved", "EndActivation1"));
    }

    #[test]
    fn a_hostile_message_is_spelled_out_and_bounded() {
        let message = format!("denied (eve: \u{1b}[2J\u{202e}{})", "é".repeat(2_000));
        let told = of_grant(None, &status(Reason::Denied, &message, 0, 0)).unwrap();
        assert!(told.note.len() <= LONGEST_NOTE);
        assert!(
            told.note.starts_with("denied (eve: \\u{1b}[2J\\u{202e}é"),
            "{}",
            told.note
        );
    }

    #[test]
    fn an_integration_is_told_of_when_its_reason_changes() {
        let status = |ready: &'static str, reason: &str| PartnerIntegrationStatus {
            observed_generation: Some(2),
            conditions: conditions::merge(
                &[],
                vec![Desired::new(types::READY, ready, reason, "why")],
                Some(2),
                at(NOW),
            ),
            ..PartnerIntegrationStatus::default()
        };
        let (sound, gone) = (status("True", "InForce"), status("False", "OwnerRemoved"));
        let told = of_integration(Some(&sound), &gone).pop().unwrap();
        assert_eq!(
            (
                told.warning,
                told.reason.as_str(),
                told.action.as_str(),
                told.note.as_str()
            ),
            (true, "OwnerRemoved", "JudgeGeneration2", "why")
        );
        assert!(!of_integration(None, &sound)[0].warning);
        assert_eq!(of_integration(Some(&gone), &gone), []);
    }

    #[test]
    fn each_step_of_a_review_is_told_once_and_what_is_as_it_should_be_is_not() {
        let status = |reason: &'static str| PartnerIntegrationStatus {
            conditions: conditions::merge(
                &[],
                vec![Desired::new(types::REVIEW_CURRENT, "True", reason, "why")],
                Some(1),
                at(NOW),
            ),
            next_review_at: Some(at("2027-03-01T00:00:00Z")),
            ..PartnerIntegrationStatus::default()
        };
        let said = |from: Option<&'static str>, to| {
            let from = from.map(status);
            let told = of_integration(from.as_ref(), &status(to));
            told.into_iter().map(|it| (it.warning, it.reason)).collect::<Vec<_>>()
        };
        let one = |warning, reason: &str| vec![(warning, reason.to_owned())];
        assert_eq!(said(None, review::CURRENT), []);
        assert_eq!(said(Some(review::NOTHING_DUE), review::CURRENT), []);
        assert_eq!(said(Some(review::CURRENT), review::NOTHING_DUE), []);
        assert_eq!(
            said(Some(review::CURRENT), review::DUE_IN_14_DAYS),
            one(false, "ReviewDueIn14Days")
        );
        assert_eq!(said(Some(review::DUE_IN_14_DAYS), review::DUE_IN_14_DAYS), []);
        assert_eq!(
            said(Some(review::DUE_IN_7_DAYS), review::DUE_IN_1_DAY),
            one(true, "ReviewDueIn1Day")
        );
        assert_eq!(
            said(Some(review::DUE_IN_1_DAY), review::OVERDUE),
            one(true, "ReviewOverdue")
        );
        assert_eq!(said(Some(review::OVERDUE), review::LAPSED), one(true, "ReviewLapsed"));
        assert_eq!(said(Some(review::LAPSED), review::CURRENT), one(false, "ReviewCurrent"));
        assert_eq!(said(None, review::OVERDUE), one(true, "ReviewOverdue"));
        let told = of_integration(None, &status(review::OVERDUE)).pop().unwrap();
        assert_eq!(told.action, "RemindOf2027-03-01T00:00:00Z");
    }
}
