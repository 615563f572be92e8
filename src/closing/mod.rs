//! The closing lane: takes bindings away at their deadline and when something says so, whatever the issuing lane is busy
//! with. Every replica runs it, leader or not; it acts on positive facts only ([`crate::domain::closing`]). Does I/O.
//!
//! Timers are hints: what is due is judged by the wall clock, at least once a second.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

mod clients;
mod deadlines;
mod outage;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, Instant, PartnerIntegration};
use crate::controller::cache::{Cache, ToLookAt, by_name};
use crate::controller::denials::Denial;
use crate::controller::leader::Leadership;
use crate::controller::mapping::Key;
use crate::controller::metrics::Metrics;
use crate::controller::slots::Slots;
use crate::controller::{MakeClient, apply, lock, now, since};
use crate::domain::closing::{self, Cause, Known, deadline, must_close};
use crate::plan::Child;
use clients::Clients;
use deadlines::Deadlines;
use outage::Outage;

/// How long a replica that doesn't lead leaves a closing to the leader.
const YIELD: Duration = Duration::from_millis(150);
/// The first pause after a closing that failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after a closing that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause where each attempt takes two calls.
const STILL_THERE: Duration = Duration::from_secs(15);
/// The longest pause of a replica that doesn't lead: together they keep to 20 calls a minute for one object.
const BESIDE: Duration = Duration::from_secs(30);
/// The longest pause where the operator may not close.
const NO_RIGHTS: Duration = Duration::from_mins(1);
/// A pause from which on it is ended when the API server is back, and the next one after that.
const WORTH_ENDING: Duration = Duration::from_secs(2);
/// One closing goes on before its pause is over, since the API server is back, no more often: a call that fails again and again
/// beside others that go well must not make it hot.
const RETURNS_APART: Duration = Duration::from_mins(1);
/// How long the first attempt waits for an answer; twice as long the next, up to what any call may take.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// So many bindings are taken away at once.
const AT_ONCE: usize = 64;
/// So many grants are looked at before the first of their bindings are taken away, about in the order in which they should have been
/// gone.
const LOOKED_AT: usize = 1_000;

/// The closing lane of one replica.
pub(crate) struct ClosingLane {
    cache: Arc<Cache>,
    clients: Clients,
    leadership: Arc<dyn Leadership>,
    metrics: Metrics,
    /// UIDs of the bindings that are being taken away.
    under_way: Mutex<HashSet<String>>,
    outage: Outage,
    slots: Slots,
}

/// Why a binding must go.
struct Doom {
    reason: Reason,
    cause: Cause,
    /// Since when it should have been gone; none where what ends it has no date.
    since: Option<Instant>,
}

