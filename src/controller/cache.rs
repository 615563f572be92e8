//! Everything that decisions are made from, kept current by watches, and which grants a change touches.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt as _;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio::sync::Notify;

use super::enrolments::Enrolments;
use super::index::Index;
use super::lock;
use super::mapping::{self, Key, Referrers};
use super::watches::Writers;
use crate::api::names::{ANNOTATION_GRANT, ANNOTATION_ROTATE_REQUESTED_AT, LABEL_ENROLMENT};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, PartnerIntegration, SubjectKind};

/// An object that may not be readable: then its metadata is all that is known.
pub(crate) type Guarded<K> = DeserializeGuard<K>;
/// What the cache tells of: whatever is to be looked at.
pub struct Queues {
    /// Grants, for the issuing lane.
    pub(crate) grants: UnboundedReceiver<ReconcileRequest<Guarded<AccessGrant>>>,
    /// Integrations.
    pub(crate) integrations: UnboundedReceiver<ReconcileRequest<Guarded<PartnerIntegration>>>,
    /// Decisions that no grant's reconcile may speak of.
    pub(crate) decisions: UnboundedReceiver<Key>,
    /// Grants, for the closing lane.
    pub(crate) closing: UnboundedReceiver<Key>,
}

/// The other ends of [`Queues`].
struct Senders {
    grants: UnboundedSender<ReconcileRequest<Guarded<AccessGrant>>>,
    integrations: UnboundedSender<ReconcileRequest<Guarded<PartnerIntegration>>>,
    decisions: UnboundedSender<Key>,
    closing: UnboundedSender<Key>,
}

/// Every source that must be known before anything is decided.
pub(crate) const SOURCES: [&str; 11] = [
    "accessgrants",
    "partnerintegrations",
    "accessdecisions",
    "accesspolicies",
    "accessowners",
    "namespaces",
    "clusterroles",
    "rolebindings",
    "roles",
    "serviceaccounts",
    "secrets",
];

/// Everything that decisions are made from.
pub struct Cache {
    pub(crate) grants: Store<Guarded<AccessGrant>>,
    pub(crate) integrations: Store<Guarded<PartnerIntegration>>,
    pub(crate) decisions: Store<Guarded<AccessDecision>>,
    pub(crate) policies: Store<Guarded<AccessPolicy>>,
    pub(crate) owners: Store<Guarded<AccessOwner>>,
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(crate) cluster_roles: Store<ClusterRole>,
    pub(crate) enrolments: Enrolments,
    pub(crate) index: Index,
    /// An enrolment changed, or something is gone from a namespace that is left.
    pub(crate) enrolment_changed: Notify,
    /// Something is there whose grant is not.
    pub(crate) orphan_seen: Notify,
    pub(crate) followed: Mutex<HashSet<String>>,
    referrers: Mutex<CacheReferrers>,
    is_known: AtomicBool,
    /// Why a source could not be read, the last time.
    troubles: Mutex<HashMap<String, String>>,
    senders: Senders,
    /// Grants for which an attempt failed, by UID, and until when none is made again; a change of the grant ends the pause.
    paused: Mutex<HashMap<String, std::time::Instant>>,
    /// What of each grant matters to its reconcile, as it was last seen.
    grant_shapes: Mutex<HashMap<Key, GrantShape>>,
    /// What of each integration matters to its grants, as it was last seen.
    integration_shapes: Mutex<HashMap<Key, Shape>>,
    /// UIDs of AccessOwners that were seen deleted.
    pub(crate) deleted_owners: Mutex<HashSet<String>>,
}

/// What tells two states of an object apart but for status and labels.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    uid: Option<String>,
    generation: Option<i64>,
    is_deleting: bool,
    is_readable: bool,
}

/// What tells two states of a grant apart but for status and labels.
#[derive(Debug, PartialEq, Eq)]
struct GrantShape {
    shape: Shape,
    finalizers: Vec<String>,
    rotate_requested: Option<String>,
}

