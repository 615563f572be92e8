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
        let version = |object: &K| {
            let version = object.resource_version();
            version.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
        };
        let mut written = lock(&self.0);
        let uid = cached.uid().unwrap_or_default();
        match written.get(&uid) {
            Some(ours) if version(ours) > version(&cached) => Arc::clone(ours),
            _ => {
                written.remove(&uid);
                cached
            }
        }
    }

    /// Forgets all but objects of these UIDs.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}
