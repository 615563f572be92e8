//! Condition types and reasons: the words by which people, GitOps tools and alerts know a state.

use std::fmt;

/// Condition types, as they stand in `status.conditions[].type`.
pub mod types {
    /// The world is as the spec and its decisions say.
    pub const READY: &str = "Ready";
    /// The partner can use the access now.
    pub const ACTIVE: &str = "Active";
    /// Enough approvals are in force.
    pub const APPROVED: &str = "Approved";
    /// Present only while true: work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// Present only while true: nothing moves until somebody acts.
    pub const STALLED: &str = "Stalled";
    /// On a PartnerIntegration: no owner is known to leave within 30 days.
    pub const OWNERS_STAY: &str = "OwnersStay";
    /// Present only while true: the identity has rights beside its grant, by bindings of others.
    pub const OTHER_RIGHTS: &str = "OtherRights";
    /// Present only while true: the ClusterRoles hold less than was approved, or more where the policy lets that be.
    pub const ROLES_CHANGED: &str = "RolesChanged";
    /// Present only while true: the grant is used by a static credential that is there, whether access is active or not.
    pub const STATIC_CREDENTIAL: &str = "StaticCredential";
    /// On an AccessDecision: whether it counts.
    pub const COUNTED: &str = "Counted";
    /// On a PartnerIntegration: no review is overdue, and none lapsed.
    pub const REVIEW_CURRENT: &str = "ReviewCurrent";
}

/// How it stands with the review of an integration; events say the same with `Review` before it.
pub mod review {
    /// No active grant rests on an approval.
    pub const NOTHING_DUE: &str = "NothingDue";
    /// The next review, or the date on which an approval ends by itself, is further away than the first reminder.
    pub const CURRENT: &str = "Current";
    /// It is due within 14 days.
    pub const DUE_IN_14_DAYS: &str = "DueIn14Days";
    /// It is due within 7 days.
    pub const DUE_IN_7_DAYS: &str = "DueIn7Days";
    /// It is due within a day.
    pub const DUE_IN_1_DAY: &str = "DueIn1Day";
    /// It was due, and access goes on for the grace.
    pub const OVERDUE: &str = "Overdue";
    /// Approvals lapsed for want of it or ended by themselves, and access ended.
    pub const LAPSED: &str = "Lapsed";
}

/// Why a condition is there that says what was found.
pub const FOUND: &str = "Found";

/// Why an integration is, or is not, ready. `OwnerRemoved`, `AgreementEnded` and `Deleting` are those of [`Reason`].
pub mod integration {
    /// It can carry grants.
    pub const IN_FORCE: &str = "InForce";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
}

/// Why the owners of an integration stay, or don't. `OwnerRemoved` is that of [`Reason`].
pub mod owners_stay {
    /// Both are there, and nothing says that one leaves within 30 days.
    pub const CURRENT: &str = "Current";
    /// One leaves within 30 days.
    pub const WITHIN_30_DAYS: &str = "LeavesWithin30Days";
    /// One leaves within 14 days.
    pub const WITHIN_14_DAYS: &str = "LeavesWithin14Days";
    /// One leaves within 7 days.
    pub const WITHIN_7_DAYS: &str = "LeavesWithin7Days";
    /// One leaves within a day.
    pub const WITHIN_1_DAY: &str = "LeavesWithin1Day";
}

/// Why a decision counts, or doesn't.
pub mod counted {
    /// An approval: it is among those that access rests on. A Review: it renewed every grant that it lists.
    pub const COUNTED: &str = "Counted";
    /// A Deny or Revoke that keeps access away.
    pub const STANDS: &str = "Stands";
    /// A Deny or Revoke that later approvals outdid.
    pub const OUTDONE: &str = "Outdone";
    /// An approval whose time is over; a Review whose renewals are over, or that came when the approvals were.
    pub const LAPSED: &str = "Lapsed";
    /// There are more approvals than are kept, and later ones.
    pub const SURPLUS: &str = "Surplus";
    /// It is being deleted, which withdraws it.
    pub const WITHDRAWN: &str = "Withdrawn";
    /// The API server is yet to be asked whether the decider may decide.
    pub const UNCONFIRMED: &str = "Unconfirmed";
    /// The API server says that the decider may not decide.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// Nothing of the subject's kind and name is there.
    pub const SUBJECT_MISSING: &str = "SubjectMissing";
    /// The subject can't be read.
    pub const SUBJECT_UNREADABLE: &str = "SubjectUnreadable";
    /// The grant's integration is not there, so that nothing can be approved.
    pub const INTEGRATION_MISSING: &str = "IntegrationMissing";
    /// It is of an object that had the subject's name before.
    pub const ANOTHER_UID: &str = "AnotherUID";
    /// What it approved was changed since.
    pub const DIGEST_REPLACED: &str = "DigestReplaced";
    /// What it approves is not what stands there.
    pub const DIGEST_NOT_CURRENT: &str = "DigestNotCurrent";
    /// A later Deny, Revoke or owner removal, or a replaced ServiceAccount, voids it.
    pub const VOIDED: &str = "Voided";
    /// Nobody is named as the decider.
    pub const DECIDER_MISSING: &str = "DeciderMissing";
    /// A ServiceAccount decided.
    pub const SERVICE_ACCOUNT: &str = "ServiceAccount";
    /// The decider asked for it, or had a hand in it.
    pub const OWN_REQUEST: &str = "OwnRequest";
    /// A namespace that the grant reaches is not named.
    pub const TARGET_MISSING: &str = "TargetMissing";
    /// An owner is not there, or inactive.
    pub const OWNER_MISSING: &str = "OwnerMissing";
    /// The owners are not those of the day it was made.
    pub const OWNERS_CHANGED: &str = "OwnersChanged";
    /// The ClusterRoles held other rules when it was first counted, and by now hold more.
    pub const ROLES_CHANGED: &str = "RolesChanged";
    /// It was made while the admission policies were not seen to hold.
    pub const UNCHECKED: &str = "Unchecked";
    /// A Review that renewed some of the grants that it lists.
    pub const PARTLY_COUNTED: &str = "PartlyCounted";
    /// A Review: there is no approval that it could renew.
    pub const NOTHING_TO_RENEW: &str = "NothingToRenew";
}