impl ClosingLane {
    /// A lane with clients of its own, so that nothing queues before a denial.
    ///
    /// # Errors
    /// Where no client can be made.
    pub(crate) fn new(
        cache: Arc<Cache>,
        make_client: MakeClient,
        leadership: Arc<dyn Leadership>,
        metrics: Metrics,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            cache,
            clients: Clients::new(make_client)?,
            leadership,
            metrics,
            under_way: Mutex::default(),
            outage: Outage::default(),
            slots: Slots::new(AT_ONCE),
        }))
    }

    /// Runs for ever; `touched` tells of grants that something changed for.
    pub(crate) async fn run(self: Arc<Self>, mut touched: UnboundedReceiver<ToLookAt>) {
        let mut deadlines = Deadlines::default();
        let mut back = self.metrics.reach().back();
        loop {
            let due = deadlines.take_due(now());
            let mut grants: Vec<ToLookAt> = due
                .into_iter()
                .map(|grant| (grant, self.cache.denials.begin()))
                .collect();
            tokio::select! {
                biased;
                // The sender is this lane's own.
                Ok(()) = back.changed() => self.outage.end().await,
                () = std::future::ready(()), if !grants.is_empty() => {}
                touched = touched.next() => match touched {
                    Some(grant) => grants.push(grant),
                    None => return,
                },
                () = tokio::time::sleep(deadlines.pause()) => {}
            }
            for _ in 0..LOOKED_AT {
                let Some(Some(grant)) = touched.next().now_or_never() else {
                    break;
                };
                grants.push(grant);
            }
            while !grants.is_empty() {
                let mut doomed = Vec::new();
                for (grant, denial) in grants.drain(..grants.len().min(LOOKED_AT)) {
                    let due = self.look(&grant, denial, &mut doomed);
                    deadlines.set(grant, due);
                }
                doomed.sort_by_key(|it| it.since);
                for (index, it) in doomed.into_iter().enumerate() {
                    if index > 0 && index % outage::AT_A_TIME == 0 {
                        tokio::task::yield_now().await;
                    }
                    tokio::spawn(it.close());
                }
                // What was begun gets a processor, however much there is to look at.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Finds what must be closed and isn't being closed; says when to look again.
    fn look(self: &Arc<Self>, grant: &Key, denial: Denial, doomed: &mut Vec<Doomed>) -> Option<Instant> {
        let (found, due) = self.with_bindings(grant, |known, bindings| {
            let now = now();
            let found = bindings.into_iter().filter_map(|(binding, last_no)| {
                must_close(known, last_no, now)?;
                let (_, since) = closing::since(known, last_no, now);
                Some((binding, since.unwrap_or(now)))
            });
            (found.collect::<Vec<_>>(), deadline(known))
        })?;
        if found.is_empty() {
            return Some(due);
        }
        let denial = Arc::new(denial);
        doomed.extend(found.into_iter().filter_map(|(binding, since)| {
            let closing = Closing::begin(self, &binding.uid)?;
            let (grant, denial) = (grant.clone(), Arc::clone(&denial));
            Some(Doomed {
                since,
                closing,
                grant,
                binding,
                denial,
            })
        }));
        // Whatever becomes of it is looked at again.
        Some(now().plus(1))
    }

    /// Looks at a grant that has bindings, each of which says the latest Deny or Revoke that its maker knew of; none where it has none.
    fn with_bindings<T>(
        &self,
        (namespace, name): &Key,
        with: impl FnOnce(&Known<'_>, Vec<(Child, Option<Instant>)>) -> T,
    ) -> Option<T> {
        let guarded = self.cache.grants.get(&ObjectRef::new(name).within(namespace))?;
        let grant = guarded.0.as_ref().ok()?;
        let bindings = self.cache.index.bindings_of(&grant.uid().unwrap_or_default());
        (!bindings.is_empty()).then(|| with_known(&self.cache, grant, |known| with(known, bindings)))
    }

    /// Why a binding of a grant must go, if it is there and still must.
    fn doom(&self, grant: &Key, binding: &Child) -> Option<Doom> {
        self.with_bindings(grant, |known, bindings| {
            let now = now();
            let (_, last_no) = bindings.into_iter().find(|(it, _)| it.uid == binding.uid)?;
            let reason = must_close(known, last_no, now)?;
            let (cause, since) = closing::since(known, last_no, now);
            Some(Doom { reason, cause, since })
        })?
    }

    /// Waits between two attempts; no longer than until this replica leads, or until the outage is over in which one failed. Says
    /// whether the latter ended it.
    async fn pause(&self, pause: Duration, outage: Option<outage::Waiting<'_>>) -> bool {
        let mut leadership = self.leadership.changes();
        let over = async {
            match &outage {
                // It may have been over before anybody could tell this one.
                Some(_) if !self.metrics.reach().is_away() => {}
                Some(outage) => outage.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = over => true,
            // What is told last may be a moment old.
            Ok(_) = leadership.wait_for(|leads| *leads && self.leadership.is_leader()), if !self.leadership.is_leader() => false,
        }
    }
}

/// A binding that must go.
struct Doomed {
    /// Since when it should have been gone; where what ends it has no date, since now.
    since: Instant,
    closing: Closing,
    grant: Key,
    binding: Child,
    denial: Arc<Denial>,
}

impl Doomed {
    async fn close(self) {
        self.closing.run(&self.grant, &self.binding, self.denial).await;
    }
}

/// The one task that takes a binding away.
struct Closing {
    lane: Arc<ClosingLane>,
    binding: String,
}

impl Closing {
    /// None where it is under way.
    fn begin(lane: &Arc<ClosingLane>, binding: &str) -> Option<Self> {
        lock(&lane.under_way).insert(binding.to_owned()).then(|| Self {
            lane: Arc::clone(lane),
            binding: binding.to_owned(),
        })
    }

    /// Takes a binding away, until it is gone or need not go. The first attempt is what others wait for.
    async fn run(&self, grant: &Key, binding: &Child, denial: Arc<Denial>) {
        let lane = &self.lane;
        let mut denial = Some(denial);
        let (noticed, noticed_at) = (std::time::Instant::now(), now());
        let (mut is_over, mut returned) = (false, None::<std::time::Instant>);
        if !lane.leadership.is_leader() {
            tokio::time::sleep(YIELD).await;
        }
        let (mut pause, mut patience) = (FIRST_PAUSE, FIRST_PATIENCE);
        loop {
            let Some(slot) = lane.slots.turn(&binding.namespace).await else {
                return;
            };
            // Judged anew each time: in the meantime another replica may have closed it, or a deadline may have moved.
            let Some(doom) = lane.doom(grant, binding) else {
                return;
            };
            let (client, made) = lane.clients.current();
            let went = apply::take_away(&client, &lane.cache.index, binding);
            let went = match tokio::time::timeout(patience, went).await {
                Ok(went) => went,
                Err(_) => Err(apply::Error::Deadline(apply::deleting(binding))),
            };
            if let Err(error) = &went
                && error.is_unanswered()
            {
                lane.slots.hung(&binding.namespace);
                lane.clients.replace(made);
                lane.metrics.reach().failed();
                patience = patience.saturating_mul(2);
            }
            drop(slot);
            denial.take();
            let (namespace, name) = grant;
            let Err(error) = went else {
                let lag = doom.since.map_or_else(|| noticed.elapsed(), since);
                let (reason, lag_seconds) = (doom.reason, lag.as_secs_f64());
                lane.metrics.closed(reason, doom.cause, lag);
                tracing::info!(namespace, name, %reason, binding = binding.name, lag_seconds, "access closed");
                lane.cache.enqueue_key(grant);
                return;
            };
            lane.metrics.closing_failed();
            lock(&lane.cache.unclosed).insert(binding.uid.clone(), grant.clone());
            tracing::error!(namespace, name, binding = binding.name, %error, "access could not be closed, and may still work");
            // Leader or not: in an outage nobody can go on leading.
            let returns = (error.is_unreached() || lane.metrics.reach().is_away())
                && pause >= WORTH_ENDING
                && returned.is_none_or(|at| at.elapsed() >= RETURNS_APART);
            let outage = returns.then(|| lane.outage.wait(doom.since.unwrap_or(noticed_at), &binding.uid));
            // An API server that has just started may refuse what it does not know yet.
            let this_one = if is_over { pause.min(WORTH_ENDING) } else { pause };
            is_over = lane.pause(this_one, outage).await;
            if is_over {
                returned = Some(std::time::Instant::now());
            }
            pause = (pause * 2).min(longest(&error, lane.leadership.is_leader()));
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        lock(&self.lane.under_way).remove(&self.binding);
        lock(&self.lane.cache.unclosed).remove(&self.binding);
    }
}

/// The longest pause after an attempt that failed.
fn longest(error: &apply::Error, is_leader: bool) -> Duration {
    let longest = match error {
        apply::Error::StillThere(_) => STILL_THERE,
        // Without rights there nothing but another enrolment helps; the identity goes all the same.
        error if error.is_forbidden() => NO_RIGHTS,
        _ => LONGEST_PAUSE,
    };
    if is_leader { longest } else { longest.max(BESIDE) }
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
