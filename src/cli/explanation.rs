//! What is said of a grant, as text and for machines. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::output::escape;
use super::world::{Opinion, key};
use crate::api::conditions::Reason;
use crate::api::v1alpha1::CountedApproval;
use crate::domain::policy::{Judged, Outcome, Point, Points, Terms};
use crate::domain::verdict::Access;
use crate::domain::{approval, conditions};

/// Everything that `explain` says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    namespace: String,
    grant: String,
    integration: String,
    partner: Option<String>,
    verdict: Option<Said>,
    status: Option<Status>,
    incomplete: Vec<String>,
    approvals: Approvals,
    always: Vec<PointView>,
    together: Option<Together>,
    policies: Vec<PolicyView>,
    policies_left_out: usize,
}

/// A verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    active: bool,
    reason: &'static str,
    reasons: Vec<ReasonView>,
    until: Option<String>,
}

/// A reason against access.
#[derive(Clone, Debug, Serialize)]
pub struct ReasonView {
    /// The stable word.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// What the operator wrote.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    reason: String,
    message: String,
    /// It speaks of the grant as it is now.
    current: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Approvals {
    asked_for: Option<String>,
    state: String,
    counted: Vec<CountedApproval>,
    not_counted: Vec<NotCounted>,
    unconfirmed: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NotCounted {
    decision: String,
    why: String,
}

/// A point that a grant is judged in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PointView {
    name: &'static str,
    permitted: bool,
    field: String,
    has: String,
    asks: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Together {
    terms: BTreeMap<&'static str, String>,
    points: Vec<PointView>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyView {
    name: String,
    selects: bool,
    applies: bool,
    met: bool,
    points: Vec<PointView>,
    points_left_out: usize,
}

impl From<&Point> for PointView {
    fn from(point: &Point) -> Self {
        Self {
            name: point.name,
            permitted: point.is_permitted(),
            field: point.field.clone(),
            has: point.has.clone(),
            asks: point.asks.clone(),
            policy: point.policy.clone(),
            refusal: point.refusal.as_ref().map(|refusal| refusal.words.clone()),
            change: point.refusal.as_ref().map(|refusal| refusal.change.clone()),
        }
    }
}

impl PointView {
    /// Whether this is what the point says when it fails.
    #[must_use]
    pub fn is(&self, words: &str) -> bool {
        self.refusal.as_deref() == Some(words)
    }
}

/// Points for machines.
#[must_use]
pub fn views(points: &Points) -> Vec<PointView> {
    points.listed.iter().map(PointView::from).collect()
}

impl From<&Judged> for PolicyView {
    fn from(judged: &Judged) -> Self {
        Self {
            name: judged.name.clone(),
            selects: judged.selects,
            applies: judged.applies,
            met: judged.is_met(),
            points: views(&judged.points),
            points_left_out: judged.points.left_out,
        }
    }
}

/// What approvals are asked for by these terms.
#[must_use]
pub fn asked_for(terms: &Terms) -> String {
    if terms.self_service {
        "no approval (self-service)".to_owned()
    } else {
        approval::describe(&terms.approvals)
    }
}

/// Terms in words, by the field of the policies that sets them.
fn terms(terms: &Terms) -> BTreeMap<&'static str, String> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "no limit".to_owned());
    let period = |value: Option<crate::api::v1alpha1::Period>| or_none(value.map(|it| it.to_string()));
    let count = terms.active_grants_per_integration.map(|it| it.to_string());
    [
        ("requires.approvals", asked_for(terms)),
        ("requires.delegatedRequests", format!("{:?}", terms.delegated_requests)),
        ("limits.duration", period(terms.duration)),
        ("limits.credentialLifetime", period(terms.credential_lifetime)),
        ("limits.reviewInterval", period(terms.review_interval)),
        ("limits.activeGrantsPerIntegration", or_none(count)),
        ("limits.hardExpiry", format!("{:?}", terms.hard_expiry)),
        ("access.onRoleGrowth", format!("{:?}", terms.on_role_growth)),
        (
            "access.onOtherRights",
            terms
                .refuses_other_rights
                .as_ref()
                .map_or("Report", |_| "Refuse")
                .to_owned(),
        ),
        ("idle.revokeAfter", period(terms.idle_revoke_after)),
    ]
    .into()
}

/// Reasons against access, each point of the policies by itself.
#[must_use]
pub fn reasons(opinion: &Opinion<'_>) -> Vec<ReasonView> {
    let failing: &[String] = match opinion.judgement.as_ref().map(|judgement| &judgement.outcome) {
        Some(Outcome::Refused { failing, .. }) => failing,
        _ => &[],
    };
    let joined = failing.join("; ");
    let mut views = Vec::new();
    for (reason, message) in &opinion.verdict.against {
        let by_points = *reason == Reason::NotPermitted && *message == joined;
        let messages = if by_points {
            failing
        } else {
            std::slice::from_ref(message)
        };
        views.extend(messages.iter().map(|message| ReasonView {
            reason: reason.as_str(),
            message: message.clone(),
        }));
    }
    views
}

impl Explanation {
    /// Of what is said of a grant.
    #[must_use]
    pub fn of(opinion: &Opinion<'_>) -> Self {
        let (grant, verdict) = (opinion.grant, &opinion.verdict);
        let (namespace, name) = key(grant);
        let status = grant.status.as_ref().and_then(|status| {
            let active = conditions::active(grant)?;
            Some(Status {
                reason: active.reason.clone(),
                message: active.message.clone(),
                current: status.observed_generation == grant.metadata.generation,
            })
        });
        let is_known = !opinion.gaps.iter().any(|gap| gap.missing.hides_verdict());
        let until = match &verdict.access {
            Access::Active { until, .. } => Some(until.to_string()),
            Access::Inactive => None,
        };
        let judgement = opinion.judgement.as_ref();
        let agreed = judgement.and_then(|judgement| judgement.terms.as_ref());
        let not_counted = verdict.not_counted.iter().map(|(decision, why)| NotCounted {
            decision: decision.clone(),
            why: why.clone(),
        });
        Self {
            integration: grant.spec.integration_ref.name.0.clone(),
            partner: opinion.integration.map(|it| it.spec.partner.name.0.clone()),
            verdict: is_known.then(|| Said {
                active: until.is_some(),
                reason: verdict.reason.as_str(),
                reasons: reasons(opinion),
                until,
            }),
            status,
            incomplete: opinion.gaps.iter().map(ToString::to_string).collect(),
            approvals: Approvals {
                asked_for: agreed.map(asked_for),
                state: verdict.approved.message.clone(),
                counted: verdict.kept.status.approvals.clone(),
                not_counted: not_counted.collect(),
                unconfirmed: verdict.to_confirm.len(),
            },
            always: judgement.map(|it| views(&it.always)).unwrap_or_default(),
            together: judgement.zip(agreed).map(|(judgement, agreed)| Together {
                terms: terms(agreed),
                points: views(&judgement.together),
            }),
            policies: judgement
                .map(|it| it.policies.iter().map(PolicyView::from).collect())
                .unwrap_or_default(),
            policies_left_out: judgement.map_or(0, |it| it.left_out),
            namespace,
            grant: name,
        }
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Text(String::new());
        let partner = self
            .partner
            .as_deref()
            .map_or_else(|| " (does not exist)".to_owned(), |partner| format!(" ({partner})"));
        out.line(
            0,
            &format!(
                "grant {}/{} of integration {}{partner}",
                self.namespace, self.grant, self.integration
            ),
        );
        self.verdict_text(&mut out);
        for gap in &self.incomplete {
            out.line(0, &format!("incomplete: {gap}"));
        }
        self.approvals_text(&mut out);
        if !self.always.is_empty() {
            out.heading("asked of every grant");
            out.points(&self.always);
        }
        if let Some(together) = &self.together {
            out.heading("asked by all policies that apply, the strictest of each");
            for (name, value) in &together.terms {
                out.line(1, &format!("    {name:<34} {value}"));
            }
            out.points(&together.points);
        }
        let is_permitted = self.always.iter().all(|point| point.permitted)
            && self
                .together
                .iter()
                .flat_map(|it| &it.points)
                .all(|point| point.permitted);
        for policy in &self.policies {
            out.heading(&policy.heading(is_permitted));
            out.points(&policy.points);
            if policy.points_left_out > 0 {
                out.line(1, &format!("and {} more points", policy.points_left_out));
            }
        }
        if self.policies_left_out > 0 {
            out.heading(&format!("and {} more policies", self.policies_left_out));
        }
        out.0.truncate(out.0.trim_end().len());
        out.0
    }

    fn verdict_text(&self, out: &mut Text) {
        match &self.verdict {
            None => out.line(0, "now: can't be told, since something could not be read"),
            Some(verdict) => {
                let until = verdict.until.as_ref().map(|until| format!(", until {until}"));
                out.line(0, &format!("now: {}{}", verdict.reason, until.unwrap_or_default()));
                for reason in &verdict.reasons {
                    out.line(1, &format!("{}: {}", reason.reason, reason.message));
                }
            }
        }
        match &self.status {
            None => out.line(0, "status: none yet: the operator has not looked at it"),
            Some(status) => {
                let age = if status.current {
                    ""
                } else {
                    ", of the grant before its last change"
                };
                out.line(0, &format!("status: {}{age}", status.reason));
                if self
                    .verdict
                    .as_ref()
                    .is_none_or(|verdict| verdict.reason != status.reason)
                {
                    out.line(1, &status.message);
                }
            }
        }
    }

    fn approvals_text(&self, out: &mut Text) {
        let approvals = &self.approvals;
        out.heading(&match &approvals.asked_for {
            Some(asked) => format!("approvals: {asked} asked for"),
            None => "approvals: how many are asked for is open while no policy applies".to_owned(),
        });
        if approvals.counted.is_empty() && !approvals.state.ends_with("asked for") {
            out.line(1, &approvals.state);
        }
        for counted in &approvals.counted {
            let words = format!(
                "ok  {} by {}, at {}, until {}",
                counted.decision_ref, counted.by, counted.at, counted.valid_until
            );
            out.line(1, &words);
        }
        for not in &approvals.not_counted {
            out.line(1, &format!("no  {} does not count: {}", not.decision, not.why));
        }
        if approvals.unconfirmed > 0 {
            let words = format!(
                "    {} more would count once the API server says that the decider may approve",
                approvals.unconfirmed
            );
            out.line(1, &words);
        }
    }
}

impl PolicyView {
    /// `others_agree`: nothing else that is asked stands against it.
    fn heading(&self, others_agree: bool) -> String {
        let says = match (self.selects, self.applies, self.met) {
            (false, ..) => "does not select the namespace",
            (_, false, _) => "selects the namespace, but is not for this classification or environment",
            (_, _, true) if others_agree => "permits it",
            (_, _, true) => "would permit it, were nothing else asked",
            _ => "does not permit it",
        };
        format!("policy {}: {says}", self.name)
    }
}

/// Lines in which nothing can take over a terminal.
pub struct Text(pub String);

impl Text {
    /// A line, so many steps to the right.
    pub fn line(&mut self, depth: usize, words: &str) {
        let line = format!("{}{}", "  ".repeat(depth), escape(words));
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    fn heading(&mut self, words: &str) {
        self.line(0, "");
        self.line(0, words);
    }

    /// Points, one a line; below one that fails, what to change.
    pub fn points(&mut self, points: &[PointView]) {
        for point in points {
            match (&point.refusal, &point.change) {
                (Some(refusal), Some(change)) => {
                    self.line(1, &format!("no  {:<26} {refusal}", point.name));
                    self.line(1, &format!("    {:<26} -> {change}", ""));
                }
                _ => self.line(
                    1,
                    &format!("ok  {:<26} {}: {}, {}", point.name, point.field, point.has, point.asks),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests;
