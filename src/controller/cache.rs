//! Everything that decisions are made from, kept current by watches, and which grants a change touches.

mod changes;
mod shapes;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio::sync::Notify;

use self::shapes::{GrantShape, Shape};
use super::attempts::Attempts;
use super::denials::{Denial, Denials};
use super::drain::Drain;
use super::elsewhere::Elsewhere;
use super::enrolments::Enrolments;
use super::index::Index;
use super::inventory::Inventory;
use super::mapping::{self, Key, Referrers};
use super::watches::Writers;
use super::written::Written;
use super::{Settings, lock};
use crate::api::names::ANNOTATION_GRANT;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, LabelMatch, PartnerIntegration, SubjectKind,
};
use crate::domain::elsewhere::OtherRights;
use crate::domain::ownership::{self, Owners};

/// An object that may not be readable: then its metadata is all that is known.
pub(crate) type Guarded<K> = DeserializeGuard<K>;

/// A grant for the closing lane to look at, which others wait for.
pub(crate) type ToLookAt = (Key, Denial);

/// What the cache tells of: whatever is to be looked at.
pub struct Queues {
    /// Grants, for the issuing lane.
    pub(crate) grants: UnboundedReceiver<ReconcileRequest<Guarded<AccessGrant>>>,
    /// Integrations.
    pub(crate) integrations: UnboundedReceiver<ReconcileRequest<Guarded<PartnerIntegration>>>,
    /// Decisions that no grant's reconcile may speak of.
    pub(crate) decisions: UnboundedReceiver<Key>,
    /// Grants, for the closing lane.
    pub(crate) closing: UnboundedReceiver<ToLookAt>,
}

/// The other ends of [`Queues`].
struct Senders {
    grants: UnboundedSender<ReconcileRequest<Guarded<AccessGrant>>>,
    integrations: UnboundedSender<ReconcileRequest<Guarded<PartnerIntegration>>>,
    decisions: UnboundedSender<Key>,
    closing: UnboundedSender<ToLookAt>,
}

/// A watch that fails is tried again, and its fault told again, well within this.
const TOLD_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Every source that must be known before anything is decided.
pub(crate) const SOURCES: [&str; 13] = [
    "accessgrants",
    "partnerintegrations",
    "accessdecisions",
    "accesspolicies",
    "accessowners",
    "namespaces",
    "clusterroles",
    "rolebindings",
    "clusterrolebindings",
    "roles",
    "serviceaccounts",
    "secrets",
    super::drain::SOURCE,
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
    pub(crate) grants_written: Written<AccessGrant>,
    pub(crate) integrations_written: Written<PartnerIntegration>,
    pub(crate) decisions_written: Written<AccessDecision>,
    pub(crate) enrolments: Enrolments,
    /// Whether Wayleave is being uninstalled.
    pub(crate) drain: Drain,
    /// Bindings that give partners' identities more than their grants do.
    pub(crate) elsewhere: Elsewhere,
    /// Those in some namespace changed.
    pub(crate) other_rights_changed: Notify,
    pub(crate) index: Index,
    /// ServiceAccounts and tokens that others made, where grants are of static credentials.
    pub(crate) inventory: Inventory,
    /// An enrolment changed, or something is gone from a namespace that is left.
    pub(crate) enrolment_changed: Notify,
    /// Something is there whose grant is not.
    pub(crate) orphan_seen: Notify,
    pub(crate) followed: Mutex<HashSet<String>>,
    referrers: Mutex<CacheReferrers>,
    is_known: AtomicBool,
    /// Why a source could not be read, the last time.
    troubles: Mutex<HashMap<String, Trouble>>,
    /// That something can't be read any more was told, and that it can again was not.
    tells_of_loss: AtomicBool,
    senders: Senders,
    /// What the issuing lane waits for.
    pub(crate) denials: Arc<Denials>,
    /// Attempts to issue or rotate that failed.
    pub(crate) attempts: Attempts,
    /// What of each grant matters to its reconcile, as it was last seen.
    grant_shapes: Mutex<HashMap<Key, GrantShape>>,
    /// What of each integration matters to its grants, as it was last seen.
    integration_shapes: Mutex<HashMap<Key, Shape>>,
    /// The selector of each AccessPolicy, as it was last read.
    policy_selectors: Mutex<HashMap<String, LabelMatch>>,
    /// The user names that each AccessOwner lists, as they were last seen; none where it lists none.
    owner_usernames: Mutex<HashMap<String, BTreeSet<String>>>,
    /// Grants whose access could not be closed so far, by the UID of the binding that is left.
    pub(crate) unclosed: Mutex<HashMap<String, Key>>,
    /// UIDs of AccessOwners that were seen deleted.
    pub(crate) deleted_owners: Mutex<HashSet<String>>,
}

