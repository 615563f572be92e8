//! Whether the policies permit a grant, and on which terms. Pure, total, and the same in any order of policies.
//!
//! A policy *applies* where it selects the grant's namespace and is for its classification and environment. One of those
//! must permit the whole of the access by itself; limits and requirements count of all of them, the strictest of each, so
//! that a lax policy never weakens a strict one.

mod access;
mod controls;
mod facts;
mod limits;
mod point;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{
    AccessGrant, AccessPolicy, ApprovalRequirement, DelegatedRequests, HardExpiry, MOST_POLICIES, OnRoleGrowth,
    PartnerIntegration, Period, ResolvedRule,
};

use super::permission::Shown;
pub use access::is_reserved;
use facts::Facts;
pub use point::{MOST_POINTS, Point, Points, Refusal};

/// The most policies that a message shows with their selectors.
const MOST_SELECTORS: usize = 8;
/// The most failing points that a refusal lists; what the schema lets through and people write stays far below.
const MOST_FAILING: usize = 64;

/// A grant, and what has to be known to judge it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The grant.
    pub grant: &'a AccessGrant,
    /// Its integration.
    pub integration: &'a PartnerIntegration,
    /// Labels of every namespace that is known, the grant's own and its targets among them; what is missing doesn't exist.
    pub namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
    /// The resolved rules of each ClusterRole referred to; what is missing doesn't exist.
    pub cluster_roles: &'a BTreeMap<String, Vec<ResolvedRule>>,
    /// Namespaces that no grant reaches or lies in; those beginning with `kube-` are reserved anyway.
    pub reserved_namespaces: &'a BTreeSet<String>,
    /// Per namespace, the names of the Secrets that deliver credentials: no rule may reach one.
    pub delivery_secrets: &'a BTreeMap<String, BTreeSet<String>>,
}

/// On which terms a grant is permitted: of all policies that apply, the strictest of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The lines that approvals must meet, each policy's by different people; sorted, never empty. Not asked for under `self_service`.
    pub approvals: Vec<Vec<ApprovalRequirement>>,
    /// Whether a credential must end by itself before the grant does.
    pub hard_expiry: HardExpiry,
    /// What happens when a ClusterRole grows past what was approved.
    pub on_role_growth: OnRoleGrowth,
    /// The first policy by name that refuses to issue where the identity has rights beside its grant.
    pub refuses_other_rights: Option<String>,
    /// How many grants of the integration may be active.
    pub active_grants_per_integration: Option<i32>,
    /// The longest review interval.
    pub review_interval: Option<Period>,
    /// Unused for this long, access is to end; nothing watches it yet.
    pub idle_revoke_after: Option<Period>,
    /// No approval is needed.
    pub self_service: bool,
    /// Whether approvals count of what a GitOps writer says somebody else requested.
    pub delegated_requests: DelegatedRequests,
    /// The longest term of a grant.
    pub duration: Option<Period>,
    /// The longest life of one credential.
    pub credential_lifetime: Option<Period>,
}

/// What the policies say.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// They permit the grant.
    Permitted {
        /// Those that permit the whole of its access, by name, sorted; at most 64.
        policies: Vec<String>,
        /// The terms.
        terms: Terms,
    },
    /// They don't.
    Refused {
        /// The policy that comes nearest, if any selects the grant's namespace.
        nearest: Option<String>,
        /// Every point in which the grant fails it, in words for the requester.
        failing: Vec<String>,
        /// The namespaces that no policy lets it reach: nothing else is to be said of them.
        closed: BTreeSet<String>,
    },
}

/// Everything that was judged, and what it amounts to.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What the policies say.
    pub outcome: Outcome,
    /// The points of a refusal: those that fail of the nearest policy, of all that apply together, and of what is asked
    /// always.
    pub failing: Points,
    /// What is asked whatever the policies say.
    pub always: Points,
    /// Limits and requirements: of all policies that apply, the strictest of each, with the policy that sets it.
    pub together: Points,
    /// The terms of all policies that apply; none where none does.
    pub terms: Option<Terms>,
    /// Each policy, by name; at most 64, those that select the grant's namespace first.
    pub policies: Vec<Judged>,
    /// How many more there are.
    pub left_out: usize,
}

