//! Positive facts that end access: what the closing lane acts on, without a leader and without having seen everything.
//!
//! A replica's caches can lag behind a good approval, so that what it has *not* seen proves nothing. Here only what is
//! there counts: a date that has passed, a suspension, a deletion, a Deny or Revoke that whoever made the binding did not know of, an
//! owner who is inactive or was seen deleted, the marker that says that Wayleave is being uninstalled.

use std::collections::HashSet;

use super::ownership::{self, Owners};
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, Decision, Instant, PartnerIntegration};

/// What a replica knows of one grant.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The grant.
    pub grant: &'a AccessGrant,
    /// Its integration, where it was seen.
    pub integration: Option<&'a PartnerIntegration>,
    /// Decisions about the grant or its integration that were seen.
    pub decisions: &'a [&'a AccessDecision],
    /// Owners that were seen.
    pub owners: &'a Owners<'a>,
    /// UIDs of owners that were seen deleted.
    pub deleted_owners: &'a HashSet<String>,
    /// The drain marker was seen.
    pub uninstalling: bool,
}

/// What set the instant from which access should have been gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A date that was known before: everybody could be ready for it.
    Deadline,
    /// Something that came: a decision, a deletion, a suspension, an owner who is inactive or gone.
    Change,
}

impl Cause {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Deadline, Self::Change];

    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Change => "change",
        }
    }
}

/// Why a binding must go at `now`; none where nothing says so. `last_no` is the latest Deny or Revoke that was known when it
/// was made, as the binding itself says: when it was made proves nothing, since who made it may have seen less.
#[must_use]
pub fn must_close(known: &Known<'_>, last_no: Option<Instant>, now: Instant) -> Option<Reason> {
    let grant = known.grant;
    if grant.metadata.deletion_timestamp.is_some() {
        return Some(Reason::Deleting);
    }
    if let Some(no) = noes(known, last_no).next() {
        return Some(match no.spec.decision {
            Decision::Deny => Reason::Denied,
            _ => Reason::Revoked,
        });
    }
    if is_without_owner(known, now) {
        return Some(Reason::OwnerRemoved);
    }
    if let Some(integration) = known.integration {
        if integration.metadata.deletion_timestamp.is_some() {
            return Some(Reason::IntegrationMissing);
        }
        if integration.spec.suspend {
            return Some(Reason::IntegrationSuspended);
        }
        if integration.spec.agreement.ends_at.is_some_and(|end| now >= end) {
            return Some(Reason::AgreementEnded);
        }
    }
    if grant.spec.suspend {
        return Some(Reason::Suspended);
    }
    if now >= grant.spec.expires_at {
        return Some(Reason::Expired);
    }
    if known.uninstalling {
        return Some(Reason::Uninstalling);
    }
    let status = grant.status.as_ref();
    let ended = status.filter(|status| status.active_until.is_some_and(|until| now >= until))?;
    let own = Reason::ApprovalEnded;
    Some(match ended.ends_because.as_deref() {
        Some(because) if because == own.as_str() => own,
        _ => Reason::ReviewLapsed,
    })
}

/// The next instant at which a date alone ends the access.
#[must_use]
pub fn deadline(known: &Known<'_>) -> Instant {
    let agreement = known.integration.and_then(|it| it.spec.agreement.ends_at);
    let until = known.grant.status.as_ref().and_then(|status| status.active_until);
    let owners = known.integration.and_then(|it| ownership::end(it, known.owners));
    let ends = [agreement, until, owners].into_iter().flatten();
    ends.fold(known.grant.spec.expires_at, Instant::min)
}

/// Since when a binding that must go at `now` should have been gone, and what set that: the earliest of all dates that say so.
/// None where what ends it has no date, as a suspension hasn't.
#[must_use]
pub fn since(known: &Known<'_>, last_no: Option<Instant>, now: Instant) -> (Cause, Option<Instant>) {
    let integration = known.integration.map(|it| &it.metadata);
    let deleted = [Some(&known.grant.metadata), integration].into_iter().flatten();
    let deleted = deleted.filter_map(|it| it.deletion_timestamp.as_ref());
    let deleted = deleted.map(|time| Instant::new(time.0));
    let change = deleted.chain(noes(known, last_no).filter_map(created)).min();
    let deadline = deadline(known);
    if now >= deadline && change.is_none_or(|change| deadline <= change) {
        (Cause::Deadline, Some(deadline))
    } else {
        (Cause::Change, change)
    }
}