impl Shape {
    fn of<K: kube::Resource>(object: &Guarded<K>) -> Self
    where
        Guarded<K>: kube::Resource,
    {
        let meta = kube::Resource::meta(object);
        Self {
            uid: meta.uid.clone(),
            generation: meta.generation,
            is_deleting: meta.deletion_timestamp.is_some(),
            is_readable: object.0.is_ok(),
        }
    }
}

#[derive(Default)]
struct CacheReferrers {
    grants: Referrers<Key>,
    decisions: Referrers<(SubjectKind, Key)>,
}

/// Stores that are yet to be filled.
pub struct Pending(pub(crate) Writers);

impl Cache {
    /// An empty cache, and the queues that its changes fill.
    #[must_use]
    pub fn new() -> (Arc<Self>, Pending, Queues) {
        let (grants, told_grants) = unbounded();
        let (integrations, told_integrations) = unbounded();
        let (decisions, told_decisions) = unbounded();
        let (closing, told_closing) = unbounded();
        let queues = Queues {
            grants: told_grants,
            integrations: told_integrations,
            decisions: told_decisions,
            closing: told_closing,
        };
        let senders = Senders {
            grants,
            integrations,
            decisions,
            closing,
        };
        let writers = Writers::default();
        let cache = Self {
            grants: writers.grants.as_reader(),
            integrations: writers.integrations.as_reader(),
            decisions: writers.decisions.as_reader(),
            policies: writers.policies.as_reader(),
            owners: writers.owners.as_reader(),
            namespaces: writers.namespaces.as_reader(),
            cluster_roles: writers.cluster_roles.as_reader(),
            enrolments: Enrolments::default(),
            index: Index::default(),
            enrolment_changed: Notify::new(),
            orphan_seen: Notify::new(),
            followed: Mutex::default(),
            referrers: Mutex::default(),
            is_known: AtomicBool::new(false),
            troubles: Mutex::default(),
            senders,
            paused: Mutex::default(),
            grant_shapes: Mutex::default(),
            integration_shapes: Mutex::default(),
            deleted_owners: Mutex::default(),
        };
        (Arc::new(cache), Pending(writers), queues)
    }

