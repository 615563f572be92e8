//! Every watch, and which grants a change touches.

use std::fmt::Debug;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::Settings;
use super::index::Index;
use crate::api::names::{ANNOTATION_GRANT, LABEL_MANAGED, RESERVED_PREFIX};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, ChildKind, PartnerIntegration};
use crate::domain::names::is_anchor;
use crate::plan::children::{binding_content, role_content};

/// An object that may not be readable: then its metadata is all that is known.
pub(crate) type Guarded<K> = DeserializeGuard<K>;
/// The grants to look at.
pub type Queue = UnboundedReceiver<ReconcileRequest<Guarded<AccessGrant>>>;

/// Everything that decisions are made from.
pub struct Cache {
    pub(crate) grants: Store<Guarded<AccessGrant>>,
    pub(crate) integrations: Store<Guarded<PartnerIntegration>>,
    pub(crate) decisions: Store<Guarded<AccessDecision>>,
    pub(crate) policies: Store<Guarded<AccessPolicy>>,
    pub(crate) owners: Store<Guarded<AccessOwner>>,
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(crate) cluster_roles: Store<ClusterRole>,
    pub(crate) bindings: Store<RoleBinding>,
    pub(crate) index: Index,
    deliveries: std::sync::Mutex<std::collections::HashSet<String>>,
    queue: UnboundedSender<ReconcileRequest<Guarded<AccessGrant>>>,
}

/// Writers of the stores; used up by [`Cache::watch`].
struct Writers {
    grants: Writer<Guarded<AccessGrant>>,
    integrations: Writer<Guarded<PartnerIntegration>>,
    decisions: Writer<Guarded<AccessDecision>>,
    policies: Writer<Guarded<AccessPolicy>>,
    owners: Writer<Guarded<AccessOwner>>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    cluster_roles: Writer<ClusterRole>,
    bindings: Writer<RoleBinding>,
}

impl Cache {
    /// An empty cache, and the queue that its changes fill.
    #[must_use]
    pub fn new() -> (Arc<Self>, Pending, Queue) {
        let (queue, receiver) = unbounded();
        let writers = Writers {
            grants: Writer::default(),
            integrations: Writer::default(),
            decisions: Writer::default(),
            policies: Writer::default(),
            owners: Writer::default(),
            namespaces: Writer::default(),
            cluster_roles: Writer::default(),
            bindings: Writer::default(),
        };
        let cache = Self {
            grants: writers.grants.as_reader(),
            integrations: writers.integrations.as_reader(),
            decisions: writers.decisions.as_reader(),
            policies: writers.policies.as_reader(),
            owners: writers.owners.as_reader(),
            namespaces: writers.namespaces.as_reader(),
            cluster_roles: writers.cluster_roles.as_reader(),
            bindings: writers.bindings.as_reader(),
            index: Index::default(),
            deliveries: std::sync::Mutex::default(),
            queue,
        };
        (Arc::new(cache), Pending(writers), receiver)
    }

    /// What is not synced yet, by name; empty when decisions can be made.
    #[must_use]
    pub fn unsynced(&self) -> Vec<&'static str> {
        let mut missing: Vec<&'static str> = SOURCES
            .into_iter()
            .filter(|source| !self.index.is_known(source))
            .collect();
        missing.sort_unstable();
        missing
    }

    /// Every grant is looked at.
    pub(crate) fn enqueue_all(&self) {
        for grant in self.grants.state() {
            self.enqueue(&ObjectRef::from_obj(grant.as_ref()));
        }
    }

    fn enqueue(&self, grant: &ObjectRef<Guarded<AccessGrant>>) {
        if self.unsynced().is_empty() {
            // Fails only when the receiver is gone: then nothing is reconciled any more.
            let _ = self.queue.unbounded_send(ReconcileRequest::from(grant.clone()));
        }
    }

    /// The grants of a namespace, or all.
    fn enqueue_in(&self, namespace: Option<&str>) {
        for grant in self.grants.state() {
            if namespace.is_none() || grant.meta().namespace.as_deref() == namespace {
                self.enqueue(&ObjectRef::from_obj(grant.as_ref()));
            }
        }
    }

    fn enqueue_of(&self, child: &ObjectMeta) {
        let named = child
            .annotations
            .as_ref()
            .and_then(|all| all.get(ANNOTATION_GRANT))
            .and_then(|text| text.split_once('/'));
        if let Some((namespace, name)) = named {
            self.enqueue(&ObjectRef::new(name).within(namespace));
        }
    }

    fn synced(&self, source: &str, begun: u64) {
        let before = self.unsynced().is_empty();
        self.index.complete(source, begun);
        if !before && self.unsynced().is_empty() {
            self.enqueue_all();
        }
    }
}

/// Stores that are yet to be filled.
pub struct Pending(Writers);

/// Every source that must be known before anything is decided.
const SOURCES: [&str; 12] = [
    "accessgrants",
    "partnerintegrations",
    "accessdecisions",
    "accesspolicies",
    "accessowners",
    "namespaces",
    "clusterroles",
    "enrolments",
    "rolebindings",
    "roles",
    "serviceaccounts",
    "secrets",
];

