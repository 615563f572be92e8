//! Every watch: fills the caches and tells of changes. What can't be read, or is of no use, is dropped on the way.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::cache::{Cache, Guarded, Pending, is_reserved};
use super::enrolments::Enrolment;
use super::{Settings, drain, lock};
use crate::api::names::LABEL_MANAGED;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, ChildKind, PartnerIntegration};
use crate::domain::elsewhere::OtherRights;
use crate::domain::names::is_anchor;
use crate::plan::children::{binding_content, role_content};

/// The longest pause of a watch after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// An error so long ago has no bearing on the next.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Seconds after which the API server ends a watch, and it is begun anew. One that is silent for a little longer is given up: on a
/// connection that is dead at the other end nothing else tells, and no Revoke is seen until then.
const WATCH: u32 = 60;

/// Where kubectl keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Grants are looked at no more often for what is bound in other namespaces.
const OTHER_RIGHTS_PAUSE: Duration = Duration::from_mins(1);

/// Writers of the stores; used up by [`Cache::watch`].
#[derive(Default)]
pub(crate) struct Writers {
    pub(crate) grants: Writer<Guarded<AccessGrant>>,
    pub(crate) integrations: Writer<Guarded<PartnerIntegration>>,
    pub(crate) decisions: Writer<Guarded<AccessDecision>>,
    pub(crate) policies: Writer<Guarded<AccessPolicy>>,
    pub(crate) owners: Writer<Guarded<AccessOwner>>,
    pub(crate) namespaces: Writer<PartialObjectMeta<Namespace>>,
    pub(crate) cluster_roles: Writer<ClusterRole>,
}

/// Fills a store. `note` sees every object, whether it is there or gone; `touch` sees what changed by itself.
async fn fill<K>(
    source: &'static str,
    api: Api<K>,
    cache: Arc<Cache>,
    mut writer: Writer<K>,
    note: impl Fn(&Cache, &K, bool) + Send,
    touch: impl Fn(&Cache, &K, bool) + Send,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    // The second is the whole object once more, and nothing to us.
    let prune = |object: &mut K| {
        object.managed_fields_mut().clear();
        object.annotations_mut().remove(LAST_APPLIED);
    };
    let mut events = Box::pin(events(source, &cache, api, config(), prune));
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Apply(object) => {
                note(&cache, object, true);
                touch(&cache, object, true);
            }
            watcher::Event::Delete(object) => {
                note(&cache, object, false);
                touch(&cache, object, false);
            }
            watcher::Event::InitApply(object) => note(&cache, object, true),
            watcher::Event::InitDone => {
                cache.synced(source, 0);
                cache.listed(source);
            }
            watcher::Event::Init => {}
        }
    }
}

/// Keeps the index of one kind of children. `judge` says what an object is; none means that it is none of ours.
async fn follow<K>(
    source: String,
    api: Api<K>,
    config: watcher::Config,
    cache: Arc<Cache>,
    judge: impl Fn(&K) -> Option<(ChildKind, String)> + Send,
    done: impl Fn(&Cache, &str) + Send,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut begun = 0;
    let mut events = Box::pin(events(&source, &cache, api, config, |_: &mut K| {}));
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => begun = cache.index.begin(),
            watcher::Event::InitDone => {
                cache.synced(&source, begun);
                done(&cache, &source);
            }
            watcher::Event::Apply(object) => {
                if let Some((kind, content)) = judge(&object) {
                    seen(&cache, &source, kind, &object, content);
                }
            }
            watcher::Event::InitApply(object) => {
                if let Some((kind, content)) = judge(&object) {
                    cache.index.listed(&source, kind, object.meta(), content, begun);
                }
            }
            watcher::Event::Delete(object) => {
                if let Some((kind, _)) = judge(&object) {
                    went(&cache, kind, &object);
                }
            }
        }
    }
}

/// A child was made or altered.
fn seen(cache: &Cache, source: &str, kind: ChildKind, object: &impl kube::ResourceExt, content: String) {
    cache.index.put(source, kind, object.meta(), content);
    cache.enqueue_of(object, true);
}

