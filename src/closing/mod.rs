//! The closing lane: takes bindings away at their deadline and when something says so, whatever the issuing lane is busy
//! with. Every replica runs it, leader or not; it acts on positive facts only ([`crate::domain::closing`]). Does I/O.
//!
//! Timers are hints: what is due is judged by the wall clock, at least once a second.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use tokio::sync::Semaphore;

use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, Instant, PartnerIntegration};
use crate::controller::cache::{Cache, ToLookAt, by_name};
use crate::controller::denials::Denial;
use crate::controller::leader::Leadership;
use crate::controller::mapping::Key;
use crate::controller::metrics::Metrics;
use crate::controller::{apply, lock, now, until};
use crate::domain::closing::{Known, deadline, must_close};
use crate::plan::Child;

/// The longest time between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// How long a replica that doesn't lead leaves a closing to the leader.
const YIELD: Duration = Duration::from_millis(150);
/// The first pause after a closing that failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after a closing that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause where each attempt takes two calls.
const STILL_THERE: Duration = Duration::from_secs(15);
/// The longest pause where the operator may not close.
const NO_RIGHTS: Duration = Duration::from_mins(1);
/// So many grants are closed at once.
const AT_ONCE: usize = 64;

/// The closing lane of one replica.
pub(crate) struct ClosingLane {
    cache: Arc<Cache>,
    client: Client,
    leadership: Arc<dyn Leadership>,
    metrics: Metrics,
    /// Grants that are being closed.
    under_way: Mutex<HashSet<Key>>,
    slots: Semaphore,
}

/// The instants at which grants are looked at again: each grant has one.
#[derive(Default)]
struct Deadlines {
    ordered: BTreeSet<(Instant, Key)>,
    of: HashMap<Key, Instant>,
}

