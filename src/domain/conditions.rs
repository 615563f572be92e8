//! Conditions: what each reason means for Ready, Active, Reconciling and Stalled, and how a set follows another.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::conditions::{Reason, types};
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::domain::text::bounded;

/// The longest message written, in bytes: a status stays readable, and far below the API server's bound of 32 KiB.
const LONGEST_MESSAGE: usize = 4_096;

/// A condition as it should be, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its type.
    pub type_: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why, in one stable word.
    pub reason: String,
    /// Why, in words.
    pub message: String,
}

impl Desired {
    /// A condition as it should be.
    #[must_use]
    pub fn new(
        type_: &'static str,
        status: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The conditions that a grant's reason stands for, apart from Approved.
#[must_use]
pub fn of_grant(reason: Reason, message: &str) -> Vec<Desired> {
    let (ready, active, extra) = match reason {
        Reason::Issued | Reason::Rotating => ("True", "True", None),
        Reason::Issuing | Reason::Deleting => ("Unknown", "False", Some(types::RECONCILING)),
        Reason::RevocationFailed => ("False", "True", Some(types::STALLED)),
        Reason::AwaitingApproval
        | Reason::Scheduled
        | Reason::ReviewLapsed
        | Reason::ApprovalEnded
        | Reason::Expired
        | Reason::AgreementEnded
        | Reason::Revoked
        | Reason::Suspended
        | Reason::IntegrationSuspended
        | Reason::Idle
        | Reason::OwnerRemoved => ("True", "False", None),
        Reason::Denied
        | Reason::Uninstalling
        | Reason::NotPermitted
        | Reason::RoleGrew
        | Reason::IdentityMissing
        | Reason::TooShort
        | Reason::NotEnrolled
        | Reason::CeilingExceeded
        | Reason::IntegrationMissing
        | Reason::NameConflict
        | Reason::AdmissionUnproved
        | Reason::ClockSkew
        | Reason::ReadFailed => ("False", "False", Some(types::STALLED)),
    };
    let mut all = vec![
        Desired::new(types::READY, ready, reason.as_str(), message),
        Desired::new(types::ACTIVE, active, reason.as_str(), message),
    ];
    all.extend(extra.map(|type_| Desired::new(type_, "True", reason.as_str(), message)));
    all
}

/// The next set: exactly what is desired, with the time of transition kept where the status stays the same.
#[must_use]
pub fn merge(old: &[Condition], desired: Vec<Desired>, generation: Option<i64>, now: Instant) -> Vec<Condition> {
    desired
        .into_iter()
        .map(|new| {
            let before = old
                .iter()
                .find(|condition| condition.type_ == new.type_ && condition.status == new.status);
            Condition {
                type_: new.type_.to_owned(),
                status: new.status.to_owned(),
                reason: new.reason,
                message: bounded(new.message, LONGEST_MESSAGE),
                observed_generation: generation,
                last_transition_time: before.map_or(Time(now.timestamp()), |condition| {
                    condition.last_transition_time.clone()
                }),
            }
        })
        .collect()
}

/// What was found beside the reason, as it was said last.
pub fn findings(conditions: &[Condition]) -> impl Iterator<Item = Desired> {
    let said = [types::OTHER_RIGHTS, types::ROLES_CHANGED, types::STATIC_CREDENTIAL]
        .map(|type_| (type_, find(conditions, type_)));
    said.into_iter().filter_map(|(type_, condition)| {
        let condition = condition?;
        Some(Desired::new(type_, "True", &condition.reason, &condition.message))
    })
}

/// What a grant says of itself: whether it is active, and why. None where nothing was said yet.
#[must_use]
pub fn active(grant: &AccessGrant) -> Option<&Condition> {
    find(&grant.status.as_ref()?.conditions, types::ACTIVE)
}

/// The condition of a type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Instant {
        Instant::new(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn every_reason_says_ready_and_active() {
        for reason in Reason::ALL {
            let all = of_grant(reason, "why");
            assert_eq!(all[0].type_, types::READY);
            assert_eq!(all[1].type_, types::ACTIVE);
            let active = matches!(reason, Reason::Issued | Reason::Rotating | Reason::RevocationFailed);
            assert_eq!(all[1].status == "True", active, "{reason}");
            let stalled = all.iter().any(|condition| condition.type_ == types::STALLED);
            assert_eq!(
                stalled,
                all[0].status == "False",
                "{reason}: stalled is what is not ready for good"
            );
        }
    }

    #[test]
    fn the_time_of_transition_moves_only_with_the_status() {
        let first = merge(&[], of_grant(Reason::AwaitingApproval, "a"), Some(1), at(10));
        let second = merge(&first, of_grant(Reason::Expired, "b"), Some(2), at(20));
        assert_eq!(second[1].last_transition_time, Time(at(10).timestamp()));
        assert_eq!(
            (second[1].reason.as_str(), second[1].observed_generation),
            ("Expired", Some(2))
        );
        let third = merge(&second, of_grant(Reason::Issued, "c"), Some(2), at(30));
        assert_eq!(
            third[0].last_transition_time,
            Time(at(10).timestamp()),
            "ready all along"
        );
        assert_eq!(third[1].last_transition_time, Time(at(30).timestamp()));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let all = merge(
            &[],
            vec![Desired::new(types::READY, "True", "X", "é".repeat(5_000))],
            None,
            at(0),
        );
        assert!(all[0].message.len() <= LONGEST_MESSAGE && all[0].message.ends_with('…'));
    }
}
