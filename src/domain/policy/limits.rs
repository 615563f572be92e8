//! Limits and requirements: of all policies that apply, the strictest of each. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{
    AccessPolicy, AccessPolicySpec, ApprovalRequirement, DelegatedRequests, HardExpiry, Instant, OnOtherRights,
    OnRoleGrowth, Period, Principal,
};
use crate::domain::permission::{Shown, long_running};

use super::facts::Facts;
use super::{Terms, name};

/// In which points the grant or its integration misses a limit or requirement of these policies.
pub(super) fn failing(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<String> {
    let mut failing = lasting(policies, facts);
    failing.extend(credential(policies, facts));
    failing.extend(duration(policies, facts));
    failing.extend(review(policies, facts));
    failing.extend(missing(policies, facts));
    failing
}

/// The strictest terms of these policies.
pub(super) fn terms(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Terms {
    let any = |holds: fn(&AccessPolicySpec) -> bool| policies.iter().any(|policy| holds(&policy.spec));
    let all = |holds: fn(&AccessPolicySpec) -> bool| policies.iter().all(|policy| holds(&policy.spec));
    let least = |pick: fn(&AccessPolicySpec) -> Option<Period>| strictest(policies, pick).map(|(value, _)| value);
    Terms {
        approvals: approvals(policies),
        hard_expiry: if any(|spec| spec.limits.hard_expiry == HardExpiry::Required) {
            HardExpiry::Required
        } else {
            HardExpiry::Preferred
        },
        on_role_growth: if any(|spec| spec.access.on_role_growth == OnRoleGrowth::End) {
            OnRoleGrowth::End
        } else {
            OnRoleGrowth::Report
        },
        refuses_other_rights: first_that(policies, |spec| spec.access.on_other_rights == OnOtherRights::Refuse)
            .map(ToOwned::to_owned),
        active_grants_per_integration: strictest(policies, |spec| spec.limits.active_grants_per_integration)
            .map(|(count, _)| count),
        review_interval: least(|spec| spec.limits.review_interval),
        idle_revoke_after: least(|spec| spec.idle.as_ref().map(|idle| idle.revoke_after)),
        self_service: all(|spec| spec.self_service) && facts.is_mild(),
        delegated_requests: if any(|spec| spec.requires.delegated_requests == DelegatedRequests::Forbid) {
            DelegatedRequests::Forbid
        } else {
            DelegatedRequests::Allow
        },
        duration: least(|spec| spec.limits.duration),
        credential_lifetime: least(|spec| spec.limits.credential_lifetime),
    }
}

/// The smallest of a limit, and the first policy by name that sets it.
fn strictest<'a, T: Ord>(
    policies: &[&'a AccessPolicy],
    pick: impl Fn(&AccessPolicySpec) -> Option<T>,
) -> Option<(T, &'a str)> {
    policies
        .iter()
        .filter_map(|policy| Some((pick(&policy.spec)?, name(policy))))
        .min()
}

/// The first policy by name that asks for something.
fn first_that<'a>(policies: &[&'a AccessPolicy], asks: impl Fn(&AccessPolicySpec) -> bool) -> Option<&'a str> {
    policies
        .iter()
        .filter(|policy| asks(&policy.spec))
        .map(|policy| name(policy))
        .min()
}

/// The lines of all policies. Lines of the same groups are one where they come from two policies, the higher count of
/// the two; a line that one policy repeats stays repeated, since each line is met by people of its own.
fn approvals(policies: &[&AccessPolicy]) -> Vec<ApprovalRequirement> {
    let mut lines: BTreeMap<Vec<Principal>, Vec<i32>> = BTreeMap::new();
    for policy in policies {
        let mut own: BTreeMap<Vec<Principal>, Vec<i32>> = BTreeMap::new();
        for line in &policy.spec.requires.approvals {
            let groups: BTreeSet<Principal> = line.groups.iter().cloned().collect();
            own.entry(groups.into_iter().collect())
                .or_default()
                .push(line.count.max(1));
        }
        for (groups, mut counts) in own {
            counts.sort_by_key(|count| Reverse(*count));
            let held = lines.entry(groups).or_default();
            held.resize(held.len().max(counts.len()), 0);
            for (held, count) in held.iter_mut().zip(counts) {
                *held = count.max(*held);
            }
        }
    }
    if lines.is_empty() {
        lines.insert(Vec::new(), vec![1]);
    }
    let line = |(groups, counts): (Vec<Principal>, Vec<i32>)| {
        counts.into_iter().map(move |count| ApprovalRequirement {
            count,
            groups: groups.clone(),
        })
    };
    lines.into_iter().flat_map(line).collect()
}