    /// What is not read yet, by name, sorted; empty when decisions can be made.
    #[must_use]
    pub fn unsynced(&self) -> Vec<&'static str> {
        let mut missing: Vec<&'static str> = SOURCES
            .into_iter()
            .filter(|source| !self.index.is_known(source))
            .collect();
        missing.sort_unstable();
        missing
    }

    /// What keeps decisions from being made, a line each; empty when nothing does.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let troubles = lock(&self.troubles);
        let line = |source: &str| {
            let trouble = troubles.get(source);
            trouble.cloned().unwrap_or_else(|| format!("{source} are not read yet"))
        };
        self.unsynced().into_iter().map(line).collect()
    }

    /// A source could not be read.
    pub(crate) fn trouble(&self, source: &str, kind: &str, error: &watcher::Error) {
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
            _ => 0,
        };
        let words = match code {
            404 => format!("the kind {kind} is not served: install the CRDs of the chart"),
            401 => format!("{kind} can't be read: the API server does not know us"),
            403 => format!("{kind} can't be read: the operator was not given the right to list and watch them"),
            _ => format!("{kind} can't be read: {error}"),
        };
        lock(&self.troubles).insert(source.to_owned(), words);
    }

    /// Whether everything was read once: before that nothing is decided.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// A source was listed whole; its listing began at `begun`.
    pub(crate) fn synced(&self, source: &str, begun: u64) {
        self.index.complete(source, begun);
        lock(&self.troubles).remove(source);
        if !self.is_known() && self.unsynced().is_empty() {
            self.is_known.store(true, Ordering::Release);
        }
    }

    /// Every grant, integration and decision is looked at.
    pub(crate) fn enqueue_all(&self) {
        if !self.is_known() {
            // The closing lane needs no more than what is there.
            for grant in self.grants.state() {
                let _ = self.senders.closing.unbounded_send(key_of(grant.as_ref()));
            }
            return;
        }
        self.enqueue_where(|_| true);
        for integration in self.integrations.state() {
            self.enqueue_integration(&key_of(integration.as_ref()));
        }
        for decision in self.decisions.state() {
            let _ = self.senders.decisions.unbounded_send(key_of(decision.as_ref()));
        }
    }

    pub(crate) fn enqueue_key(&self, key: &Key) {
        // What is seen so far may suffice to close: positive facts need no more.
        let _ = self.senders.closing.unbounded_send(key.clone());
        if self.is_known() {
            let (namespace, name) = key;
            let grant = ObjectRef::new(name).within(namespace);
            // Fails only when the receiver is gone: then nothing is reconciled any more.
            let _ = self.senders.grants.unbounded_send(ReconcileRequest::from(grant));
        }
    }

    fn enqueue_integration(&self, key: &Key) {
        if self.is_known() {
            let integration = ObjectRef::new(&key.1).within(&key.0);
            let _ = self
                .senders
                .integrations
                .unbounded_send(ReconcileRequest::from(integration));
            self.enqueue_decisions_of(SubjectKind::PartnerIntegration, key);
        }
    }

    /// The decisions about a subject are looked at.
    fn enqueue_decisions_of(&self, kind: SubjectKind, subject: &Key) {
        let decisions = lock(&self.referrers).decisions.of(&(kind, subject.clone()));
        for decision in decisions {
            let _ = self.senders.decisions.unbounded_send(decision);
        }
    }

    /// The grants for which this holds; one that can't be read is always among them.
    fn enqueue_where(&self, is_touched: impl Fn(&AccessGrant) -> bool) {
        for grant in self.grants.state() {
            if grant.0.as_ref().map_or(true, &is_touched) {
                self.enqueue_key(&key_of(grant.as_ref()));
            }
        }
    }

    pub(crate) fn enqueue_touching_namespace(&self, namespace: &str) {
        self.enqueue_where(|grant| mapping::touches_namespace(grant, namespace));
    }

    /// The grant that a child names, if it is there; a child that is there without it is an orphan.
    pub(crate) fn enqueue_of(&self, child: &impl kube::ResourceExt, is_there: bool) {
        let Some((namespace, name)) = child
            .annotations()
            .get(ANNOTATION_GRANT)
            .and_then(|text| text.split_once('/'))
        else {
            return;
        };
        if self.grants.get(&ObjectRef::new(name).within(namespace)).is_some() {
            self.enqueue_key(&(namespace.to_owned(), name.to_owned()));
        } else if is_there {
            self.orphan_seen.notify_one();
        }
    }

    /// The names of an integration's grants, and their namespace.
    pub(crate) fn grants_of(&self, integration: &Key) -> Vec<Key> {
        lock(&self.referrers).grants.of(integration)
    }

    /// The decisions about a subject.
    pub(crate) fn decisions_of(&self, kind: SubjectKind, subject: &Key) -> Vec<Arc<Guarded<AccessDecision>>> {
        let keys = lock(&self.referrers).decisions.of(&(kind, subject.clone()));
        keys.iter()
            .filter_map(|(namespace, name)| self.decisions.get(&ObjectRef::new(name).within(namespace)))
            .collect()
    }

    fn enqueue_grants_of(&self, integration: &Key) {
        for grant in self.grants_of(integration) {
            self.enqueue_key(&grant);
        }
    }
}

/// What each kind of change does. `note` keeps the references, for listed objects too; `touch` tells of a single change.
impl Cache {
    pub(crate) fn note_grant(&self, object: &Guarded<AccessGrant>, is_there: bool) {
        let target = object.0.as_ref().ok().filter(|_| is_there).map(mapping::integration_of);
        lock(&self.referrers).grants.put(key_of(object), target);
    }