/// Fills a store and tells of each change.
async fn fill<K>(
    source: &'static str,
    api: Api<K>,
    cache: Arc<Cache>,
    mut writer: Writer<K>,
    told: impl Fn(&Cache, &ObjectMeta) + Send,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = Box::pin(events(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => told(&cache, object.meta()),
            watcher::Event::InitDone => {
                cache.synced(source, 0);
                cache.enqueue_all();
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        }
    }
}

/// Keeps the index of one kind of children.
async fn follow<K>(
    source: String,
    api: Api<K>,
    config: watcher::Config,
    cache: Arc<Cache>,
    judge: impl Fn(&K) -> Option<(ChildKind, String)> + Send,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut begun = 0;
    let mut events = Box::pin(events(api, config));
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => begun = cache.index.begin(),
            watcher::Event::InitDone => {
                cache.synced(&source, begun);
                cache.enqueue_all();
            }
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                if let Some((kind, content)) = judge(&object) {
                    cache.index.put(&source, kind, object.meta(), content);
                    cache.enqueue_of(object.meta());
                }
            }
            watcher::Event::Delete(object) => {
                if let Some((kind, _)) = judge(&object) {
                    cache.index.remove(kind, object.meta());
                    cache.enqueue_of(object.meta());
                }
            }
        }
    }
}

/// Watches for ever: errors are logged and waited out.
fn events<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config)
        .default_backoff()
        .inspect_err(|error| tracing::warn!(kind = %K::kind(&()), %error, "watch failed"))
        .filter_map(|event| async { event.ok() })
}

fn is_reserved(metadata: &ObjectMeta) -> bool {
    metadata
        .name
        .as_deref()
        .is_some_and(|name| name.starts_with(RESERVED_PREFIX))
}

fn secret_kind(secret: &PartialObjectMeta<Secret>) -> Option<(ChildKind, String)> {
    let kind = if is_anchor(&secret.name_any()) {
        ChildKind::Anchor
    } else {
        ChildKind::DeliverySecret
    };
    Some((kind, String::new()))
}

impl Cache {
    /// Starts every watch; none of them ever ends.
    pub(crate) fn watch(self: &Arc<Self>, pending: Pending, client: &Client, settings: &Settings) -> JoinSet<()> {
        let Pending(writers) = pending;
        let all = || client.clone();
        let cache = || Arc::clone(self);
        let mut tasks = JoinSet::new();
        let here = |cache: &Cache, meta: &ObjectMeta| cache.enqueue_in(meta.namespace.as_deref());
        let everywhere = |cache: &Cache, _: &ObjectMeta| cache.enqueue_in(None);
        tasks.spawn(fill(
            "accessgrants",
            Api::all(all()),
            cache(),
            writers.grants,
            |cache, meta| {
                let name = meta.name.as_deref().unwrap_or_default();
                cache.enqueue(&ObjectRef::new(name).within(meta.namespace.as_deref().unwrap_or_default()));
            },
        ));
        tasks.spawn(fill(
            "partnerintegrations",
            Api::all(all()),
            cache(),
            writers.integrations,
            here,
        ));
        tasks.spawn(fill(
            "accessdecisions",
            Api::all(all()),
            cache(),
            writers.decisions,
            here,
        ));
        tasks.spawn(fill(
            "accesspolicies",
            Api::all(all()),
            cache(),
            writers.policies,
            everywhere,
        ));
        tasks.spawn(fill(
            "accessowners",
            Api::all(all()),
            cache(),
            writers.owners,
            everywhere,
        ));
        tasks.spawn(fill(
            "namespaces",
            Api::all(all()),
            cache(),
            writers.namespaces,
            everywhere,
        ));
        tasks.spawn(fill(
            "clusterroles",
            Api::all(all()),
            cache(),
            writers.cluster_roles,
            everywhere,
        ));
        tasks.spawn(fill(
            "enrolments",
            Api::all(all()),
            cache(),
            writers.bindings,
            |cache, meta| {
                // A binding of ours is a child; any other may enrol a namespace.
                if !is_reserved(meta) {
                    cache.enqueue_in(None);
                }
            },
        ));
        let plain = watcher::Config::default;
        tasks.spawn(follow(
            "rolebindings".to_owned(),
            Api::<RoleBinding>::all(all()),
            plain(),
            cache(),
            |it| is_reserved(&it.metadata).then(|| (ChildKind::RoleBinding, binding_content(it))),
        ));
        tasks.spawn(follow(
            "roles".to_owned(),
            Api::<Role>::all(all()),
            plain(),
            cache(),
            |it| is_reserved(&it.metadata).then(|| (ChildKind::Role, role_content(it))),
        ));
        let identities = &settings.identities;
        let accounts = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(all(), identities);
        tasks.spawn(follow("serviceaccounts".to_owned(), accounts, plain(), cache(), |it| {
            is_reserved(&it.metadata).then(|| (ChildKind::ServiceAccount, String::new()))
        }));
        let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(all(), identities);
        let labelled = plain().labels(&format!("{LABEL_MANAGED}=true"));
        tasks.spawn(follow("secrets".to_owned(), secrets, labelled, cache(), secret_kind));
        tasks
    }

    /// Follows the delivery Secrets of a namespace from now on; says whether they are known.
    pub(crate) fn follow_deliveries(self: &Arc<Self>, client: &Client, namespace: &str, identities: &str) -> bool {
        if namespace == identities {
            return true;
        }
        let source = format!("secrets/{namespace}");
        if super::lock(&self.deliveries).insert(namespace.to_owned()) {
            let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
            let labelled = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true"));
            tokio::spawn(follow(source.clone(), secrets, labelled, Arc::clone(self), secret_kind));
        }
        self.index.is_known(&source)
    }
}
