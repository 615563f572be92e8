//! Limits and requirements: of all policies that apply, the strictest of each. Pure.

use std::collections::BTreeSet;

use crate::api::v1alpha1::{
    AccessPolicy, AccessPolicySpec, CredentialType, DelegatedRequests, HardExpiry, Instant, OnOtherRights,
    OnRoleGrowth, Period, Principal,
};
use crate::domain::approval;
use crate::domain::permission::{Shown, long_running};

use super::facts::Facts;
use super::point::Point;
use super::{Terms, controls, name};

/// What is asked where no policy sets a limit.
const NO_LIMIT: &str = "no limit";

/// Whether the grant and its integration keep the limits and show what is required, of these policies together: of each
/// limit the strictest, of each requirement the first policy by name that asks.
pub(super) fn points(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<Point> {
    let mut points = lasting(policies, facts);
    points.extend(credential(policies, facts));
    let longest = strictest(policies, |spec| spec.limits.duration);
    points.push(term("limits.duration", longest, facts));
    points.extend(review(policies, facts));
    points.extend(required(policies, facts));
    points.push(delegated(policies, facts));
    points.extend(controls::points(policies, facts));
    points
}

/// The strictest terms of these policies.
pub(super) fn terms(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Terms {
    let any = |holds: fn(&AccessPolicySpec) -> bool| policies.iter().any(|policy| holds(&policy.spec));
    let all = |holds: fn(&AccessPolicySpec) -> bool| policies.iter().all(|policy| holds(&policy.spec));
    let least = |pick: fn(&AccessPolicySpec) -> Option<Period>| strictest(policies, pick).map(|(value, _)| value);
    Terms {
        approvals: approval::merged(policies.iter().map(|policy| policy.spec.requires.approvals.as_slice())),
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
pub(super) fn strictest<'a, T: Ord>(
    policies: &[&'a AccessPolicy],
    pick: impl Fn(&AccessPolicySpec) -> Option<T>,
) -> Option<(T, &'a str)> {
    policies
        .iter()
        .filter_map(|policy| Some((pick(&policy.spec)?, name(policy))))
        .min()
}

/// The first policy by name that asks for something.
pub(super) fn first_that<'a>(
    policies: &[&'a AccessPolicy],
    asks: impl Fn(&AccessPolicySpec) -> bool,
) -> Option<&'a str> {
    policies
        .iter()
        .filter(|policy| asks(&policy.spec))
        .map(|policy| name(policy))
        .min()
}

/// A point asked for by a policy, if by any.
pub(super) fn asked_by(point: Point, policy: Option<&str>) -> Point {
    match policy {
        Some(policy) => point.by(policy),
        None => point,
    }
}

/// What would outlive a revocation, where any policy forbids that.
fn lasting(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<Point> {
    let by = first_that(policies, |spec| !spec.access.long_running);
    let asks = if by.is_some() {
        "nothing that outlives a revocation"
    } else {
        "what outlives a revocation may be granted"
    };
    let judged = facts.entries.iter().flat_map(|entry| &entry.rules).map(|part| {
        let words: BTreeSet<String> = part.rules.iter().flat_map(long_running).collect();
        let words: Vec<String> = words.into_iter().collect();
        let words = words.join(", ");
        let has = if words.is_empty() { "nothing that does" } else { &words };
        let point = Point::holds("access.longRunning", &part.path, has, asks);
        let point = if by.is_none() || words.is_empty() {
            point
        } else {
            let change = if part.is_stated {
                format!("take {words} out of {}, or ask for policies that allow it", part.path)
            } else {
                format!("name a ClusterRole without {words}, or ask for policies that allow it")
            };
            point.fails(
                format_args!("{words} outlives a revocation and access.longRunning is false"),
                change,
            )
        };
        asked_by(point, by)
    });
    judged.collect()
}

fn credential(policies: &[&AccessPolicy], facts: &Facts<'_>) -> [Point; 2] {
    let grant = facts.request.grant;
    let kind = grant.spec.credential.type_;
    let by = first_that(policies, |spec| !spec.credentials.contains(&kind));
    let point = Point::holds(
        "credentials",
        "spec.credential.type",
        format!("{kind:?}"),
        "among credentials",
    );
    let point = match by {
        Some(by) => point
            .fails(
                format_args!("{kind:?} is not among credentials"),
                "ask for a policy that permits this kind of credential",
            )
            .by(by),
        None => point,
    };
    if kind == CredentialType::Static {
        let field = "spec.credential.type";
        return [
            point,
            Point::holds("limits.credentialLifetime", field, "Static", "for tokens only"),
        ];
    }
    let lifetime = grant.token().lifetime.0;
    let most = strictest(policies, |spec| spec.limits.credential_lifetime);
    let field = "spec.credential.token.lifetime";
    [point, at_most("limits.credentialLifetime", field, lifetime, most)]
}

/// A length of time against the longest allowed.
pub(super) fn at_most(name: &'static str, field: &str, given: Period, most: Option<(Period, &str)>) -> Point {
    let Some((most, by)) = most else {
        return Point::holds(name, field, given.to_string(), NO_LIMIT);
    };
    Point::holds(name, field, given.to_string(), format!("at most {most}"))
        .fails_if(given > most, || format!("set {field} to {most} or less"))
        .by(by)
}

/// The grant's term against the longest allowed.
pub(super) fn term(name: &'static str, most: Option<(Period, &str)>, facts: &Facts<'_>) -> Point {
    let field = "spec.expiresAt";
    let grant = facts.request.grant;
    let created = grant
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|created| Instant::new(created.0));
    let start = grant.spec.starts_at.or(created);
    let given = start.map(|start| Period::from_seconds(grant.spec.expires_at.seconds_since(start)));
    let has = given.map_or_else(
        || "the start is not known".to_owned(),
        |given| format!("{given} after the start"),
    );
    let Some((most, by)) = most else {
        return Point::holds(name, field, has, NO_LIMIT);
    };
    let Some((start, given)) = start.zip(given) else {
        let point = Point::holds(name, field, has, format!("at most {most} after it"));
        return point.fails_if(true, || "set spec.startsAt".to_owned()).by(by);
    };
    Point::holds(name, field, has, format!("at most {most}"))
        .fails_if(given > most, || {
            format!("set {field} to {} or earlier", start.plus(most.as_seconds()))
        })
        .by(by)
}

/// The review's interval, and a grace that isn't longer: it would be a second interval that nobody allowed.
fn review(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<Point> {
    let most = strictest(policies, |spec| spec.limits.review_interval);
    let review = &facts.request.integration.spec.review;
    let name = "limits.reviewInterval";
    let mut points = vec![at_most(name, "integration spec.review.interval", review.interval, most)];
    if let Some(grace) = review.grace {
        let most = most.map(|(most, by)| (most.min(review.interval), by));
        points.push(at_most(name, "integration spec.review.grace", grace, most));
    }
    points
}

/// What has to be shown.
fn required(policies: &[&AccessPolicy], facts: &Facts<'_>) -> [Point; 3] {
    let spec = &facts.request.grant.spec;
    let integration = &facts.request.integration.spec;
    let ticket = spec.ticket.as_ref().map(|ticket| ticket.0.trim()).unwrap_or_default();
    let end = integration.agreement.ends_at;
    let sources = integration.allowed_sources.len();
    [
        shown(
            ("requires.ticket", "spec.ticket"),
            (!ticket.is_empty()).then(|| Shown(ticket).to_string()),
            "missing, a ticket is required",
            first_that(policies, |spec| spec.requires.ticket),
        ),
        shown(
            ("requires.agreement", "integration spec.agreement.endsAt"),
            end.map(|end| end.to_string()),
            "missing, an end is required",
            first_that(policies, |spec| spec.requires.agreement),
        ),
        shown(
            ("requires.allowedSources", "integration spec.allowedSources"),
            (sources > 0).then(|| format!("{sources} given")),
            "empty, addresses are required",
            first_that(policies, |spec| spec.requires.allowed_sources),
        ),
    ]
}

/// Whose word the request is: a delegate who applied or changed it for others stands among the contributors.
fn delegated<'a>(policies: &[&AccessPolicy], facts: &Facts<'a>) -> Point {
    let is_delegate = |user: &&Principal| user.0.starts_with("system:serviceaccount:");
    let of = |contributors: &'a [Principal]| contributors.iter().find(is_delegate);
    let (grant, integration) = (&facts.request.grant.spec, &facts.request.integration.spec);
    let (field, what, delegate) = match (of(&grant.contributors), of(&integration.contributors)) {
        (None, Some(delegate)) => ("integration spec.contributors", "the integration", Some(delegate)),
        (delegate, _) => ("spec.contributors", "it", delegate),
    };
    let by = first_that(policies, |spec| {
        spec.requires.delegated_requests == DelegatedRequests::Forbid
    });
    let has = delegate.map_or_else(
        || "written by people".to_owned(),
        |delegate| format!("written by {} for others", Shown(&delegate.0)),
    );
    let asks = if by.is_some() {
        "by people only"
    } else {
        "by delegates too"
    };
    let point = Point::holds("requires.delegatedRequests", field, has, asks);
    // What was written can't be unwritten: unlike elsewhere, given and allowed don't show what to do.
    let point = if by.is_some() && delegate.is_some() {
        let change = format!(
            "have a person create {what} anew, or ask the policy's author for requires.delegatedRequests: Allow"
        );
        let words = format!("{}, {}: {change}", point.has, point.asks);
        point.fails(words, change)
    } else {
        point
    };
    asked_by(point, by)
}

/// Something that has to be shown if a policy asks for it.
pub(super) fn shown(
    (name, field): (&'static str, &str),
    has: Option<String>,
    missing: &str,
    by: Option<&str>,
) -> Point {
    let is_missing = has.is_none();
    let asks = if by.is_some() { "required" } else { "not required" };
    let point = Point::holds(name, field, has.unwrap_or_else(|| "none".to_owned()), asks);
    let point = if is_missing && by.is_some() {
        point.fails(missing, format!("fill in {field}"))
    } else {
        point
    };
    asked_by(point, by)
}
