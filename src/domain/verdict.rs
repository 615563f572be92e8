//! Whether a grant is active now, why or why not, until when, and when the answer can change.
//!
//! A pure function of what is known and the time. It is total: whatever is missing ends the access and is named.

#[cfg(test)]
mod approval_properties;
mod decide;
mod ends;
mod growth;
mod removal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::admission::Proofs;
use super::approval::{Confirmation, ReviewOutcome};
use super::conditions::{self, Desired};
use super::ownership::Owners;
use super::policy::Terms;
use super::static_credential::Seen;
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessPolicy, Instant, PartnerIntegration, ResolvedRule,
};

pub use decide::decide;

/// A namespace as the verdict sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its administrators let the operator in.
    pub enrolled: bool,
    /// It is being deleted.
    pub terminating: bool,
}

/// Everything that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time.
    pub now: Instant,
    /// The grant, its status included: what must not be forgotten stands there.
    pub grant: &'a AccessGrant,
    /// Its integration; none where it doesn't exist or can't be read.
    pub integration: Option<&'a PartnerIntegration>,
    /// Every AccessOwner that can be read.
    pub owners: &'a Owners<'a>,
    /// The decisions of the grant's namespace.
    pub decisions: &'a [&'a AccessDecision],
    /// Answers about deciders, by the decision's UID.
    pub confirmations: &'a BTreeMap<String, Confirmation>,
    /// Every AccessPolicy that can be read.
    pub policies: &'a [&'a AccessPolicy],
    /// An AccessPolicy that can't be read and is, or may be, for this grant: it may be stricter than those that can.
    pub unreadable_policy: Option<&'a str>,
    /// What decisions are made from and can't be read any more, in words: what is known of it may have changed since.
    pub unread: Option<&'a str>,
    /// Every namespace that the grant lies in or reaches, where it exists.
    pub namespaces: &'a BTreeMap<String, Namespace>,
    /// What namespaces that don't exist are hidden by in the digest, see [`absent`](crate::domain::digest::absent); none where
    /// that isn't known, and the status' word is taken for them.
    pub absent_key: Option<&'a str>,
    /// The rules of each ClusterRole that the grant refers to, where it exists.
    pub cluster_roles: &'a BTreeMap<String, Vec<ResolvedRule>>,
    /// Namespaces that no grant may reach.
    pub reserved_namespaces: &'a BTreeSet<String>,
    /// Per namespace, the names of the Secrets that deliver credentials.
    pub delivery_secrets: &'a BTreeMap<String, BTreeSet<String>>,
    /// How many active grants of the integration come before this one.
    pub earlier_siblings: usize,
    /// The API server was seen to refuse a forged decision, the last time.
    pub admission_proved: bool,
    /// When it would have; none where that is yet to be read.
    pub proofs: Option<&'a Proofs>,
    /// What the identity may do beside its grant, in words.
    pub other_rights: Option<&'a str>,
    /// What is there of a static credential; none where that is yet to be read, and where the credential is of another kind.
    pub static_credential: Option<&'a Seen>,
    /// By how many seconds local time and the API server's differ, where that is too much.
    pub clock_skew: Option<i64>,
    /// Why nothing is issued any more, in words, where Wayleave is being uninstalled.
    pub uninstalling: Option<&'a str>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether access should exist.
    pub access: Access,
    /// The primary reason: of an active grant, `Issued`.
    pub reason: Reason,
    /// Every reason in words, the primary one first.
    pub message: String,
    /// Every reason against access by itself, the primary one first.
    pub against: Vec<(Reason, String)>,
    /// The Approved condition.
    pub approved: Desired,
    /// What status must remember.
    pub kept: Kept,
    /// The terms of the policies, where they permit the grant.
    pub terms: Option<Terms>,
    /// UIDs of decisions whose deciders the API server must be asked about.
    pub to_confirm: BTreeSet<String>,
    /// Why approvals don't count, by the decision's name.
    pub not_counted: BTreeMap<String, String>,
    /// The Counted condition of each decision on the grant itself, by the decision's name.
    pub decisions: BTreeMap<String, Desired>,
    /// What each Review that lists the grant did for it, by the decision's name.
    pub reviews: BTreeMap<String, ReviewOutcome>,
    /// How what ClusterRoles hold differs from what was approved, where that ends nothing, in words.
    pub roles_changed: Option<String>,
    /// The next instant at which the answer can change by itself.
    pub next_change: Option<Instant>,
}

/// How many of these grants are active, of the same integration, and older than `grant`, or as old and first by UID.
#[must_use]
pub fn earlier_siblings<'a>(grant: &AccessGrant, all: impl IntoIterator<Item = &'a AccessGrant>) -> usize {
    let is_sibling = |it: &AccessGrant| {
        it.metadata.namespace == grant.metadata.namespace && it.spec.integration_ref == grant.spec.integration_ref
    };
    let earlier = all
        .into_iter()
        .filter(|it| is_sibling(it) && is_active(it) && rank(it) < rank(grant));
    earlier.count()
}

/// Whether a grant says of itself that it is active.
#[must_use]
pub fn is_active(grant: &AccessGrant) -> bool {
    conditions::active(grant).is_some_and(|active| active.status == "True")
}

/// Which of two grants comes first: the older one, or of two as old the first by UID.
#[must_use]
pub fn rank(grant: &AccessGrant) -> (Option<jiff::Timestamp>, Option<String>) {
    let created = grant.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, grant.metadata.uid.clone())
}

/// Whether access should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It should not.
    Inactive,
    /// It should.
    Active {
        /// Until when, as far as is known.
        until: Instant,
        /// Which end that is.
        ends_because: Reason,
        /// A hard expiry is required.
        hard_expiry: bool,
        /// What stops new credentials, though not the access that is there.
        hold: Option<(Reason, String)>,
    },
}

/// What status must remember from one run to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The part of status that a verdict fills; all else in it is as it was.
    pub status: AccessGrantStatus,
}