/// A child is gone, perhaps the last of a namespace that is left.
fn went(cache: &Cache, kind: ChildKind, object: &impl kube::ResourceExt) {
    cache.index.remove(kind, object.meta());
    cache.enqueue_of(object, false);
    cache.enrolment_changed.notify_one();
}

/// RoleBindings are children of ours, or enrol a namespace, or are nothing to us.
async fn follow_bindings(api: Api<RoleBinding>, cache: Arc<Cache>, settings: Settings) {
    const SOURCE: &str = "rolebindings";
    let mut begun = 0;
    let config = config();
    let mut events = Box::pin(events(SOURCE, &cache, api, config, |_: &mut RoleBinding| {}));
    let other_rights = |binding: &RoleBinding| {
        let namespace = binding.namespace();
        let subjects = binding.subjects.as_deref().unwrap_or_default();
        OtherRights::of(namespace.as_deref(), &binding.name_any(), &binding.role_ref, subjects)
    };
    let changed = |cache: &Cache, binding: &RoleBinding, now: Option<Enrolment>, rights: Option<OtherRights>| {
        let namespace = binding.namespace().unwrap_or_default();
        let news = cache.elsewhere.namespaced.put(&namespace, &binding.name_any(), rights);
        if news.iter().any(|rights| rights.reaches_any_of(&settings.identities)) {
            cache.enqueue_touching_namespace(&namespace);
            cache.other_rights_changed.notify_one();
        } else if cache.concerns_static(&news) {
            cache.enqueue_static_in(&namespace);
            cache.other_rights_changed.notify_one();
        }
        if cache.enrolments.put(&namespace, &binding.name_any(), now) {
            cache.enqueue_touching_namespace(&namespace);
            cache.orphan_seen.notify_one();
            cache.enrolment_changed.notify_one();
        }
    };
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => {
                begun = cache.index.begin();
                cache.enrolments.begin();
                cache.elsewhere.namespaced.begin();
            }
            watcher::Event::InitApply(binding) if is_reserved(&binding) => {
                let content = binding_content(&binding);
                let kind = ChildKind::RoleBinding;
                cache.index.listed(SOURCE, kind, binding.meta(), content, begun);
            }
            watcher::Event::InitApply(binding) => {
                if let Some(enrolment) = Enrolment::of(&binding, &settings) {
                    cache.enrolments.listed(enrolment);
                }
                if let Some(rights) = other_rights(&binding) {
                    cache.elsewhere.namespaced.listed(rights);
                }
            }
            watcher::Event::InitDone => {
                cache.enrolments.complete();
                // Whoever hears of the listing looks at every grant.
                cache.elsewhere.namespaced.complete();
                cache.synced(SOURCE, begun);
                cache.listed(SOURCE);
            }
            watcher::Event::Apply(binding) if is_reserved(&binding) => {
                let content = binding_content(&binding);
                seen(&cache, SOURCE, ChildKind::RoleBinding, &binding, content);
            }
            watcher::Event::Apply(binding) => {
                let enrolment = Enrolment::of(&binding, &settings);
                changed(&cache, &binding, enrolment, other_rights(&binding));
            }
            watcher::Event::Delete(binding) if is_reserved(&binding) => went(&cache, ChildKind::RoleBinding, &binding),
            watcher::Event::Delete(binding) => changed(&cache, &binding, None, None),
        }
    }
}

/// What a namespace's administrator binds to everybody concerns every grant; they must not keep us busy by it.
async fn tell_of_other_rights(cache: Arc<Cache>) {
    loop {
        cache.other_rights_changed.notified().await;
        cache.enqueue_grants();
        tokio::time::sleep(OTHER_RIGHTS_PAUSE).await;
    }
}

