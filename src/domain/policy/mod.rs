//! Whether the policies permit a grant, and on which terms. Pure, total, and the same in any order of policies.
//!
//! A policy *applies* where it selects the grant's namespace and is for its classification and environment. One of those
//! must permit the whole of the access by itself; limits and requirements count of all of them, the strictest of each, so
//! that a lax policy never weakens a strict one.

mod access;
mod facts;
mod limits;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{
    AccessGrant, AccessPolicy, ApprovalRequirement, DelegatedRequests, HardExpiry, OnRoleGrowth, PartnerIntegration,
    Period, ResolvedRule,
};

use super::permission::Shown;
use facts::Facts;

/// The most policies that a permission or a message names.
const MOST_POLICIES: usize = 64;
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
    /// The lines that approvals must meet, each; sorted, never empty. Not asked for under `self_service`.
    pub approvals: Vec<ApprovalRequirement>,
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
    /// Unused for this long, access ends.
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
    },
}

/// Judges a grant by all policies that exist.
#[must_use]
pub fn evaluate(policies: &[&AccessPolicy], request: &Request<'_>) -> Outcome {
    let facts = Facts::of(request);
    let mut policies: Vec<&AccessPolicy> = policies.to_vec();
    policies.sort_by_key(|policy| name(policy));
    let own_labels = request.namespaces.get(facts.own);
    let selecting: Vec<&AccessPolicy> = policies
        .iter()
        .copied()
        .filter(|policy| own_labels.is_some_and(|labels| policy.spec.namespace_selector.matches(labels)))
        .collect();
    let always = access::under_any_policy(&facts);
    if selecting.is_empty() {
        let mut failing = vec![unselected(&policies, &facts, own_labels.is_some())];
        failing.extend(always);
        return refused(None, failing);
    }

    let applicable: Vec<&AccessPolicy> = selecting
        .iter()
        .copied()
        .filter(|policy| scope(policy, &facts).is_empty())
        .collect();
    if applicable.is_empty() {
        // None of these applies, so none binds the others: each is judged alone, to find the one that comes nearest.
        let judged = selecting.iter().map(|policy| {
            let mut failing = scope(policy, &facts);
            failing.extend(access::under(policy, &facts));
            failing.extend(limits::failing(&[policy], &facts));
            (*policy, failing)
        });
        return nearest(judged.collect(), always);
    }

    let mut shared = always;
    shared.extend(limits::failing(&applicable, &facts));
    let judged: Vec<(&AccessPolicy, Vec<String>)> = applicable
        .iter()
        .map(|policy| (*policy, access::under(policy, &facts)))
        .collect();
    let permitting: Vec<String> = judged
        .iter()
        .filter(|(_, failing)| failing.is_empty())
        .map(|(policy, _)| name(policy).to_owned())
        .take(MOST_POLICIES)
        .collect();
    if shared.is_empty() && !permitting.is_empty() {
        return Outcome::Permitted {
            policies: permitting,
            terms: limits::terms(&applicable, &facts),
        };
    }
    nearest(judged, shared)
}

/// The name of a policy; the API server sees to it that there is one.
fn name(policy: &AccessPolicy) -> &str {
    policy.metadata.name.as_deref().unwrap_or_default()
}

/// Refuses by the policy with the fewest failing points, the first by name among equals.
fn nearest(judged: Vec<(&AccessPolicy, Vec<String>)>, shared: Vec<String>) -> Outcome {
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
    refused(policy, failing)
}

fn refused(nearest: Option<String>, failing: Vec<String>) -> Outcome {
    let mut told = BTreeSet::new();
    let mut failing: Vec<String> = failing.into_iter().filter(|point| told.insert(point.clone())).collect();
    if failing.len() > MOST_FAILING {
        let left = failing.len() - MOST_FAILING;
        failing.truncate(MOST_FAILING);
        failing.push(format!("and {left} more"));
    }
    Outcome::Refused { nearest, failing }
}

/// Why no policy is for the grant's namespace, with what there is to choose from.
fn unselected(policies: &[&AccessPolicy], facts: &Facts<'_>, known: bool) -> String {
    let own = Shown(facts.own);
    if !known {
        return format!("metadata.namespace: {own} is not known");
    }
    if policies.is_empty() {
        return format!("metadata.namespace: {own} is selected by no AccessPolicy: there is none");
    }
    let mut shown: Vec<String> = policies
        .iter()
        .take(MOST_SELECTORS)
        .map(|policy| {
            let labels = &policy.spec.namespace_selector.match_labels;
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{}={}", Shown(key), Shown(value)))
                .collect();
            format!("{} selects {}", Shown(name(policy)), labels.join(","))
        })
        .collect();
    if policies.len() > MOST_SELECTORS {
        shown.push(format!("and {} more", policies.len() - MOST_SELECTORS));
    }
    format!(
        "metadata.namespace: {own} is selected by no AccessPolicy: {}",
        shown.join(", ")
    )
}

/// In which points a policy is not for this classification and environment.
fn scope(policy: &AccessPolicy, facts: &Facts<'_>) -> Vec<String> {
    let mut failing = Vec::new();
    let name = Shown(name(policy));
    if !policy.spec.data_classifications.contains(&facts.classification) {
        let mut classes = policy.spec.data_classifications.clone();
        classes.sort();
        classes.dedup();
        let classes: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
        let source = facts.raised_by.map_or_else(String::new, |namespace| {
            format!(
                " by the label {} of namespace {}",
                crate::api::names::LABEL_CLASSIFICATION,
                Shown(namespace)
            )
        });
        failing.push(format!(
            "integration spec.dataClassification: {}{source}, allowed are {} (policy {name})",
            facts.classification.as_str(),
            classes.join(", "),
        ));
    }
    let environment = facts.request.integration.spec.environment;
    if !policy.spec.environments.contains(&environment) {
        let mut environments = policy.spec.environments.clone();
        environments.sort();
        environments.dedup();
        let environments: Vec<String> = environments.iter().map(|word| format!("{word:?}")).collect();
        failing.push(format!(
            "integration spec.environment: {environment:?}, allowed are {} (policy {name})",
            environments.join(", "),
        ));
    }
    failing
}