/// One policy, and every point that it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// It selects the grant's namespace. Of one that doesn't, nothing else is judged.
    pub selects: bool,
    /// It is for the grant's classification and environment too, so that its limits and requirements bind.
    pub applies: bool,
    /// Every point: selector, classification, environment; the ceiling of its access; its own limits and requirements.
    pub points: Points,
}

impl Judged {
    /// Whether the grant has all that this policy asks.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.points.are_permitted()
    }
}

/// What the policies say of a grant, all policies that exist considered: [`judge`]'s outcome, without the points that hold.
#[must_use]
pub fn evaluate(policies: &[&AccessPolicy], request: &Request<'_>) -> Outcome {
    let facts = Facts::of(request, policies);
    let policies = sorted(policies);
    Weighed::of(&policies, &facts).conclude(&policies, &facts).0
}

/// Judges a grant by all policies that exist, whose order doesn't matter.
#[must_use]
pub fn judge(policies: &[&AccessPolicy], request: &Request<'_>) -> Judgement {
    let facts = Facts::of(request, policies);
    let policies = sorted(policies);
    let weighed = Weighed::of(&policies, &facts);
    let (outcome, failing) = weighed.conclude(&policies, &facts);
    let mut judged: Vec<Judged> = weighed.selecting.into_iter().map(|it| it.finish(&facts)).collect();
    let others = policies.iter().filter(|policy| !selects(policy, &facts));
    judged.extend(others.map(|policy| Judged {
        name: name(policy).to_owned(),
        selects: false,
        applies: false,
        points: Points::of(vec![selector(policy, &facts)]),
    }));
    let left_out = judged.len().saturating_sub(MOST_POLICIES);
    judged.truncate(MOST_POLICIES);
    Judgement {
        outcome,
        failing: Points::of(failing),
        always: Points::of(weighed.always),
        together: Points::of(weighed.together),
        terms: weighed.terms,
        policies: judged,
        left_out,
    }
}

fn sorted<'a>(policies: &[&'a AccessPolicy]) -> Vec<&'a AccessPolicy> {
    let mut policies = policies.to_vec();
    policies.sort_by_key(|policy| name(policy));
    policies
}

/// A policy that selects the grant's namespace, while it is judged.
struct Candidate<'a> {
    policy: &'a AccessPolicy,
    scope: Vec<Point>,
    access: Vec<Point>,
}

impl<'a> Candidate<'a> {
    fn of(policy: &'a AccessPolicy, facts: &Facts<'_>) -> Self {
        Self {
            policy,
            scope: scope(policy, facts),
            access: access::under(policy, facts),
        }
    }

    fn applies(&self) -> bool {
        self.scope.iter().all(Point::is_permitted)
    }

    fn finish(self, facts: &Facts<'_>) -> Judged {
        let applies = self.applies();
        let mut points = vec![selector(self.policy, facts)];
        points.extend(self.scope);
        points.extend(self.access);
        points.extend(limits::points(&[self.policy], facts));
        Judged {
            name: name(self.policy).to_owned(),
            selects: true,
            applies,
            points: Points::of(points),
        }
    }
}

/// Everything that the outcome depends on.
struct Weighed<'a> {
    selecting: Vec<Candidate<'a>>,
    always: Vec<Point>,
    together: Vec<Point>,
    /// None where no policy applies.
    terms: Option<Terms>,
}

