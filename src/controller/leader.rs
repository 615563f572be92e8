//! Who may issue: one replica at a time, by a Lease. A lease is no fence: every write is safe under two leaders, and this
//! only keeps them rare. Does I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::now;
use super::watches::{self, Patience};

/// The pause after a failure to speak with the API server about the lease.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a release at a graceful stop may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Whether this replica may issue.
pub trait Leadership: Send + Sync {
    /// It may, now.
    fn is_leader(&self) -> bool;
    /// Tells of each change.
    fn changes(&self) -> watch::Receiver<bool>;
}

/// A replica that has no rivals.
#[derive(Debug)]
pub struct Alone(watch::Sender<bool>);

impl Default for Alone {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Leadership for Alone {
    fn is_leader(&self) -> bool {
        true
    }

    fn changes(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// How the lease is held.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whom it is held by: a name of this replica alone.
    pub identity: String,
    /// For how long a renewal is good, in seconds.
    pub duration: u64,
    /// How long before its end it is renewed, in seconds; less than the duration.
    pub renew_before: u64,
}

/// Leadership by a Lease.
#[derive(Debug)]
pub struct Elected {
    settings: LeaseSettings,
    holds: AtomicBool,
    /// Until when the lease is ours as far as it was seen, in seconds since the epoch. A replica that can't see its own
    /// renewals must not go on believing in them.
    seen_until: AtomicI64,
    published: watch::Sender<bool>,
    released: Notify,
    deleted: Notify,
    stopping: Notify,
}

impl Leadership for Elected {
    fn is_leader(&self) -> bool {
        self.holds.load(Ordering::Acquire) && now().as_second() < self.seen_until.load(Ordering::Acquire)
    }

    fn changes(&self) -> watch::Receiver<bool> {
        self.published.subscribe()
    }
}

/// A running election.
pub struct Election {
    /// Its outcome.
    pub leadership: Arc<Elected>,
    running: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Election {
    /// Stands for election from now on. `client` has a deadline for every call, which a watch can't have: that goes by `watching`.
    #[must_use]
    pub fn start(client: &Client, watching: &Client, settings: LeaseSettings) -> Self {
        let leadership = Arc::new(Elected {
            settings,
            holds: AtomicBool::new(false),
            seen_until: AtomicI64::new(0),
            published: watch::Sender::new(false),
            released: Notify::new(),
            deleted: Notify::new(),
            stopping: Notify::new(),
        });
        Self {
            running: tokio::spawn(Arc::clone(&leadership).run(client.clone())),
            watching: tokio::spawn(Arc::clone(&leadership).watch(watching.clone())),
            leadership,
        }
    }

    /// Gives the lease back, so that another replica takes over at once.
    pub async fn stop(self) {
        self.leadership.stopping.notify_one();
        if tokio::time::timeout(RELEASE, self.running).await.is_err() {
            tracing::warn!("the lease could not be given back in time: another replica takes over when it ends");
        }
        self.watching.abort();
    }
}

impl Elected {
    async fn run(self: Arc<Self>, client: Client) {
        loop {
            let manager = match self.manager(&client).await {
                Ok(manager) => manager,
                Err(error) => {
                    tracing::warn!(%error, "the lease can't be asked for");
                    tokio::select! {
                        () = self.stopping.notified() => return,
                        () = tokio::time::sleep(PAUSE) => continue,
                    }
                }
            };
            let (mut channel, task) = manager.watch().await;
            let stop = loop {
                tokio::select! {
                    changed = channel.changed() => match changed {
                        Ok(()) => self.hold(*channel.borrow_and_update()),
                        Err(_) => break false,
                    },
                    // The manager sleeps until the lease that it saw ends: a new one looks at once.
                    () = self.released.notified(), if !self.holds.load(Ordering::Acquire) => break false,
                    // Somebody deleted the lease: only a new manager makes another.
                    () = self.deleted.notified() => break false,
                    // A renewal that was not seen in time ends leadership without anybody's word.
                    () = tokio::time::sleep(PAUSE) => self.publish(),
                    () = self.stopping.notified() => break true,
                }
            };
            // The manager gives the lease back when nobody listens any more.
            drop(channel);
            self.hold(false);
            match task.await {
                Ok(Err(error)) => tracing::warn!(%error, "the election ended with an error"),
                Err(error) => tracing::error!(%error, "the election broke off"),
                Ok(Ok(_)) => {}
            }
            if stop {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn manager(&self, client: &Client) -> kube_lease_manager::Result<LeaseManager> {
        let settings = &self.settings;
        LeaseManagerBuilder::new(client.clone(), &settings.name)
            .with_namespace(&settings.namespace)
            .with_identity(&settings.identity)
            .with_duration(settings.duration)
            .with_grace(settings.renew_before)
            .build()
            .await
    }

    fn hold(&self, holds: bool) {
        if self.holds.swap(holds, Ordering::AcqRel) != holds {
            let identity = &self.settings.identity;
            tracing::info!(identity, leader = holds, "leadership changed");
        }
        self.publish();
    }

    fn publish(&self) {
        let leads = self.is_leader();
        self.published
            .send_if_modified(|published| std::mem::replace(published, leads) != leads);
    }

    /// Sees renewals of our own, and that another replica let go.
    async fn watch(self: Arc<Self>, client: Client) {
        let api: Api<Lease> = Api::namespaced(client, &self.settings.namespace);
        let config = watches::config().fields(&format!("metadata.name={}", self.settings.name));
        let leases = watcher(api, config).backoff(Patience::default());
        let leases = leases.inspect_err(|error| tracing::warn!(%error, "watching the lease failed"));
        let mut leases = Box::pin(leases.filter_map(|lease| async { lease.ok() }));
        while let Some(event) = leases.next().await {
            let lease = match event {
                watcher::Event::Apply(lease) | watcher::Event::InitApply(lease) => lease,
                watcher::Event::Delete(_) => {
                    self.seen_until.store(0, Ordering::Release);
                    self.deleted.notify_one();
                    continue;
                }
                watcher::Event::Init | watcher::Event::InitDone => continue,
            };
            let spec = lease.spec.unwrap_or_default();
            match spec.holder_identity.as_deref() {
                None | Some("") => self.released.notify_one(),
                Some(holder) if holder == self.settings.identity => {
                    let renewed = spec.renew_time.map_or(0, |time| time.0.as_second());
                    let until = renewed.saturating_add(i64::from(spec.lease_duration_seconds.unwrap_or(0)));
                    self.seen_until.store(until, Ordering::Release);
                    self.publish();
                }
                Some(_) => {}
            }
        }
    }
}
