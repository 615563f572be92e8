//! The issuing lane: watches, and one reconcile for each grant that something touched. May do I/O.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

pub(crate) mod apply;
mod attempts;
pub(crate) mod cache;
mod clock;
mod credential;
mod decision;
pub(crate) mod denials;
pub(crate) mod drain;
mod elsewhere;
mod enrolments;
mod events;
mod grant;
mod hold;
mod index;
mod integration;
mod inventory;
mod issue;
pub mod leader;
pub(crate) mod mapping;
pub mod metrics;
mod observe;
mod pack;
mod probe;
mod reach;
pub(crate) mod slots;
mod sweep;
mod watches;
mod written;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::runtime::controller::{self, applier};
use tracing::Instrument as _;

use crate::api::v1alpha1::{AccessGrant, Instant, PartnerIntegration};
use crate::closing::ClosingLane;
use crate::domain::approval::Confirmation;
use events::Events;
use leader::Leadership;
use metrics::Metrics;

pub use cache::{Cache, Pending, Queues};

/// Whoever begins to lead looks at everything; a gap too short to be told of must not cost an object its timer.
const NOT_LEADING: std::time::Duration = std::time::Duration::from_mins(1);

/// The pause of an object in a namespace whose calls get no answer, while others like it have every turn.
const HANGS: std::time::Duration = std::time::Duration::from_secs(5);

/// The longest that an object waits for a turn in its namespace.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_millis(500);
/// How soon it comes again.
const BUSY: std::time::Duration = std::time::Duration::from_millis(500);

/// So much later than the closing lane's the issuing lane's timers go off.
const BEHIND: std::time::Duration = std::time::Duration::from_millis(25);

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
    /// It has rights everywhere, enrolled or not: a cluster administrator uninstalls in its name.
    pub everywhere: bool,
}

/// What a reconcile may touch.
pub struct Context {
    pub(crate) client: kube::Client,
    pub(crate) settings: Settings,
    pub(crate) cache: Arc<Cache>,
    pub(crate) integrations_pace: integration::Pace,
    /// Attempts to tell decisions whether they count.
    pub(crate) tellings: attempts::Attempts,
    pub(crate) events: Events,
    /// What the API server answered about deciders, and when, by the UIDs of decision and grant.
    pub(crate) confirmations: Mutex<HashMap<(String, String), (Confirmation, Instant)>>,
    pub(crate) reviews: decision::Reviews,
    pub(crate) probe: probe::Probe,
    pub(crate) leadership: Arc<dyn Leadership>,
    pub(crate) metrics: Metrics,
    /// Turns of reconciles.
    pub(crate) slots: slots::Slots,
    swept: AtomicBool,
}

impl Context {
    /// What should be gone was taken away once: before that nothing is issued.
    pub(crate) fn is_swept(&self) -> bool {
        self.swept.load(Ordering::Acquire)
    }

    pub(crate) fn set_swept(&self, swept: bool) {
        self.swept.store(swept, Ordering::Release);
    }

    /// This replica may write, apart from closing, which every replica may.
    pub(crate) fn is_leader(&self) -> bool {
        self.leadership.is_leader()
    }

