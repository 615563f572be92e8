//! The issuing lane: watches, and one reconcile for each grant that something touched. May do I/O.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

pub(crate) mod apply;
pub(crate) mod cache;
mod credential;
mod enrolments;
mod grant;
mod hold;
mod index;
mod issue;
pub(crate) mod mapping;
mod observe;
mod probe;
mod sweep;
mod watches;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::controller::{self, applier};

use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::closing::ClosingLane;
use crate::domain::approval::Confirmation;

pub use cache::{Cache, Pending, Queue, Touched};

/// What the operator is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own namespace.
    pub namespace: String,
    /// Its own ServiceAccount.
    pub service_account: String,
    /// Where identities live.
    pub identities: String,
    /// The API server's URL as partners reach it.
    pub partner_server: String,
    /// The API server's certificate authority, PEM.
    pub ca: String,
    /// How many grants are reconciled at once.
    pub concurrency: u16,
}

/// What a reconcile may touch.
pub struct Context {
    pub(crate) client: kube::Client,
    pub(crate) settings: Settings,
    pub(crate) cache: Arc<Cache>,
    /// The latest answer to a write of ours, by UID: a cache can lag behind it.
    pub(crate) written: Mutex<HashMap<String, Arc<AccessGrant>>>,
    /// What the API server answered about deciders, and when, by the decision's UID.
    pub(crate) confirmations: Mutex<HashMap<String, (Confirmation, Instant)>>,
    pub(crate) probe: probe::Probe,
    /// How often in a row the reconcile of a grant failed, by UID.
    pub(crate) failures: Mutex<HashMap<String, u32>>,
    swept: AtomicBool,
}

impl Context {
    /// What should be gone was taken away once: before that nothing is issued.
    pub(crate) fn is_swept(&self) -> bool {
        self.swept.load(Ordering::Acquire)
    }

    pub(crate) fn set_swept(&self) {
        self.swept.store(true, Ordering::Release);
    }

    /// Forgets what was kept of objects that are gone.
    pub(crate) fn forget_gone(&self) {
        let uids = |all: Vec<Option<String>>| all.into_iter().flatten().collect::<HashSet<String>>();
        let grants = uids(self.cache.grants.state().iter().map(|grant| grant.uid()).collect());
        lock(&self.written).retain(|uid, _| grants.contains(uid));
        lock(&self.failures).retain(|uid, _| grants.contains(uid));
        let decisions = uids(
            self.cache
                .decisions
                .state()
                .iter()
                .map(|decision| decision.uid())
                .collect(),
        );
        lock(&self.confirmations).retain(|uid, _| decisions.contains(uid));
    }

    pub(crate) fn reserved_namespaces(&self) -> BTreeSet<String> {
        [self.settings.namespace.clone(), self.settings.identities.clone()].into()
    }
}

pub(crate) fn now() -> Instant {
    Instant::new(jiff::Timestamp::now())
}

/// From now until an instant; instants are whole seconds, and an end must not come a part of one late.
pub(crate) fn until(due: Instant) -> std::time::Duration {
    let left = due.timestamp().duration_since(jiff::Timestamp::now());
    std::time::Duration::try_from(left)
        .unwrap_or_default()
        .max(std::time::Duration::from_millis(1))
}

/// A lock that outlives a panic: what it guards is replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs until `shutdown` ends; then lets what is under way finish. `closing_client` is the closing lane's own.
///
/// # Errors
/// When a watch task ends, which it never should.
pub async fn run(
    client: kube::Client,
    closing_client: kube::Client,
    settings: Settings,
    cache: Arc<Cache>,
    pending: cache::Pending,
    (queue, touched): (cache::Queue, cache::Touched),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let context = Arc::new(Context {
        client: client.clone(),
        settings,
        cache: Arc::clone(&cache),
        written: Mutex::default(),
        confirmations: Mutex::default(),
        probe: probe::Probe::default(),
        failures: Mutex::default(),
        swept: AtomicBool::new(false),
    });
    let lane = ClosingLane::new(Arc::clone(&cache), closing_client, || true);
    let closing = tokio::spawn(lane.run(touched));
    let mut watches = cache.watch(pending, &client, &context.settings);
    let probing = tokio::spawn(probe::run(Arc::clone(&context)));
    let sweeping = tokio::spawn(sweep::run(Arc::clone(&context)));
    let holding = tokio::spawn(hold::run(Arc::clone(&context)));
    let queue = queue
        .take_until(Box::pin(shutdown))
        .map(Ok::<_, std::convert::Infallible>);
    let config = controller::Config::default().concurrency(context.settings.concurrency);
    let reconciling = applier(
        |object, context| Box::pin(grant::reconcile(object, context)),
        grant::after_error,
        context,
        cache.grants.clone(),
        queue,
        config,
    )
    .for_each(|outcome| async move {
        match outcome {
            Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "reconcile failed"),
        }
    });
    tokio::select! {
        () = reconciling => {}
        ended = watches.join_next() => anyhow::bail!("a watch ended: {ended:?}"),
    }
    for task in [probing, sweeping, holding, closing] {
        task.abort();
    }
    Ok(())
}