impl Deadlines {
    fn set(&mut self, grant: Key, due: Option<Instant>) {
        if let Some(before) = self.of.remove(&grant) {
            self.ordered.remove(&(before, grant.clone()));
        }
        if let Some(due) = due {
            self.of.insert(grant.clone(), due);
            self.ordered.insert((due, grant));
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some((at, grant)) = self.ordered.first().cloned()
            && at <= now
        {
            self.set(grant.clone(), None);
            due.push(grant);
        }
        due
    }

    /// How long to wait: until the next deadline, at most a tick.
    fn pause(&self) -> Duration {
        self.ordered.first().map_or(TICK, |(at, _)| until(*at).min(TICK))
    }
}

impl ClosingLane {
    /// A lane with a client of its own, so that nothing queues before a denial.
    pub(crate) fn new(
        cache: Arc<Cache>,
        client: Client,
        leadership: Arc<dyn Leadership>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            client,
            leadership,
            metrics,
            under_way: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
        })
    }

    /// Runs for ever; `touched` tells of grants that something changed for.
    pub(crate) async fn run(self: Arc<Self>, mut touched: UnboundedReceiver<ToLookAt>) {
        let mut deadlines = Deadlines::default();
        loop {
            let due = deadlines.take_due(now());
            let mut grants: Vec<ToLookAt> = due
                .into_iter()
                .map(|grant| (grant, self.cache.denials.begin()))
                .collect();
            tokio::select! {
                biased;
                () = std::future::ready(()), if !grants.is_empty() => {}
                touched = touched.next() => match touched {
                    Some(grant) => grants.push(grant),
                    None => return,
                },
                () = tokio::time::sleep(deadlines.pause()) => {}
            }
            for (grant, denial) in grants {
                let due = self.look(&grant, denial);
                deadlines.set(grant, due);
            }
        }
    }

    /// Closes what must be closed; says when to look again.
    fn look(self: &Arc<Self>, key: &Key, denial: Denial) -> Option<Instant> {
        let (doomed, due) = self.judge(key)?;
        if doomed.is_empty() {
            return Some(due);
        }
        if lock(&self.under_way).insert(key.clone()) {
            let (lane, key) = (Arc::clone(self), key.clone());
            tokio::spawn(async move {
                lane.close(&key, denial).await;
                lock(&lane.under_way).remove(&key);
            });
        }
        // Whatever becomes of it is looked at again.
        Some(now().plus(1))
    }

    /// What of a grant must go, with the reason, and when a date ends the rest; none where it has no bindings.
    fn judge(&self, (namespace, name): &Key) -> Option<(Vec<(Child, Reason)>, Instant)> {
        let guarded = self.cache.grants.get(&ObjectRef::new(name).within(namespace))?;
        let grant = guarded.0.as_ref().ok()?;
        let bindings = self.cache.index.bindings_of(&grant.uid().unwrap_or_default());
        if bindings.is_empty() {
            return None;
        }
        with_known(&self.cache, grant, |known| {
            let doomed = bindings
                .into_iter()
                .filter_map(|(binding, last_no)| must_close(known, last_no, now()).map(|reason| (binding, reason)))
                .collect();
            Some((doomed, deadline(known)))
        })
    }

    /// Takes the bindings of a grant away, until nothing that must go is left. The first attempt is what others wait for.
    async fn close(&self, key: &Key, denial: Denial) {
        let mut denial = Some(denial);
        if !self.leadership.is_leader() {
            tokio::time::sleep(YIELD).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            // Judged anew each time: in the meantime another replica may have closed it, or a deadline may have moved.
            let Some((doomed, _)) = self.judge(key).filter(|(doomed, _)| !doomed.is_empty()) else {
                return;
            };
            let mut failed = None;
            for (binding, reason) in doomed {
                // The semaphore is never closed.
                let Ok(_slot) = self.slots.acquire().await else { return };
                match apply::take_away(&self.client, &self.cache.index, &binding).await {
                    Ok(()) => {
                        self.metrics.closed(reason);
                        let (namespace, name) = key;
                        tracing::info!(namespace, name, %reason, binding = binding.name, "access closed");
                    }
                    Err(error) => failed = Some(error),
                }
            }
            denial.take();
            let Some(error) = failed else {
                self.cache.enqueue_key(key);
                return;
            };
            self.metrics.closing_failed();
            tracing::error!(namespace = key.0, name = key.1, %error, "access could not be closed, and may still work");
            // Without rights there nothing but another enrolment helps; the identity goes all the same.
            let longest = match &error {
                apply::Error::StillThere(_) => STILL_THERE,
                error if error.is_forbidden() => NO_RIGHTS,
                _ => LONGEST_PAUSE,
            };
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// Why a binding must go that was made of what `last_no` says; none where nothing says so now.
pub(crate) fn why_close(cache: &Cache, grant: &AccessGrant, last_no: Option<Instant>) -> Option<Reason> {
    with_known(cache, grant, |known| must_close(known, last_no, now()))
}

fn with_known<T>(cache: &Cache, grant: &AccessGrant, with: impl FnOnce(&Known<'_>) -> T) -> T {
    let decisions = cache.decisions_about(grant);
    let decisions: Vec<&AccessDecision> = decisions.iter().filter_map(|it| it.0.as_ref().ok()).collect();
    let found = cache.integration_of(grant);
    let integration: Option<&PartnerIntegration> = found.as_ref().and_then(|it| it.0.as_ref().ok());
    let owners = integration.map_or_else(Vec::new, |integration| cache.owners_of(integration));
    let owners = by_name(&owners);
    let deleted_owners = lock(&cache.deleted_owners);
    with(&Known {
        grant,
        integration,
        decisions: &decisions,
        owners: &owners,
        deleted_owners: &deleted_owners,
        uninstalling: cache.uninstalling().is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::at;

    #[test]
    fn deadlines_come_in_order_and_each_grant_has_one() {
        let key = |name: &str| ("payments".to_owned(), name.to_owned());
        let mut deadlines = Deadlines::default();
        deadlines.set(key("a"), Some(at("2026-12-01T00:00:02Z")));
        deadlines.set(key("b"), Some(at("2026-12-01T00:00:01Z")));
        deadlines.set(key("c"), Some(at("2026-12-01T00:00:03Z")));
        deadlines.set(key("a"), Some(at("2026-12-01T00:00:00Z")));
        deadlines.set(key("c"), None);
        assert!(deadlines.take_due(at("2026-11-30T23:59:59Z")).is_empty());
        assert_eq!(deadlines.take_due(at("2026-12-01T00:00:05Z")), [key("a"), key("b")]);
        assert!(deadlines.ordered.is_empty() && deadlines.of.is_empty());
    }
}
