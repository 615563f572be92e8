//! Which grants a change touches. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::api::v1alpha1::{AccessDecision, AccessGrant, PartnerIntegration, SubjectKind};
use crate::domain::ownership;

/// A namespaced object: its namespace and name.
pub(crate) type Key = (String, String);

/// Objects by what they refer to, so that the referrers of an object are found without a scan.
#[derive(Debug)]
pub(crate) struct Referrers<T> {
    of: HashMap<T, BTreeSet<Key>>,
    target: HashMap<Key, T>,
}

impl<T> Default for Referrers<T> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            target: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Referrers<T> {
    /// The object refers to `target` now, or to nothing.
    pub(crate) fn put(&mut self, object: Key, target: Option<T>) {
        if let Some(before) = self.target.remove(&object)
            && let Some(all) = self.of.get_mut(&before)
        {
            all.remove(&object);
            if all.is_empty() {
                self.of.remove(&before);
            }
        }
        if let Some(target) = target {
            self.of.entry(target.clone()).or_default().insert(object.clone());
            self.target.insert(object, target);
        }
    }

    /// Forgets every object that is not there any more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = self.target.keys().filter(|key| !is_there(key)).cloned().collect();
        for object in gone {
            self.put(object, None);
        }
    }

    /// The objects that refer to `target`, sorted.
    pub(crate) fn of(&self, target: &T) -> Vec<Key> {
        self.of.get(target).into_iter().flatten().cloned().collect()
    }
}

/// The integration that a grant refers to.
pub(crate) fn integration_of(grant: &AccessGrant) -> Key {
    let namespace = grant.metadata.namespace.clone().unwrap_or_default();
    (namespace, grant.spec.integration_ref.name.0.clone())
}

/// What a decision is about.
pub(crate) fn subject_of(decision: &AccessDecision) -> (SubjectKind, Key) {
    let namespace = decision.metadata.namespace.clone().unwrap_or_default();
    let subject = &decision.spec.subject;
    (subject.kind, (namespace, subject.name.0.clone()))
}

/// Whether a grant lies in a namespace or reaches it.
pub(crate) fn touches_namespace(grant: &AccessGrant, namespace: &str) -> bool {
    grant.metadata.namespace.as_deref() == Some(namespace)
        || grant
            .spec
            .access
            .iter()
            .any(|entry| entry.namespaces.iter().any(|name| name.0 == namespace))
}

/// Whether a rule of a grant names an object, whatever its kind.
pub(crate) fn names_object(grant: &AccessGrant, name: &str) -> bool {
    let rules = grant.spec.access.iter().filter_map(|entry| entry.rules.as_ref());
    rules
        .flatten()
        .any(|rule| rule.resource_names.iter().any(|named| named.0 == name))
}

/// Whether a ClusterRole may give Secrets: at a glance, since it is asked for every grant beside a new one.
pub(crate) fn speaks_of_secrets(role: &ClusterRole) -> bool {
    let mut resources = role
        .rules
        .iter()
        .flatten()
        .flat_map(|rule| rule.resources.iter().flatten());
    resources.any(|resource| resource == "secrets" || resource == "*")
}

/// Whether a grant gives a ClusterRole.
pub(crate) fn gives_cluster_role(grant: &AccessGrant, role: &str) -> bool {
    let mut references = grant
        .spec
        .access
        .iter()
        .filter_map(|entry| entry.cluster_role_ref.as_ref());
    references.any(|reference| reference.name.0 == role)
}

/// Whether an AccessOwner is accountable for an integration.
pub(crate) fn is_owned_by(integration: &PartnerIntegration, owner: &str) -> bool {
    ownership::names(integration).contains(&owner)
}

/// Whether one of these users asks for a grant or ever did, had a hand in it, or decided on it: who is one person under several
/// names depends on what an AccessOwner lists.
pub(crate) fn names_any<'a>(
    users: &BTreeSet<String>,
    grant: &AccessGrant,
    integration: Option<&PartnerIntegration>,
    decisions: impl IntoIterator<Item = &'a AccessDecision>,
) -> bool {
    let spec = &grant.spec;
    let of_grant = spec.requested_by.iter().chain(&spec.contributors);
    let of_integration = integration.map(|it| it.spec.requested_by.iter().chain(&it.spec.contributors));
    let deciders = decisions.into_iter().filter_map(|it| it.spec.decided_by.as_ref());
    let mut named = of_grant.chain(of_integration.into_iter().flatten()).chain(deciders);
    let mut before = grant.status.iter().flat_map(|status| &status.involved);
    named.any(|user| users.contains(&user.0)) || before.any(|user| users.contains(user))
}