impl<'a> Weighed<'a> {
    fn of(policies: &[&'a AccessPolicy], facts: &Facts<'_>) -> Self {
        let selecting = policies.iter().filter(|policy| selects(policy, facts));
        let selecting: Vec<Candidate<'a>> = selecting.map(|policy| Candidate::of(policy, facts)).collect();
        let applicable = selecting.iter().filter(|candidate| candidate.applies());
        let applicable: Vec<&AccessPolicy> = applicable.map(|candidate| candidate.policy).collect();
        let (together, terms) = if applicable.is_empty() {
            (Vec::new(), None)
        } else {
            let terms = limits::terms(&applicable, facts);
            (limits::points(&applicable, facts), Some(terms))
        };
        Self {
            selecting,
            always: access::under_any_policy(facts),
            together,
            terms,
        }
    }

    /// What the points amount to, and which refuse the grant.
    fn conclude(&self, policies: &[&AccessPolicy], facts: &Facts<'_>) -> (Outcome, Vec<Point>) {
        let always = failing(&self.always);
        if self.selecting.is_empty() {
            let mut failing = vec![unselected(policies, facts)];
            failing.extend(always);
            return refused(None, failing, facts);
        }
        let Some(terms) = &self.terms else {
            // None of these applies, so none binds the others: each is judged alone, to find the one that comes nearest.
            let judged = self.selecting.iter().map(|candidate| {
                let limits = limits::points(&[candidate.policy], facts);
                let all = candidate.scope.iter().chain(&candidate.access).chain(&limits);
                (candidate.policy, failing(all))
            });
            return nearest(judged.collect(), always, facts);
        };
        let mut shared = always;
        shared.extend(failing(&self.together));
        let applying = self.selecting.iter().filter(|candidate| candidate.applies());
        let judged: Vec<(&AccessPolicy, Vec<Point>)> = applying
            .map(|candidate| (candidate.policy, failing(&candidate.access)))
            .collect();
        let permitting: Vec<String> = judged
            .iter()
            .filter(|(_, failing)| failing.is_empty())
            .map(|(policy, _)| name(policy).to_owned())
            .take(MOST_POLICIES)
            .collect();
        if shared.is_empty() && !permitting.is_empty() {
            let outcome = Outcome::Permitted {
                policies: permitting,
                terms: terms.clone(),
            };
            return (outcome, Vec::new());
        }
        nearest(judged, shared, facts)
    }
}

/// The name of a policy; the API server sees to it that there is one.
fn name(policy: &AccessPolicy) -> &str {
    policy.metadata.name.as_deref().unwrap_or_default()
}

/// Those points that fail.
fn failing<'a>(points: impl IntoIterator<Item = &'a Point>) -> Vec<Point> {
    points
        .into_iter()
        .filter(|point| !point.is_permitted())
        .cloned()
        .collect()
}

/// Refuses by the policy with the fewest failing points, the first by name among equals.
fn nearest(judged: Vec<(&AccessPolicy, Vec<Point>)>, shared: Vec<Point>, facts: &Facts<'_>) -> (Outcome, Vec<Point>) {
    let first = judged
        .into_iter()
        .min_by(|(left, left_failing), (right, right_failing)| {
            (left_failing.len(), name(left)).cmp(&(right_failing.len(), name(right)))
        });
    let (policy, mut failing) = first.map_or_else(
        || (None, Vec::new()),
        |(policy, failing)| (Some(name(policy).to_owned()), failing),
    );
    failing.extend(shared);
    refused(policy, failing, facts)
}

fn refused(nearest: Option<String>, mut points: Vec<Point>, facts: &Facts<'_>) -> (Outcome, Vec<Point>) {
    let mut told = BTreeSet::new();
    points.retain(|point| told.insert(point.refusal.clone().map(|refusal| refusal.words)));
    let words = points.iter().filter_map(|point| point.refusal.as_ref());
    let mut failing: Vec<String> = words.map(|refusal| refusal.words.clone()).collect();
    if failing.len() > MOST_FAILING {
        let left = failing.len() - MOST_FAILING;
        failing.truncate(MOST_FAILING);
        failing.push(format!("and {left} more"));
    }
    let closed = facts.closed.iter().map(|&name| name.to_owned()).collect();
    let outcome = Outcome::Refused {
        nearest,
        failing,
        closed,
    };
    (outcome, points)
}

