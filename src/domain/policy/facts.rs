//! What a request says, worked out once for all policies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::names::LABEL_CLASSIFICATION;
use crate::api::v1alpha1::{AccessEntry, AccessPolicy, CredentialType, DataClassification, Delivery, ResolvedRule};
use crate::domain::permission::{from_rules, is_reading_only, normalise, reaches_secrets, uncovered};

use super::Request;

/// Rules, and the field that they come from.
pub(super) struct Rules {
    /// The field, such as `spec.access[0].rules[1]`.
    pub(super) path: String,
    /// Whether the grant states them; else a ClusterRole does.
    pub(super) is_stated: bool,
    /// The rules, normalised.
    pub(super) rules: Vec<ResolvedRule>,
    /// What they permit, in words; not all of it where that is long.
    words: String,
}

impl Rules {
    fn of(path: String, is_stated: bool, rules: Vec<ResolvedRule>) -> Self {
        let words = uncovered(&[], &rules).to_string();
        Self {
            path,
            is_stated,
            rules,
            words,
        }
    }

    /// What they permit, in words; not all of it where that is long.
    pub(super) fn words(&self) -> &str {
        &self.words
    }
}

/// One entry of the access.
pub(super) struct Entry<'a> {
    /// The field, such as `spec.access[0]`.
    pub(super) path: String,
    /// The entry itself.
    pub(super) entry: &'a AccessEntry,
    /// Each rule of the grant, or the rules of the ClusterRole where it exists.
    pub(super) rules: Vec<Rules>,
    /// Where it holds.
    pub(super) namespaces: Vec<&'a str>,
}

/// A request, worked out.
pub(super) struct Facts<'a> {
    pub(super) request: &'a Request<'a>,
    /// The grant's own namespace.
    pub(super) own: &'a str,
    pub(super) entries: Vec<Entry<'a>>,
    /// The highest of the declared classification and those of the namespaces.
    pub(super) classification: DataClassification,
    /// The namespace whose label raised it above the declared one.
    pub(super) raised_by: Option<&'a str>,
    /// Namespaces that are asked for and that no policy lets the grant reach: somebody else's. The grant is refused for that,
    /// and nothing else of them is looked at, so that a refusal tells nothing of them, not even whether they exist.
    pub(super) closed: BTreeSet<&'a str>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(request: &'a Request<'a>, policies: &[&AccessPolicy]) -> Self {
        let own = request.grant.metadata.namespace.as_deref().unwrap_or_default();
        let entries: Vec<Entry<'a>> = request
            .grant
            .spec
            .access
            .iter()
            .enumerate()
            .map(|(index, entry)| Entry::of(request, own, index, entry))
            .collect();
        let closed = closed(policies, request, own, &entries);
        let mut classification = request.integration.spec.data_classification;
        let mut raised_by = None;
        let mut reached: Vec<&str> = entries
            .iter()
            .flat_map(|entry| entry.namespaces.iter().copied())
            .collect();
        reached.push(own);
        reached.sort_unstable();
        for namespace in reached.into_iter().filter(|name| !closed.contains(name)) {
            let label = request
                .namespaces
                .get(namespace)
                .and_then(|labels| labels.get(LABEL_CLASSIFICATION));
            if let Some(class) = label.map(|label| DataClassification::from_label(label))
                && class > classification
            {
                classification = class;
                raised_by = Some(namespace);
            }
        }
        Self {
            request,
            own,
            entries,
            classification,
            raised_by,
            closed,
        }
    }

    /// Whether the access goes beyond the grant's own namespace.
    pub(super) fn reaches_beyond_own(&self) -> bool {
        self.entries
            .iter()
            .flat_map(|entry| &entry.namespaces)
            .any(|namespace| *namespace != self.own)
    }

    /// Whether its credential is a static one.
    pub(super) fn is_static(&self) -> bool {
        self.request.grant.spec.credential.type_ == CredentialType::Static
    }

    /// The name of the Secret that holds this grant's credential, where that is in its own namespace.
    pub(super) fn own_delivery(&self) -> Option<String> {
        let grant = self.request.grant;
        (self.is_static() || grant.token().delivery == Delivery::Namespace).then(|| grant.secret_name())
    }

    /// Whether the access is mild enough for self-service: it reads, no Secrets, in namespaces whose own label says
    /// Public or Internal, by a credential that ends.
    pub(super) fn is_mild(&self) -> bool {
        // What the label says is part of the classification.
        let is_labelled = |labels: &BTreeMap<String, String>| labels.contains_key(LABEL_CLASSIFICATION);
        let namespaces = &self.request.namespaces;
        self.closed.is_empty()
            && !self.is_static()
            && self.classification <= DataClassification::Internal
            && self.entries.iter().all(|entry| {
                entry
                    .namespaces
                    .iter()
                    .all(|name| namespaces.get(*name).is_some_and(is_labelled))
                    && entry
                        .rules
                        .iter()
                        .flat_map(|part| &part.rules)
                        .all(|rule| is_reading_only(rule) && !reaches_secrets(rule))
            })
    }
}

/// The namespaces beyond its own that no policy which selects the grant's namespace lets it reach.
fn closed<'a>(
    policies: &[&AccessPolicy],
    request: &Request<'_>,
    own: &str,
    entries: &[Entry<'a>],
) -> BTreeSet<&'a str> {
    let selecting: Vec<&AccessPolicy> = policies
        .iter()
        .copied()
        .filter(|policy| {
            let labels = request.namespaces.get(own);
            labels.is_some_and(|labels| policy.spec.namespace_selector.matches(labels))
        })
        .collect();
    let targets = entries.iter().flat_map(|entry| entry.namespaces.iter().copied());
    targets
        .filter(|target| *target != own && !selecting.iter().any(|policy| lets_reach(policy, request, target)))
        .collect()
}

/// Whether a policy lets grants reach a namespace beyond their own.
pub(super) fn lets_reach(policy: &AccessPolicy, request: &Request<'_>, namespace: &str) -> bool {
    let wanted = policy.spec.access.target_namespaces.as_ref();
    let labels = request.namespaces.get(namespace);
    wanted.zip(labels).is_some_and(|(wanted, has)| wanted.matches(has))
}

impl<'a> Entry<'a> {
    fn of(request: &Request<'_>, own: &'a str, index: usize, entry: &'a AccessEntry) -> Self {
        let path = format!("spec.access[{index}]");
        let mut rules: Vec<Rules> = entry
            .rules
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, rule)| {
                let path = format!("{path}.rules[{index}]");
                Rules::of(path, true, from_rules(std::slice::from_ref(rule)))
            })
            .collect();
        if let Some(role) = &entry.cluster_role_ref
            && let Some(resolved) = request.cluster_roles.get(&role.name.0)
        {
            let path = format!("{path}.clusterRoleRef");
            rules.push(Rules::of(path, false, normalise(resolved.clone())));
        }
        let mut namespaces: Vec<&str> = entry.namespaces.iter().map(AsRef::as_ref).collect();
        if namespaces.is_empty() {
            namespaces.push(own);
        }
        Self {
            path,
            entry,
            rules,
            namespaces,
        }
    }
}
