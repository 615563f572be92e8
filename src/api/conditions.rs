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
    /// On an AccessDecision: whether it counts.
    pub const COUNTED: &str = "Counted";
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
    /// Not enough approvals in force.
    AwaitingApproval,
    /// `startsAt` is in the future.
    Scheduled,
    /// Too little time is left for a credential that ends by itself.
    TooShort,
    /// The admission pack was not proved to hold.
    AdmissionUnproved,
    /// Local time and the API server's differ too much.
    ClockSkew,
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
            Self::NotEnrolled => "NotEnrolled",
            Self::NotPermitted => "NotPermitted",
            Self::RoleGrew => "RoleGrew",
            Self::Idle => "Idle",
            Self::ReviewLapsed => "ReviewLapsed",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Scheduled => "Scheduled",
            Self::TooShort => "TooShort",
            Self::AdmissionUnproved => "AdmissionUnproved",
            Self::ClockSkew => "ClockSkew",
            Self::NameConflict => "NameConflict",
            Self::CeilingExceeded => "CeilingExceeded",
            Self::Issuing => "Issuing",
            Self::Rotating => "Rotating",
            Self::Issued => "Issued",
        }
    }

    /// Every reason, in order of precedence.
    pub const ALL: [Self; 25] = [
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
        Self::NotEnrolled,
        Self::NotPermitted,
        Self::RoleGrew,
        Self::Idle,
        Self::ReviewLapsed,
        Self::AwaitingApproval,
        Self::Scheduled,
        Self::TooShort,
        Self::AdmissionUnproved,
        Self::ClockSkew,
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