/// Adds to user names all those that AccessOwners tie to them, by what each lists, over however many of them.
pub(crate) fn tied<'a>(
    mut users: BTreeSet<String>,
    listed: impl Iterator<Item = &'a BTreeSet<String>> + Clone,
) -> BTreeSet<String> {
    loop {
        let before = users.len();
        for names in listed.clone() {
            if !names.is_disjoint(&users) {
                users.extend(names.iter().cloned());
            }
        }
        if users.len() == before {
            return users;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{at, decision, grant, integration};

    fn key(name: &str) -> Key {
        ("payments".to_owned(), name.to_owned())
    }

    #[test]
    fn referrers_follow_their_targets() {
        let mut referrers = Referrers::default();
        referrers.put(key("a"), Some("x"));
        referrers.put(key("b"), Some("x"));
        assert_eq!(referrers.of(&"x"), [key("a"), key("b")]);
        referrers.put(key("a"), Some("y"));
        assert_eq!(
            (referrers.of(&"x"), referrers.of(&"y")),
            (vec![key("b")], vec![key("a")])
        );
        referrers.retain(|object| object == &key("a"));
        assert!(referrers.of(&"x").is_empty() && referrers.of.len() == 1);
        referrers.put(key("a"), None);
        assert!(referrers.of.is_empty() && referrers.target.is_empty());
    }

    #[test]
    fn a_grant_is_touched_by_what_it_refers_to() {
        let grant = grant();
        assert_eq!(integration_of(&grant), key("acme-billing"));
        assert!(touches_namespace(&grant, "payments") && !touches_namespace(&grant, "other"));
        assert!(names_object(&grant, "invoice-feed") && !names_object(&grant, "another"));
        assert!(!gives_cluster_role(&grant, "wayleave-read"));
        let (alice, eve) = ("alice", "eve");
        assert!(is_owned_by(&integration(), alice) && !is_owned_by(&integration(), eve));
    }

    #[test]
    fn a_decision_is_about_its_subject() {
        let one = decision(
            "one",
            "Deny",
            "dave",
            "sha256:0",
            &at("2026-12-01T00:00:00Z").to_string(),
        );
        let (kind, (_, name)) = subject_of(&one);
        assert_eq!(
            (kind, name),
            (SubjectKind::AccessGrant, "acme-billing-reader".to_owned())
        );
    }

    #[test]
    fn a_grant_names_who_asked_who_had_a_hand_in_it_and_who_decided() {
        let (mut grant, mut integration) = (grant(), integration());
        grant.spec.requested_by = Some("asks".into());
        grant.spec.contributors = vec!["changes".into()];
        integration.spec.requested_by = Some("asks-more".into());
        integration.spec.contributors = vec!["changes-more".into()];
        let decision = decision("one", "Approve", "decides", "sha256:0", "2026-12-01T00:00:00Z");
        let names = |user: &str| {
            let users = BTreeSet::from([user.to_owned(), "somebody".to_owned()]);
            names_any(&users, &grant, Some(&integration), [&decision])
        };
        for user in ["asks", "changes", "asks-more", "changes-more", "decides"] {
            assert!(names(user), "{user}");
        }
        assert!(!names("nobody") && !names_any(&["decides".to_owned()].into(), &grant, None, []));
        grant.status.get_or_insert_default().involved = vec!["asked".to_owned()];
        assert!(names_any(&["asked".to_owned()].into(), &grant, None, []));
    }

    #[test]
    fn names_are_tied_over_however_many_owners() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let listed = [set(&["c", "d"]), set(&["x", "y"]), set(&["b", "c"]), set(&["a", "b"])];
        assert_eq!(tied(set(&["a"]), listed.iter()), set(&["a", "b", "c", "d"]));
        assert_eq!(tied(set(&["z"]), listed.iter()), set(&["z"]));
    }
}