/// Why a grant is, or is not, active. The order is the order of precedence: the first that applies is the primary reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Access could not be taken away; it may still work.
    RevocationFailed,
    /// The grant is being deleted.
    Deleting,
    /// A Revoke decision stands.
    Revoked,
    /// A Deny decision stands.
    Denied,
    /// An owner was deleted or set inactive.
    OwnerRemoved,
    /// The integration does not exist or cannot be read.
    IntegrationMissing,
    /// The agreement has ended.
    AgreementEnded,
    /// `expiresAt` has passed.
    Expired,
    /// The integration is suspended.
    IntegrationSuspended,
    /// The grant is suspended.
    Suspended,
    /// Wayleave is being uninstalled: nothing is issued until the drain marker is taken away.
    Uninstalling,
    /// The namespace is not enrolled.
    NotEnrolled,
    /// No AccessPolicy permits the grant.
    NotPermitted,
    /// A ClusterRole holds more than what was approved.
    RoleGrew,
    /// Unused for longer than the policy allows.
    Idle,
    /// The review lapsed, and with it the approval.
    ReviewLapsed,
    /// The approval ended on a date that it set itself, past which no review renews it.
    ApprovalEnded,
    /// Not enough approvals in force.
    AwaitingApproval,
    /// `startsAt` is in the future.
    Scheduled,
    /// The ServiceAccount of a static credential, or its token, is not there.
    IdentityMissing,
    /// Too little time is left for a credential that ends by itself.
    TooShort,
    /// The admission pack was not proved to hold.
    AdmissionUnproved,
    /// Local time and the API server's differ too much.
    ClockSkew,
    /// The operator was taken the right to read what decisions are made from, or the kind.
    ReadFailed,
    /// An object that is not ours has a name that is needed.
    NameConflict,
    /// The API server refuses more than the installer gave the operator.
    CeilingExceeded,
    /// Access is being made.
    Issuing,
    /// A new credential is being delivered.
    Rotating,
    /// Access is in place.
    Issued,
}

impl Reason {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevocationFailed => "RevocationFailed",
            Self::Deleting => "Deleting",
            Self::Revoked => "Revoked",
            Self::Denied => "Denied",
            Self::OwnerRemoved => "OwnerRemoved",
            Self::IntegrationMissing => "IntegrationMissing",
            Self::AgreementEnded => "AgreementEnded",
            Self::Expired => "Expired",
            Self::IntegrationSuspended => "IntegrationSuspended",
            Self::Suspended => "Suspended",
            Self::Uninstalling => "Uninstalling",
            Self::NotEnrolled => "NotEnrolled",
            Self::NotPermitted => "NotPermitted",
            Self::RoleGrew => "RoleGrew",
            Self::Idle => "Idle",
            Self::ReviewLapsed => "ReviewLapsed",
            Self::ApprovalEnded => "ApprovalEnded",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Scheduled => "Scheduled",
            Self::IdentityMissing => "IdentityMissing",
            Self::TooShort => "TooShort",
            Self::AdmissionUnproved => "AdmissionUnproved",
            Self::ClockSkew => "ClockSkew",
            Self::ReadFailed => "ReadFailed",
            Self::NameConflict => "NameConflict",
            Self::CeilingExceeded => "CeilingExceeded",
            Self::Issuing => "Issuing",
            Self::Rotating => "Rotating",
            Self::Issued => "Issued",
        }
    }

    /// Every reason, in order of precedence.
    pub const ALL: [Self; 29] = [
        Self::RevocationFailed,
        Self::Deleting,
        Self::Revoked,
        Self::Denied,
        Self::OwnerRemoved,
        Self::IntegrationMissing,
        Self::AgreementEnded,
        Self::Expired,
        Self::IntegrationSuspended,
        Self::Suspended,
        Self::Uninstalling,
        Self::NotEnrolled,
        Self::NotPermitted,
        Self::RoleGrew,
        Self::Idle,
        Self::ReviewLapsed,
        Self::ApprovalEnded,
        Self::AwaitingApproval,
        Self::Scheduled,
        Self::IdentityMissing,
        Self::TooShort,
        Self::AdmissionUnproved,
        Self::ClockSkew,
        Self::ReadFailed,
        Self::NameConflict,
        Self::CeilingExceeded,
        Self::Issuing,
        Self::Rotating,
        Self::Issued,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
