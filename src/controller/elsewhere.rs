//! Bindings that aren't ours and reach ServiceAccounts, partners' identities perhaps among them, as they are seen.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use super::lock;
use crate::domain::elsewhere::{Account, OtherRights, describe};

/// Where a binding lies: its namespace, empty for a ClusterRoleBinding; and its name.
type Place = (String, String);

/// See the module: RoleBindings, and ClusterRoleBindings.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    pub(crate) namespaced: Found,
    pub(crate) cluster: Found,
}

/// What was found among the bindings of one kind.
#[derive(Debug, Default)]
pub(crate) struct Found(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    current: Bindings,
    /// Filled by a new listing, until it is complete.
    listing: Bindings,
}

/// Bindings by place, and by whom they reach: there may be many, and each look at a grant asks for one ServiceAccount.
#[derive(Debug, Default)]
struct Bindings {
    all: HashMap<Place, OtherRights>,
    to_groups: HashSet<Place>,
    /// By namespace and name of the ServiceAccount.
    to_account: HashMap<(String, String), HashSet<Place>>,
}

impl Elsewhere {
    /// What an identity may do beside its grant, in words; but for what Kubernetes itself gives everybody by ClusterRoles that
    /// are as they were.
    pub(crate) fn of(
        &self,
        account: Account<'_>,
        reached: &BTreeSet<String>,
        is_ordinary: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let (namespaced, cluster) = (lock(&self.namespaced.0), lock(&self.cluster.0));
        let (near, far) = (cluster.current.about(account), namespaced.current.about(account));
        let is_told = |rights: &&OtherRights| rights.of_kubernetes().is_none_or(|role| !is_ordinary(role));
        describe(near.chain(far).filter(is_told), account, reached)
    }
}

impl Found {
    pub(crate) fn begin(&self) {
        lock(&self.0).listing = Bindings::default();
    }

    pub(crate) fn listed(&self, rights: OtherRights) {
        lock(&self.0).listing.put(rights);
    }

    /// Takes the listing over.
    pub(crate) fn complete(&self) {
        let mut inner = lock(&self.0);
        inner.current = std::mem::take(&mut inner.listing);
    }

    /// A binding changed; gives what it gave before and what it gives now, where that is not the same.
    pub(crate) fn put(&self, namespace: &str, name: &str, rights: Option<OtherRights>) -> Vec<OtherRights> {
        let current = &mut lock(&self.0).current;
        let before = current.take(&(namespace.to_owned(), name.to_owned()));
        if let Some(rights) = rights.clone() {
            current.put(rights);
        }
        if before == rights {
            return Vec::new();
        }
        before.into_iter().chain(rights).collect()
    }
}

impl Bindings {
    /// Those that may reach a ServiceAccount.
    fn about(&self, account: Account<'_>) -> impl Iterator<Item = &OtherRights> {
        let key = (account.namespace.to_owned(), account.name.to_owned());
        let named = self.to_account.get(&key).into_iter().flatten();
        named.chain(&self.to_groups).filter_map(|place| self.all.get(place))
    }

    fn put(&mut self, rights: OtherRights) {
        let place = place(&rights);
        self.take(&place);
        for account in rights.accounts() {
            self.to_account
                .entry(account.clone())
                .or_default()
                .insert(place.clone());
        }
        if rights.has_groups() {
            self.to_groups.insert(place.clone());
        }
        self.all.insert(place, rights);
    }

    fn take(&mut self, place: &Place) -> Option<OtherRights> {
        let rights = self.all.remove(place)?;
        self.to_groups.remove(place);
        for account in rights.accounts() {
            if let Some(places) = self.to_account.get_mut(account) {
                places.remove(place);
                if places.is_empty() {
                    self.to_account.remove(account);
                }
            }
        }
        Some(rights)
    }
}

fn place(rights: &OtherRights) -> Place {
    (rights.namespace.clone().unwrap_or_default(), rights.name.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

    use super::*;

    fn to(name: &str, subjects: &[(&str, &str)]) -> Option<OtherRights> {
        let role = RoleRef {
            kind: "ClusterRole".to_owned(),
            name: "view".to_owned(),
            ..RoleRef::default()
        };
        let subject = |&(kind, name): &(&str, &str)| Subject {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: (kind == "ServiceAccount").then(|| "payments".to_owned()),
            ..Subject::default()
        };
        let subjects: Vec<Subject> = subjects.iter().map(subject).collect();
        OtherRights::of(Some("payments"), name, &role, &subjects)
    }

    #[test]
    fn what_a_binding_gives_is_found_by_whom_it_reaches_and_goes_with_it() {
        let elsewhere = Elsewhere::default();
        let near = ["payments".to_owned()].into();
        let of = |name| {
            let account = Account {
                namespace: "payments",
                name,
            };
            elsewhere.of(account, &near, |_| false).is_some()
        };
        let found = &elsewhere.namespaced;
        let named = to("one", &[("ServiceAccount", "legacy")]);
        assert_eq!(found.put("payments", "one", named.clone()).len(), 1);
        assert!(found.put("payments", "one", named).is_empty(), "nothing changed");
        assert!(of("legacy") && !of("other"));
        let moved = to(
            "one",
            &[
                ("ServiceAccount", "other"),
                ("Group", "system:serviceaccounts:payments"),
            ],
        );
        assert_eq!(found.put("payments", "one", moved).len(), 2);
        assert!(of("legacy") && of("other"), "by their group");
        found.begin();
        found.complete();
        assert!(!of("legacy") && !of("other"));
        found.put("payments", "one", to("one", &[("ServiceAccount", "legacy")]));
        found.put("payments", "one", None);
        let left = &lock(&found.0).current;
        assert!(left.all.is_empty() && left.to_account.is_empty() && left.to_groups.is_empty());
    }
}
