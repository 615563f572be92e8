//! The status after a credential was minted and delivered.

use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessGrantStatus, ChildRef, Instant};
use crate::domain::conditions;
use crate::domain::digest::CREDENTIAL;
use crate::domain::lifetime;
use crate::domain::verdict::Verdict;

/// What is known of a token that was delivered, apart from the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// When it was issued.
    pub issued_at: Instant,
    /// When it expires, as the API server said.
    pub expires_at: Instant,
    /// Its `jti`.
    pub credential_id: Option<String>,
}

/// Everything of an activation is in place; nothing was minted where the credential is a static one.
#[must_use]
pub fn issued(
    claimed: &AccessGrantStatus,
    verdict: &Verdict,
    until: Instant,
    minted: Option<&Minted>,
    children: Vec<ChildRef>,
    now: Instant,
) -> AccessGrantStatus {
    let mut status = claimed.clone();
    status.children = children;
    status.children.sort();
    if let Some(identity) = &mut status.identity {
        identity.activated_at = Some(now);
    }
    if let Some(minted) = minted {
        deliver(&mut status, until, minted);
    }
    settle(status, verdict, now)
}

/// Another token was delivered, bound to `anchor`; `answers` is the request for it, if there was one.
#[must_use]
pub fn rotated(
    claimed: &AccessGrantStatus,
    verdict: &Verdict,
    until: Instant,
    minted: &Minted,
    anchor: ChildRef,
    answers: Option<String>,
    now: Instant,
) -> AccessGrantStatus {
    let mut status = claimed.clone();
    status.children.push(anchor);
    status.children.sort();
    if answers.is_some() {
        status.last_handled_rotate_at = answers;
    }
    deliver(&mut status, until, minted);
    settle(status, verdict, now)
}

fn deliver(status: &mut AccessGrantStatus, until: Instant, minted: &Minted) {
    let spec_hash = status.digest_sections.get(CREDENTIAL).cloned().unwrap_or_default();
    if let Some(credential) = &mut status.credential {
        credential.delivered_generation = credential.generation;
        credential.issued_at = Some(minted.issued_at);
        credential.expires_at = Some(minted.expires_at);
        credential.rotates_at = lifetime::rotates_at(minted.issued_at, minted.expires_at, until);
        credential.credential_id.clone_from(&minted.credential_id);
        credential.hard_expiry = lifetime::is_hard(minted.expires_at, until);
        credential.spec_hash = spec_hash;
    }
}

fn settle(mut status: AccessGrantStatus, verdict: &Verdict, now: Instant) -> AccessGrantStatus {
    let mut desired = conditions::of_grant(Reason::Issued, &verdict.message);
    desired.push(verdict.approved.clone());
    desired.extend(conditions::findings(&status.conditions));
    status.conditions = conditions::merge(&status.conditions, desired, status.observed_generation, now);
    status
}
