//! Wayleave is being uninstalled: what says so, and what that asks of the caches. Does I/O.
//!
//! The marker is a ConfigMap that every replica watches. While it is there nothing is issued, whatever else is so: a
//! replica that starts later goes by it too.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};

use super::Settings;
use super::apply::is_held;
use super::cache::Cache;
use super::mapping;
use super::watches::{self, events};
use crate::api::names::DRAIN;

/// What grants say, and `/ready`.
const MARKED: &str = "Wayleave is being uninstalled: nothing is issued until the drain marker, the ConfigMap wayleave-drain in the operator's namespace, is taken away (wayleave uninstall --undo)";
/// The same where nobody set the marker.
const LEAVING: &str = "Wayleave is being uninstalled: the operator's namespace is being deleted";
/// The source by which the cache knows the marker.
pub(super) const SOURCE: &str = "configmaps";

/// Whether Wayleave is being uninstalled.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// The marker was seen.
    marked: AtomicBool,
    /// This process is here to uninstall.
    told: AtomicBool,
    /// The operator's own namespace, and that of the identities.
    places: OnceLock<(String, String)>,
}

impl Drain {
    /// This process drains, whether or not the marker can be set or seen.
    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Release);
    }

    pub(super) fn settle_in(&self, settings: &Settings) {
        // Set once, by the only start there is.
        let _ = self
            .places
            .set((settings.namespace.clone(), settings.identities.clone()));
    }

    /// Whether it is the operator's own namespace.
    pub(super) fn is_own(&self, namespace: &str) -> bool {
        self.places.get().is_some_and(|(own, _)| own == namespace)
    }

    /// Notes whether the marker is there; says whether that is news.
    fn mark(&self, is_there: bool) -> bool {
        let is_news = self.marked.swap(is_there, Ordering::AcqRel) != is_there;
        if is_news && is_there {
            tracing::warn!("the drain marker is there: all access ends and nothing is issued until it is taken away");
        } else if is_news {
            tracing::info!("the drain marker is gone: what is in order is issued again");
        }
        is_news
    }
}

impl Cache {
    /// Why nothing is issued any more and everything ends, in words.
    #[must_use]
    pub fn uninstalling(&self) -> Option<&'static str> {
        if self.drain.marked.load(Ordering::Acquire) || self.drain.told.load(Ordering::Acquire) {
            return Some(MARKED);
        }
        // With the namespace goes the marker, and it must not go first.
        let (own, _) = self.drain.places.get()?;
        let own = self.namespaces.get(&ObjectRef::new(own))?;
        own.metadata.deletion_timestamp.as_ref().map(|_| LEAVING)
    }

    /// Nothing of a source is there, though it can't be read: its kind is not served any more, or it was in the namespace of
    /// the identities, which is gone. Only while Wayleave is being uninstalled: at other times it is as if unknown.
    pub(super) fn is_no_more(&self, source: &str, error: &watcher::Error) -> bool {
        let (watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
        else {
            return false;
        };
        if self.uninstalling().is_none() {
            return false;
        }
        let of_identities = ["serviceaccounts", "secrets"].contains(&source);
        status.code == 404 || (status.is_forbidden() && of_identities && self.are_identities_gone())
    }

    /// The namespace of the identities is known not to be there.
    pub(crate) fn are_identities_gone(&self) -> bool {
        let Some((_, identities)) = self.drain.places.get() else {
            return false;
        };
        self.index.is_known("namespaces") && self.namespaces.get(&ObjectRef::new(identities)).is_none()
    }

    /// Whether an enrolment is still needed to close something in its namespace.
    pub(super) fn needs_enrolment(&self, namespace: &str) -> bool {
        let holds = |grant: &super::cache::Guarded<_>| is_held(grant.finalizers());
        let grants = self.grants.state();
        let mut held = grants.iter().filter(|grant| holds(grant.as_ref()));
        let reaches = |grant: &Arc<super::cache::Guarded<_>>| {
            let readable = grant.0.as_ref().ok();
            readable.is_none_or(|grant| mapping::touches_namespace(grant, namespace))
        };
        held.any(reaches) || self.index.holds_ours(namespace)
    }
}

