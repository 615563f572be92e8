//! What ClusterRoles hold beyond what was approved, or less. An approval covers the rules that were there when it was first counted.

use std::collections::BTreeSet;

use super::Facts;
use crate::api::v1alpha1::{AccessGrantStatus, OnRoleGrowth, ResolvedClusterRole};
use crate::domain::approval::{Covered, Standing};
use crate::domain::digest::hash_of;
use crate::domain::permission;
use crate::domain::policy::Terms;

/// The ClusterRoles that a grant refers to, as they are now, beside what was approved.
pub(super) struct Roles {
    names: BTreeSet<String>,
    now: Vec<ResolvedClusterRole>,
    /// Of what they hold now; empty where the grant refers to none.
    digest: String,
    /// Everything that they hold now was approved.
    is_within: bool,
    grown: Vec<String>,
    shrunk: Vec<String>,
}

impl Roles {
    /// Compares what is there with what status keeps as approved.
    pub(super) fn of(facts: &Facts<'_>, status: &AccessGrantStatus) -> Self {
        let names = facts.grant.cluster_roles();
        let now = names.iter().filter_map(|name| {
            let rules = facts.cluster_roles.get(name)?.clone();
            Some(ResolvedClusterRole {
                cluster_role: name.clone(),
                rules,
            })
        });
        let now: Vec<ResolvedClusterRole> = now.collect();
        let (mut grown, mut shrunk, mut is_within) = (Vec::new(), Vec::new(), true);
        for role in &now {
            let name = &role.cluster_role;
            let Some(kept) = kept(status, name) else {
                is_within = false;
                continue;
            };
            let more = permission::growth(&kept.rules, &role.rules);
            if !more.is_empty() {
                is_within = false;
                grown.push(format!("ClusterRole {name} holds more than was approved: {more}"));
            }
            let less = permission::growth(&role.rules, &kept.rules);
            if !less.is_empty() {
                shrunk.push(format!("ClusterRole {name} holds less than was approved: {less}"));
            }
        }
        Self {
            digest: digest_of(&now),
            names,
            now,
            is_within,
            grown,
            shrunk,
        }
    }

    /// Which approvals cover what they hold now.
    pub(super) fn covered(&self, terms: Option<&Terms>, status: &AccessGrantStatus) -> Covered {
        let approved = self.is_within.then(|| digest_of(&status.resolved_rules));
        Covered {
            now: self.digest.clone(),
            approved: approved.filter(|_| !self.now.is_empty()),
            any: terms.is_some_and(|terms| terms.on_role_growth == OnRoleGrowth::Report),
        }
    }

    /// Keeps what they hold now as approved, where enough approvals are of just that, and where nothing was kept yet.
    pub(super) fn keep(&self, standing: &Standing, status: &mut AccessGrantStatus) {
        let is_kept = self.now.iter().all(|role| kept(status, &role.cluster_role).is_some());
        if standing.is_of_now || !is_kept {
            status.resolved_rules.clone_from(&self.now);
        } else {
            status
                .resolved_rules
                .retain(|kept| self.names.contains(&kept.cluster_role));
        }
    }

    /// What they hold beyond what was approved, where nothing but that ends the grant.
    pub(super) fn against(&self, terms: Option<&Terms>, standing: &Standing) -> Option<String> {
        let is_reported = terms.is_some_and(|terms| terms.on_role_growth == OnRoleGrowth::Report);
        let is_concerned = standing.is_outgrown || terms.is_some_and(|terms| terms.self_service);
        let ends = is_concerned && !self.grown.is_empty() && !is_reported && !standing.is_of_now;
        ends.then(|| format!("{}; approve again, or shrink it", self.grown.join("; ")))
    }

    /// What is other than it was approved and ends nothing, in words.
    pub(super) fn finding(&self, standing: &Standing) -> Option<String> {
        let found: Vec<&str> = self.grown.iter().chain(&self.shrunk).map(String::as_str).collect();
        (!found.is_empty() && !standing.is_of_now).then(|| found.join("; "))
    }
}

fn kept<'a>(status: &'a AccessGrantStatus, name: &str) -> Option<&'a ResolvedClusterRole> {
    status.resolved_rules.iter().find(|kept| kept.cluster_role == name)
}

fn digest_of(roles: &[ResolvedClusterRole]) -> String {
    if roles.is_empty() {
        return String::new();
    }
    hash_of(&roles)
}