/// ClusterRoleBindings are nothing of ours; they may reach partners' identities all the same.
async fn follow_cluster_bindings(api: Api<ClusterRoleBinding>, cache: Arc<Cache>, identities: String) {
    const SOURCE: &str = "clusterrolebindings";
    let found = &cache.elsewhere.cluster;
    let mut begun = 0;
    let config = config();
    let mut events = Box::pin(events(SOURCE, &cache, api, config, |_: &mut ClusterRoleBinding| {}));
    let rights = |binding: &ClusterRoleBinding| {
        let subjects = binding.subjects.as_deref().unwrap_or_default();
        OtherRights::of(None, &binding.name_any(), &binding.role_ref, subjects)
    };
    while let Some(event) = events.next().await {
        let news = match event {
            watcher::Event::Init => {
                begun = cache.index.begin();
                found.begin();
                continue;
            }
            watcher::Event::InitApply(binding) => {
                if let Some(rights) = rights(&binding) {
                    found.listed(rights);
                }
                continue;
            }
            watcher::Event::InitDone => {
                found.complete();
                cache.synced(SOURCE, begun);
                cache.listed(SOURCE);
                continue;
            }
            watcher::Event::Apply(binding) => found.put("", &binding.name_any(), rights(&binding)),
            watcher::Event::Delete(binding) => found.put("", &binding.name_any(), None),
        };
        if news.iter().any(|rights| rights.reaches_any_of(&identities)) || cache.concerns_static(&news) {
            cache.enqueue_grants();
        }
    }
}

/// How long a watch waits after an error: as client-go does, but never long. Until a watch is back a Revoke is not seen,
/// and after an outage of the API server it takes two errors until it is.
#[derive(Default)]
pub(crate) struct Patience {
    pauses: watcher::DefaultBackoff,
    last: Option<Instant>,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) > FORGOTTEN) {
            self.pauses.reset();
        }
        self.last = Some(now);
        self.pauses.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Patience {
    /// That a listing begins, which says nothing of how it ends, would reset it each time: only time without an error does.
    fn reset(&mut self) {}
}

/// How everything is watched.
pub(crate) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH)
}

/// Watches for ever: errors are told, logged and waited out.
pub(crate) fn events<K, P>(
    source: &str,
    cache: &Arc<Cache>,
    api: Api<K>,
    config: watcher::Config,
    prune: P,
) -> impl Stream<Item = watcher::Event<K>> + Send + use<K, P>
where
    P: FnMut(&mut K) + Send,
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (source, cache) = (source.to_owned(), Arc::clone(cache));
    let kind = if K::group(&()).is_empty() {
        K::plural(&()).into_owned()
    } else {
        format!("{}.{}", K::plural(&()), K::group(&()))
    };
    watcher(api, config)
        .backoff(Patience::default())
        .modify(prune)
        .flat_map(move |event| {
            let told = match event {
                Ok(event) => [Some(event), None],
                Err(error) => {
                    tracing::warn!(kind, %error, "watch failed");
                    cache.trouble(&source, &kind, &error);
                    cache.tell_of_loss();
                    let is_no_more = cache.is_no_more(&source, &error);
                    [watcher::Event::Init, watcher::Event::InitDone].map(|empty| is_no_more.then_some(empty))
                }
            };
            futures::stream::iter(told.into_iter().flatten())
        })
}

fn secret_kind(secret: &PartialObjectMeta<Secret>) -> Option<(ChildKind, String)> {
    let kind = if is_anchor(&secret.name_any()) {
        ChildKind::Anchor
    } else {
        ChildKind::DeliverySecret
    };
    Some((kind, String::new()))
}

fn nothing<K>(_: &Cache, _: &K, _: bool) {}