/// The Denies and Revokes that whoever made a binding did not know of.
fn noes<'a>(known: &Known<'a>, last_no: Option<Instant>) -> impl Iterator<Item = &'a AccessDecision> {
    let is_no = |decision: &&AccessDecision| matches!(decision.spec.decision, Decision::Deny | Decision::Revoke);
    let all = known.decisions.iter().copied();
    all.filter(is_no).filter(move |decision| created(decision) > last_no)
}

fn is_without_owner(known: &Known<'_>, now: Instant) -> bool {
    let status = known.grant.status.as_ref();
    let approvals = status.into_iter().flat_map(|status| &status.approvals);
    let approved_with = approvals.flat_map(|approval| &approval.owner_uids);
    // Under self-service nobody approved it.
    let identity = status.and_then(|status| status.identity.as_ref());
    let begun_with = identity.into_iter().flat_map(|identity| &identity.owner_uids);
    if approved_with
        .chain(begun_with)
        .any(|uid| known.deleted_owners.contains(uid))
    {
        return true;
    }
    let Some(integration) = known.integration else {
        return false;
    };
    let of_grant = known.grant.status.iter().flat_map(|status| &status.departed_owners);
    let of_integration = integration.status.iter().flat_map(|status| &status.departed_owners);
    let departed: Vec<String> = of_grant.chain(of_integration).cloned().collect();
    let mut owners = ownership::found(integration, known.owners);
    owners.any(|(_, owner)| ownership::is_gone(owner, &departed, now))
}