    /// Forgets what was kept of objects that are gone.
    pub(crate) fn forget_gone(&self) {
        let uids = |all: Vec<Option<String>>| all.into_iter().flatten().collect::<HashSet<String>>();
        let grants = uids(self.cache.grants.state().iter().map(|grant| grant.uid()).collect());
        self.cache.grants_written.retain(&grants);
        self.cache.attempts.retain(&grants);
        self.cache.index.forget_gone_unseen();
        let decisions = uids(
            self.cache
                .decisions
                .state()
                .iter()
                .map(|decision| decision.uid())
                .collect(),
        );
        self.cache.decisions_written.retain(&decisions);
        self.tellings.retain(&decisions);
        lock(&self.confirmations).retain(|(decision, grant), _| decisions.contains(decision) && grants.contains(grant));
        self.reviews.retain(&decisions);
        let integrations = uids(self.cache.integrations.state().iter().map(|it| it.uid()).collect());
        self.cache.integrations_written.retain(&integrations);
        self.integrations_pace.retain(&integrations);
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

/// From an instant until now; nothing where it is yet to come.
pub(crate) fn since(past: Instant) -> std::time::Duration {
    let gone = jiff::Timestamp::now().duration_since(past.timestamp());
    std::time::Duration::try_from(gone).unwrap_or_default()
}

/// From now until a little after an instant. The closing lane has a timer at each deadline too, and goes first: its denials are
/// begun when this one goes off.
pub(crate) fn after(due: Instant) -> std::time::Duration {
    until(due) + BEHIND
}

/// A lock that outlives a panic: what it guards is replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes a client with connections of its own.
pub type MakeClient = Arc<dyn Fn() -> anyhow::Result<kube::Client> + Send + Sync>;

/// Everything that a running operator consists of.
pub struct Operator {
    /// The issuing lane's client.
    pub client: kube::Client,
    /// Makes the closing lane's own.
    pub closing_client: MakeClient,
    /// What it was told.
    pub settings: Settings,
    /// What it knows.
    pub cache: Arc<Cache>,
    /// What fills the cache.
    pub pending: Pending,
    /// What the cache tells.
    pub queues: Queues,
    /// The name of this replica, for its events.
    pub identity: String,
    /// Whether it may issue.
    pub leadership: Arc<dyn Leadership>,
    /// What it counts.
    pub metrics: Metrics,
}

impl Operator {
    /// Runs until `shutdown` ends; then lets what is under way finish.
    ///
    /// # Errors
    /// When a task ends that never should.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let queues = self.queues;
        let (cache, leadership) = (self.cache, self.leadership);
        let concurrency = self.settings.concurrency;
        let context = Arc::new(Context {
            client: self.client.clone(),
            settings: self.settings,
            cache: Arc::clone(&cache),
            integrations_pace: integration::Pace::default(),
            tellings: attempts::Attempts::default(),
            events: Events::new(self.client.clone(), &self.identity),
            confirmations: Mutex::default(),
            reviews: decision::Reviews::default(),
            probe: probe::Probe::default(),
            leadership: Arc::clone(&leadership),
            metrics: self.metrics.clone(),
            slots: slots::Slots::new(usize::from(concurrency)),
            swept: AtomicBool::new(false),
        });
        let lane = ClosingLane::new(Arc::clone(&cache), self.closing_client, leadership, self.metrics)?;
        let mut tasks = cache.watch(self.pending, &self.client, &context.settings);
        tasks.spawn(lane.run(queues.closing));
        tasks.spawn(decision::run(Arc::clone(&context), queues.decisions));
        tasks.spawn(probe::run(Arc::clone(&context)));
        tasks.spawn(sweep::run(Arc::clone(&context)));
        tasks.spawn(hold::run(Arc::clone(&context)));
        // Each kind ends when its queue does; what is under way is finished.
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let told = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            // An error means that the sender is gone: that is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let config = || controller::Config::default().concurrency(concurrency);
        let integrations = applier(
            reconcile_integration,
            integration::after_error,
            Arc::clone(&context),
            cache.integrations.clone(),
            queues
                .integrations
                .take_until(Box::pin(told(stopped.clone())))
                .map(Ok::<_, Infallible>),
            config(),
        );
        let grants = applier(
            reconcile_grant,
            grant::after_error,
            Arc::clone(&context),
            cache.grants.clone(),
            queues
                .grants
                .take_until(Box::pin(told(stopped)))
                .map(Ok::<_, Infallible>),
            config(),
        );
        let reconciling = async { tokio::join!(integrations.for_each(logged), grants.for_each(logged)) };
        let (stopping, mut early) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            shutdown.await;
            let _ = stop.send(true);
            let _ = stopping.send(());
            std::future::pending().await
        });
        // Before everything was read nothing is under way, and a controller whose store is not filled never ends.
        let stopped_early = async {
            let _ = (&mut early).await;
            if cache.is_known() {
                std::future::pending().await
            }
        };
        tokio::select! {
            ((), ()) = reconciling => Ok(()),
            () = stopped_early => Ok(()),
            Some(ended) = tasks.join_next() => anyhow::bail!("a task ended that never should: {ended:?}"),
        }
    }
}

/// Says what a reconcile came to, where it came to an error.
async fn logged<T, E: std::error::Error + 'static>(outcome: Result<T, controller::Error<E, Infallible>>) {
    match outcome {
        Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "reconcile failed"),
    }
}

/// A reconcile with a span and its measure, if this replica leads.
fn measured<K: kube::ResourceExt>(
    kind: &'static str,
    object: &K,
    context: &Arc<Context>,
    reconcile: impl Future<Output = apply::Result<controller::Action>> + Send + 'static,
) -> BoxFuture<'static, apply::Result<controller::Action>> {
    if !context.is_leader() {
        return Box::pin(std::future::ready(Ok(controller::Action::requeue(NOT_LEADING))));
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let span = tracing::info_span!("reconcile", kind, %namespace, object = name);
    let context = Arc::clone(context);
    let timed = async move {
        // Nobody waits for long: whoever waits takes a place from those of other namespaces.
        let turn = tokio::time::timeout(LONGEST_WAIT, context.slots.turn_unless_slow(&namespace));
        let Ok(turn) = turn.await else {
            return Ok(controller::Action::requeue(BUSY));
        };
        let Some(_turn) = turn else {
            return Ok(controller::Action::requeue(HANGS));
        };
        let begun = std::time::Instant::now();
        let outcome = reconcile.await;
        if outcome.as_ref().is_err_and(apply::Error::is_unanswered) {
            context.slots.hung(&namespace);
        }
        context.metrics.reconciled(kind, outcome.is_ok(), begun.elapsed());
        outcome
    };
    Box::pin(timed.instrument(span))
}

fn reconcile_grant(
    object: Arc<cache::Guarded<AccessGrant>>,
    context: Arc<Context>,
) -> BoxFuture<'static, apply::Result<controller::Action>> {
    measured(
        "AccessGrant",
        &*object.clone(),
        &context.clone(),
        grant::reconcile(object, context),
    )
}

fn reconcile_integration(
    object: Arc<cache::Guarded<PartnerIntegration>>,
    context: Arc<Context>,
) -> BoxFuture<'static, apply::Result<controller::Action>> {
    measured(
        "PartnerIntegration",
        &*object.clone(),
        &context.clone(),
        integration::reconcile(object, context),
    )
}
