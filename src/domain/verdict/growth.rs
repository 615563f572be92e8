//! What ClusterRoles hold beyond what was approved.

use super::Facts;
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessGrantStatus, OnRoleGrowth, ResolvedClusterRole};
use crate::domain::permission;
use crate::domain::policy::Terms;

/// Keeps what the ClusterRoles held when they were approved, and compares.
pub(super) fn grown(
    facts: &Facts<'_>,
    terms: Option<&Terms>,
    status: &mut AccessGrantStatus,
    is_approved: bool,
    renewed: bool,
) -> Vec<(Reason, String)> {
    let mut names: Vec<&str> = facts
        .grant
        .spec
        .access
        .iter()
        .filter_map(|entry| entry.cluster_role_ref.as_ref())
        .map(|role| role.name.as_ref())
        .collect();
    names.sort_unstable();
    names.dedup();
    let now = names.iter().filter_map(|name| {
        let rules = facts.cluster_roles.get(*name)?.clone();
        Some(ResolvedClusterRole {
            cluster_role: (*name).to_owned(),
            rules,
        })
    });
    let now: Vec<ResolvedClusterRole> = now.collect();
    let covers_all = names
        .iter()
        .all(|name| status.resolved_rules.iter().any(|kept| kept.cluster_role == *name));
    if !is_approved {
        return Vec::new();
    }
    if renewed || !covers_all {
        status.resolved_rules = now;
        return Vec::new();
    }
    status
        .resolved_rules
        .retain(|kept| names.contains(&kept.cluster_role.as_str()));
    if terms.is_some_and(|terms| terms.on_role_growth == OnRoleGrowth::Report) {
        return Vec::new();
    }
    let found = now.iter().filter_map(|role| {
        let kept = status
            .resolved_rules
            .iter()
            .find(|kept| kept.cluster_role == role.cluster_role)?;
        let more = permission::growth(&kept.rules, &role.rules);
        let name = &role.cluster_role;
        (!more.is_empty()).then(|| {
            (
                Reason::RoleGrew,
                format!("ClusterRole {name} holds more than was approved: {more}; approve again, or shrink it"),
            )
        })
    });
    found.collect()
}