fn created(decision: &AccessDecision) -> Option<Instant> {
    decision
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| Instant::new(time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AccessGrantStatus, AccessOwner, CountedApproval, Identity};
    use crate::domain::fixtures::{at, decision, grant, integration, owner};

    const MADE: &str = "2026-12-02T00:00:00Z";
    const NOW: &str = "2026-12-03T00:00:00Z";

    fn approved(grant: &mut AccessGrant, owner: &str) {
        let approval = CountedApproval {
            decision_ref: "one".to_owned(),
            uid: "uid-of-one".to_owned(),
            by: "dave".to_owned(),
            groups: Vec::new(),
            at: at(MADE),
            valid_until: at("2027-03-01T00:00:00Z"),
            digest: String::new(),
            roles_digest: String::new(),
            owner_uids: vec![owner.to_owned()],
            review_due: None,
            renewed_by: Vec::new(),
            unrenewed: None,
            reviews_forgotten: None,
        };
        grant.status = Some(AccessGrantStatus {
            approvals: vec![approval],
            active_until: Some(at("2027-01-10T00:00:00Z")),
            ..AccessGrantStatus::default()
        });
    }

    fn ask(
        change: impl FnOnce(&mut AccessGrant, &mut PartnerIntegration, &mut bool, &mut HashSet<String>),
        now: &str,
    ) -> Option<Reason> {
        let (mut grant, mut integration) = (grant(), integration());
        approved(&mut grant, "uid-of-alice");
        let (mut alice, bob) = (owner("alice"), owner("bob"));
        let mut deleted = HashSet::new();
        change(&mut grant, &mut integration, &mut alice.spec.active, &mut deleted);
        let owners: Owners<'_> = [("alice", &alice), ("bob", &bob)].into();
        let known = Known {
            grant: &grant,
            integration: Some(&integration),
            decisions: &[],
            owners: &owners,
            deleted_owners: &deleted,
            uninstalling: false,
        };
        must_close(&known, None, at(now))
    }

    #[test]
    fn nothing_ends_what_nothing_speaks_against() {
        assert_eq!(ask(|_, _, _, _| {}, NOW), None);
    }

    #[test]
    fn what_was_not_seen_proves_nothing() {
        let grant = grant();
        let known = Known {
            grant: &grant,
            integration: None,
            decisions: &[],
            owners: &Owners::new(),
            deleted_owners: &HashSet::new(),
            uninstalling: false,
        };
        assert_eq!(must_close(&known, None, at(NOW)), None);
    }

    #[test]
    fn each_positive_fact_ends_it() {
        assert_eq!(
            ask(|grant, _, _, _| grant.spec.suspend = true, NOW),
            Some(Reason::Suspended)
        );
        assert_eq!(
            ask(|_, it, _, _| it.spec.suspend = true, NOW),
            Some(Reason::IntegrationSuspended)
        );
        assert_eq!(
            ask(|_, it, _, _| it.spec.agreement.ends_at = Some(at(NOW)), NOW),
            Some(Reason::AgreementEnded)
        );
        assert_eq!(ask(|_, _, active, _| *active = false, NOW), Some(Reason::OwnerRemoved));
        let deleted = |_: &mut AccessGrant, _: &mut PartnerIntegration, _: &mut bool, gone: &mut HashSet<String>| {
            gone.insert("uid-of-alice".to_owned());
        };
        assert_eq!(ask(deleted, NOW), Some(Reason::OwnerRemoved));
        let deletion = |grant: &mut AccessGrant, _: &mut PartnerIntegration, _: &mut bool, _: &mut HashSet<String>| {
            grant.metadata.deletion_timestamp = grant.metadata.creation_timestamp.clone();
        };
        assert_eq!(ask(deletion, NOW), Some(Reason::Deleting));
        assert_eq!(ask(|_, _, _, _| {}, "2027-01-20T00:00:00Z"), Some(Reason::Expired));
        assert_eq!(ask(|_, _, _, _| {}, "2027-01-10T00:00:00Z"), Some(Reason::ReviewLapsed));
        let own = |grant: &mut AccessGrant, _: &mut PartnerIntegration, _: &mut bool, _: &mut HashSet<String>| {
            let status = grant.status.as_mut().unwrap();
            status.ends_because = Some(Reason::ApprovalEnded.as_str().to_owned());
        };
        assert_eq!(ask(own, "2027-01-10T00:00:00Z"), Some(Reason::ApprovalEnded));
        let review = |grant: &mut AccessGrant, _: &mut PartnerIntegration, _: &mut bool, _: &mut HashSet<String>| {
            let status = grant.status.as_mut().unwrap();
            status.ends_because = Some(Reason::ReviewLapsed.as_str().to_owned());
        };
        assert_eq!(ask(review, "2027-01-10T00:00:00Z"), Some(Reason::ReviewLapsed));
        assert_eq!(ask(own, NOW), None);
    }

    #[test]
    fn an_owner_with_whom_it_began_ends_it_where_nobody_approved() {
        let mut grant = grant();
        grant.status = Some(AccessGrantStatus {
            identity: Some(Identity {
                namespace: "wayleave-identities".to_owned(),
                service_account: "wlg-0-1".to_owned(),
                activation: 1,
                digest: String::new(),
                owner_uids: vec!["uid-of-bob".to_owned()],
                claimed_at: at(MADE),
                activated_at: Some(at(MADE)),
            }),
            ..AccessGrantStatus::default()
        });
        let (integration, alice) = (integration(), owner("alice"));
        let ask = |deleted: &[&str]| {
            let known = Known {
                grant: &grant,
                integration: Some(&integration),
                decisions: &[],
                owners: &[("alice", &alice)].into(),
                deleted_owners: &deleted.iter().map(|uid| (*uid).to_owned()).collect(),
                uninstalling: false,
            };
            must_close(&known, None, at(NOW))
        };
        assert_eq!(ask(&["uid-of-bob"]), Some(Reason::OwnerRemoved));
        assert_eq!(ask(&["uid-of-another"]), None, "that bob is not there proves nothing");
    }

    #[test]
    fn an_uninstallation_ends_it_and_hides_no_end_of_its_own() {
        let (mut grant, integration) = (grant(), integration());
        approved(&mut grant, "uid-of-alice");
        let ask = |grant: &AccessGrant, integration: Option<&PartnerIntegration>| {
            let known = Known {
                grant,
                integration,
                decisions: &[],
                owners: &Owners::new(),
                deleted_owners: &HashSet::new(),
                uninstalling: true,
            };
            must_close(&known, None, at(NOW))
        };
        assert_eq!(ask(&grant, Some(&integration)), Some(Reason::Uninstalling));
        assert_eq!(
            ask(&grant, None),
            Some(Reason::Uninstalling),
            "the marker alone is enough"
        );
        grant.spec.suspend = true;
        assert_eq!(ask(&grant, Some(&integration)), Some(Reason::Suspended));
    }

    #[test]
    fn an_owner_who_leaves_ends_it_at_that_instant_and_for_good() {
        let (mut grant, integration) = (grant(), integration());
        let (mut alice, bob) = (owner("alice"), owner("bob"));
        alice.spec.until = Some(at(NOW));
        let ask = |grant: &AccessGrant, alice: &AccessOwner, now: Instant| {
            let known = Known {
                grant,
                integration: Some(&integration),
                decisions: &[],
                owners: &[("alice", alice), ("bob", &bob)].into(),
                deleted_owners: &HashSet::new(),
                uninstalling: false,
            };
            (must_close(&known, None, now), deadline(&known))
        };
        assert_eq!(ask(&grant, &alice, at(NOW).plus(-1)), (None, at(NOW)));
        assert_eq!(ask(&grant, &alice, at(NOW)).0, Some(Reason::OwnerRemoved));
        alice.spec.until = None;
        assert_eq!(ask(&grant, &alice, at(NOW)).0, None, "moved before anybody saw it pass");
        grant.status = Some(AccessGrantStatus {
            departed_owners: vec!["uid-of-alice".to_owned()],
            ..AccessGrantStatus::default()
        });
        assert_eq!(ask(&grant, &alice, at(NOW)).0, Some(Reason::OwnerRemoved));
    }

    #[test]
    fn a_no_ends_what_was_made_without_knowing_of_it() {
        let (grant, integration) = (grant(), integration());
        for (word, reason) in [("Deny", Reason::Denied), ("Revoke", Reason::Revoked)] {
            let no = decision("no", word, "dave", "sha256:0", MADE);
            let known = Known {
                grant: &grant,
                integration: Some(&integration),
                decisions: &[&no],
                owners: &Owners::new(),
                deleted_owners: &HashSet::new(),
                uninstalling: false,
            };
            assert_eq!(must_close(&known, None, at(NOW)), Some(reason));
            assert_eq!(must_close(&known, Some(at(MADE).plus(-1)), at(NOW)), Some(reason));
            assert_eq!(must_close(&known, Some(at(MADE)), at(NOW)), None);
        }
    }

    #[test]
    fn metrics_know_a_date_from_a_change() {
        assert_eq!(Cause::ALL.map(Cause::as_str), ["deadline", "change"]);
    }

    #[test]
    fn what_ended_it_first_sets_since_when_it_should_have_been_gone() {
        let (mut grant, mut integration) = (grant(), integration());
        let no = decision("no", "Revoke", "dave", "sha256:0", MADE);
        let (end, later) = (at("2027-01-20T00:00:00Z"), at("2027-02-01T00:00:00Z"));
        let ask =
            |grant: &AccessGrant, integration: &PartnerIntegration, decisions: &[&AccessDecision], now: Instant| {
                let known = Known {
                    grant,
                    integration: Some(integration),
                    decisions,
                    owners: &Owners::new(),
                    deleted_owners: &HashSet::new(),
                    uninstalling: false,
                };
                since(&known, Some(at(MADE).plus(-1)), now)
            };
        grant.spec.suspend = true;
        assert_eq!(
            ask(&grant, &integration, &[], at(NOW)),
            (Cause::Change, None),
            "no date"
        );
        assert_eq!(
            ask(&grant, &integration, &[&no], at(NOW)),
            (Cause::Change, Some(at(MADE)))
        );
        assert_eq!(ask(&grant, &integration, &[], later), (Cause::Deadline, Some(end)));
        assert_eq!(
            ask(&grant, &integration, &[&no], later),
            (Cause::Change, Some(at(MADE))),
            "it should have been gone before its end"
        );
        let known_no = decision("old", "Deny", "dave", "sha256:0", "2026-12-01T00:00:00Z");
        assert_eq!(
            ask(&grant, &integration, &[&known_no], at(NOW)),
            (Cause::Change, None),
            "whoever made it knew of that"
        );
        integration.metadata.deletion_timestamp = integration.metadata.creation_timestamp.clone();
        let (cause, first) = ask(&grant, &integration, &[&no], later);
        assert_eq!((cause, first), (Cause::Change, Some(at("2026-11-01T00:00:00Z"))));
    }

    #[test]
    fn the_deadline_is_the_earliest_end() {
        let (mut grant, mut integration) = (grant(), integration());
        let end = |grant: &AccessGrant, integration: &PartnerIntegration| {
            deadline(&Known {
                grant,
                integration: Some(integration),
                decisions: &[],
                owners: &Owners::new(),
                deleted_owners: &HashSet::new(),
                uninstalling: false,
            })
        };
        assert_eq!(end(&grant, &integration), at("2027-01-20T00:00:00Z"));
        approved(&mut grant, "uid-of-alice");
        assert_eq!(end(&grant, &integration), at("2027-01-10T00:00:00Z"));
        integration.spec.agreement.ends_at = Some(at("2027-01-01T00:00:00Z"));
        assert_eq!(end(&grant, &integration), at("2027-01-01T00:00:00Z"));
    }
}