impl Cache {
    /// Starts every watch; none of them ever ends.
    pub(crate) fn watch(self: &Arc<Self>, pending: Pending, client: &Client, settings: &Settings) -> JoinSet<()> {
        let Pending(writers) = pending;
        self.drain.settle_in(settings);
        let all = || client.clone();
        let cache = || Arc::clone(self);
        let mut tasks = JoinSet::new();
        tasks.spawn(fill(
            "accessgrants",
            Api::all(all()),
            cache(),
            writers.grants,
            Cache::note_grant,
            Cache::touch_grant,
        ));
        tasks.spawn(fill(
            "partnerintegrations",
            Api::all(all()),
            cache(),
            writers.integrations,
            nothing,
            Cache::touch_integration,
        ));
        tasks.spawn(fill(
            "accessdecisions",
            Api::all(all()),
            cache(),
            writers.decisions,
            Cache::note_decision,
            Cache::touch_decision,
        ));
        tasks.spawn(fill(
            "accesspolicies",
            Api::all(all()),
            cache(),
            writers.policies,
            Cache::note_policy,
            |cache, _, _| cache.enqueue_all(),
        ));
        tasks.spawn(fill(
            "accessowners",
            Api::all(all()),
            cache(),
            writers.owners,
            Cache::note_owner,
            Cache::touch_owner,
        ));
        tasks.spawn(fill(
            "namespaces",
            Api::all(all()),
            cache(),
            writers.namespaces,
            nothing,
            |cache, object, _| {
                cache.enqueue_touching_namespace(&object.name_any());
                if cache.drain.is_own(&object.name_any()) {
                    cache.enqueue_all();
                }
            },
        ));
        let markers = Api::<PartialObjectMeta<ConfigMap>>::namespaced(all(), &settings.namespace);
        tasks.spawn(drain::follow_marker(markers, cache()));
        tasks.spawn(fill(
            "clusterroles",
            Api::all(all()),
            cache(),
            writers.cluster_roles,
            nothing,
            |cache, object, _| cache.touch_cluster_role(object),
        ));
        tasks.spawn(follow_bindings(Api::all(all()), cache(), settings.clone()));
        tasks.spawn(tell_of_other_rights(cache()));
        let identities = settings.identities.clone();
        tasks.spawn(follow_cluster_bindings(Api::all(all()), cache(), identities));
        let plain = config;
        let roles = Api::<Role>::all(all());
        let role = |it: &Role| is_reserved(it).then(|| (ChildKind::Role, role_content(it)));
        tasks.spawn(follow("roles".to_owned(), roles, plain(), cache(), role, Cache::listed));
        let identities = &settings.identities;
        let accounts = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(all(), identities);
        let account = |it: &PartialObjectMeta<ServiceAccount>| {
            is_reserved(it).then(|| (ChildKind::ServiceAccount, String::new()))
        };
        tasks.spawn(follow(
            "serviceaccounts".to_owned(),
            accounts,
            plain(),
            cache(),
            account,
            Cache::listed,
        ));
        let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(all(), identities);
        let secret = |it: &PartialObjectMeta<Secret>| is_reserved(it).then(|| secret_kind(it)).flatten();
        tasks.spawn(follow(
            "secrets".to_owned(),
            secrets,
            plain(),
            cache(),
            secret,
            Cache::listed,
        ));
        tasks
    }

    /// Follows the delivery Secrets of a namespace from now on; says whether they are known.
    pub(crate) fn follow_deliveries(self: &Arc<Self>, client: &Client, namespace: &str, identities: &str) -> bool {
        if namespace == identities {
            return true;
        }
        let source = source_of_deliveries(namespace, identities);
        if lock(&self.followed).insert(namespace.to_owned()) {
            let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
            let labelled = config().labels(&format!("{LABEL_MANAGED}=true"));
            let here = namespace.to_owned();
            let done = move |cache: &Cache, _: &str| cache.enqueue_touching_namespace(&here);
            tokio::spawn(follow(
                source.clone(),
                secrets,
                labelled,
                Arc::clone(self),
                secret_kind,
                done,
            ));
        }
        self.index.is_known(&source)
    }
}

/// The source by which the index knows the delivery Secrets of a namespace.
pub(crate) fn source_of_deliveries(namespace: &str, identities: &str) -> String {
    if namespace == identities {
        "secrets".to_owned()
    } else {
        format!("secrets/{namespace}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_watch_waits_long() {
        let pauses: Vec<Duration> = Patience::default().take(50).collect();
        assert!(pauses[0] < LONGEST_PAUSE, "the first pause is short: {:?}", pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE), "{pauses:?}");
        assert_eq!(pauses.len(), 50, "it never gives up");
    }

    #[test]
    fn a_listing_that_begins_does_not_end_patience() {
        let mut patience = Patience::default();
        let pauses: Vec<Duration> = (0..6)
            .filter_map(|_| {
                patience.reset();
                patience.next()
            })
            .collect();
        assert_eq!(pauses.len(), 6);
        assert!(pauses[3..].iter().all(|pause| *pause == LONGEST_PAUSE), "{pauses:?}");
        patience.last = patience.last.and_then(|last| last.checked_sub(FORGOTTEN * 2));
        assert!(patience.next() < Some(LONGEST_PAUSE));
    }
}