    pub(crate) fn touch_grant(&self, object: &Guarded<AccessGrant>, is_there: bool) {
        if let Ok(grant) = &object.0 {
            self.enqueue_integration(&mapping::integration_of(grant));
        }
        if is_there {
            // A change of nothing but the status is our own word: whoever wrote it looks again by himself, and at his own
            // pace where something failed.
            if self.is_another_grant(object) {
                lock(&self.paused).remove(&object.uid().unwrap_or_default());
                self.enqueue_key(&key_of(object));
            } else {
                let _ = self.senders.closing.unbounded_send(key_of(object));
            }
            return;
        }
        lock(&self.grant_shapes).remove(&key_of(object));
        self.enqueue_decisions_of(SubjectKind::AccessGrant, &key_of(object));
        let uid = object.uid().unwrap_or_default();
        if !self.index.of_grant(&uid, &[]).is_empty() {
            self.orphan_seen.notify_one();
        }
        // A sibling may be within the limit of active grants now.
        if let Ok(grant) = &object.0 {
            self.enqueue_grants_of(&mapping::integration_of(grant));
        }
    }

    /// No attempt to issue or rotate is made for so long: its own traces would have the next one follow at once.
    pub(crate) fn pause(&self, grant_uid: &str, pause: std::time::Duration) {
        lock(&self.paused).insert(grant_uid.to_owned(), std::time::Instant::now() + pause);
    }

    /// For how much longer nothing is attempted.
    pub(crate) fn paused_for(&self, grant_uid: &str) -> Option<std::time::Duration> {
        let mut paused = lock(&self.paused);
        let until = paused.get(grant_uid)?;
        let left = until.checked_duration_since(std::time::Instant::now());
        if left.is_none() {
            paused.remove(grant_uid);
        }
        left.filter(|left| !left.is_zero())
    }

    fn is_another_grant(&self, object: &Guarded<AccessGrant>) -> bool {
        let shape = GrantShape {
            shape: Shape::of(object),
            finalizers: object.finalizers().to_vec(),
            rotate_requested: object.annotations().get(ANNOTATION_ROTATE_REQUESTED_AT).cloned(),
        };
        let mut shapes = lock(&self.grant_shapes);
        let is_same = shapes.get(&key_of(object)) == Some(&shape);
        shapes.insert(key_of(object), shape);
        !is_same
    }

    pub(crate) fn note_decision(&self, object: &Guarded<AccessDecision>, is_there: bool) {
        let target = object.0.as_ref().ok().filter(|_| is_there).map(mapping::subject_of);
        lock(&self.referrers).decisions.put(key_of(object), target);
    }

    pub(crate) fn touch_decision(&self, object: &Guarded<AccessDecision>, is_there: bool) {
        if is_there && self.is_known() {
            let _ = self.senders.decisions.unbounded_send(key_of(object));
        }
        match object.0.as_ref().map(mapping::subject_of) {
            Ok((SubjectKind::AccessGrant, grant)) => self.enqueue_key(&grant),
            Ok((SubjectKind::PartnerIntegration, integration)) => self.enqueue_grants_of(&integration),
            Err(_) => self.enqueue_all(),
        }
    }

    /// What we write into its status is no news to its grants: each look at them would bring the next write about.
    pub(crate) fn touch_integration(&self, object: &Guarded<PartnerIntegration>, is_there: bool) {
        let key = key_of(object);
        self.enqueue_integration(&key);
        let shape = is_there.then(|| Shape::of(object));
        let mut shapes = lock(&self.integration_shapes);
        let is_same = shape.is_some() && shapes.get(&key) == shape.as_ref();
        match shape {
            Some(shape) => shapes.insert(key.clone(), shape),
            None => shapes.remove(&key),
        };
        drop(shapes);
        if !is_same {
            self.enqueue_grants_of(&key);
        }
    }

    pub(crate) fn touch_owner(&self, owner: &Guarded<AccessOwner>, is_there: bool) {
        if let Some(uid) = owner.uid().filter(|_| !is_there) {
            lock(&self.deleted_owners).insert(uid);
        }
        let name = owner.name_any();
        for integration in self.integrations.state() {
            if integration.0.as_ref().is_ok_and(|it| mapping::is_owned_by(it, &name)) {
                self.enqueue_integration(&key_of(integration.as_ref()));
                self.enqueue_grants_of(&key_of(integration.as_ref()));
            }
        }
    }

