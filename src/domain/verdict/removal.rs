//! What must not be forgotten of owners who went, and of a ServiceAccount that was replaced: access comes back with a fresh
//! approval only.

use super::Facts;
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrantStatus, Decision, Identity, Instant, MOST_INVOLVED, PartnerIntegration, StaticAccount,
    SubjectKind,
};
use crate::domain::ownership;

/// Who was seen to have left, here or at the integration: moving the date afterwards brings nobody back.
pub(super) fn remember_departed(facts: &Facts<'_>, integration: &PartnerIntegration, status: &mut AccessGrantStatus) {
    let mut seen = status.departed_owners.clone();
    // Those of today alone: two lists that are both cut at their length would push each other's entries out for ever.
    let told = integration.status.iter().flat_map(|it| &it.departed_owners);
    let today = ownership::uids(integration, facts.owners);
    seen.extend(
        told.filter(|uid| today.contains(uid) && !status.departed_owners.contains(uid))
            .cloned(),
    );
    status.departed_owners = ownership::departed(integration, facts.owners, &seen, facts.now);
}

/// An owner who goes takes the approvals along, for good; `missing` is what is wrong with the owners now.
///
/// Approvals that don't count yet are taken along by those only who are seen to be gone: a watch of owners may lag behind
/// that of decisions.
pub(super) fn remember_removal(
    facts: &Facts<'_>,
    integration: Option<&PartnerIntegration>,
    missing: &[String],
    status: &mut AccessGrantStatus,
) {
    let counted = !status.approvals.is_empty();
    // That the date was moved in time can't be told once it has passed while nobody looked.
    let has_passed = status.active_until.is_some_and(|until| facts.now >= until)
        && status.ends_because.as_deref() == Some(Reason::OwnerRemoved.as_str());
    let is_seen_gone = || {
        let mut owners = integration
            .into_iter()
            .flat_map(|it| ownership::found(it, facts.owners));
        owners.any(|(_, owner)| ownership::is_gone(owner, &status.departed_owners, facts.now))
    };
    let uncounted = latest_approval(facts, |_| true) > status.owner_removed_at && is_seen_gone();
    if counted && (!missing.is_empty() || has_passed) || uncounted {
        status.owner_removed_at = Some(after_approvals(facts, |_| true));
    }
    // Under self-service nobody approved, and what was in use ends for good all the same.
    let is_live = |identity: &Identity| identity.activated_at.is_some();
    if !missing.is_empty() && status.identity.as_ref().is_some_and(is_live) {
        status.ended_without_owner_at = Some(after_approvals(facts, |_| true));
    }
}

/// A ServiceAccount that was made anew is not the one that was approved, whatever its name: whoever deleted the other may have
/// done so to end the access.
pub(super) fn remember_account(facts: &Facts<'_>, status: &mut AccessGrantStatus) {
    let Some(declared) = facts.grant.static_credential() else {
        status.static_account = None;
        return;
    };
    let Some(uid) = facts.static_credential.and_then(|seen| seen.uid.clone()) else {
        return;
    };
    let now = StaticAccount {
        name: declared.service_account_name.0.clone(),
        uid,
    };
    let is_another = |known: &StaticAccount| known.name == now.name && known.uid != now.uid;
    if status.static_account.as_ref().is_some_and(is_another) {
        status.account_replaced_at = Some(after_approvals(facts, |_| true));
    }
    status.static_account = Some(now);
}

/// Whoever asked, or had a hand in it, stays among those who can't approve: what names them is no part of the digest, and where the
/// admission policies are away anybody who may write it can put another name there.
pub(super) fn remember_involved(facts: &Facts<'_>, integration: &PartnerIntegration, status: &mut AccessGrantStatus) {
    let (grant, integration) = (&facts.grant.spec, &integration.spec);
    let requesters = grant.requested_by.iter().chain(&integration.requested_by);
    for user in requesters.chain(&grant.contributors).chain(&integration.contributors) {
        if status.involved.len() < MOST_INVOLVED && !status.involved.contains(&user.0) {
            status.involved.push(user.0.clone());
        }
    }
}

/// Now, or when the latest of these approvals of the grant was written: the API server's clock may be ahead, and what was approved
/// before is to be void.
pub(super) fn after_approvals(facts: &Facts<'_>, is_meant: impl Fn(&AccessDecision) -> bool) -> Instant {
    latest_approval(facts, is_meant).map_or(facts.now, |latest| latest.max(facts.now))
}

fn latest_approval(facts: &Facts<'_>, is_meant: impl Fn(&AccessDecision) -> bool) -> Option<Instant> {
    let approvals = facts.decisions.iter().filter(|decision| is_approval(facts, decision));
    let meant = approvals.filter(|decision| is_meant(decision));
    meant.filter_map(|decision| written(decision)).max()
}

fn is_approval(facts: &Facts<'_>, decision: &AccessDecision) -> bool {
    let subject = &decision.spec.subject;
    decision.spec.decision == Decision::Approve
        && subject.kind == SubjectKind::AccessGrant
        && Some(&subject.name.0) == facts.grant.metadata.name.as_ref()
}

fn written(decision: &AccessDecision) -> Option<Instant> {
    let created = decision.metadata.creation_timestamp.as_ref();
    created.map(|time| Instant::new(time.0))
}
