//! The latest answers to writes of ours: a cache can lag behind them, and would have us write again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};

use super::cache::Guarded;
use super::lock;

/// The answers, by UID.
#[derive(Debug)]
pub(crate) struct Written<K>(Mutex<HashMap<String, Arc<K>>>);

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Written<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    Guarded<K>: Resource<DynamicType = ()>,
{
    pub(crate) fn remember(&self, object: K) {
        lock(&self.0).insert(object.uid().unwrap_or_default(), Arc::new(object));
    }

    /// The object as the cache has it now, or as we wrote it where the cache has not seen that yet; none where it is not there, or
    /// can't be read.
    pub(crate) fn newest(&self, cache: &Store<Guarded<K>>, object: &ObjectRef<Guarded<K>>) -> Option<Arc<K>> {
        // Before the cache is looked at: a copy that is not here any more is there already.
        let mut written = lock(&self.0);
        let guarded = cache.get(object)?;
        let cached = guarded.0.as_ref().ok()?;
        let uid = cached.uid().unwrap_or_default();
        match written.get(&uid) {
            Some(ours) if version(ours.as_ref()) > version(cached) => Some(Arc::clone(ours)),
            _ => {
                written.remove(&uid);
                Some(Arc::new(cached.clone()))
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

fn version(object: &impl Resource) -> u64 {
    let version = object.resource_version();
    version.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::DeserializeGuard;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;

    use crate::api::v1alpha1::AccessGrant;
    use crate::domain::fixtures::grant;

    fn of(version: &str) -> AccessGrant {
        let mut grant = grant();
        grant.metadata.resource_version = Some(version.to_owned());
        grant
    }

    #[test]
    fn a_copy_is_kept_until_the_cache_has_caught_up() {
        let mut writer = Writer::<Guarded<AccessGrant>>::default();
        let (cache, written) = (writer.as_reader(), Written::default());
        let name = grant().name_any();
        let of_grant = ObjectRef::new(&name).within(&grant().namespace().unwrap());
        let newest = || written.newest(&cache, &of_grant).map(|it| version(it.as_ref()));
        assert_eq!(newest(), None, "nobody has seen it");
        let mut see = |object: &str| {
            writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(of(object)))));
            written.caught_up(&of(object));
        };
        see("8");
        written.remember(of("9"));
        assert_eq!(newest(), Some(9), "the cache lags");
        see("8");
        assert_eq!(newest(), Some(9), "it does still");
        see("9");
        assert!(lock(&written.0).is_empty());
        assert_eq!(newest(), Some(9));
        written.remember(of("9"));
        see("10");
        assert_eq!(newest(), Some(10));
    }
}