/// Why a source could not be read, when it was last tried.
#[derive(Debug)]
struct Trouble {
    words: String,
    at: std::time::Instant,
    /// It does not pass by itself: a kind that is not served, a right that is missing.
    lasts: bool,
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
            grants_written: Written::default(),
            integrations_written: Written::default(),
            decisions_written: Written::default(),
            enrolments: Enrolments::default(),
            drain: Drain::default(),
            elsewhere: Elsewhere::default(),
            other_rights_changed: Notify::new(),
            index: Index::default(),
            inventory: Inventory::default(),
            enrolment_changed: Notify::new(),
            orphan_seen: Notify::new(),
            followed: Mutex::default(),
            referrers: Mutex::default(),
            is_known: AtomicBool::new(false),
            troubles: Mutex::default(),
            tells_of_loss: AtomicBool::new(false),
            senders,
            denials: Arc::default(),
            attempts: Attempts::default(),
            grant_shapes: Mutex::default(),
            integration_shapes: Mutex::default(),
            policy_selectors: Mutex::default(),
            owner_usernames: Mutex::default(),
            unclosed: Mutex::default(),
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
        let unsynced = self.unsynced();
        let line = |source: &str| {
            let trouble = troubles.get(source);
            trouble.map_or_else(|| format!("{source} are not read yet"), |trouble| trouble.words.clone())
        };
        let mut lines: Vec<String> = unsynced.iter().map(|source| line(source)).collect();
        drop(troubles);
        lines.extend(self.lost());
        lines
    }

    /// What was read once and can't be any more, a line each: a right that was taken away, a kind that is gone.
    pub(crate) fn lost(&self) -> Vec<String> {
        let troubles = lock(&self.troubles);
        if troubles.is_empty() {
            return Vec::new();
        }
        // Watches that work again don't say so: a fault is told again while it lasts.
        let is_lost = |source: &str, trouble: &Trouble| {
            trouble.lasts
                && trouble.at.elapsed() < TOLD_AGAIN
                && SOURCES.contains(&source)
                && self.index.is_known(source)
        };
        let lost = troubles.iter().filter(|(source, trouble)| is_lost(source, trouble));
        let mut lines: Vec<String> = lost.map(|(_, trouble)| trouble.words.clone()).collect();
        lines.sort_unstable();
        lines
    }

    /// Looks at every grant when something can't be read any more, and when all can again.
    pub(crate) fn tell_of_loss(self: &Arc<Self>) {
        if self.lost().is_empty() || self.tells_of_loss.swap(true, Ordering::AcqRel) {
            return;
        }
        self.enqueue_all();
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            while !cache.lost().is_empty() {
                tokio::time::sleep(TOLD_AGAIN / 10).await;
            }
            cache.tells_of_loss.store(false, Ordering::Release);
            cache.enqueue_all();
        });
    }

    /// Why a source can't be read now, in words; none where nothing is known against it.
    pub(crate) fn trouble_of(&self, source: &str) -> Option<String> {
        let troubles = lock(&self.troubles);
        // Watches that work again don't say so: a fault is told again while it lasts.
        let trouble = troubles.get(source).filter(|it| it.at.elapsed() < TOLD_AGAIN);
        trouble.map(|trouble| trouble.words.clone())
    }

    /// Forgets a source that is not read any more.
    pub(crate) fn forget_source(&self, source: &str) {
        self.index.forget(source);
        lock(&self.troubles).remove(source);
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
        let trouble = Trouble {
            words,
            at: std::time::Instant::now(),
            lasts: matches!(code, 401 | 403 | 404),
        };
        lock(&self.troubles).insert(source.to_owned(), trouble);
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

    /// Every grant, integration, decision and enrolment is looked at.
    pub(crate) fn enqueue_all(&self) {
        if !self.is_known() {
            // The closing lane needs no more than what is there.
            for grant in self.grants.state() {
                self.enqueue_closing(key_of(grant.as_ref()));
            }
            return;
        }
        self.enqueue_where(|_| true);
        for integration in self.integrations.state() {
            self.enqueue_integration(&key_of(integration.as_ref()));
        }
        for decision in self.decisions.state() {
            self.enqueue_decision(key_of(decision.as_ref()));
        }
        self.enrolment_changed.notify_one();
    }

    /// A decision is looked at by itself.
    pub(crate) fn enqueue_decision(&self, key: Key) {
        let _ = self.senders.decisions.unbounded_send(key);
    }

    pub(crate) fn enqueue_key(&self, key: &Key) {
        // What is seen so far may suffice to close: positive facts need no more.
        self.enqueue_closing(key.clone());
        if self.is_known() {
            let (namespace, name) = key;
            let grant = ObjectRef::new(name).within(namespace);
            // Fails only when the receiver is gone: then nothing is reconciled any more.
            let _ = self.senders.grants.unbounded_send(ReconcileRequest::from(grant));
        }
    }

    /// The closing lane alone looks; the issuing lane waits until it has.
    fn enqueue_closing(&self, grant: Key) {
        let _ = self.senders.closing.unbounded_send((grant, self.denials.begin()));
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

    /// Every grant is looked at.
    pub(crate) fn enqueue_grants(&self) {
        self.enqueue_where(|_| true);
    }

    /// The grants for which this holds are looked at; one that can't be read is always among them.
    fn enqueue_where(&self, is_touched: impl Fn(&AccessGrant) -> bool) {
        for grant in self.grants.state() {
            if grant.0.as_ref().map_or(true, &is_touched) {
                self.enqueue_key(&key_of(grant.as_ref()));
            }
        }
    }

    /// Whether these bindings can reach the static credential of a grant.
    pub(crate) fn concerns_static(&self, news: &[OtherRights]) -> bool {
        let followed = self.inventory.namespaces();
        followed
            .iter()
            .any(|namespace| news.iter().any(|rights| rights.reaches_any_of(namespace)))
    }

    /// The grants of static credentials in a namespace.
    pub(crate) fn enqueue_static_in(&self, namespace: &str) {
        self.enqueue_where(|grant| {
            grant.metadata.namespace.as_deref() == Some(namespace) && grant.static_credential().is_some()
        });
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

    /// The grants of an integration.
    pub(crate) fn grants_of(&self, integration: &Key) -> Vec<Arc<Guarded<AccessGrant>>> {
        let keys = lock(&self.referrers).grants.of(integration);
        keys.iter()
            .filter_map(|(namespace, name)| self.grants.get(&ObjectRef::new(name).within(namespace)))
            .collect()
    }

    /// The decisions about a subject.
    fn decisions_of(&self, kind: SubjectKind, subject: &Key) -> Vec<Arc<Guarded<AccessDecision>>> {
        let keys = lock(&self.referrers).decisions.of(&(kind, subject.clone()));
        keys.iter()
            .filter_map(|(namespace, name)| self.decisions.get(&ObjectRef::new(name).within(namespace)))
            .collect()
    }

    /// The decisions about a grant or its integration.
    pub(crate) fn decisions_about(&self, grant: &AccessGrant) -> Vec<Arc<Guarded<AccessDecision>>> {
        let mut decisions = self.decisions_of(SubjectKind::AccessGrant, &key_of(grant));
        decisions.extend(self.decisions_of(SubjectKind::PartnerIntegration, &mapping::integration_of(grant)));
        decisions
    }

    /// Whether the operator has rights in a namespace.
    pub(crate) fn is_within_reach(&self, settings: &Settings, namespace: &str) -> bool {
        settings.everywhere || namespace == settings.identities || !self.enrolments.of(namespace).is_empty()
    }

    /// The integration that a grant refers to.
    pub(crate) fn integration_of(&self, grant: &AccessGrant) -> Option<Arc<Guarded<PartnerIntegration>>> {
        let (namespace, name) = mapping::integration_of(grant);
        self.integrations.get(&ObjectRef::new(&name).within(&namespace))
    }

    /// The owners of an integration that are there.
    pub(crate) fn owners_of(&self, integration: &PartnerIntegration) -> Vec<Arc<Guarded<AccessOwner>>> {
        let names = ownership::names(integration).into_iter();
        names
            .filter_map(|name| self.owners.get(&ObjectRef::new(name)))
            .collect()
    }

    fn enqueue_grants_of(&self, integration: &Key) {
        let grants = lock(&self.referrers).grants.of(integration);
        for grant in grants {
            self.enqueue_key(&grant);
        }
    }
}

/// The owners that can be read, by name.
pub(crate) fn by_name(owners: &[Arc<Guarded<AccessOwner>>]) -> Owners<'_> {
    let readable = owners.iter().filter_map(|owner| owner.0.as_ref().ok());
    readable
        .map(|owner| (owner.metadata.name.as_deref().unwrap_or_default(), owner))
        .collect()
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
