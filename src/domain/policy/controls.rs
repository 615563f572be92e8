//! How a static credential must be compensated: of all policies that apply, the strictest of each control. Pure.

use crate::api::v1alpha1::{AccessPolicy, CredentialType, Period, StaticControls};
use crate::domain::permission::Shown;

use super::facts::Facts;
use super::limits::{asked_by, at_most, first_that, shown, strictest, term};
use super::name;
use super::point::Point;

/// Whether the grant keeps the controls of these policies; nothing where its credential is of another kind.
pub(super) fn points(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Vec<Point> {
    let grant = &facts.request.grant.spec;
    if grant.credential.type_ != CredentialType::Static {
        return Vec::new();
    }
    let review = &facts.request.integration.spec.review;
    let least =
        |pick: fn(&StaticControls) -> Period| strictest(policies, |spec| spec.static_credentials.as_ref().map(pick));
    let asks = |pick: fn(&StaticControls) -> bool| {
        first_that(policies, |spec| spec.static_credentials.as_ref().is_some_and(pick))
    };
    let sources = facts.request.integration.spec.allowed_sources.len();
    let replacement = grant.credential.static_.as_ref().and_then(|it| it.replacement.as_ref());
    let interval = least(|controls| controls.review_interval);
    let mut points = vec![
        named(policies),
        term("staticCredentials.duration", least(|controls| controls.duration), facts),
        at_most(
            "staticCredentials.reviewInterval",
            "integration spec.review.interval",
            review.interval,
            interval,
        ),
        shown(
            ("staticCredentials.allowedSources", "integration spec.allowedSources"),
            (sources > 0).then(|| format!("{sources} given")),
            "empty, addresses are required of a static credential",
            asks(|controls| controls.allowed_sources),
        ),
        shown(
            ("staticCredentials.replacement", "spec.credential.static.replacement"),
            replacement.map(|replacement| Shown(&replacement.0).to_string()),
            "missing, what replaces a static credential is required",
            asks(|controls| controls.replacement),
        ),
    ];
    // It would be a second interval that nobody allowed.
    points.extend(review.grace.map(|grace| {
        let most = interval.map(|(most, by)| (most.min(review.interval), by));
        at_most(
            "staticCredentials.reviewInterval",
            "integration spec.review.grace",
            grace,
            most,
        )
    }));
    points
}

/// A policy that names no controls permits no static credential, whatever it lists.
fn named(policies: &[&AccessPolicy]) -> Point {
    let silent = policies
        .iter()
        .filter(|policy| policy.spec.static_credentials.is_none());
    let by = silent.map(|policy| name(policy)).min();
    let point = Point::holds(
        "staticCredentials",
        "spec.credential.type",
        "Static",
        "compensated by controls",
    );
    let point = if by.is_some() {
        point.fails(
            "Static needs staticCredentials, the compensating controls",
            "use a credential of type Token, or ask for policies that permit static credentials",
        )
    } else {
        point
    };
    asked_by(point, by)
}