/// What would outlive a revocation, where any policy forbids that.
fn lasting(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<String> {
    let Some(by) = first_that(policies, |spec| !spec.access.long_running) else {
        return Vec::new();
    };
    let mut failing = Vec::new();
    for part in facts.entries.iter().flat_map(|entry| &entry.rules) {
        let words: BTreeSet<String> = part.rules.iter().flat_map(long_running).collect();
        if !words.is_empty() {
            let words: Vec<String> = words.into_iter().collect();
            failing.push(format!(
                "{}: {} outlives a revocation and access.longRunning is false (policy {})",
                part.path,
                words.join(", "),
                Shown(by),
            ));
        }
    }
    failing
}

fn credential(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<String> {
    let grant = facts.request.grant;
    let mut failing = Vec::new();
    let kind = grant.spec.credential.type_;
    if let Some(by) = first_that(policies, |spec| !spec.credentials.contains(&kind)) {
        failing.push(format!(
            "spec.credential.type: {kind:?} is not among credentials (policy {})",
            Shown(by)
        ));
    }
    let lifetime = grant.token().lifetime.0;
    if let Some((most, by)) = strictest(policies, |spec| spec.limits.credential_lifetime)
        && lifetime > most
    {
        failing.push(format!(
            "spec.credential.token.lifetime: {lifetime}, at most {most} (policy {})",
            Shown(by)
        ));
    }
    failing
}

fn duration(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Option<String> {
    let (most, by) = strictest(policies, |spec| spec.limits.duration)?;
    let grant = facts.request.grant;
    let created = grant
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|created| Instant::new(created.0));
    let Some(start) = grant.spec.starts_at.or(created) else {
        return Some(format!(
            "spec.expiresAt: the start is not known, at most {most} after it (policy {})",
            Shown(by)
        ));
    };
    let given = Period::from_seconds(grant.spec.expires_at.seconds_since(start));
    (given > most).then(|| {
        format!(
            "spec.expiresAt: {given} after the start, at most {most} (policy {})",
            Shown(by)
        )
    })
}

/// The review's interval, and a grace that isn't longer: it would be a second interval that nobody allowed.
fn review(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<String> {
    let Some((most, by)) = strictest(policies, |spec| spec.limits.review_interval) else {
        return Vec::new();
    };
    let review = &facts.request.integration.spec.review;
    let mut failing = Vec::new();
    if review.interval > most {
        failing.push(format!(
            "integration spec.review.interval: {}, at most {most} (policy {})",
            review.interval,
            Shown(by)
        ));
    }
    let most_grace = most.min(review.interval);
    if let Some(grace) = review.grace.filter(|grace| *grace > most_grace) {
        failing.push(format!(
            "integration spec.review.grace: {grace}, at most {most_grace} (policy {})",
            Shown(by)
        ));
    }
    failing
}

/// What has to be shown and isn't.
fn missing(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<String> {
    let spec = &facts.request.grant.spec;
    let integration = &facts.request.integration.spec;
    let mut failing = Vec::new();
    if spec.ticket.as_ref().is_none_or(|ticket| ticket.0.trim().is_empty())
        && let Some(by) = first_that(policies, |spec| spec.requires.ticket)
    {
        failing.push(format!(
            "spec.ticket: missing, a ticket is required (policy {})",
            Shown(by)
        ));
    }
    if integration.agreement.ends_at.is_none()
        && let Some(by) = first_that(policies, |spec| spec.requires.agreement)
    {
        failing.push(format!(
            "integration spec.agreement.endsAt: missing, an end is required (policy {})",
            Shown(by)
        ));
    }
    if integration.allowed_sources.is_empty()
        && let Some(by) = first_that(policies, |spec| spec.requires.allowed_sources)
    {
        failing.push(format!(
            "integration spec.allowedSources: empty, addresses are required (policy {})",
            Shown(by)
        ));
    }
    failing
}
