//! What is worth an event: a change of the reason, or a new credential. Pure: no I/O, no clock, no randomness.
//!
//! The recorder folds repeats within six minutes into one event and keeps the first one's note. What tells two transitions
//! apart is therefore in the action: the number of the activation, and of the credential's generation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::{Reason, types};
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
        // Under way, and told when it is done; but what was in use ended.
        return (was_active && now.status != "True").then(|| Announcement {
            warning: true,
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
    Some(Announcement {
        warning: is_warning(&now.reason),
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
) -> Option<Announcement> {
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
        | Reason::NotEnrolled
        | Reason::NotPermitted
        | Reason::RoleGrew
        | Reason::ReviewLapsed
        | Reason::TooShort
        | Reason::AdmissionUnproved
        | Reason::ClockSkew
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
    use crate::domain::conditions::{merge, of_grant as conditions_of};
    use crate::domain::fixtures::at;

    const NOW: &str = "2026-12-02T00:00:00Z";

    fn status(reason: Reason, words: &str, delivered: i64) -> AccessGrantStatus {
        let identity = Identity {
            namespace: "wayleave-identities".to_owned(),
            service_account: "wlg-0123456789abcdef-1".to_owned(),
            activation: 1,
            digest: String::new(),
            claimed_at: at(NOW),
            activated_at: Some(at(NOW)),
        };
        let credential = CredentialStatus {
            generation: delivered,
            delivered_generation: delivered,
            secret_namespace: "payments".to_owned(),
            secret_name: "reader".to_owned(),
            issued_at: None,
            expires_at: None,
            rotates_at: None,
            credential_id: None,
            spec_hash: String::new(),
            hard_expiry: true,
            previous: None,
        };
        AccessGrantStatus {
            conditions: merge(&[], conditions_of(reason, words), Some(1), at(NOW)),
            activations: 1,
            identity: Some(identity),
            credential: Some(credential),
            ..AccessGrantStatus::default()
        }
    }

    fn said(before: Option<&AccessGrantStatus>, after: &AccessGrantStatus) -> Option<(bool, String, String)> {
        of_grant(before, after).map(|it| (it.warning, it.reason, it.action))
    }

    #[test]
    fn each_transition_is_told_once() {
        let waiting = status(Reason::AwaitingApproval, "1 approval asked for", 0);
        let issued = status(Reason::Issued, "in place", 1);
        let expired = status(Reason::Expired, "spec.expiresAt has passed", 1);
        let told = said(None, &waiting).unwrap();
        assert_eq!(
            told,
            (false, "AwaitingApproval".to_owned(), "JudgeAfterActivation1".to_owned())
        );
        assert_eq!(said(Some(&waiting), &waiting), None);
        let told = said(Some(&waiting), &issued).unwrap();
        assert_eq!(told, (false, "Issued".to_owned(), "Activate1".to_owned()));
        let told = said(Some(&issued), &expired).unwrap();
        assert_eq!(told, (false, "Expired".to_owned(), "EndActivation1".to_owned()));
    }

    #[test]
    fn a_new_credential_is_told_and_the_first_is_not() {
        let (first, second) = (status(Reason::Issued, "", 1), status(Reason::Issued, "", 2));
        let told = said(Some(&first), &second).unwrap();
        assert_eq!(told, (false, "Rotated".to_owned(), "Rotate1To2".to_owned()));
        assert_eq!(said(Some(&status(Reason::Issued, "", 0)), &first), None);
        assert_eq!(said(Some(&second), &second), None);
    }

    #[test]
    fn an_activation_that_ends_early_is_a_warning_and_making_one_is_no_news() {
        let (issued, making) = (
            status(Reason::Issued, "", 1),
            status(Reason::Issuing, "Role x/y was altered", 1),
        );
        let told = said(Some(&issued), &making).unwrap();
        assert_eq!(told, (true, "ActivationEnded".to_owned(), "EndActivation1".to_owned()));
        assert_eq!(said(Some(&status(Reason::AwaitingApproval, "", 0)), &making), None);
    }

    #[test]
    fn what_others_wrote_is_bounded_and_shown_safely() {
        let hostile = status(Reason::Revoked, &"\u{1b}[2J\u{202e}".repeat(500), 1);
        let note = of_grant(None, &hostile).unwrap().note;
        assert!(note.len() <= LONGEST_NOTE && !note.contains('\u{1b}') && !note.contains('\u{202e}'));
    }
}