/// Why no policy is for the grant's namespace, with what there is to choose from.
fn unselected(policies: &[&AccessPolicy], facts: &Facts<'_>) -> Point {
    let own = Shown(facts.own);
    let asks = "selected by an AccessPolicy";
    let point = Point::holds("namespaceSelector", "metadata.namespace", own.to_string(), asks);
    if own_labels(facts).is_none() {
        return point.fails(
            format_args!("{own} is not known"),
            format!("create namespace {own} first"),
        );
    }
    if policies.is_empty() {
        return point.fails(
            format_args!("{own} is selected by no AccessPolicy: there is none"),
            "ask the platform team for an AccessPolicy",
        );
    }
    let mut shown: Vec<String> = policies
        .iter()
        .take(MOST_SELECTORS)
        .map(|policy| {
            let labels = access::selector(&policy.spec.namespace_selector);
            format!("{} selects {labels}", Shown(name(policy)))
        })
        .collect();
    if policies.len() > MOST_SELECTORS {
        shown.push(format!("and {} more", policies.len() - MOST_SELECTORS));
    }
    point.fails(
        format_args!("{own} is selected by no AccessPolicy: {}", shown.join(", ")),
        format!("use a namespace that is selected, or ask the platform team to label {own} so"),
    )
}

/// The labels of the grant's namespace, where that exists.
fn own_labels<'a>(facts: &Facts<'a>) -> Option<&'a BTreeMap<String, String>> {
    facts.request.namespaces.get(facts.own)
}

/// Whether a policy selects the grant's namespace.
fn selects(policy: &AccessPolicy, facts: &Facts<'_>) -> bool {
    own_labels(facts).is_some_and(|labels| policy.spec.namespace_selector.matches(labels))
}

/// The point whether a policy selects the grant's namespace.
fn selector(policy: &AccessPolicy, facts: &Facts<'_>) -> Point {
    let own = Shown(facts.own);
    let wanted = access::selector(&policy.spec.namespace_selector);
    let asks = if wanted.is_empty() {
        "any namespace".to_owned()
    } else {
        format!("namespaces with {wanted}")
    };
    let point = Point::holds("namespaceSelector", "metadata.namespace", own.to_string(), asks);
    let point = if selects(policy, facts) {
        point
    } else if own_labels(facts).is_none() {
        point.fails(
            format_args!("{own} is not known"),
            format!("create namespace {own} first"),
        )
    } else {
        point.fails(
            format_args!("{own} is not selected"),
            format!("use a namespace that has {wanted}, or ask the platform team to label {own} so"),
        )
    };
    point.by(name(policy))
}

/// Whether a policy is for this classification and environment.
fn scope(policy: &AccessPolicy, facts: &Facts<'_>) -> Vec<Point> {
    let mut classes = policy.spec.data_classifications.clone();
    classes.sort();
    classes.dedup();
    let classes: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
    let classes = classes.join(", ");
    let source = facts.raised_by.map_or_else(String::new, |namespace| {
        format!(
            " by the label {} of namespace {}",
            crate::api::names::LABEL_CLASSIFICATION,
            Shown(namespace)
        )
    });
    let class = facts.classification;
    let field = "integration spec.dataClassification";
    let classification = Point::holds(
        "dataClassifications",
        field,
        format!("{}{source}", class.as_str()),
        format!("allowed are {classes}"),
    )
    .fails_if(!policy.spec.data_classifications.contains(&class), || {
        let first = if facts.raised_by.is_some() {
            "keep out of that namespace".to_owned()
        } else {
            format!("set {field} to one of {classes} if the data is no more sensitive")
        };
        format!("{first}, or ask for a policy that is for {}", class.as_str())
    });
    let environment = facts.request.integration.spec.environment;
    let mut environments = policy.spec.environments.clone();
    environments.sort();
    environments.dedup();
    let environments: Vec<String> = environments.iter().map(|word| format!("{word:?}")).collect();
    let environment_point = Point::holds(
        "environments",
        "integration spec.environment",
        format!("{environment:?}"),
        format!("allowed are {}", environments.join(", ")),
    )
    .fails_if(!policy.spec.environments.contains(&environment), || {
        format!("ask for a policy that is for {environment:?}")
    });
    [classification, environment_point]
        .map(|point| point.by(name(policy)))
        .into()
}