    pub(crate) fn touch_cluster_role(&self, role: &ClusterRole) {
        let name = role.name_any();
        let enrols = role.labels().contains_key(LABEL_ENROLMENT)
            || self
                .enrolments
                .all()
                .iter()
                .any(|enrolment| enrolment.cluster_role == name);
        if enrols {
            self.enrolment_changed.notify_one();
        }
        self.enqueue_where(|grant| enrols || mapping::gives_cluster_role(grant, &name));
    }

    /// After a new listing of `source`: what went while nobody watched is forgotten, and every grant is looked at.
    ///
    /// Of other sources nothing may be forgotten: what they are just listing is noted already, and not in their stores yet.
    pub(crate) fn listed(&self, source: &str) {
        {
            let mut referrers = lock(&self.referrers);
            let at = |(namespace, name): &Key| (namespace.clone(), name.clone());
            match source {
                "accessgrants" => referrers.grants.retain(|key| {
                    let (namespace, name) = at(key);
                    self.grants.get(&ObjectRef::new(&name).within(&namespace)).is_some()
                }),
                "accessdecisions" => referrers.decisions.retain(|key| {
                    let (namespace, name) = at(key);
                    self.decisions.get(&ObjectRef::new(&name).within(&namespace)).is_some()
                }),
                _ => {}
            }
        }
        self.enqueue_all();
    }

    /// Enrolments per namespace that give the operator what an enrolment gives, those that are ending included.
    pub(crate) fn is_enrolment(&self, cluster_role: &str) -> bool {
        let role = self.cluster_roles.get(&ObjectRef::new(cluster_role));
        role.is_some_and(|role| role.labels().contains_key(LABEL_ENROLMENT))
    }

    /// The names of the Secrets that deliver credentials, or may, by namespace.
    pub(crate) fn delivery_secrets(&self) -> HashMap<String, HashSet<String>> {
        let mut names: HashMap<String, HashSet<String>> = HashMap::new();
        for grant in self.grants.state() {
            if let Ok(grant) = &grant.0 {
                let namespace = grant.namespace().unwrap_or_default();
                names.entry(namespace).or_default().insert(grant.secret_name());
            }
        }
        names
    }
}

/// Namespace and name of an object.
pub(crate) fn key_of(object: &impl kube::ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether an object has a name of ours.
pub(crate) fn is_reserved(object: &impl kube::ResourceExt) -> bool {
    object
        .meta()
        .name
        .as_deref()
        .is_some_and(|name| name.starts_with(crate::api::names::RESERVED_PREFIX))
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::domain::fixtures::{decision, grant};

    #[test]
    fn a_listing_forgets_what_is_gone_of_its_own_kind_and_not_what_another_is_just_listing() {
        let (cache, Pending(mut writers), _queues) = Cache::new();
        let subject = key_of(&grant());
        let known = |cache: &Cache| cache.decisions_of(SubjectKind::AccessGrant, &subject).len();
        let mut told = |event: Event<Guarded<AccessDecision>>| {
            writers.decisions.apply_watcher_event(&event);
            if let Event::InitApply(object) = &event {
                cache.note_decision(object, true);
            }
        };
        let seen = || {
            let no = decision("no", "Revoke", "dave", "sha256:0", "2026-12-02T00:00:00Z");
            DeserializeGuard(Ok(no))
        };
        told(Event::Init);
        told(Event::InitApply(seen()));
        cache.listed("accessgrants");
        cache.listed("rolebindings");
        told(Event::InitDone);
        cache.listed("accessdecisions");
        assert_eq!(known(&cache), 1, "a decision was forgotten while it was being listed");
        told(Event::Init);
        told(Event::InitDone);
        cache.listed("accessdecisions");
        assert_eq!(known(&cache), 0);
    }
}