/// Follows the marker for ever.
pub(super) async fn follow_marker(api: Api<PartialObjectMeta<ConfigMap>>, cache: Arc<Cache>) {
    let config = watches::config().fields(&format!("metadata.name={DRAIN}"));
    let mut events = Box::pin(events(SOURCE, &cache, api, config, |_: &mut _| {}));
    let mut listed = false;
    while let Some(event) = events.next().await {
        let is_there = match event {
            watcher::Event::Init => {
                listed = false;
                continue;
            }
            watcher::Event::InitApply(_) => {
                listed = true;
                continue;
            }
            watcher::Event::InitDone => {
                let is_news = cache.drain.mark(listed);
                let was_known = cache.index.is_known(SOURCE);
                cache.synced(SOURCE, 0);
                if is_news || !was_known {
                    cache.enqueue_all();
                }
                continue;
            }
            watcher::Event::Apply(_) => true,
            watcher::Event::Delete(_) => false,
        };
        if cache.drain.mark(is_there) {
            cache.enqueue_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use kube::api::ObjectMeta;
    use kube::core::Status;
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::controller::cache::Pending;
    use crate::domain::fixtures::at;

    fn settings() -> Settings {
        Settings {
            namespace: "wayleave-system".to_owned(),
            service_account: "wayleave".to_owned(),
            identities: "wayleave-identities".to_owned(),
            partner_server: String::new(),
            ca: String::new(),
            concurrency: 1,
            everywhere: false,
        }
    }

    fn namespace(name: &str, is_going: bool) -> PartialObjectMeta<Namespace> {
        let going = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("2026-12-01T00:00:00Z").timestamp());
        PartialObjectMeta {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                deletion_timestamp: is_going.then_some(going),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        }
    }

    fn refused(code: u16) -> watcher::Error {
        let reason = if code == 403 { "Forbidden" } else { "" };
        let status = Status::failure("no", reason).with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn the_marker_the_command_and_a_namespace_that_goes_each_say_so() {
        let (cache, Pending(mut writers), _queues) = Cache::new();
        cache.drain.settle_in(&settings());
        assert_eq!(cache.uninstalling(), None);
        assert!(cache.drain.mark(true) && !cache.drain.mark(true));
        assert!(cache.uninstalling().is_some_and(|words| words.contains("--undo")));
        assert!(cache.drain.mark(false));
        assert_eq!(cache.uninstalling(), None);
        writers
            .namespaces
            .apply_watcher_event(&Event::Apply(namespace("payments", true)));
        assert_eq!(cache.uninstalling(), None, "another's namespace");
        writers
            .namespaces
            .apply_watcher_event(&Event::Apply(namespace("wayleave-system", true)));
        assert_eq!(cache.uninstalling(), Some(LEAVING));
        cache.drain.tell();
        assert_eq!(cache.uninstalling(), Some(MARKED));
    }

    #[test]
    fn what_is_gone_counts_as_empty_only_while_uninstalling() {
        let (cache, Pending(mut writers), _queues) = Cache::new();
        cache.drain.settle_in(&settings());
        assert!(
            !cache.is_no_more("accessgrants", &refused(404)),
            "a kind is yet to come"
        );
        cache.drain.tell();
        assert!(cache.is_no_more("accessgrants", &refused(404)));
        assert!(
            !cache.is_no_more("accessgrants", &refused(403)),
            "a right that is missing hides what is there"
        );
        assert!(
            !cache.is_no_more("secrets", &refused(403)),
            "nothing is known of namespaces"
        );
        cache.index.complete("namespaces", 0);
        assert!(cache.is_no_more("secrets", &refused(403)));
        writers
            .namespaces
            .apply_watcher_event(&Event::Apply(namespace("wayleave-identities", true)));
        assert!(!cache.is_no_more("secrets", &refused(403)), "it is still going");
    }
}
