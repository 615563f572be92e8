//! The latest answers to writes of ours: a cache can lag behind them, and would have us write again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use kube::ResourceExt;

use super::lock;

/// The answers, by UID.
#[derive(Debug)]
pub(crate) struct Written<K>(Mutex<HashMap<String, Arc<K>>>);

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: ResourceExt> Written<K> {
    pub(crate) fn remember(&self, object: K) {
        lock(&self.0).insert(object.uid().unwrap_or_default(), Arc::new(object));
    }

    /// The cache's object, or what we wrote where the cache has not seen it yet.
    pub(crate) fn newest(&self, cached: Arc<K>) -> Arc<K> {
        let mut written = lock(&self.0);
        let uid = cached.uid().unwrap_or_default();
        match written.get(&uid) {
            Some(ours) if version(ours.as_ref()) > version(cached.as_ref()) => Arc::clone(ours),
            _ => {
                written.remove(&uid);
                cached
            }
        }
    }

    /// The cache has seen an object as it was when we wrote it, or later: our copy is of no use any more.
    pub(crate) fn caught_up(&self, cached: &K) {
        let mut written = lock(&self.0);
        let uid = cached.uid().unwrap_or_default();
        if written
            .get(&uid)
            .is_some_and(|ours| version(ours.as_ref()) <= version(cached))
        {
            written.remove(&uid);
        }
    }

    /// Forgets all but objects of these UIDs.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

fn version(object: &impl ResourceExt) -> u64 {
    let version = object.resource_version();
    version.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AccessGrant;
    use crate::domain::fixtures::grant;

    fn of(version: &str) -> AccessGrant {
        let mut grant = grant();
        grant.metadata.resource_version = Some(version.to_owned());
        grant
    }

    #[test]
    fn a_copy_is_kept_until_the_cache_has_caught_up() {
        let written = Written::default();
        written.remember(of("9"));
        written.caught_up(&of("8"));
        assert_eq!(version(written.newest(Arc::new(of("8"))).as_ref()), 9);
        written.caught_up(&of("10"));
        assert!(lock(&written.0).is_empty());
        written.remember(of("9"));
        assert_eq!(version(written.newest(Arc::new(of("10"))).as_ref()), 10);
        assert!(lock(&written.0).is_empty());
    }
}
