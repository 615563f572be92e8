//! Bindings that aren't ours and reach ServiceAccounts, partners' identities perhaps among them, as they are seen.

use std::collections::{BTreeSet, HashMap};
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
    current: HashMap<Place, OtherRights>,
    /// Filled by a new listing, until it is complete.
    listing: HashMap<Place, OtherRights>,
}

impl Elsewhere {
    /// What an identity may do beside its grant, in words.
    pub(crate) fn of(&self, account: Account<'_>, reached: &BTreeSet<String>) -> Option<String> {
        let (namespaced, cluster) = (lock(&self.namespaced.0), lock(&self.cluster.0));
        describe(
            cluster.current.values().chain(namespaced.current.values()),
            account,
            reached,
        )
    }
}

impl Found {
    pub(crate) fn begin(&self) {
        lock(&self.0).listing.clear();
    }

    pub(crate) fn listed(&self, rights: OtherRights) {
        lock(&self.0).listing.insert(place(&rights), rights);
    }

    /// Takes the listing over.
    pub(crate) fn complete(&self) {
        let mut inner = lock(&self.0);
        inner.current = std::mem::take(&mut inner.listing);
    }

    /// A binding changed; gives what it gave before and what it gives now, where that is not the same.
    pub(crate) fn put(&self, namespace: &str, name: &str, rights: Option<OtherRights>) -> Vec<OtherRights> {
        let key = (namespace.to_owned(), name.to_owned());
        let current = &mut lock(&self.0).current;
        let before = match rights.clone() {
            Some(rights) => current.insert(key, rights),
            None => current.remove(&key),
        };
        if before == rights {
            return Vec::new();
        }
        before.into_iter().chain(rights).collect()
    }
}

fn place(rights: &OtherRights) -> Place {
    (rights.namespace.clone().unwrap_or_default(), rights.name.clone())
}
